"""What stands between pytest and a run: which tests are taken, in which order, and what becomes of each."""

from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from video_calls_contract.backend import Missing, Unreachable
from video_calls_contract.catalogue import NOTED, catalogue
from video_calls_contract.checks import Blocked, NotOffered, OutsidePolicy, Violation
from video_calls_contract.preflight import PreflightError, preflight
from video_calls_contract.reports import visible
from video_calls_contract.results import Results, TestOutcome, TestResult
from video_calls_contract.run import INTERRUPTED, Run

__all__ = ["SUITE", "Suite", "rules_of"]

SUITE: pytest.StashKey["Suite"] = pytest.StashKey()
"""Where the tests find the run that they belong to."""

_MODULE = "video_calls_contract.rules"
_FOLDER = "rules"
_MOST_SAID = 2000  # characters of a reason


def rules_of(item: pytest.Item) -> tuple[str, ...]:
    """The slugs that a test holds, the nearest mark's first."""
    return tuple(slug for mark in item.iter_markers("rule") for slug in mark.args)


class Suite:
    """A plugin with a run of its own.

    Args:
        started: told of each test that begins: the first of its rules, None where it looks back
            on the others.
        ended: told of each test's result.
        begun: whether it was looked already whether the work can be done, and the run was begun.
        lenient: whether deviations that do not fail the run do not fail their tests either, as where pytest
            itself tells what came out.
    """

    def __init__(
        self,
        run: Run,
        *,
        started: Callable[[str | None], None] = lambda _slug: None,
        ended: Callable[[TestResult], None] = lambda _result: None,
        begun: bool = False,
        lenient: bool = False,
    ) -> None:
        self.run = run
        self.failure: PreflightError | None = None
        self._started = started
        self._ended = ended
        self._begun = begun
        self._lenient = lenient

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Be found by the tests."""
        config.stash[SUITE] = self
        config.addinivalue_line("markers", "rule(*slugs): the rules of the catalogue that this test holds")
        config.addinivalue_line("markers", "observed: judges what all other tests have seen; runs last")

    def pytest_sessionstart(self) -> None:
        """Look whether the work can be done, before it is begun."""
        if self._begun:
            return
        try:
            preflight(self.run)
            self.run.begin()
        except (PreflightError, Unreachable) as error:
            reason = visible(self.run.backend.redactor.redact(str(error)))
            self.failure = PreflightError(reason)
            pytest.exit(reason, returncode=2)

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Take the tests that were asked for, in the document's order, those that look back on all last."""
        ours = [item for item in items if _is_ours(item)]
        wanted = [item for item in ours if set(rules_of(item)) & set(self.run.options.rules)]
        unwanted = [item for item in ours if item not in wanted]
        order = {slug: number for number, slug in enumerate(self.run.options.rules)}

        def place(item: pytest.Item) -> tuple[bool, int]:
            first = min((order[slug] for slug in rules_of(item) if slug in order), default=0)
            return item.get_closest_marker("observed") is not None, first

        items[:] = [item for item in items if item not in ours] + sorted(wanted, key=place)
        if unwanted:
            config.hook.pytest_deselected(items=unwanted)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module of the suite's that cannot be loaded is the suite's fault, and none of the backend's."""
        if report.failed and _FOLDER in Path(report.nodeid).parts:
            last = (report.longreprtext.strip().splitlines() or [""])[-1]
            self.run.tests.append(TestResult(report.nodeid, (), "broken", _bounded(last)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        """Tell that something goes on."""
        if _is_ours(item):
            self._started(None if item.get_closest_marker("observed") else rules_of(item)[0])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Turn what a test raised into a result of the run."""
        report = yield
        if not _is_ours(item):
            return report
        error = call.excinfo.value if call.excinfo else None
        if error is None and call.when != "call":
            return report
        result = self._result(item, call, error)
        if result is None:
            return report
        self.run.tests.append(result)
        self._ended(result)
        if isinstance(error, Unreachable):
            self.run.stopped = str(error)
            item.session.shouldstop = str(error)
        if self._lenient and self._is_let_pass(result):
            report.outcome = "skipped"
            report.wasxfail = visible(f"{result.blamed}: expected {result.reason}")
        elif result.outcome in ("not_checked", "blocked"):
            path, line, _ = item.location
            report.outcome = "skipped"
            report.longrepr = (path, line or 0, visible(f"not checked: {result.reason}"))
        elif result.outcome in ("failed", "noted"):
            report.longrepr = _told(result)
        return report

    def _result(
        self, item: pytest.Item, call: pytest.CallInfo[Any], error: BaseException | None
    ) -> TestResult | None:
        rules = rules_of(item)
        reason, blamed, outcome = "", "", "passed"
        exchanges: tuple[Any, ...] = ()
        match error:
            case None:
                pass
            case Violation():
                reason, exchanges = error.expected, error.exchanges
                blamed = error.rule or rules[0]
                outcome = "noted" if blamed in NOTED else "failed"
            case Missing() | NotOffered():
                outcome, reason = "not_checked", str(error)
            case Blocked():
                outcome = "not_checked" if isinstance(error, OutsidePolicy) else "blocked"
                reason, exchanges = str(error), (error.exchange,) if error.exchange else ()
            case KeyboardInterrupt() | pytest.exit.Exception():
                return None
            case Unreachable():
                outcome, reason = "blocked", str(error)
            case _:
                outcome, reason = "broken", f"{type(error).__name__}: {error}{_place(call)}"
        kind: TestOutcome = outcome  # type: ignore[assignment]
        reason = _bounded(self.run.backend.redactor.redact(reason))
        return TestResult(_in_words(item), rules, kind, reason, blamed, exchanges, call.duration)

    def _is_let_pass(self, result: TestResult) -> bool:
        """Whether a violation does not fail the run, as far as one test can tell."""
        if result.outcome != "failed":
            return result.outcome == "noted"
        options, today = self.run.options, datetime.now(UTC).date()
        if any(known.allows(result.blamed, today) for known in options.baseline):
            return True
        rule = catalogue().get(result.blamed)
        return rule is not None and rule.level == "should" and options.level != "should"

    def pytest_keyboard_interrupt(self) -> None:
        """Note why the run ends; what was made is still taken away."""
        self.run.stopped = self.run.stopped or INTERRUPTED

    def pytest_internalerror(self, excrepr: object) -> None:
        """Pytest itself, or the suite's part of it, broke."""
        last = (str(excrepr).strip().splitlines() or [""])[-1]
        self.run.tests.append(TestResult("pytest itself", (), "broken", _bounded(last)))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Take away what was made; a run that was of no use is no success."""
        if self.failure is None:
            status = self.results().exit_status
            session.exitstatus = session.exitstatus or status

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:  # noqa: ANN401 (pytest's is not public)
        """Say what a reader of plain pytest's output should know."""
        if self.failure is not None:
            return
        results = self.results()
        held = [
            f"{result.rule.id}: {result.reason}" for result in results.violations if result.listed == "holds"
        ]
        for line in (*results.notes, *results.left, *held, f"the backend {results.verdict}"):
            terminalreporter.write_line(f"video-calls-contract: {visible(line)}")

    def results(self) -> Results:
        """What came out of the run."""
        return self.run.finish()


def _is_ours(item: pytest.Item) -> bool:
    module = getattr(item, "module", None)
    return module is not None and module.__name__.startswith(_MODULE)


def _in_words(item: pytest.Item) -> str:
    name, _, parameters = item.name.removeprefix("test_").partition("[")
    return name.replace("_", " ") + (f" ({parameters.rstrip(']')})" if parameters else "")


def _bounded(text: str) -> str:
    return text if len(text) <= _MOST_SAID else f"{text[:_MOST_SAID]}…"


def _place(call: pytest.CallInfo[Any]) -> str:
    if call.excinfo is None:
        return ""
    entry = call.excinfo.traceback[-1]
    return f" ({Path(str(entry.path)).name}:{entry.lineno + 1})"


def _told(result: TestResult) -> str:
    lines = [f"{result.blamed}: expected {result.reason}"]
    for exchange in result.exchanges:
        lines += ["", exchange.request_text, "", exchange.response_text, "", exchange.curl]
    return visible("\n".join(lines))
