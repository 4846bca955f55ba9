"""Events through connections that are cut and a server that is killed: each once, in order, to its people.

Subscribers follow over real sockets, through a proxy that cuts connections at random, while calls are
created, joined, ended and cancelled. What each has in the end is compared with what was done.
"""

import asyncio
import contextlib
import json
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Process
from video_calls_server import Settings
from video_calls_server.api.tokens import make_token
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

BASE = "/api/v1/video"

# What happens to a call, in the order in which its participants are told.
LIVES: dict[str, list[str]] = {
    "cancelled": ["call.cancelled"],
    "completed": [
        "call.started",
        "participant.joined",
        "participant.joined",
        "participant.left",
        "participant.left",
        "call.ended",
    ],
}
ACTIONS = {
    "cancelled": [("doctor", "cancel")],
    "completed": [("doctor", "join"), ("patient", "join"), ("patient", "end")],
}


def seed(pairs: int) -> str:
    lines = ["users:"]
    for number in range(1, pairs + 1):
        for role, user in (("doctor", number), ("patient", pairs + number)):
            name = f"email: {role}{number}@example.com, full_name: {role} {number}"
            lines.append(f"  - {{id: {user}, {name}, {role}: {{id: {number}}}}}")
    return "\n".join(lines)


class CuttingProxy:
    """Hands bytes on in both directions, until a connection is cut."""

    def __init__(self, chance: random.Random) -> None:
        self.target = ("127.0.0.1", 0)
        self.cuts = 0
        self._chance = chance
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            to_reader, to_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            self._open.discard(writer)
            return
        ways = (hand_on(reader, to_writer), hand_on(to_reader, writer))
        both = [asyncio.create_task(way) for way in ways]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        for one in (writer, to_writer):
            one.transport.abort()
        self._open.discard(writer)

    def cut(self, count: int) -> None:
        """Cut some of the open connections, as a network does: at once, and in the middle of anything."""
        for writer in self._chance.sample(sorted(self._open, key=id), min(count, len(self._open))):
            writer.transport.abort()
            self.cuts += 1

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()


async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while part := await reader.read(4096):
            writer.write(part)
            await writer.drain()


@dataclass
class Subscriber:
    """Somebody who follows their events and resumes whenever the connection is lost."""

    user: int
    events: list[dict[str, Any]] = field(default_factory=list)
    more: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self, port: int) -> None:
        headers = {"Authorization": f"Bearer {make_token(Settings(), self.user, expires_in=3600)}"}
        last = "0"
        while True:
            address = f"ws://127.0.0.1:{port}{BASE}/events/?last_event_id={last}"
            try:
                async with connect(address, additional_headers=headers, ping_interval=None) as connection:
                    async for message in connection:
                        event = json.loads(message)
                        self.events.append(event)
                        last = event["id"]
                        self.more.set()
            except (OSError, ConnectionClosed, InvalidHandshake, InvalidMessage):
                pass
            await asyncio.sleep(0.02)  # else whatever starts again has to start beside a storm of connections

    async def has(self, count: int) -> None:
        while len(self.events) < count:
            self.more.clear()
            await asyncio.wait_for(self.more.wait(), timeout=60)


def port_of(server: Process) -> int:
    return int(server.url.rsplit(":", 1)[1])


@pytest.mark.timeout(240)
@pytest.mark.rule("events.resume", "events.order", "events.own-calls")
@pytest.mark.parametrize(
    ("pairs", "kills"),
    [(8, 0), pytest.param(100, 0, marks=pytest.mark.long), pytest.param(100, 2, marks=pytest.mark.long)],
)
def test_every_subscriber_ends_with_exactly_the_events_of_its_calls(
    serve: Callable[..., Process], tmp_path: Path, pairs: int, kills: int
) -> None:
    (tmp_path / "people.yaml").write_text(seed(pairs))

    def start() -> Process:
        return serve("--database", "calls.db", "--seed", "people.yaml", "--log-level", "error")

    asyncio.run(under_fire(start, pairs, kills))


async def under_fire(start: Callable[[], Process], pairs: int, kills: int) -> None:
    chance = random.Random(pairs * 10 + kills)  # noqa: S311 (no secret)
    server = start()
    proxy = CuttingProxy(chance)
    proxy.target = ("127.0.0.1", port_of(server))
    await proxy.start()
    subscribers = {user: Subscriber(user) for user in range(1, 2 * pairs + 1)}
    following = [asyncio.create_task(one.follow(proxy.port)) for one in subscribers.values()]
    expected: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
    for round_ in range(3):
        for pair in chance.sample(range(1, pairs + 1), pairs):
            life = chance.choice(sorted(LIVES))
            call = await live(server.url, pair, pairs, life)
            for user in (pair, pairs + pair):
                expected[user] += [(call, event) for event in LIVES[life]]
            proxy.cut(chance.randrange(3))
        if round_ < kills:
            server.popen.kill()
            server.popen.wait()
            server = await asyncio.to_thread(start)
            proxy.target = ("127.0.0.1", port_of(server))
    for user, subscriber in subscribers.items():
        await subscriber.has(len(expected[user]))
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    await proxy.stop()
    assert proxy.cuts > pairs
    for user, subscriber in subscribers.items():
        told = [(event["data"]["call"]["id"], event["type"]) for event in subscriber.events]
        assert told == expected[user], f"user {user}"
        ids = [int(event["id"]) for event in subscriber.events]
        assert ids == sorted(set(ids)), f"user {user}"


async def live(url: str, pair: int, pairs: int, life: str) -> int:
    users = {"doctor": pair, "patient": pairs + pair}
    at = datetime.now(UTC) + timedelta(minutes=10)
    async with httpx.AsyncClient(base_url=f"{url}{BASE}") as client:

        async def post(role: str, path: str, **options: Any) -> httpx.Response:
            token = make_token(Settings(), users[role], expires_in=60)
            answer = await client.post(path, headers={"Authorization": f"Bearer {token}"}, **options)
            assert answer.is_success, answer.text
            return answer

        body = {"doctor": pair, "patient": pair, "scheduled_time": at.isoformat()}
        call_id = int((await post("patient", "/video-calls/", json=body)).json()["id"])
        for role, action in ACTIONS[life]:
            await post(role, f"/video-calls/{call_id}/{action}/")
        return call_id
