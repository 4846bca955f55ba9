"""Simultaneous requests, over real sockets, to two processes on one database: one thing comes of them.

On a SQLite file the two are servers of their own; on PostgreSQL they are workers of one.
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

from support.api import CALLS
from support.deployments import LIVES, PATIENCE, Server, events_of, headers, launching, seed, soon
from support.postgres import new_database

TOGETHER = 100
PAIRS = 50

Request = tuple[str, dict[str, str], dict[str, Any] | None]


@dataclass
class Pair:
    """A doctor and a patient whom no other test knows, and the servers that both use."""

    number: int
    servers: list[Server]
    database: str
    calls: list[int] = field(default_factory=list)
    shares: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.doctor, self.patient = headers(self.number), headers(PAIRS + self.number)

    def body(self, minutes: float) -> dict[str, Any]:
        return {"doctor": self.number, "patient": self.number, "scheduled_time": soon(minutes)}

    async def call(self, client: httpx.AsyncClient, *, joined: bool = False) -> str:
        """The path of a new call, which the doctor may have joined."""
        url = self.servers[0].url
        made = (await client.post(url + CALLS, json=self.body(10), headers=self.doctor)).raise_for_status()
        self.calls.append(made.json()["id"])
        path = f"{CALLS}{self.calls[-1]}/"
        if joined:
            (await client.post(f"{url}{path}join/", headers=self.doctor)).raise_for_status()
        return path

    async def get(self, client: httpx.AsyncClient, path: str) -> dict[str, Any]:
        answer = (await client.get(self.servers[-1].url + path, headers=self.doctor)).raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    async def end(self, client: httpx.AsyncClient, path: str) -> None:
        (await client.post(f"{self.servers[0].url}{path}end/", headers=self.doctor)).raise_for_status()

    def asks(self, path: str, body: dict[str, Any] | None = None) -> list[Request]:
        """The same request of both, many times."""
        return [(path, self.patient if number % 3 else self.doctor, body) for number in range(TOGETHER)]

    async def at_once(self, requests: list[Request]) -> list[httpx.Response]:
        """The answers to these requests (path, headers, body), all sent at once, to each server in turn.

        They have connections of their own: httpx lets all of them wait for one that happens to be idle.
        """
        begin = asyncio.Event()
        limits = httpx.Limits(max_connections=TOGETHER, max_keepalive_connections=TOGETHER)
        async with httpx.AsyncClient(limits=limits, timeout=PATIENCE) as client:

            async def send(server: Server, path: str, who: dict[str, str], body: object) -> httpx.Response:
                await begin.wait()
                return await client.post(server.url + path, json=body, headers=who)

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
        """So many rounds, of which both processes have their share."""

        async def all_rounds() -> None:
            async with httpx.AsyncClient(timeout=PATIENCE) as client:
                for index in range(rounds):
                    await round_(client, index)

        asyncio.run(all_rounds())
        print("connections of the processes:", list(self.shares.values()))
        assert len(self.shares) == len(+self.shares) == 2


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def deployment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[list[Server], str]]:
    """Two processes that serve one database, and its name."""
    directory = tmp_path_factory.mktemp("races")
    (directory / "people.yaml").write_text(seed(PAIRS))
    with launching(directory) as launch:
        if request.param == "sqlite":
            database = str(directory / "calls.db")
            yield [launch("--database", database, "--seed", "people.yaml") for _ in range(2)], database
        else:
            postgres, migrated = map(request.getfixturevalue, ("postgres", "migrated"))
            with new_database(postgres, like=migrated) as database:
                yield [launch("--database", database, "--seed", "people.yaml", "--workers", "2")], database


_numbers = count(1)


@pytest.fixture
def pair(deployment: tuple[list[Server], str]) -> Pair:
    return Pair(next(_numbers), *deployment)


ROUNDS = pytest.mark.parametrize("rounds", [1, pytest.param(50, marks=pytest.mark.long)])


@ROUNDS
@pytest.mark.timeout(300)
@pytest.mark.rule("create.no-race", "create.no-overlap")
def test_of_conflicting_creates_exactly_one_is_accepted(pair: Pair, rounds: int) -> None:
    async def round_(_client: httpx.AsyncClient, index: int) -> None:
        answers = await pair.at_once(pair.asks(CALLS, pair.body(60 * (index + 1))))
        assert Counter(answer.status_code for answer in answers) == {201: 1, 400: TOGETHER - 1}
        assert {answer.json()["code"] for answer in answers if answer.is_error} == {"create.no-overlap"}

    pair.rounds(rounds, round_)
    for server in pair.servers:
        assert httpx.get(server.url + CALLS, headers=pair.doctor).json()["count"] == rounds


@ROUNDS
@pytest.mark.timeout(300)
@pytest.mark.rule("join.started-once")
def test_simultaneous_joins_start_the_call_once(pair: Pair, rounds: int) -> None:
    async def round_(client: httpx.AsyncClient, _index: int) -> None:
        path = await pair.call(client)
        answers = await pair.at_once(pair.asks(f"{path}join/"))
        assert Counter(answer.status_code for answer in answers) == {200: TOGETHER}
        call = await pair.get(client, path)
        assert call["started_at"] == call["updated_at"]
        await pair.end(client, path)
        assert (await pair.get(client, path))["started_at"] == call["started_at"]

    pair.rounds(rounds, round_)
    told = events_of(pair.database, pair.calls)
    assert len(told) == rounds
    assert all(Counter(events) == Counter(LIVES["completed"]) for events in told.values())


@ROUNDS
@pytest.mark.timeout(300)
def test_a_call_is_either_joined_or_cancelled(pair: Pair, rounds: int) -> None:
    became: Counter[str] = Counter()

    async def round_(client: httpx.AsyncClient, index: int) -> None:
        path = await pair.call(client)
        actions = ["join", "cancel"] * (TOGETHER // 2)
        random.Random(index).shuffle(actions)  # noqa: S311 (no secret)
        answers = await pair.at_once([(f"{path}{action}/", pair.doctor, None) for action in actions])
        done = Counter(
            action for action, answer in zip(actions, answers, strict=True) if answer.status_code == 200
        )
        assert done in ({"join": TOGETHER // 2}, {"cancel": 1})
        assert {answer.status_code for answer in answers} == {200, 400}
        call = await pair.get(client, path)
        assert call["status"] == ("ongoing" if "join" in done else "cancelled")
        became[call["status"]] += 1
        if call["status"] == "ongoing":
            await pair.end(client, path)

    pair.rounds(rounds, round_)
    print("the calls became:", dict(became))
    told = Counter(events[0] for events in events_of(pair.database, pair.calls).values())
    assert told == Counter({"call.started": became["ongoing"], "call.cancelled": became["cancelled"]})


@ROUNDS
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("action", "event"), [("end", "call.ended"), ("cancel", "call.cancelled")])
def test_of_simultaneous_ends_or_cancels_exactly_one_acts(
    pair: Pair, rounds: int, action: str, event: str
) -> None:
    async def round_(client: httpx.AsyncClient, _index: int) -> None:
        path = await pair.call(client, joined=action == "end")
        answers = await pair.at_once(pair.asks(f"{path}{action}/"))
        assert Counter(answer.status_code for answer in answers) == {200: 1, 400: TOGETHER - 1}

    pair.rounds(rounds, round_)
    told = events_of(pair.database, pair.calls)
    assert len(told) == rounds
    assert {events.count(event) for events in told.values()} == {1}


def test_one_key_makes_one_call_however_often_it_is_sent_at_once(pair: Pair) -> None:
    async def round_(_client: httpx.AsyncClient, _index: int) -> None:
        once = pair.doctor | {"Idempotency-Key": "once"}
        answers = await pair.at_once([(CALLS, once, body)] * TOGETHER)
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1

    body = pair.body(60)
    pair.rounds(1, round_)


def test_two_servers_start_on_one_new_file_at_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    with launching(tmp_path_factory.mktemp("start")) as launch:
        servers: list[Server] = []
        starting = [
            threading.Thread(target=lambda: servers.append(launch("--database", "calls.db")))
            for _ in range(2)
        ]
        for thread in starting:
            thread.start()
        for thread in starting:
            thread.join()
        assert len(servers) == 2
