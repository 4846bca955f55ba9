"""One run of the suite: the backend, its users, the calls of the run, the observers and the results.

The command starts a run; the tests use it through fixtures.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeVar

from video_calls_spec import Level, Rule

from video_calls_contract.backend import Backend
from video_calls_contract.baseline import Entry, apply
from video_calls_contract.catalogue import catalogue
from video_calls_contract.config import Config
from video_calls_contract.connection_settings import connection
from video_calls_contract.exceptions import Blocked
from video_calls_contract.observers.registry import Observers
from video_calls_contract.redaction import Redactor
from video_calls_contract.results import Results, TestResult, rule_results
from video_calls_contract.scheduling import Calls
from video_calls_contract.users import Users

A = TypeVar("A")
T = TypeVar("T")

FuzzLength = Literal["quick", "long", "off"]

INTERRUPTED = "the run was interrupted"


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a run.

    Attributes:
        timeout: in seconds, per request.
        level: the lowest level whose violations fail the run.
        seed: the seed of all random values, except the times of calls and idempotency keys.
        jobs: the number of requests that may be sent at the same time; with 1, tests run one after the other.
    """

    rules: dict[str, Rule] = field(default_factory=catalogue)
    fuzz: FuzzLength = "quick"
    timeout: float = 10.0
    level: Level = "must"
    seed: int = 0
    jobs: int = 6
    baseline: tuple[Entry, ...] = ()


class Run:
    """A run against one backend.

    Raises:
        ConfigError: if a certificate or a proxy cannot be used.
    """

    def __init__(self, config: Config, options: Options) -> None:
        self.config = config
        self.options = options
        self.backend = Backend(
            config.base_url,
            Redactor(),
            timeout=options.timeout,
            connection=connection(config),
            max_requests=options.jobs,
        )
        self.users = Users(config, self.backend)
        self.calls = Calls(self.backend, self.users, config.booking)
        self.observers = Observers(self.backend.clock, config.agora, self.calls.created.is_ours)
        self.backend.watchers.append(self.observers.watch)
        self.tests: list[TestResult] = []
        self.stopped = ""
        self.notes: list[str] = []
        self.pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="contract")
        self._started = time.monotonic()
        self._started_at = datetime.now(UTC)
        self._results: Results | None = None

    def begin(self) -> None:
        """Discover which times the backend books, and which of them are free for this run."""
        self.calls.free_times.prepare()

    @property
    def jobs(self) -> int:
        """Return how many requests may be sent at the same time: only one if free times are scarce."""
        return 1 if self.calls.free_times.scarce else self.options.jobs

    def in_background(self, work: Callable[[], T]) -> "Future[T]":
        """Start a function that mostly waits."""
        return self.pool.submit(work)

    def side_by_side(self, function: Callable[[A], T], arguments: Sequence[A]) -> list[T]:
        """Call a function with each argument, up to `jobs` at the same time; return the results in order."""
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                return list(pool.map(function, arguments))
            except KeyboardInterrupt:
                self.calls.ended.set()  # the functions that wait for users stop
                raise

    def wait(self, seconds: float) -> None:
        """Sleep for some seconds in a background thread.

        Raises:
            Blocked: if the run ends first.
        """
        if self.calls.ended.wait(seconds):
            raise Blocked("the run ended before this could be observed")

    def finish(self) -> Results:
        """Close the calls of the run and return its results."""
        if self._results is not None:
            return self._results
        results = Results(
            self.config.base_url, self.options.level, self.options.seed, started_at=self._started_at
        )
        redact = self.backend.redactor.redact
        try:
            self.calls.ended.set()
            self.pool.shutdown(wait=True, cancel_futures=True)
            results.left = [redact(line) for line in self.calls.created.close_all(self.side_by_side)]
        except KeyboardInterrupt:
            results.left = self._calls_that_may_be_left("cleaning up was interrupted")
            self.stopped = self.stopped or INTERRUPTED
        except Exception as error:  # noqa: BLE001 (a failed cleanup must not lose the results)
            results.left = self._calls_that_may_be_left(redact(str(error)))
        results.stopped = redact(self.stopped)
        self.backend.close()
        results.broken = [test for test in self.tests if test.outcome == "broken"]
        results.rules = rule_results(self.options.rules, self.tests)
        apply(self.options.baseline, results.rules, datetime.now(UTC).date())
        results.requests = self.backend.count
        results.seconds = time.monotonic() - self._started
        results.notes = self._notes()
        self._results = results
        return results

    def _calls_that_may_be_left(self, why: str) -> list[str]:
        calls = ", ".join(str(call_id) for call_id in self.calls.created.calls)
        return [f"calls {calls} may be left: {why}"] if calls else []

    def _notes(self) -> list[str]:
        notes = [*self.notes, *self.calls.free_times.describe_policy()]
        offset = self.backend.clock.offset.total_seconds()
        if abs(offset) >= 2:  # noqa: PLR2004 (`Date` has whole seconds)
            where = "ahead of" if offset > 0 else "behind"
            notes.append(f"the backend's clock is {abs(offset):.0f} s {where} this machine's")
        if self.backend.is_gone:
            notes += [
                f"the connection ended during {exchange.request_line}; the backend has not answered since"
                for exchange in self.backend.cut_off
            ]
        if hosts := ", ".join(sorted(self.backend.public_hosts)):
            notes.append(
                f"`next` and `previous` name {hosts}; the suite followed them at the address of base_url"
            )
        if self.calls.no_room_reason:
            reason = self.backend.redactor.redact(self.calls.no_room_reason)
            notes.append(f"no call within its join window could be created: {reason}")
        return notes
