"""The one tree of results: every report is made from it, and so is the exit status.

Four things are kept apart: that the backend broke a rule (`failed`), that it does otherwise than recommended
where the document leaves it free (`noted`), that a rule could not be looked at (`not_checked`), and that the
suite itself did not work (`broken`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from video_calls_spec import Level, Rule

from video_calls_contract.exchange import Exchange

__all__ = ["Listed", "Outcome", "Results", "RuleResult", "TestOutcome", "TestResult"]

Outcome = Literal["passed", "failed", "noted", "not_checked", "known"]
TestOutcome = Literal["passed", "failed", "noted", "not_checked", "blocked", "broken"]
Listed = Literal["", "known", "expired", "holds"]

_DEVIATIONS = ("failed", "noted")

CONFORMS, VIOLATIONS, NO_WORK = 0, 1, 2

MOST_EXCHANGES = 8
MOST_OF_REASON = 160  # characters in a verdict


@dataclass(frozen=True, slots=True)
class TestResult:
    """What one test found.

    Attributes:
        name: what it shows, in words.
        rules: those that it holds, the first being the one that it blames unless it says otherwise.
        outcome: `blocked` where the backend refused what the test needs before its rule begins.
        reason: why it is not passed.
        blamed: the rule that was broken, or of which a deviation is noted.
        exchanges: the evidence.
    """

    __test__ = False  # not a test of pytest's

    name: str
    rules: tuple[str, ...]
    outcome: TestOutcome
    reason: str = ""
    blamed: str = ""
    exchanges: tuple[Exchange, ...] = ()
    seconds: float = 0.0


@dataclass(slots=True)
class RuleResult:
    """What became of a rule.

    Attributes:
        exchanges: the last of the evidence.
        tests: those that tell something about it.
        listed: what a baseline makes of it: empty where none lists it, `known` where it may deviate,
            `expired` where it might until a day that has passed, `holds` where it deviates no more.
    """

    rule: Rule
    outcome: Outcome
    reason: str = ""
    exchanges: tuple[Exchange, ...] = ()
    tests: tuple[TestResult, ...] = ()
    listed: Listed = ""

    @property
    def failures(self) -> list[TestResult]:
        """The tests that show its violation, or what is noted."""
        return [test for test in self.tests if test.outcome in _DEVIATIONS]

    @property
    def symptom(self) -> tuple[object, ...] | None:
        """The refusal, or the missing answer, that shows the violation; None if something else does."""
        shown = self.failures[0].exchanges[-1:] if self.failures else ()
        if not shown or 0 < shown[0].status < 400:  # noqa: PLR2004 (HTTP)
            return None
        return shown[0].operation, shown[0].status, str(shown[0].object.get("error"))

    def fails(self, level: Level) -> bool:
        """Whether it fails a run in which deviations count from this level on."""
        if self.listed == "holds":
            return True
        return self.outcome == "failed" and (self.rule.level != "should" or level == "should")


@dataclass(slots=True)
class Results:
    """A run.

    Attributes:
        level: the least level whose deviations fail the run.
        notes: what a reader should know of how it was run, such as a clock that differs.
        left: what the suite made and could not take away again.
        stopped: why it ended before its end; empty where it did not.
        started_at: when it began, by this machine's clock.
    """

    base_url: str
    level: Level
    seed: int
    rules: list[RuleResult] = field(default_factory=list[RuleResult])
    broken: list[TestResult] = field(default_factory=list[TestResult])
    notes: list[str] = field(default_factory=list[str])
    left: list[str] = field(default_factory=list[str])
    stopped: str = ""
    requests: int = 0
    seconds: float = 0.0
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def of(self, outcome: Outcome) -> list[RuleResult]:
        """The rules with this outcome."""
        return [result for result in self.rules if result.outcome == outcome]

    @property
    def violations(self) -> list[RuleResult]:
        """The rules that fail the run."""
        return [result for cause in self.causes for result in cause]

    @property
    def causes(self) -> list[list[RuleResult]]:
        """The rules that fail the run, the most telling first of those that one refusal shows."""
        causes: dict[object, list[RuleResult]] = {}
        for result in self.rules:
            if result.fails(self.level):
                causes.setdefault(result.symptom or result.rule.id, []).append(result)
        return [sorted(cause, key=_is_telling, reverse=True) for cause in causes.values()]

    @property
    def warnings(self) -> list[RuleResult]:
        """The deviations that do not fail it."""
        return [result for result in self.of("failed") if not result.fails(self.level)]

    @property
    def blocked(self) -> list[RuleResult]:
        """The rules that were not looked at, or not wholly: the backend refused what comes before."""
        return [
            result
            for result in (*self.of("not_checked"), *self.of("passed"))
            if any(test.outcome == "blocked" for test in result.tests)
        ]

    @property
    def exit_status(self) -> int:
        """0 conforms, 1 violations, 2 the suite could not do its work."""
        if self.violations:
            return VIOLATIONS
        checked = any(result.outcome != "not_checked" for result in self.rules)
        if self.stopped or self.broken or self.blocked or not checked:
            return NO_WORK
        return CONFORMS

    @property
    def verdict(self) -> str:
        """The outcome of the run in a few words."""
        match self.exit_status:
            case 0:
                return "conforms"
            case 1:
                count = len(self.violations)
                return f"breaks {count} rule{'' if count == 1 else 's'}"
            case _:
                return f"could not be judged: {self.why_not}"

    @property
    def why_not(self) -> str:
        """Why the suite could not do its work; empty where it could."""
        if self.stopped:
            return self.stopped
        if self.broken:
            broken = len(self.broken)
            return f"the suite broke in {broken} of its own tests, which is its own fault; please report it"
        if self.blocked:
            count = len(self.blocked)
            first = self.blocked[0]
            rules = "1 rule" if count == 1 else f"{count} rules"
            reason = next(test.reason for test in first.tests if test.outcome == "blocked")[:MOST_OF_REASON]
            return f"{rules} could not be reached, the first being {first.rule.id}: {reason}"
        if not any(result.outcome != "not_checked" for result in self.rules):
            return "nothing was checked"
        return ""

    def summary(self) -> dict[Outcome, int]:
        """How many rules have which outcome."""
        outcomes: tuple[Outcome, ...] = ("passed", "failed", "noted", "not_checked", "known")
        return {outcome: len(self.of(outcome)) for outcome in outcomes}

    def sections(self) -> dict[str, list[RuleResult]]:
        """The rules by the section of the document that they come from, in its order."""
        found: dict[str, list[RuleResult]] = {}
        for result in self.rules:
            found.setdefault(result.rule.section, []).append(result)
        return found


def rule_results(rules: Mapping[str, Rule], tests: Iterable[TestResult]) -> list[RuleResult]:
    """What the tests say about each rule."""
    by_rule: dict[str, list[TestResult]] = {slug: [] for slug in rules}
    for test in tests:
        for slug in {*test.rules, test.blamed} & set(rules):
            by_rule[slug].append(test)
    return [_of_rule(rule, by_rule[slug]) for slug, rule in rules.items()]


def _of_rule(rule: Rule, tests: list[TestResult]) -> RuleResult:
    about = tuple(test for test in tests if test.outcome not in _DEVIATIONS or test.blamed == rule.id)
    failed = [test for test in about if test.outcome in _DEVIATIONS]
    if failed:
        exchanges = tuple(exchange for test in failed for exchange in test.exchanges)
        reason = "; ".join(dict.fromkeys(f"expected {test.reason}" for test in failed))
        outcome: Outcome = "failed" if failed[0].outcome == "failed" else "noted"
        return RuleResult(rule, outcome, reason, exchanges[-MOST_EXCHANGES:], about)
    broken = any(test.outcome == "broken" for test in about)
    reasons = "; ".join(dict.fromkeys(test.reason for test in about if test.outcome != "passed"))
    # Tests that were stopped by the same refusal have the same evidence.
    evidence = {id(exchange): exchange for test in about for exchange in test.exchanges}
    exchanges = tuple(evidence.values())[-MOST_EXCHANGES:]
    if any(test.outcome == "passed" for test in about) and not broken:
        return RuleResult(rule, "passed", f"in part: {reasons}" if reasons else "", exchanges, about)
    if not about and tests:
        reasons = f"its test ended at a violation of {tests[0].blamed}"
    return RuleResult(rule, "not_checked", reasons or "no test of this run looked at it", exchanges, about)


def _is_telling(result: RuleResult) -> bool:
    """Whether a rule is of the operation whose refusal shows its violation."""
    return result.symptom is not None and result.rule.operation == result.symptom[0]


def as_json(results: Results) -> dict[str, Any]:
    """The tree as JSON has it."""
    return {
        "base_url": results.base_url,
        "verdict": results.verdict,
        "exit_status": results.exit_status,
        "level": results.level,
        "started_at": results.started_at.isoformat(timespec="seconds"),
        "stopped": results.stopped,
        "summary": results.summary(),
        "requests": results.requests,
        "seconds": round(results.seconds, 1),
        "seed": results.seed,
        "notes": results.notes,
        "left": results.left,
        "rules": [
            {
                "id": result.rule.id,
                "level": result.rule.level,
                "section": result.rule.section,
                "statement": result.rule.statement,
                "summary": result.rule.summary,
                "outcome": result.outcome,
                "reason": result.reason,
                "listed": result.listed,
                "fails": result.fails(results.level),
                "exchanges": [
                    {"request": shown.request_text, "response": shown.response_text, "curl": shown.curl}
                    for shown in result.exchanges
                ],
                "tests": [
                    {"name": test.name, "outcome": test.outcome, "seconds": round(test.seconds, 3)}
                    for test in result.tests
                ],
            }
            for result in results.rules
        ],
        "broken": [{"test": test.name, "reason": test.reason} for test in results.broken],
    }
