"""Concurrent requests, over real sockets, to two processes on one database.

On a SQLite file the processes are two servers. On PostgreSQL they are two workers of one server.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count, cycle
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.api import CALLS, auth_headers, time_ahead
from support.database_contents import EVENTS_BY_STATUS, events_of, people_yaml
from support.postgres import new_database
from support.server_process import TIMEOUT, ServerProcess, server_processes

TOGETHER = 100
PAIRS = 50

Request = tuple[str, dict[str, str], dict[str, Any] | None]


@dataclass
class Pair:
    """A doctor and a patient that no other test uses, and the servers that they use."""

    number: int
    servers: list[ServerProcess]
    database: str
    calls: list[int] = field(default_factory=list)
    shares: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.doctor, self.patient = auth_headers(self.number), auth_headers(PAIRS + self.number)

    def body(self, minutes: float) -> dict[str, Any]:
        return {"doctor": self.number, "patient": self.number, "scheduled_time": time_ahead(minutes)}

    def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request of the doctor to the first server and return the JSON of its success."""
        answer = httpx.post(self.servers[0].url + path, json=body, headers=self.doctor, timeout=TIMEOUT)
        content: dict[str, Any] = answer.raise_for_status().json()
        return content

    def get(self, path: str) -> dict[str, Any]:
        """Return a call, or the list of calls, from the last server."""
        answer = httpx.get(self.servers[-1].url + path, headers=self.doctor, timeout=TIMEOUT)
        content: dict[str, Any] = answer.raise_for_status().json()
        return content

    def call(self) -> str:
        """Create a call and return its path."""
        self.calls.append(self.post(CALLS, self.body(10))["id"])
        return f"{CALLS}{self.calls[-1]}/"

    def repeat(self, path: str, body: dict[str, Any] | None = None) -> list[Request]:
        """Return a request many times, of both participants."""
        return [(path, self.patient if number % 3 else self.doctor, body) for number in range(TOGETHER)]

    def send_concurrently(self, requests: list[Request]) -> list[httpx.Response]:
        """Send these requests concurrently, to each server in turn, and return the responses."""
        return asyncio.run(self._send(requests))

    async def _send(self, requests: list[Request]) -> list[httpx.Response]:
        # Each request has a connection of its own. Otherwise httpx lets all of them wait for an idle one.
        limits = httpx.Limits(max_connections=TOGETHER, max_keepalive_connections=TOGETHER)
        begin = asyncio.Event()
        async with httpx.AsyncClient(limits=limits, timeout=TIMEOUT) as client:

            async def send(url: str, sender: dict[str, str], body: object) -> httpx.Response:
                await begin.wait()
                return await client.post(url, json=body, headers=sender)

            sending = [
                asyncio.create_task(send(server.url + path, sender, body))
                for server, (path, sender, body) in zip(cycle(self.servers), requests, strict=False)
            ]
            await asyncio.sleep(0)
            begin.set()
            answers = await asyncio.gather(*sending)
            for server in self.servers:
                self.shares.update({pid: len(ports) for pid, ports in server.connections().items()})
        return answers


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def deployment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[list[ServerProcess], str]]:
    """Run two processes on one database. Yield their servers and the name of the database."""
    directory = tmp_path_factory.mktemp("races")
    (directory / "people.yaml").write_text(people_yaml(PAIRS))
    with server_processes(directory) as serve:
        if request.param == "sqlite":
            database = str(directory / "calls.db")
            yield [serve("--database", database, "--seed", "people.yaml") for _ in range(2)], database
        else:
            postgres, migrated = map(request.getfixturevalue, ("postgres", "migrated"))
            with new_database(postgres, like=migrated) as database:
                yield [serve("--database", database, "--seed", "people.yaml", "--workers", "2")], database


_numbers = count(1)


@pytest.fixture
def pair(deployment: tuple[list[ServerProcess], str]) -> Iterator[Pair]:
    """Yield a new pair, and check that both processes served its requests."""
    pair = Pair(next(_numbers), *deployment)
    yield pair
    assert len(pair.shares) == len(+pair.shares) == 2


ROUNDS = pytest.mark.parametrize("rounds", [1, pytest.param(50, marks=pytest.mark.long)])


@ROUNDS
@pytest.mark.timeout(300)
@pytest.mark.rule("create.no-race", "create.no-overlap")
def test_concurrent_creates_schedule_one_call(pair: Pair, rounds: int) -> None:
    for index in range(rounds):
        answers = pair.send_concurrently(pair.repeat(CALLS, pair.body(60 * (index + 1))))
        assert Counter(answer.status_code for answer in answers) == {201: 1, 400: TOGETHER - 1}
        assert {answer.json()["code"] for answer in answers if answer.is_error} == {"create.no-overlap"}
    assert pair.get(CALLS)["count"] == rounds


@ROUNDS
@pytest.mark.timeout(300)
@pytest.mark.rule("join.started-once")
def test_concurrent_joins_start_call_once(pair: Pair, rounds: int) -> None:
    for _ in range(rounds):
        path = pair.call()
        answers = pair.send_concurrently(pair.repeat(f"{path}join/"))
        assert Counter(answer.status_code for answer in answers) == {200: TOGETHER}
        call = pair.get(path)
        assert call["started_at"] == call["updated_at"]
        pair.post(f"{path}end/")
        assert pair.get(path)["started_at"] == call["started_at"]
    events = events_of(pair.database, pair.calls)
    assert len(events) == rounds
    assert all(Counter(types) == Counter(EVENTS_BY_STATUS["completed"]) for types in events.values())


@ROUNDS
@pytest.mark.timeout(300)
def test_concurrent_join_and_cancel_exclude_each_other(pair: Pair, rounds: int) -> None:
    outcomes: Counter[str] = Counter()
    for index in range(rounds):
        path = pair.call()
        actions = ["join", "cancel"] * (TOGETHER // 2)
        random.Random(index).shuffle(actions)  # noqa: S311 (no secret)
        answers = pair.send_concurrently([(f"{path}{action}/", pair.doctor, None) for action in actions])
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 400}
        successes = Counter(action for action, status in zip(actions, statuses, strict=True) if status == 200)
        assert successes in ({"join": TOGETHER // 2}, {"cancel": 1})
        assert pair.get(path)["status"] == ("ongoing" if "join" in successes else "cancelled")
        if "join" in successes:
            pair.post(f"{path}end/")
        outcomes["call.started" if "join" in successes else "call.cancelled"] += 1
    assert Counter(events[0] for events in events_of(pair.database, pair.calls).values()) == outcomes


@ROUNDS
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("action", "event"), [("end", "call.ended"), ("cancel", "call.cancelled")])
def test_concurrent_ends_or_cancels_succeed_once(pair: Pair, rounds: int, action: str, event: str) -> None:
    for _ in range(rounds):
        path = pair.call()
        if action == "end":
            pair.post(f"{path}join/")
        answers = pair.send_concurrently(pair.repeat(f"{path}{action}/"))
        assert Counter(answer.status_code for answer in answers) == {200: 1, 400: TOGETHER - 1}
    events = events_of(pair.database, pair.calls)
    assert len(events) == rounds
    assert {types.count(event) for types in events.values()} == {1}


def test_concurrent_requests_with_one_key_schedule_one_call(pair: Pair) -> None:
    request = (CALLS, pair.doctor | {"Idempotency-Key": "once"}, pair.body(60))
    answers = pair.send_concurrently([request] * TOGETHER)
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1


def test_two_servers_start_on_one_new_file(tmp_path: Path) -> None:
    with server_processes(tmp_path) as serve, ThreadPoolExecutor() as pool:
        servers = list(pool.map(lambda _: serve("--database", "calls.db"), range(2)))
        assert len({server.url for server in servers}) == 2
