"""The time from a change to the receipt of its event, with a thousand connections open.

The server runs in a process of its own on a file. All clients run in this process, on the same cores.
"""

import asyncio
import json
import resource
import time
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles

import httpx
from load import API, SERVE, running, seed_of_pairs
from table import BenchmarkError, Row, compared
from video_calls_server import Settings
from video_calls_server.api.jwt import make_token
from websockets.asyncio.client import ClientConnection, connect

TURNS = 5  # the calls are divided into turns, each with its own percentiles
ANSWER_LIMIT = 30  # seconds


async def opened(url: str, bearer: list[str]) -> list[ClientConnection]:
    """Open a connection for each user, fifty at a time."""
    gate = asyncio.Semaphore(50)

    async def open_one(authorization: str) -> ClientConnection:
        async with gate:
            return await connect(
                url.replace("http", "ws", 1) + f"{API}/events/",
                additional_headers={"Authorization": authorization},
                ping_interval=None,
                open_timeout=60,
            )

    return await asyncio.gather(*(open_one(authorization) for authorization in bearer))


Delays = tuple[float, float]
"""Seconds from a change to the receipt of its event, and to the answer of its request."""


async def received(url: str, pairs: int, calls: int) -> list[list[Delays]]:
    """Start and end this many calls, one after the other; return the delays of their events in each turn."""
    bearer = [f"Bearer {make_token(Settings(), user, expires_in=3600)}" for user in range(1, 2 * pairs + 1)]
    connections = await opened(url, bearer)
    events: list[tuple[float, float]] = []  # the times of the change and of the receipt
    arrived = asyncio.Semaphore(0)

    async def listen(connection: ClientConnection) -> None:
        async for message in connection:
            received_at = time.time()
            events.append(
                (datetime.fromisoformat(json.loads(message)["created_at"]).timestamp(), received_at)
            )
            arrived.release()

    listeners = [asyncio.create_task(listen(connection)) for connection in connections]
    sent: list[float] = []
    response_times: list[float] = []
    expected = 0
    async with httpx.AsyncClient(base_url=url + API, timeout=ANSWER_LIMIT) as client:
        for number in range(calls):
            pair = number % pairs
            headers = {"Authorization": bearer[pair]}
            at = (datetime.now(UTC) + timedelta(minutes=10)).isoformat()
            body = {"doctor": pair + 1, "patient": pair + 1, "scheduled_time": at}
            created = await client.post("/video-calls/", headers=headers, json=body)
            call = created.raise_for_status().json()["id"]
            for action in ("join", "end"):
                sent.append(time.time())
                answer = await client.post(f"/video-calls/{call}/{action}/", headers=headers)
                response_times.append(time.time())
                answer.raise_for_status()
                expected += 4  # two events, each to two users
    try:
        for _ in range(expected):
            await asyncio.wait_for(arrived.acquire(), timeout=ANSWER_LIMIT)
    except TimeoutError as error:
        raise BenchmarkError(f"of {expected} events {len(events)} were received") from error
    for task in listeners:
        task.cancel()
    await asyncio.gather(*(connection.close() for connection in connections))
    turns: list[list[Delays]] = [[] for _ in range(TURNS)]
    for made_at, received_at in events:
        request = bisect_right(sent, made_at) - 1
        delays = (received_at - made_at, response_times[request] - made_at)
        turns[request * TURNS // len(sent)].append(delays)
    return turns


def rows(directory: Path, pairs: int, calls: int) -> list[Row]:
    """Return the rows of the median and of the 99th percentile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(8192, hard)), hard))
    people = directory / "people.yaml"
    people.write_text(seed_of_pairs(pairs), encoding="utf-8")
    options = ("--seed", str(people), "--database", str(directory / "events.db"), "--log-level", "error")
    with running(SERVE(*options), core=None) as server:
        turns = asyncio.run(received(server.url, pairs, calls))
    what = f"event from change to receipt, {2 * pairs:,} connections"
    return [
        compared(
            f"{what}: p{nth}, ms", "the answer to its request", (_percentile(turn, nth) for turn in turns)
        )
        for nth in (50, 99)
    ]


def _percentile(turn: list[Delays], nth: int) -> Delays:
    """Return this percentile of the event delays and of the answer delays, in milliseconds."""
    events, answers = (quantiles(column, n=100)[nth - 1] * 1000 for column in zip(*turn, strict=True))
    return events, answers
