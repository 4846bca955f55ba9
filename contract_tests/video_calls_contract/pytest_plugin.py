"""The pytest plugin of a run: it selects and sorts the tests, runs them and records their results."""

import inspect
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

from video_calls_contract.catalogue import NOTED
from video_calls_contract.exceptions import (
    Blocked,
    Missing,
    NotOffered,
    OutsidePolicy,
    Unreachable,
    Violation,
)
from video_calls_contract.exchange import Exchange
from video_calls_contract.results import TestOutcome, TestResult
from video_calls_contract.run import INTERRUPTED, Run

PLUGIN: pytest.StashKey["SuitePlugin"] = pytest.StashKey()
"""The key under which the fixtures find the plugin."""

_ALONE, _LISTS, _LONG, _OTHER, _LATE, _OBSERVED = range(6)
_STAGES = {"alone": _ALONE, "lists": _LISTS, "long": _LONG, "late": _LATE, "observed": _OBSERVED}
"""The stages of a run by marker. Tests that read lists come early, while lists are short."""

_MAX_REASON_LENGTH = 2000


class _End(NamedTuple):
    """The end of a test: the exception that it raised, and its duration in seconds."""

    error: BaseException | None
    seconds: float


def rules_of(item: pytest.Item) -> tuple[str, ...]:
    """Return the slugs of a test's rules: those of its parameter come before those of its function."""
    return tuple(slug for mark in item.iter_markers("rule") for slug in mark.args)


class SuitePlugin:
    """The plugin. It runs tests at the same time, unless `run.jobs` is 1, and records their results in order.

    Args:
        on_start: called with the first rule of each test before its result is recorded; the rule is None for
            a test that checks the exchanges of all other tests.
        on_end: called with the result of each test.
    """

    def __init__(
        self, run: Run, *, on_start: Callable[[str | None], None], on_end: Callable[[TestResult], None]
    ) -> None:
        self.run = run
        self._on_start = on_start
        self._on_end = on_end
        # Tests that wait, such as for users without a call, do not keep others from sending.
        self._pool = ThreadPoolExecutor(2 * run.options.jobs, thread_name_prefix="contract-test")
        self._pending: deque[tuple[pytest.Item, Future[_End]]] = deque()
        self._stage = _ALONE
        self._last: pytest.Item | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Register the markers, and store this plugin where the fixtures find it."""
        config.stash[PLUGIN] = self
        config.addinivalue_line("markers", "rule(*slugs): the rules of the catalogue that this test checks")
        config.addinivalue_line("markers", "alone: depends on lists, users or timing; runs by itself")
        config.addinivalue_line("markers", "lists: reads lists; runs only with tests that read lists")
        config.addinivalue_line("markers", "long: takes seconds; starts before most other tests")
        config.addinivalue_line("markers", "late: needs a background scenario; starts after most other tests")
        config.addinivalue_line("markers", "observed: checks the exchanges of all other tests; runs last")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Select the tests, and sort them by stage and in the order of the document."""
        order = {slug: number for number, slug in enumerate(self.run.options.rules)}
        positions: dict[pytest.Item, tuple[int, int]] = {}
        for item in items:
            if rules := set(rules_of(item)) & set(order):
                positions[item] = _stage(item), min(order[slug] for slug in rules)
        items[:] = sorted(positions, key=positions.__getitem__)
        self._last = items[-1] if items else None

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record a test module that cannot be loaded, which is a bug in the suite."""
        if report.failed:
            self._add_bug(report.nodeid, report.longreprtext)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Wait for all tests that read lists, before fixtures of the next stage change the lists."""
        if self._stage == _LISTS != _stage(item):
            self._record(wait=True)
        self._stage = _stage(item)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool:
        """Start a test in a thread; wait for its end if no other test may run at the same time."""
        alone = self.run.jobs == 1 or _stage(pyfuncitem) in (_ALONE, _OBSERVED)
        self._record(wait=alone)
        function = cast("Callable[..., object]", pyfuncitem.function)  # pytest has no type for it
        names = inspect.signature(function).parameters
        test = partial(function, **{name: pyfuncitem.funcargs[name] for name in names})
        self._pending.append((pyfuncitem, self._pool.submit(_run_test, test)))
        self._record(wait=alone or pyfuncitem is self._last)
        return True

    def _record(self, *, wait: bool) -> None:
        """Record the tests before the first that is still running; with `wait`, wait for all of them."""
        while self._pending and (wait or self._pending[0][1].done()):
            item, future = self._pending[0]
            end = future.result()
            self._pending.popleft()
            self._add(item, end)

    def _add(self, item: pytest.Item, end: _End) -> None:
        result = self._result(item, end)
        self._on_start(None if _stage(item) == _OBSERVED else rules_of(item)[0])
        self.run.tests.append(result)
        self._on_end(result)
        if isinstance(end.error, Unreachable):
            self.run.stopped = self.run.stopped or str(end.error)
            item.session.shouldstop = str(end.error)
            for _, future in self._pending:
                future.cancel()
            self._pending = deque(one for one in self._pending if not one[1].cancelled())

    def _add_bug(self, name: str, report: str) -> None:
        last_line = (report.strip().splitlines() or [""])[-1]
        self.run.tests.append(TestResult(name, (), "broken", _shorten(last_line)))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Record the exception of a fixture."""
        report = yield
        error = call.excinfo.value if call.excinfo else None
        if error is not None and not isinstance(error, KeyboardInterrupt | pytest.exit.Exception):
            self._record(wait=False)
            self._add(item, _End(error, call.duration))
        return report

    def _result(self, item: pytest.Item, end: _End) -> TestResult:
        error, rules = end.error, rules_of(item)
        reason, broken_rule = "", ""
        outcome: TestOutcome = "passed"
        exchanges: tuple[Exchange, ...] = ()
        match error:
            case None:
                pass
            case Violation():
                reason, exchanges = error.expected, error.exchanges
                broken_rule = error.rule or rules[0]
                outcome = "noted" if broken_rule in NOTED else "failed"
            case Missing() | NotOffered():
                outcome, reason = "not_checked", str(error)
            case Blocked():
                outcome = "not_checked" if isinstance(error, OutsidePolicy) else "blocked"
                reason, exchanges = str(error), (error.exchange,) if error.exchange else ()
            case Unreachable():
                outcome, reason = "blocked", str(error)
            case _:
                frames = traceback.extract_tb(error.__traceback__)
                place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
                outcome, reason = "broken", f"{type(error).__name__}: {error}{place}"
        reason = _shorten(self.run.backend.redactor.redact(reason))
        return TestResult(_in_words(item), rules, outcome, reason, broken_rule, exchanges, end.seconds)

    def pytest_keyboard_interrupt(self) -> None:
        """Record why the run ends."""
        self.run.stopped = self.run.stopped or INTERRUPTED

    def pytest_sessionfinish(self) -> None:
        """Wait for the tests that are running, and cancel those that have not started."""
        self.run.calls.ended.set()
        self._pool.shutdown(cancel_futures=True)

    def pytest_internalerror(self, excrepr: object) -> None:
        """Record an error of pytest or of this plugin."""
        self._add_bug("pytest itself", str(excrepr))


def _run_test(test: Callable[[], object]) -> _End:
    started = time.monotonic()
    error: BaseException | None = None
    try:
        test()
    except BaseException as exception:  # noqa: BLE001 (each kind becomes an outcome)
        error = exception
    return _End(error, time.monotonic() - started)


def _stage(item: pytest.Item) -> int:
    return next((stage for name, stage in _STAGES.items() if item.get_closest_marker(name)), _OTHER)


def _in_words(item: pytest.Item) -> str:
    name, _, parameters = item.name.removeprefix("test_").partition("[")
    return name.replace("_", " ") + (f" ({parameters.rstrip(']')})" if parameters else "")


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_REASON_LENGTH else f"{text[:_MAX_REASON_LENGTH]}…"
