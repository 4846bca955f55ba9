"""The pytest plugin of a run: it selects and sorts the tests, and records the result of each."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from video_calls_contract.backend import Missing, Unreachable
from video_calls_contract.catalogue import NOTED
from video_calls_contract.checks import Blocked, NotOffered, OutsidePolicy, Violation
from video_calls_contract.results import TestOutcome, TestResult
from video_calls_contract.run import INTERRUPTED, Run

__all__ = ["SUITE", "Suite", "rules_of"]

SUITE: pytest.StashKey["Suite"] = pytest.StashKey()
"""Where the tests find the run that they belong to."""

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
    """

    def __init__(
        self,
        run: Run,
        *,
        started: Callable[[str | None], None] = lambda _slug: None,
        ended: Callable[[TestResult], None] = lambda _result: None,
    ) -> None:
        self.run = run
        self._started = started
        self._ended = ended

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Be found by the tests."""
        config.stash[SUITE] = self
        config.addinivalue_line("markers", "rule(*slugs): the rules of the catalogue that this test holds")
        config.addinivalue_line("markers", "observed: judges what all other tests have seen; runs last")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Select and sort the tests: in the order of the document, and those that judge all others last."""
        order = {slug: number for number, slug in enumerate(self.run.options.rules)}

        def place(item: pytest.Item) -> tuple[bool, int]:
            first = min(order[slug] for slug in rules_of(item) if slug in order)
            return item.get_closest_marker("observed") is not None, first

        selected = [item for item in items if set(rules_of(item)) & set(order)]
        items[:] = sorted(selected, key=place)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record a module of rules that cannot be loaded: the suite's fault, not the backend's."""
        if report.failed:
            last = (report.longreprtext.strip().splitlines() or [""])[-1]
            self.run.tests.append(TestResult(report.nodeid, (), "broken", _bounded(last)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        """Report progress."""
        self._started(None if item.get_closest_marker("observed") else rules_of(item)[0])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Turn what a test raised into a result of the run."""
        report = yield
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

    def pytest_keyboard_interrupt(self) -> None:
        """Note why the run ends; what was made is still taken away."""
        self.run.stopped = self.run.stopped or INTERRUPTED

    def pytest_internalerror(self, excrepr: object) -> None:
        """Pytest itself, or the suite's part of it, broke."""
        last = (str(excrepr).strip().splitlines() or [""])[-1]
        self.run.tests.append(TestResult("pytest itself", (), "broken", _bounded(last)))


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
