"""The tree of results, from which every report and the exit status are made.

A rule is `failed` if the backend breaks it. It is `noted` if the document leaves the behaviour open, and the
backend does not follow the recommendation. It is `not_checked` if no test could check it. A test is `broken`
if the suite has a bug.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from video_calls_spec import Level, Rule

from video_calls_contract.exchange import Exchange

Outcome = Literal["passed", "failed", "noted", "not_checked", "known"]
TestOutcome = Literal["passed", "failed", "noted", "not_checked", "blocked", "broken"]
Listed = Literal["", "known", "expired", "holds"]

_FINDINGS = ("failed", "noted")

CONFORMS, VIOLATIONS, NOT_JUDGED = 0, 1, 2
"""Exit statuses."""

MAX_EXCHANGES = 8
MAX_REASON_LENGTH = 160  # characters of a reason in the verdict


@dataclass(frozen=True, slots=True)
class TestResult:
    """The result of one test.

    Attributes:
        name: the test's name in words.
        rules: the rules that it checks; a violation breaks the first, unless the test names another.
        outcome: `blocked` if the backend refused a request that the test needs before it can check its rule.
        reason: why the test did not pass.
        broken_rule: the rule that the backend breaks or, if `noted`, does not follow.
        exchanges: the evidence.
    """

    __test__ = False  # pytest must not collect this class

    name: str
    rules: tuple[str, ...]
    outcome: TestOutcome
    reason: str = ""
    broken_rule: str = ""
    exchanges: tuple[Exchange, ...] = ()
    seconds: float = 0.0


@dataclass(slots=True)
class RuleResult:
    """The result of one rule.

    Attributes:
        exchanges: the last exchanges of the evidence.
        tests: the tests whose result says something about the rule.
        listed: the effect of the baseline's entry: empty without an entry, `known` if it allows the
            violation, `expired` if its last day has passed, `holds` if the backend keeps the rule.
    """

    rule: Rule
    outcome: Outcome
    reason: str = ""
    exchanges: tuple[Exchange, ...] = ()
    tests: tuple[TestResult, ...] = ()
    listed: Listed = ""

    @property
    def failures(self) -> list[TestResult]:
        """Return the tests that show a violation or a note."""
        return [test for test in self.tests if test.outcome in _FINDINGS]

    @property
    def symptom(self) -> tuple[object, ...] | None:
        """Return what identifies the refusal or missing response that shows the violation; else None."""
        last = self.failures[0].exchanges[-1:] if self.failures else ()
        if not last or 0 < last[0].status < 400:  # noqa: PLR2004 (HTTP)
            return None
        return last[0].operation, last[0].status, str(last[0].object.get("error"))

    def fails(self, level: Level) -> bool:
        """Return whether the rule fails a run of this level."""
        if self.listed == "holds":
            return True
        return self.outcome == "failed" and (self.rule.level != "should" or level == "should")


@dataclass(slots=True)
class Results:
    """The results of a run.

    Attributes:
        level: the lowest level whose violations fail the run.
        notes: what a reader should know about the run, such as a difference between clocks.
        left: the calls that the suite created and could not close.
        stopped: why the run ended early; empty if it did not.
        started_at: the start by this machine's clock.
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
        """Return the rules with this outcome."""
        return [result for result in self.rules if result.outcome == outcome]

    @property
    def violations(self) -> list[RuleResult]:
        """Return the rules that fail the run."""
        return [result for cause in self.causes for result in cause]

    @property
    def causes(self) -> list[list[RuleResult]]:
        """Return the rules that fail the run. Rules with the same `symptom` are in one group.

        A group begins with the rules about the refused operation.
        """
        causes: dict[object, list[RuleResult]] = {}
        for result in self.rules:
            if result.fails(self.level):
                causes.setdefault(result.symptom or result.rule.id, []).append(result)
        return [sorted(cause, key=_is_of_refused_operation, reverse=True) for cause in causes.values()]

    @property
    def warnings(self) -> list[RuleResult]:
        """Return the violations that do not fail the run."""
        return [result for result in self.of("failed") if not result.fails(self.level)]

    @property
    def blocked(self) -> list[RuleResult]:
        """Return the rules that were checked only in part or not at all, because a step was refused."""
        return [
            result
            for result in (*self.of("not_checked"), *self.of("passed"))
            if any(test.outcome == "blocked" for test in result.tests)
        ]

    @property
    def exit_status(self) -> int:
        """Return 0 if the backend conforms, 1 if it breaks rules, 2 if the suite could not do its work."""
        if self.violations:
            return VIOLATIONS
        return NOT_JUDGED if self.problem else CONFORMS

    @property
    def verdict(self) -> str:
        """Return the outcome of the run in a few words."""
        match self.exit_status:
            case 0:
                return "conforms"
            case 1:
                count = len(self.violations)
                return f"breaks {count} rule{'' if count == 1 else 's'}"
            case _:
                return f"could not be judged: {self.problem}"

    @property
    def problem(self) -> str:
        """Return why the suite could not do its work; empty if it could."""
        if self.stopped:
            return self.stopped
        if self.broken:
            count = len(self.broken)
            return f"{count} of the suite's own tests crashed, which is a bug in the suite; please report it"
        if self.blocked:
            count = len(self.blocked)
            first = self.blocked[0]
            rules = "1 rule" if count == 1 else f"{count} rules"
            reason = next(test.reason for test in first.tests if test.outcome == "blocked")
            return f"{rules} could not be reached, first {first.rule.id}: {reason[:MAX_REASON_LENGTH]}"
        if all(result.outcome == "not_checked" for result in self.rules):
            return "nothing was checked"
        return ""

    def summary(self) -> dict[Outcome, int]:
        """Return the number of rules of each outcome."""
        outcomes: tuple[Outcome, ...] = ("passed", "failed", "noted", "not_checked", "known")
        return {outcome: len(self.of(outcome)) for outcome in outcomes}

    def sections(self) -> dict[str, list[RuleResult]]:
        """Return the rules by section of the document, in its order."""
        sections: dict[str, list[RuleResult]] = {}
        for result in self.rules:
            sections.setdefault(result.rule.section, []).append(result)
        return sections


def rule_results(rules: Mapping[str, Rule], tests: Iterable[TestResult]) -> list[RuleResult]:
    """Return the result of each rule."""
    by_rule: dict[str, list[TestResult]] = {slug: [] for slug in rules}
    for test in tests:
        for slug in {*test.rules, test.broken_rule} & set(rules):
            by_rule[slug].append(test)
    return [_rule_result(rule, by_rule[slug]) for slug, rule in rules.items()]


def _rule_result(rule: Rule, tests: list[TestResult]) -> RuleResult:
    about = tuple(test for test in tests if test.outcome not in _FINDINGS or test.broken_rule == rule.id)
    failed = [test for test in about if test.outcome in _FINDINGS]
    if failed:
        exchanges = tuple(exchange for test in failed for exchange in test.exchanges)
        reason = "; ".join(dict.fromkeys(f"expected {test.reason}" for test in failed))
        outcome: Outcome = "failed" if failed[0].outcome == "failed" else "noted"
        return RuleResult(rule, outcome, reason, exchanges[-MAX_EXCHANGES:], about)
    broken = any(test.outcome == "broken" for test in about)
    reasons = "; ".join(dict.fromkeys(test.reason for test in about if test.outcome != "passed"))
    # Tests that one refusal stopped have the same exchange as evidence: show it once.
    evidence = {id(exchange): exchange for test in about for exchange in test.exchanges}
    exchanges = tuple(evidence.values())[-MAX_EXCHANGES:]
    if any(test.outcome == "passed" for test in about) and not broken:
        return RuleResult(rule, "passed", f"in part: {reasons}" if reasons else "", exchanges, about)
    if not about and tests:
        reasons = f"its test ended at a violation of {tests[0].broken_rule}"
    return RuleResult(rule, "not_checked", reasons or "no test of this run checks it", exchanges, about)


def _is_of_refused_operation(result: RuleResult) -> bool:
    return result.symptom is not None and result.rule.operation == result.symptom[0]


def as_json(results: Results) -> dict[str, Any]:
    """Return the JSON report."""
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
                    {"request": one.request_text, "response": one.response_text, "curl": one.curl}
                    for one in result.exchanges
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
