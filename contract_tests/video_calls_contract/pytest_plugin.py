"""The pytest plugin of a run: it selects and sorts the tests, and records the result of each."""

import inspect
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from video_calls_contract.catalogue import NOTED
from video_calls_contract.outcomes import Blocked, Missing, NotOffered, OutsidePolicy, Unreachable, Violation
from video_calls_contract.results import TestOutcome, TestResult
from video_calls_contract.run import INTERRUPTED, Run

__all__ = ["PLUGIN", "SuitePlugin", "rules_of"]

PLUGIN: pytest.StashKey["SuitePlugin"] = pytest.StashKey()
"""Where the tests find the run that they belong to."""

_ALONE, _LONG, _OTHER, _OBSERVED = range(4)
_STAGES = {"alone": _ALONE, "long": _LONG, "observed": _OBSERVED}
"""Stages of a run: lists are read while they are short and nothing changes them."""

_MOST_SAID = 2000  # characters of a reason


class _Ended(NamedTuple):
    """How a test ended: what it raised, and the seconds that it took."""

    error: BaseException | None
    seconds: float


def rules_of(item: pytest.Item) -> tuple[str, ...]:
    """The slugs that a test holds, the nearest mark's first."""
    return tuple(slug for mark in item.iter_markers("rule") for slug in mark.args)


class SuitePlugin:
    """The plugin; it runs up to `run.jobs` tests at once, and records their results in order.

    Args:
        started: called with the first rule of each test before its result is recorded; None for a test that
            judges all others.
        ended: called with the result of each test.
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
        self._pool = ThreadPoolExecutor(run.options.jobs, thread_name_prefix="contract-test")
        self._pending: deque[tuple[pytest.Item, Future[_Ended]]] = deque()
        self._last: pytest.Item | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Let the fixtures find the run."""
        config.stash[PLUGIN] = self
        config.addinivalue_line("markers", "rule(*slugs): the rules of the catalogue that this test holds")
        config.addinivalue_line("markers", "alone: needs lists that do not change; runs beside no other test")
        config.addinivalue_line("markers", "long: takes long, so it begins before the others")
        config.addinivalue_line("markers", "observed: judges what all other tests have seen; runs last")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Select the tests, and sort them: by stage, then in the order of the document."""
        order = {slug: number for number, slug in enumerate(self.run.options.rules)}

        def place(item: pytest.Item) -> tuple[int, int]:
            first = min(order[slug] for slug in rules_of(item) if slug in order)
            return _stage(item), first

        selected = [item for item in items if set(rules_of(item)) & set(order)]
        items[:] = sorted(selected, key=place)
        self._last = items[-1] if items else None

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record a module of rules that cannot be loaded: the suite's fault, not the backend's."""
        if report.failed:
            last = (report.longreprtext.strip().splitlines() or [""])[-1]
            self.run.tests.append(TestResult(report.nodeid, (), "broken", _bounded(last)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool:
        """Start a test in a thread; wait for it if it must not run beside others."""
        alone = self.run.jobs == 1 or _stage(pyfuncitem) in (_ALONE, _OBSERVED)
        self._record(wait=alone)
        names = inspect.signature(pyfuncitem.function).parameters
        test = partial(pyfuncitem.function, **{name: pyfuncitem.funcargs[name] for name in names})
        self._pending.append((pyfuncitem, self._pool.submit(_outcome_of, test)))
        self._record(wait=alone or pyfuncitem is self._last)
        return True

    def _record(self, *, wait: bool) -> None:
        """Record the results of the tests that have ended, up to the first that has not.

        Args:
            wait: whether to wait for all of them.
        """
        while self._pending and (wait or self._pending[0][1].done()):
            item, future = self._pending[0]
            ended = future.result()
            self._pending.popleft()
            self._add(item, ended)

    def _add(self, item: pytest.Item, ended: _Ended) -> None:
        error = ended.error
        result = self._result(item, ended)
        self._started(None if _stage(item) == _OBSERVED else rules_of(item)[0])
        self.run.tests.append(result)
        self._ended(result)
        if isinstance(error, Unreachable):
            self.run.stopped = self.run.stopped or str(error)
            item.session.shouldstop = str(error)
            for _, future in self._pending:
                future.cancel()
            self._pending = deque(one for one in self._pending if not one[1].cancelled())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Record what a fixture raised."""
        report = yield
        error = call.excinfo.value if call.excinfo else None
        if error is not None and not isinstance(error, KeyboardInterrupt | pytest.exit.Exception):
            self._record(wait=False)
            self._add(item, _Ended(error, call.duration))
        return report

    def _result(self, item: pytest.Item, ended: _Ended) -> TestResult:
        error, rules = ended.error, rules_of(item)
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
            case Unreachable():
                outcome, reason = "blocked", str(error)
            case _:
                outcome, reason = "broken", f"{type(error).__name__}: {error}{_place(error)}"
        kind: TestOutcome = outcome  # type: ignore[assignment]
        reason = _bounded(self.run.backend.redactor.redact(reason))
        return TestResult(_in_words(item), rules, kind, reason, blamed, exchanges, ended.seconds)

    def pytest_keyboard_interrupt(self) -> None:
        """Note why the run ends, and start no further test; the calls that were made are still closed."""
        self.run.stopped = self.run.stopped or INTERRUPTED

    def pytest_sessionfinish(self) -> None:
        """Wait for the tests that are running; those that have not begun are dropped."""
        self.run.calls.ended.set()
        self._pool.shutdown(cancel_futures=True)

    def pytest_internalerror(self, excrepr: object) -> None:
        """Record that pytest itself, or the suite's part of it, broke."""
        last = (str(excrepr).strip().splitlines() or [""])[-1]
        self.run.tests.append(TestResult("pytest itself", (), "broken", _bounded(last)))


def _outcome_of(test: Callable[[], object]) -> _Ended:
    started = time.monotonic()
    error: BaseException | None = None
    try:
        test()
    except BaseException as raised:  # noqa: BLE001 (each kind becomes an outcome)
        error = raised
    return _Ended(error, time.monotonic() - started)


def _stage(item: pytest.Item) -> int:
    marked = [stage for name, stage in _STAGES.items() if item.get_closest_marker(name)]
    return marked[0] if marked else _OTHER


def _in_words(item: pytest.Item) -> str:
    name, _, parameters = item.name.removeprefix("test_").partition("[")
    return name.replace("_", " ") + (f" ({parameters.rstrip(']')})" if parameters else "")


def _bounded(text: str) -> str:
    return text if len(text) <= _MOST_SAID else f"{text[:_MOST_SAID]}…"


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
