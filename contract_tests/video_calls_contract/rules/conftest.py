"""What the tests are given."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import timedelta

import pytest

from video_calls_contract.backend import Backend, People
from video_calls_contract.checks import Blocked
from video_calls_contract.exchange import Exchange, Together
from video_calls_contract.listening import Expiry, expire
from video_calls_contract.lives import Joined, LateJoin, LongLife, join_and_end, join_late, live_long
from video_calls_contract.run import Run
from video_calls_contract.scheduling import Calls, Slots
from video_calls_contract.suite import SUITE


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest) -> Run:
    """The run that the tests belong to."""
    return request.config.stash[SUITE].run


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
def module_calls(calls: Calls) -> Iterator[None]:
    """Close the calls of a module's fixtures after the module if there is little room for more."""
    with calls.module():
        yield


@pytest.fixture(autouse=True)
def call_lifetime(calls: Calls) -> Iterator[None]:
    """Close the test's own calls after it if there is little room for more."""
    with calls.test():
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
def long_life_begun(request: pytest.FixtureRequest) -> Future[LongLife] | None:
    """Begins, when the run does, what takes seconds to show; only where a test is going to ask for it."""
    if not _is_asked_for("long_life", request):
        return None
    run: Run = request.getfixturevalue("run")
    return run.in_background(lambda: live_long(run.calls, run.wait))


@pytest.fixture(scope="session", autouse=True)
def late_join_begun(request: pytest.FixtureRequest) -> Future[LateJoin] | None:
    """Begins, when the run does, to wait for a call's start; only where a test is going to ask for it."""
    if not _is_asked_for("late_join", request):
        return None
    run: Run = request.getfixturevalue("run")
    return run.in_background(lambda: join_late(run.calls, run.wait))


@pytest.fixture(scope="session", autouse=True)
def expiry_begun(request: pytest.FixtureRequest) -> Future[Expiry] | None:
    """Begins, when the run does, to wait for a token's end; only where a test is going to ask for it."""
    if not _is_asked_for("expiry", request):
        return None
    run: Run = request.getfixturevalue("run")
    return run.in_background(lambda: expire(run.people, run.wait))


@pytest.fixture
def expiry(expiry_begun: Future[Expiry]) -> Expiry:
    """What became of a connection whose token expired."""
    return expiry_begun.result()


@pytest.fixture
def long_life(long_life_begun: Future[LongLife]) -> LongLife:
    """Two calls that lived for some seconds; see `LongLife`."""
    return long_life_begun.result()


@pytest.fixture
def late_join(late_join_begun: Future[LateJoin]) -> LateJoin:
    """The first join after a call's start; see `LateJoin`."""
    return late_join_begun.result()


def _is_asked_for(fixture: str, request: pytest.FixtureRequest) -> bool:
    return any(fixture in getattr(item, "fixturenames", ()) for item in request.session.items)
