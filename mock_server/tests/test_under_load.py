"""Killed, stopped and cut off from its database under load: nothing that was acknowledged is lost, nothing is
kept by half, and whoever follows events has each of them once.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from support.api import CALLS
from support.deployments import (
    LIVES,
    PATIENCE,
    Server,
    Subscriber,
    assert_unavailable,
    events_of,
    headers,
    rows_of,
    seed,
    soon,
)
from support.postgres import migrated_by, postgres_server

PAIRS = 8
DATABASES = ("sqlite", "postgresql")


@dataclass
class Deployment:
    """A server that runs: one process on a SQLite file, or two workers on PostgreSQL."""

    launch: Callable[..., Server]
    database: str
    workers: int

    def __post_init__(self) -> None:
        self.server = self._start(port=0)

    def _start(self, *, port: int) -> Server:
        options = ["--database", self.database, "--seed", "people.yaml"]
        if self.workers > 1:
            options += ["--workers", str(self.workers)]
        return self.launch(*options, port=port)

    def kill(self, chance: random.Random, earlier: int) -> None:
        """Kill -9 a process that serves, the so manieth, and return once there is another in its place."""
        if self.workers > 1:
            os.kill(chance.choice(self.server.workers(self.workers + earlier)), signal.SIGKILL)
            self.server.workers(self.workers + earlier + 1)
        else:
            self.server.popen.kill()
            self.server.popen.wait()
            self.server = self._start(port=self.server.port)


@pytest.fixture
def deployment(request: pytest.FixtureRequest, launch: Callable[..., Server], tmp_path: Path) -> Deployment:
    (tmp_path / "people.yaml").write_text(seed(PAIRS))
    if request.param == "sqlite":
        return Deployment(launch, str(tmp_path / "calls.db"), workers=1)
    return Deployment(launch, request.getfixturevalue("postgres_url"), workers=2)


# -- the load ---------------------------------------------------------------------------------------


@dataclass
class Load:
    """Pairs of people who make calls and live them, each on connections of their own, until they are stopped.

    What was not answered, or with 503, is asked again: a create with its `Idempotency-Key`, so that it is
    made once; of an end or a cancel that is asked again, a refusal says that the first one was done.
    """

    url: str
    acknowledged: defaultdict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    pairs: dict[int, int] = field(default_factory=dict)
    answers: int = 0
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    lost: int = 0
    unavailable: int = 0
    stopping: bool = False
    gone: bool = False

    async def run(self) -> None:
        await asyncio.gather(*(self._live(pair) for pair in range(1, PAIRS + 1)))

    async def _live(self, pair: int) -> None:
        chance = random.Random(pair)  # noqa: S311 (no secret)
        doctor, patient = headers(pair), headers(PAIRS + pair)
        async with httpx.AsyncClient(base_url=self.url, timeout=PATIENCE) as client:
            number = 0
            while not self.stopping:
                number += 1
                body = {"doctor": pair, "patient": pair, "scheduled_time": soon(10)}
                key = {"Idempotency-Key": f"{pair}-{number}"}
                made = await self._ask(client, "POST", CALLS, doctor | key, json=body)
                if made is None:
                    return
                call_id = made.json()["id"]
                self.pairs[call_id] = pair
                self.acknowledged[call_id].append("created")
                ways = [[(doctor, "cancel")], [(doctor, "join"), (patient, "join"), (patient, "end")]]
                for who, action in chance.choice(ways):
                    done = await self._ask(client, "POST", f"{CALLS}{call_id}/{action}/", who)
                    if done is None:
                        return
                    self.acknowledged[call_id].append(action)
                found = await self._ask(client, "GET", f"{CALLS}{call_id}/", patient)
                if found is None:
                    return
                assert found.json()["status"] == STATUS_AFTER[self.acknowledged[call_id][-1]]

    async def _ask(
        self, client: httpx.AsyncClient, method: str, path: str, who: dict[str, str], **options: Any
    ) -> httpx.Response | None:
        """The answer, None where there is nobody any longer who would give one."""
        asked_before = False
        while True:
            try:
                answer = await client.request(method, path, headers=who, **options)
            except httpx.TransportError:
                if self.gone:
                    return None
                self.lost += 1
                asked_before = True
                await asyncio.sleep(0.01)
                continue
            if answer.status_code == 503 and not self.gone:
                assert_unavailable(answer)
                self.unavailable += 1
                asked_before = True
                await asyncio.sleep(0.1)
                continue
            repeated = asked_before and answer.status_code == 400 and path.endswith(("/end/", "/cancel/"))
            assert answer.is_success or repeated, f"{path}: {answer.status_code} {answer.text}"
            self.answers += 1
            self.answered.set()
            return answer

    async def has(self, answers: int) -> None:
        """Until there were so many answers."""
        while self.answers < answers:
            self.answered.clear()
            await asyncio.wait_for(self.answered.wait(), PATIENCE)


STATUS_AFTER = {"created": "scheduled", "cancel": "cancelled", "join": "ongoing", "end": "completed"}
AFTER = {"scheduled": {"ongoing", "cancelled"}, "ongoing": {"completed"}}


def assert_kept(load: Load, database: str, *, finished: bool) -> dict[int, list[str]]:
    """Every acknowledged change is there, and every change with all of its events; those, by call."""
    rows = {row["id"]: row for row in rows_of(database, "SELECT * FROM calls")}
    told = events_of(database)
    keys = rows_of(
        database, "SELECT count(*) AS keys, count(DISTINCT call_id) AS calls FROM idempotency_keys"
    )
    assert keys[0]["keys"] == keys[0]["calls"] == len(rows)
    assert set(load.acknowledged) <= set(rows)
    for call_id, done in load.acknowledged.items():
        status, known = rows[call_id]["status"], STATUS_AFTER[done[-1]]
        later = set() if finished else AFTER.get(known, set())
        assert status == known or status in later, f"{call_id}: {status} after {done}"
    for call_id, row in rows.items():
        events = told.get(call_id, [])
        assert (row["started_at"] is not None) == (row["status"] in {"ongoing", "completed"})
        assert (row["ended_at"] is not None) == (row["status"] == "completed")
        match row["status"]:
            case "scheduled":
                assert events == []
            case "ongoing":
                joined = events.count("participant.joined")
                assert events == ["call.started", *["participant.joined"] * joined]
                assert joined in {1, 2}
            case status:
                assert events == LIVES[status], call_id
    return told


@dataclass
class Followers:
    """Everybody, following their events and resuming whenever their connection is lost."""

    port: int

    async def __aenter__(self) -> "Followers":
        self.all = {user: Subscriber(user) for user in range(1, 2 * PAIRS + 1)}
        self.following = [asyncio.create_task(one.follow(self.port)) for one in self.all.values()]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self.following:
            task.cancel()
        await asyncio.gather(*self.following, return_exceptions=True)

    async def have(self, told: dict[int, list[str]], load: Load) -> None:
        """Each has all of the events of their own calls, in order, and each event once."""
        for user, subscriber in self.all.items():
            pair = (user - 1) % PAIRS + 1
            own = {call_id: events for call_id, events in told.items() if load.pairs[call_id] == pair}
            await subscriber.has(sum(map(len, own.values())))
            heard = defaultdict(list)
            for event in subscriber.events:
                heard[event["data"]["call"]["id"]].append(event["type"])
            assert dict(heard) == own, f"user {user}"
            ids = [int(event["id"]) for event in subscriber.events]
            assert ids == sorted(set(ids)), f"user {user}"


# -- killed -----------------------------------------------------------------------------------------


@pytest.mark.timeout(400)
@pytest.mark.rule("events.resume", "events.order", "events.own-calls")
@pytest.mark.parametrize(
    ("deployment", "kills"),
    [("sqlite", 2), *(pytest.param(database, 20, marks=pytest.mark.long) for database in DATABASES)],
    indirect=["deployment"],
)
def test_nothing_is_lost_with_a_process_that_is_killed_under_load(deployment: Deployment, kills: int) -> None:
    asyncio.run(killed_under_load(deployment, kills))
    assert deployment.server.stop()[0] == 0
    deployment.server.assert_no_traceback()
    assert "".join(deployment.server.lines).count("A first request") == 1


async def killed_under_load(deployment: Deployment, kills: int) -> None:
    chance = random.Random(kills)  # noqa: S311 (no secret)
    load = Load(deployment.server.url)
    async with Followers(deployment.server.port) as followers:
        working = asyncio.create_task(load.run())
        for kill in range(kills):
            await load.has(load.answers + 3 * PAIRS)
            await asyncio.to_thread(deployment.kill, chance, kill)
        await load.has(load.answers + 3 * PAIRS)
        load.stopping = True
        await working
        told = await asyncio.to_thread(assert_kept, load, deployment.database, finished=True)
        await followers.have(told, load)
    print(f"{kills} kills, {load.answers} answers, {load.lost} lost connections, {len(told)} calls")
    assert load.lost >= kills


# -- stopped ----------------------------------------------------------------------------------------


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("deployment", "after"),
    [
        ("sqlite", 100),
        *(
            pytest.param(database, after, marks=pytest.mark.long)
            for database in DATABASES
            for after in range(30, 330, 37)
        ),
    ],
    indirect=["deployment"],
)
def test_nothing_that_was_acknowledged_is_lost_at_a_stop_under_load(
    deployment: Deployment, after: int
) -> None:
    seconds = asyncio.run(stopped_under_load(deployment, after=after))
    print(f"stopped in {seconds:.1f} seconds")
    assert seconds < 15
    deployment.server.assert_no_traceback()


async def stopped_under_load(deployment: Deployment, *, after: int) -> float:
    server = deployment.server
    load = Load(server.url)
    sockets = [
        await connect(f"ws://127.0.0.1:{server.port}/api/v1/video/events/", additional_headers=headers(user))
        for user in range(1, 2 * PAIRS + 1)
    ]
    working = asyncio.create_task(load.run())
    await load.has(after)
    load.gone = True
    status, seconds = await asyncio.to_thread(server.stop)
    await working
    assert status == 0
    await asyncio.to_thread(assert_kept, load, deployment.database, finished=False)
    for socket in sockets:
        with contextlib.suppress(ConnectionClosed):
            async for _ in socket:
                pass
        assert socket.close_code == 1012
    return seconds


# -- without its database ---------------------------------------------------------------------------

STOPS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
"""How PostgreSQL's processes are told to stop; the second way, it recovers at its next start."""


@pytest.mark.long
@pytest.mark.timeout(400)
def test_postgres_that_restarts_under_load_costs_nothing_but_the_time(
    launch: Callable[..., Server], tmp_path: Path
) -> None:
    (tmp_path / "people.yaml").write_text(seed(PAIRS))
    # Not among pytest's own directories, which other runs clear away.
    with TemporaryDirectory() as directory, postgres_server(Path(directory) / "data") as postgres:
        migrated_by(postgres.get_uri())
        deployment = Deployment(launch, postgres.get_uri(), workers=2)
        asyncio.run(restarted_under_load(deployment, postgres, ["fast", "immediate"] * 5))
        assert deployment.server.stop()[0] == 0
        deployment.server.assert_no_traceback()


async def restarted_under_load(deployment: Deployment, postgres: Any, stops: list[str]) -> None:
    server = deployment.server
    load = Load(server.url)
    async with Followers(server.port) as followers:
        working = asyncio.create_task(load.run())
        for stop in stops:
            await load.has(load.answers + 10 * PAIRS)
            await asyncio.to_thread(restart, postgres, STOPS[stop])
            await load.has(load.answers + 10 * PAIRS)
        load.stopping = True
        await working
        told = await asyncio.to_thread(assert_kept, load, deployment.database, finished=True)
        await followers.have(told, load)
    print(f"{load.answers} answers, {load.unavailable} times 503, {len(told)} calls")
    assert load.lost == 0


def restart(postgres: Any, stop: signal.Signals) -> None:
    """Stop PostgreSQL and start it again."""
    running = postgres.get_postmaster_info().process
    running.send_signal(stop)
    running.wait(PATIENCE)
    stopped = time.monotonic()
    while True:
        try:
            postgres.ensure_postgres_running()
        except subprocess.SubprocessError:  # as long as a process of the old one is there
            assert time.monotonic() - stopped < PATIENCE
        else:
            return
