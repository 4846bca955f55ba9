"""Fixtures of the tests: parts of the run, and scenarios that several tests check."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from typing import Any

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
    """Return the scheduler of calls."""
    return run.calls


@pytest.fixture(scope="session")
def together(run: Run) -> Together:
    """Return a function that sends requests simultaneously, and returns the exchanges in order."""

    def all_at_once(requests: Sequence[Callable[[], Exchange]]) -> list[Exchange]:
        return [future.result() for future in [run.pool.submit(request) for request in requests]]

    return all_at_once


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
def joins(calls: Calls) -> JoinScenario:
    """Play a `JoinScenario`."""
    return play_joins(calls)


@pytest.fixture(scope="session")
def blocked(calls: Calls, request: pytest.FixtureRequest) -> Blocked | None:
    """Send some requests of each kind, for the observers; return what the backend refused, if anything."""
    calls.users.nobody.list()
    for user in calls.pair.participants:
        user.list()
        user.get(calls.backend.no_call)
    try:
        call = calls.scheduled()
    except Blocked as blocked:
        return blocked
    for user in call.participants:
        user.list()
        user.join(call.id)
        user.get(call.id)
    for outsider in call.pair.others:
        outsider.get(call.id)
    call.pair.create(call.doctor, calls.backend.clock.now() - timedelta(days=1))
    call.patient.cancel(call.id)
    try:
        joins: JoinScenario = request.getfixturevalue("joins")
    except Blocked as blocked:
        return blocked
    joins.call.doctor.join(joins.call.id)
    return None


@pytest.fixture(scope="session")
def background(request: pytest.FixtureRequest) -> dict[str, Future[Any]]:
    """Start in the background the scenarios that take seconds, if a test uses them."""
    scenarios: dict[str, Callable[[Run], Any]] = {
        "lifecycle": lambda run: play_lifecycle(run.calls, run.wait),
        "late_join": lambda run: play_late_join(run.calls, run.wait),
        "expiry": lambda run: expire(run.users, run.wait),
    }
    names = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    if not names & scenarios.keys():
        return {}
    run: Run = request.getfixturevalue("run")
    return {name: run.in_background(partial(play, run)) for name, play in scenarios.items() if name in names}


@pytest.fixture(autouse=True)
def background_start(request: pytest.FixtureRequest) -> None:
    """Start the background work with the first test that does not run alone."""
    if request.node.get_closest_marker("alone") is None:
        request.getfixturevalue("background")


@pytest.fixture
def expiry(background: dict[str, Future[Any]]) -> Expiry:
    """Return the end of a connection whose token expired."""
    expiry: Expiry = background["expiry"].result()
    return expiry


@pytest.fixture
def lifecycle(background: dict[str, Future[Any]]) -> Lifecycle:
    """Return a `Lifecycle`."""
    lifecycle: Lifecycle = background["lifecycle"].result()
    return lifecycle


@pytest.fixture
def late_join(background: dict[str, Future[Any]]) -> LateJoin:
    """Return a `LateJoin`."""
    late_join: LateJoin = background["late_join"].result()
    return late_join
