"""The server is killed, stopped, or loses its database under load.

No acknowledged change is lost, no change is stored partly, and followers get each event once.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from support.api import CALLS, assert_unavailable, auth_headers, time_ahead
from support.database_contents import EVENTS_BY_STATUS, events_of, people_yaml, rows_of
from support.postgres import migrated_by, postgres_server
from support.server_process import TIMEOUT, ServerProcess

PAIRS = 8
DATABASES = ("sqlite", "postgresql")


@dataclass
class Deployment:
    """A running server: one process on a SQLite file, or two workers on PostgreSQL."""

    serve: Callable[..., ServerProcess]
    database: str
    workers: int

    def __post_init__(self) -> None:
        self.server = self._start(port=0)

    def _start(self, *, port: int) -> ServerProcess:
        options = ["--database", self.database, "--seed", "people.yaml"]
        if self.workers > 1:
            options += ["--workers", str(self.workers)]
        return self.serve(*options, port=port)

    def kill(self, rng: random.Random, earlier: int) -> None:
        """Kill a process that serves requests, and return when another one has replaced it."""
        if self.workers > 1:
            os.kill(rng.choice(self.server.workers(self.workers + earlier)), signal.SIGKILL)
            self.server.workers(self.workers + earlier + 1)
        else:
            self.server.popen.kill()
            self.server.popen.wait()
            self.server = self._start(port=self.server.port)


@pytest.fixture
def deployment(
    request: pytest.FixtureRequest, serve: Callable[..., ServerProcess], tmp_path: Path
) -> Deployment:
    (tmp_path / "people.yaml").write_text(people_yaml(PAIRS))
    if request.param == "sqlite":
        return Deployment(serve, str(tmp_path / "calls.db"), workers=1)
    return Deployment(serve, request.getfixturevalue("postgres_url"), workers=2)


# -- the load ---------------------------------------------------------------------------------------


class ServerStopped(Exception):
    """A request has no response, because the test stops the server."""


@dataclass
class Load:
    """Pairs of users that create calls and complete or cancel them, until `is_stopping` is set.

    A request without a response, or with a 503, is sent again. A create has an `Idempotency-Key`. If an end
    or a cancel is refused when it is sent again, the first request succeeded.
    """

    url: str
    acknowledged: defaultdict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    pairs: dict[int, int] = field(default_factory=dict)
    answers: int = 0
    has_answer: asyncio.Event = field(default_factory=asyncio.Event)
    lost_connections: int = 0
    is_stopping: bool = False
    is_stopped: bool = False

    async def run(self) -> None:
        await asyncio.gather(*(self._run_pair(pair) for pair in range(1, PAIRS + 1)))

    async def _run_pair(self, pair: int) -> None:
        rng, number = random.Random(pair), 0  # noqa: S311 (no secret)
        async with httpx.AsyncClient(base_url=self.url, timeout=TIMEOUT) as client:
            with contextlib.suppress(ServerStopped):
                while not self.is_stopping:
                    number += 1
                    await self._run_call(client, pair, f"{pair}-{number}", rng)

    async def _run_call(self, client: httpx.AsyncClient, pair: int, key: str, rng: random.Random) -> None:
        doctor, patient = auth_headers(pair), auth_headers(PAIRS + pair)
        body = {"doctor": pair, "patient": pair, "scheduled_time": time_ahead(10)}
        created = await self._send(client, "POST", CALLS, doctor | {"Idempotency-Key": key}, json=body)
        call_id = created.json()["id"]
        self.pairs[call_id] = pair
        self.acknowledged[call_id].append("created")
        ways = [[(doctor, "cancel")], [(doctor, "join"), (patient, "join"), (patient, "end")]]
        for sender, action in rng.choice(ways):
            await self._send(client, "POST", f"{CALLS}{call_id}/{action}/", sender)
            self.acknowledged[call_id].append(action)
        call = await self._send(client, "GET", f"{CALLS}{call_id}/", patient)
        assert call.json()["status"] == STATUS_AFTER[self.acknowledged[call_id][-1]]

    async def _send(
        self, client: httpx.AsyncClient, method: str, path: str, sender: dict[str, str], **options: Any
    ) -> httpx.Response:
        was_sent_before = False
        while True:
            try:
                answer = await client.request(method, path, headers=sender, **options)
            except httpx.TransportError as error:
                if self.is_stopped:
                    raise ServerStopped from error
                self.lost_connections += 1
            else:
                if answer.status_code != 503 or self.is_stopped:
                    break
                assert_unavailable(answer)
            was_sent_before = True
            await asyncio.sleep(0.05)
        is_repeated = was_sent_before and answer.status_code == 400 and path.endswith(("/end/", "/cancel/"))
        assert answer.is_success or is_repeated, f"{path}: {answer.status_code} {answer.text}"
        self.answers += 1
        self.has_answer.set()
        return answer

    async def has(self, answers: int) -> None:
        """Wait until there were this many responses."""
        while self.answers < answers:
            self.has_answer.clear()
            await asyncio.wait_for(self.has_answer.wait(), TIMEOUT)


STATUS_AFTER = {"created": "scheduled", "cancel": "cancelled", "join": "ongoing", "end": "completed"}
AFTER = {"scheduled": {"ongoing", "cancelled"}, "ongoing": {"completed"}}


def check_database(load: Load, database: str, *, finished: bool) -> dict[int, list[str]]:
    """Check that the database has every acknowledged change, with its events. Return the events by call."""
    rows = {row["id"]: row for row in rows_of(database, "SELECT * FROM calls")}
    events_by_call = events_of(database)
    keys = rows_of(
        database, "SELECT count(*) AS keys, count(DISTINCT call_id) AS calls FROM idempotency_keys"
    )
    assert keys[0]["keys"] == keys[0]["calls"] == len(rows)
    assert set(load.acknowledged) <= set(rows)
    for call_id, actions in load.acknowledged.items():
        status, acknowledged = rows[call_id]["status"], STATUS_AFTER[actions[-1]]
        later = set() if finished else AFTER.get(acknowledged, set())
        assert status == acknowledged or status in later, f"{call_id}: {status} after {actions}"
    for call_id, row in rows.items():
        events = events_by_call.get(call_id, [])
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
                assert events == EVENTS_BY_STATUS[status], call_id
    return events_by_call


@dataclass
class Followers:
    """All users, who follow their events and resume after a lost connection."""

    port: int
    events: dict[int, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    has_more: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> "Followers":
        self.tasks = [asyncio.create_task(self._follow(user)) for user in range(1, 2 * PAIRS + 1)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _follow(self, user: int) -> None:
        headers, last = auth_headers(user), "0"
        while True:
            address = f"ws://127.0.0.1:{self.port}/api/v1/video/events/?last_event_id={last}"
            with contextlib.suppress(OSError, ConnectionClosed, InvalidHandshake, InvalidMessage):
                async with connect(address, additional_headers=headers, ping_interval=None) as connection:
                    async for message in connection:
                        event = json.loads(message)
                        self.events[user].append(event)
                        last = event["id"]
                        self.has_more.set()
            await asyncio.sleep(0.02)  # so that a starting server does not get all connections at once

    async def have(self, events_by_call: dict[int, list[str]], load: Load) -> None:
        """Check that each user gets all events of their calls, once and in order."""
        for user in range(1, 2 * PAIRS + 1):
            pair = (user - 1) % PAIRS + 1
            own = {call: events for call, events in events_by_call.items() if load.pairs[call] == pair}
            while len(self.events[user]) < sum(map(len, own.values())):
                self.has_more.clear()
                await asyncio.wait_for(self.has_more.wait(), 2 * TIMEOUT)
            received = defaultdict(list)
            for event in self.events[user]:
                received[event["data"]["call"]["id"]].append(event["type"])
            assert dict(received) == own, f"user {user}"
            ids = [int(event["id"]) for event in self.events[user]]
            assert ids == sorted(set(ids)), f"user {user}"


# -- kill -------------------------------------------------------------------------------------------


@pytest.mark.timeout(400)
@pytest.mark.rule("events.resume", "events.order", "events.own-calls")
@pytest.mark.parametrize(
    ("deployment", "kills"),
    [("sqlite", 2), *(pytest.param(database, 20, marks=pytest.mark.long) for database in DATABASES)],
    indirect=["deployment"],
)
def test_kill_under_load_loses_no_change(deployment: Deployment, kills: int) -> None:
    rng = random.Random(kills)  # noqa: S311 (no secret)
    load = asyncio.run(
        interrupt_load(deployment, [partial(deployment.kill, rng, kill) for kill in range(kills)])
    )
    assert load.lost_connections >= kills
    assert deployment.server.output.count("A first request") == 1


async def interrupt_load(deployment: Deployment, interruptions: list[Callable[[], None]]) -> Load:
    """Interrupt a deployment under load. Check its database and the events, and stop it."""
    load = Load(deployment.server.url)
    async with Followers(deployment.server.port) as followers:
        working = asyncio.create_task(load.run())
        for interrupt in interruptions:
            await load.has(load.answers + 3 * PAIRS)
            await asyncio.to_thread(interrupt)
        await load.has(load.answers + 3 * PAIRS)
        load.is_stopping = True
        await working
        events = await asyncio.to_thread(check_database, load, deployment.database, finished=True)
        await followers.have(events, load)
    assert deployment.server.stop()[0] == 0
    deployment.server.assert_no_traceback()
    return load


# -- stop -------------------------------------------------------------------------------------------


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
def test_stop_under_load_loses_no_acknowledged_change(deployment: Deployment, after: int) -> None:
    asyncio.run(stop_under_load(deployment, after=after))
    deployment.server.assert_no_traceback()


async def stop_under_load(deployment: Deployment, *, after: int) -> None:
    server = deployment.server
    load = Load(server.url)
    events = f"ws://127.0.0.1:{server.port}/api/v1/video/events/"
    sockets = [
        await connect(events, additional_headers=auth_headers(user)) for user in range(1, 2 * PAIRS + 1)
    ]
    working = asyncio.create_task(load.run())
    await load.has(after)
    load.is_stopped = True
    status, _ = await asyncio.to_thread(server.stop)
    await working
    assert status == 0
    await asyncio.to_thread(check_database, load, deployment.database, finished=False)
    for socket in sockets:
        with contextlib.suppress(ConnectionClosed):
            async for _ in socket:
                pass
        assert socket.close_code == 1012


# -- restart of PostgreSQL --------------------------------------------------------------------------

STOPS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
"""The signals that stop PostgreSQL. After an immediate stop, it recovers at its next start."""


@pytest.mark.long
@pytest.mark.timeout(400)
def test_postgres_restart_under_load_loses_no_change(
    serve: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    (tmp_path / "people.yaml").write_text(people_yaml(PAIRS))
    # Other runs of pytest delete its own temporary directories.
    with TemporaryDirectory() as directory, postgres_server(Path(directory) / "data") as postgres:
        migrated_by(postgres.get_uri())
        deployment = Deployment(serve, postgres.get_uri(), workers=2)
        stops = [partial(restart, postgres, STOPS[stop]) for stop in ("fast", "immediate")]
        load = asyncio.run(interrupt_load(deployment, stops * 5))
        assert load.lost_connections == 0


def restart(postgres: Any, stop: signal.Signals) -> None:
    """Stop PostgreSQL and start it again."""
    running = postgres.get_postmaster_info().process
    running.send_signal(stop)
    running.wait(TIMEOUT)
    stopped = time.monotonic()
    while True:
        try:
            postgres.ensure_postgres_running()
        except subprocess.SubprocessError:  # a process of the old server still runs
            assert time.monotonic() - stopped < TIMEOUT
        else:
            return
