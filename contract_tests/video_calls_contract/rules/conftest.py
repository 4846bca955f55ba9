"""What the tests are given."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from video_calls_contract.backend import Backend, People
from video_calls_contract.event_listener import Expiry, expire
from video_calls_contract.exchange import Exchange, Together
from video_calls_contract.outcomes import Blocked
from video_calls_contract.pytest_plugin import PLUGIN
from video_calls_contract.run import Run
from video_calls_contract.scenarios import Joined, LateJoin, LongLife, join_and_end, join_late, live_long
from video_calls_contract.scheduling import Calls
from video_calls_contract.slots import Slots


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest) -> Run:
    """The run that the tests belong to."""
    return request.config.stash[PLUGIN].run


@pytest.fixture(scope="session")
def backend(run: Run) -> Backend:
    """The backend, for what is nobody's request in particular."""
    return run.backend


@pytest.fixture(scope="session")
def people(run: Run) -> People:
    """Those of the configuration."""
    return run.people


@pytest.fixture(scope="session")
def calls(run: Run) -> Calls:
    """Calls to work on."""
    return run.calls


@pytest.fixture(scope="session")
def slots(calls: Calls) -> Slots:
    """Free times, months ahead."""
    return calls.slots


@pytest.fixture(scope="session")
def together(run: Run) -> Together:
    """Send requests at the same time, and get the exchanges in order."""

    def all_at_once(requests: Sequence[Callable[[], Exchange]]) -> list[Exchange]:
        return [future.result() for future in [run.pool.submit(request) for request in requests]]

    return all_at_once


@pytest.fixture(scope="session")
def joined(calls: Calls) -> Joined:
    """A call in its window that both joined, and the doctor a second time; it is ended by now."""
    return join_and_end(calls)


@pytest.fixture(scope="module", autouse=True)
def close_calls_of_module(calls: Calls) -> Iterator[None]:
    """Close the calls of a module's fixtures after the module if room is scarce."""
    with calls.closing():
        yield


@pytest.fixture(autouse=True)
def close_calls_of_test(calls: Calls) -> Iterator[None]:
    """Close a test's calls after it if room is scarce."""
    with calls.closing():
        yield


@pytest.fixture(scope="session")
def obstacle(calls: Calls, request: pytest.FixtureRequest) -> Blocked | None:
    """Gives those who look back some of everything; why not all of it, if anything was in the way."""
    calls.people.nobody.list()
    for person in calls.pair.participants:
        person.list()
        person.get(calls.backend.no_call)
    try:
        call = calls.scheduled()
    except Blocked as blocked:
        return blocked
    for person in call.participants:
        person.list()
        person.join(call.id)
        person.get(call.id)
    for stranger in call.pair.others:
        stranger.get(call.id)
    call.pair.create(call.doctor, calls.backend.clock.now() - timedelta(days=1))
    call.patient.cancel(call.id)
    try:
        joined: Joined = request.getfixturevalue("joined")
    except Blocked as blocked:
        return blocked
    joined.call.doctor.join(joined.call.id)
    return None


@pytest.fixture(scope="session", autouse=True)
def background(request: pytest.FixtureRequest) -> dict[str, Future[Any]]:
    """Begin, when the run does, what takes seconds to show, if a test asks for it."""
    works: dict[str, Callable[[Run], Any]] = {
        "long_life": lambda run: live_long(run.calls, run.wait),
        "late_join": lambda run: join_late(run.calls, run.wait),
        "expiry": lambda run: expire(run.people, run.wait),
    }
    names = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    if not names & works.keys():
        return {}
    run: Run = request.getfixturevalue("run")
    return {name: run.in_background(partial(work, run)) for name, work in works.items() if name in names}


@pytest.fixture
def expiry(background: dict[str, Future[Any]]) -> Expiry:
    """What happened to a connection whose token expired."""
    expiry: Expiry = background["expiry"].result()
    return expiry


@pytest.fixture
def long_life(background: dict[str, Future[Any]]) -> LongLife:
    """Two calls that lived for some seconds; see `LongLife`."""
    long_life: LongLife = background["long_life"].result()
    return long_life


@pytest.fixture
def late_join(background: dict[str, Future[Any]]) -> LateJoin:
    """The first join after a call's start; see `LateJoin`."""
    late_join: LateJoin = background["late_join"].result()
    return late_join
