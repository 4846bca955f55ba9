"""Fixtures of the tests: the parts of a run, and scenarios that several tests check."""

import operator
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import timedelta
from functools import partial

import pytest

from video_calls_contract.event_listener import Expiry, expire
from video_calls_contract.exceptions import Blocked
from video_calls_contract.exchange import Exchange, Together
from video_calls_contract.pytest_plugin import PLUGIN
from video_calls_contract.run import Run
from video_calls_contract.scenarios import (
    JoinScenario,
    LateJoin,
    Lifecycle,
    play_joins,
    play_late_join,
    play_lifecycle,
)
from video_calls_contract.scheduling import Calls
from video_calls_contract.users import Users


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest) -> Run:
    """Return the run that the tests belong to."""
    return request.config.stash[PLUGIN].run


@pytest.fixture(scope="session")
def users(run: Run) -> Users:
    """Return the users of the configuration."""
    return run.users


@pytest.fixture(scope="session")
def calls(run: Run) -> Calls:
    """Return the object that schedules calls."""
    return run.calls


@pytest.fixture(scope="session")
def together(run: Run) -> Together:
    """Return a function that sends requests simultaneously, and returns the exchanges in order."""

    def send(request: Callable[[], Exchange]) -> Exchange:
        with run.backend.simultaneous():
            return request()

    def all_at_once(requests: Sequence[Callable[[], Exchange]]) -> list[Exchange]:
        return [future.result() for future in [run.pool.submit(send, request) for request in requests]]

    return all_at_once


@pytest.fixture(scope="module", autouse=True)
def close_calls_of_module(calls: Calls) -> Iterator[None]:
    """After a module, close the calls of its fixtures if there are few free times (`FreeTimes.scarce`)."""
    with calls.closing():
        yield


@pytest.fixture(autouse=True)
def close_calls_of_test(calls: Calls) -> Iterator[None]:
    """After a test, close its calls if there are few free times."""
    with calls.closing():
        yield


@pytest.fixture(scope="session")
def joins(calls: Calls) -> JoinScenario:
    """Play a `JoinScenario`."""
    return play_joins(calls)


@pytest.fixture(scope="session")
def sampling_error(run: Run, calls: Calls, request: pytest.FixtureRequest) -> Blocked | None:
    """Send requests of each kind, so that every observer has exchanges to check.

    Return the `Blocked` that ended this early; None if every request was sent.
    """
    participants = calls.pair.participants
    requests: list[Callable[[], Exchange]] = [
        calls.users.nobody.list,
        *(user.list for user in participants),
        *(partial(user.get, calls.backend.no_call) for user in participants),
    ]
    run.side_by_side(operator.call, requests)
    try:
        call = calls.scheduled()
    except Blocked as blocked:
        return blocked
    requests = [
        *(user.list for user in participants),
        *(partial(user.join, call.id) for user in participants),
        *(partial(user.get, call.id) for user in (*participants, *call.pair.others)),
        partial(call.pair.create, call.doctor, calls.backend.clock.now() - timedelta(days=1)),
    ]
    run.side_by_side(operator.call, requests)
    call.patient.cancel(call.id)
    try:
        joins: JoinScenario = request.getfixturevalue("joins")
    except Blocked as blocked:
        return blocked
    joins.call.doctor.join(joins.call.id)
    return None


@pytest.fixture(scope="session")
def playing_expiry(run: Run) -> Future[Expiry]:
    """Start to wait in the background until a connection ends because its token expires."""
    return run.in_background(partial(expire, run.users, run.wait))


@pytest.fixture(scope="session")
def playing_lifecycle(run: Run) -> Future[Lifecycle]:
    """Start to play a `Lifecycle` in the background."""
    return run.in_background(partial(play_lifecycle, run.calls, run.wait))


@pytest.fixture(scope="session")
def playing_late_join(run: Run) -> Future[LateJoin]:
    """Start to play a `LateJoin` in the background."""
    return run.in_background(partial(play_late_join, run.calls, run.wait))


@pytest.fixture(scope="session")
def preparing_fuzzer(run: Run) -> Future[None]:
    """Start to import and prepare the fuzzer in the background, because this takes seconds."""

    def prepare_fuzzer() -> None:
        from video_calls_contract.fuzzing import prepare

        prepare()

    return run.in_background(prepare_fuzzer)


@pytest.fixture(scope="session")
def used_fixtures(request: pytest.FixtureRequest) -> set[str]:
    """Return the names of the fixtures that the tests of this run use."""
    return {name for item in request.session.items for name in getattr(item, "fixturenames", ())}


@pytest.fixture(autouse=True)
def background(request: pytest.FixtureRequest, used_fixtures: set[str]) -> None:
    """Start the fixtures that take seconds, if a test of this run uses them.

    Only `playing_expiry` starts at once. The others wait for the tests that run alone, because those need the
    users and the processor.
    """
    names = ["playing_expiry"]
    if request.node.get_closest_marker("alone") is None:
        names += ["playing_lifecycle", "playing_late_join", "preparing_fuzzer"]
    for name in names:
        if name in used_fixtures:
            request.getfixturevalue(name)


@pytest.fixture
def expiry(playing_expiry: Future[Expiry]) -> Expiry:
    """Return the end of a connection whose token expired."""
    return playing_expiry.result()


@pytest.fixture
def lifecycle(playing_lifecycle: Future[Lifecycle]) -> Lifecycle:
    """Return a `Lifecycle`."""
    return playing_lifecycle.result()


@pytest.fixture
def late_join(playing_late_join: Future[LateJoin]) -> LateJoin:
    """Return a `LateJoin`."""
    return playing_late_join.result()
