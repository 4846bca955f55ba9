"""Concurrent requests, over real sockets, to two processes on one database.

On a SQLite file the processes are two servers. On PostgreSQL they are two workers of one server.
"""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
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

    async def call(self, client: httpx.AsyncClient, *, joined: bool = False) -> str:
        """Create a call and return its path. If `joined`, the doctor has joined it."""
        url = self.servers[0].url
        answer = (await client.post(url + CALLS, json=self.body(10), headers=self.doctor)).raise_for_status()
        self.calls.append(answer.json()["id"])
        path = f"{CALLS}{self.calls[-1]}/"
        if joined:
            (await client.post(f"{url}{path}join/", headers=self.doctor)).raise_for_status()
        return path

    async def get(self, client: httpx.AsyncClient, path: str) -> dict[str, Any]:
        answer = (await client.get(self.servers[-1].url + path, headers=self.doctor)).raise_for_status()
        call: dict[str, Any] = answer.json()
        return call

    async def end(self, client: httpx.AsyncClient, path: str) -> None:
        (await client.post(f"{self.servers[0].url}{path}end/", headers=self.doctor)).raise_for_status()

    def repeat(self, path: str, body: dict[str, Any] | None = None) -> list[Request]:
        """Return a request many times, of both participants."""
        return [(path, self.patient if number % 3 else self.doctor, body) for number in range(TOGETHER)]

    async def send_concurrently(self, requests: list[Request]) -> list[httpx.Response]:
        """Send these requests concurrently, to each server in turn, and return the responses.

        Each has a new connection. Otherwise httpx lets all of them wait for an idle one.
        """
        begin = asyncio.Event()
        limits = httpx.Limits(max_connections=TOGETHER, max_keepalive_connections=TOGETHER)
        async with httpx.AsyncClient(limits=limits, timeout=TIMEOUT) as client:

            async def send(
                server: ServerProcess, path: str, sender: dict[str, str], body: object
            ) -> httpx.Response:
                await begin.wait()
                return await client.post(server.url + path, json=body, headers=sender)

            sending = [
                asyncio.create_task(send(self.servers[index % len(self.servers)], *request))
                for index, request in enumerate(requests)
            ]
            await asyncio.sleep(0)
            begin.set()
            answers = await asyncio.gather(*sending)
            for server in self.servers:
                self.shares.update({pid: len(ports) for pid, ports in server.connections().items()})
        return answers

    def rounds(self, rounds: int, round_: Callable[[httpx.AsyncClient, int], Awaitable[None]]) -> None:
        """Run rounds, and check that both processes served requests."""

        async def all_rounds() -> None:
            async with httpx.AsyncClient(timeout=TIMEOUT) as client:
                for index in range(rounds):
                    await round_(client, index)

        asyncio.run(all_rounds())
        assert len(self.shares) == len(+self.shares) == 2


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
def pair(deployment: tuple[list[ServerProcess], str]) -> Pair:
    return Pair(next(_numbers), *deployment)


ROUNDS = pytest.mark.parametrize("rounds", [1, pytest.param(50, marks=pytest.mark.long)])


@ROUNDS
@pytest.mark.timeout(300)
@pytest.mark.rule("create.no-race", "create.no-overlap")
def test_concurrent_creates_schedule_one_call(pair: Pair, rounds: int) -> None:
    async def round_(_client: httpx.AsyncClient, index: int) -> None:
        answers = await pair.send_concurrently(pair.repeat(CALLS, pair.body(60 * (index + 1))))
        assert Counter(answer.status_code for answer in answers) == {201: 1, 400: TOGETHER - 1}
        assert {answer.json()["code"] for answer in answers if answer.is_error} == {"create.no-overlap"}

    pair.rounds(rounds, round_)
    for server in pair.servers:
        assert httpx.get(server.url + CALLS, headers=pair.doctor).json()["count"] == rounds


@ROUNDS
@pytest.mark.timeout(300)
@pytest.mark.rule("join.started-once")
def test_concurrent_joins_start_call_once(pair: Pair, rounds: int) -> None:
    async def round_(client: httpx.AsyncClient, _index: int) -> None:
        path = await pair.call(client)
        answers = await pair.send_concurrently(pair.repeat(f"{path}join/"))
        assert Counter(answer.status_code for answer in answers) == {200: TOGETHER}
        call = await pair.get(client, path)
        assert call["started_at"] == call["updated_at"]
        await pair.end(client, path)
        assert (await pair.get(client, path))["started_at"] == call["started_at"]

    pair.rounds(rounds, round_)
    events = events_of(pair.database, pair.calls)
    assert len(events) == rounds
    assert all(Counter(types) == Counter(EVENTS_BY_STATUS["completed"]) for types in events.values())


@ROUNDS
@pytest.mark.timeout(300)
def test_concurrent_join_and_cancel_exclude_each_other(pair: Pair, rounds: int) -> None:
    outcomes: Counter[str] = Counter()

    async def round_(client: httpx.AsyncClient, index: int) -> None:
        path = await pair.call(client)
        actions = ["join", "cancel"] * (TOGETHER // 2)
        random.Random(index).shuffle(actions)  # noqa: S311 (no secret)
        answers = await pair.send_concurrently(
            [(f"{path}{action}/", pair.doctor, None) for action in actions]
        )
        successes = Counter(
            action for action, answer in zip(actions, answers, strict=True) if answer.status_code == 200
        )
        assert successes in ({"join": TOGETHER // 2}, {"cancel": 1})
        assert {answer.status_code for answer in answers} == {200, 400}
        call = await pair.get(client, path)
        assert call["status"] == ("ongoing" if "join" in successes else "cancelled")
        outcomes[call["status"]] += 1
        if call["status"] == "ongoing":
            await pair.end(client, path)

    pair.rounds(rounds, round_)
    first = Counter(events[0] for events in events_of(pair.database, pair.calls).values())
    assert first == Counter({"call.started": outcomes["ongoing"], "call.cancelled": outcomes["cancelled"]})


@ROUNDS
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("action", "event"), [("end", "call.ended"), ("cancel", "call.cancelled")])
def test_concurrent_ends_or_cancels_succeed_once(pair: Pair, rounds: int, action: str, event: str) -> None:
    async def round_(client: httpx.AsyncClient, _index: int) -> None:
        path = await pair.call(client, joined=action == "end")
        answers = await pair.send_concurrently(pair.repeat(f"{path}{action}/"))
        assert Counter(answer.status_code for answer in answers) == {200: 1, 400: TOGETHER - 1}

    pair.rounds(rounds, round_)
    events = events_of(pair.database, pair.calls)
    assert len(events) == rounds
    assert {types.count(event) for types in events.values()} == {1}


def test_concurrent_requests_with_one_key_schedule_one_call(pair: Pair) -> None:
    async def round_(_client: httpx.AsyncClient, _index: int) -> None:
        sender = pair.doctor | {"Idempotency-Key": "once"}
        answers = await pair.send_concurrently([(CALLS, sender, body)] * TOGETHER)
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1

    body = pair.body(60)
    pair.rounds(1, round_)


def test_two_servers_start_on_one_new_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    with server_processes(tmp_path_factory.mktemp("start")) as serve:
        servers: list[ServerProcess] = []
        starting = [
            threading.Thread(target=lambda: servers.append(serve("--database", "calls.db"))) for _ in range(2)
        ]
        for thread in starting:
            thread.start()
        for thread in starting:
            thread.join()
        assert len(servers) == 2
