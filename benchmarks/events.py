"""How long events take from the change to their receipt, with a thousand connections open.

`python benchmarks/events.py` prints its rows of the table. The server runs as a process of its own on a file;
its clients all live in this one, on the same two cores.
"""

import argparse
import asyncio
import json
import resource
import tempfile
import time
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import httpx
from load import SERVE, running, seed_of_pairs
from table import BenchmarkError, Row, clear_end, compared, markdown, progress
from video_calls_server import Settings
from video_calls_server.api.tokens import make_token
from websockets.asyncio.client import ClientConnection, connect

BASE = "/api/v1/video"
PAIRS = 500
TURNS = 5  # in which the calls are divided, each with percentiles of its own
ANSWER_LIMIT = 30  # seconds
DESCRIPTORS = 8192


async def opened(url: str, bearer: list[str]) -> list[ClientConnection]:
    """A connection for everybody, fifty at a time."""
    gate = asyncio.Semaphore(50)

    async def open_one(authorization: str) -> ClientConnection:
        async with gate:
            return await connect(
                url.replace("http", "ws", 1) + f"{BASE}/events/",
                additional_headers={"Authorization": authorization},
                ping_interval=None,
                open_timeout=60,
            )

    return await asyncio.gather(*(open_one(authorization) for authorization in bearer))


Delays = tuple[float, float]
"""Seconds from a change to an event of it, and to the answer to the request that made it."""


async def received(url: str, pairs: int, calls: int) -> list[list[Delays]]:
    """Start and end so many calls, one after the other; the delays of their events, turn by turn."""
    bearer = [f"Bearer {make_token(Settings(), user, expires_in=3600)}" for user in range(1, 2 * pairs + 1)]
    connections = await opened(url, bearer)
    came: list[tuple[float, float]] = []  # when it was made, and when it was received
    arrived = asyncio.Semaphore(0)

    async def listen(connection: ClientConnection) -> None:
        async for message in connection:
            received_at = time.time()
            came.append((datetime.fromisoformat(json.loads(message)["created_at"]).timestamp(), received_at))
            arrived.release()

    listeners = [asyncio.create_task(listen(connection)) for connection in connections]
    sent: list[float] = []
    answered: list[float] = []
    expected = 0
    async with httpx.AsyncClient(base_url=url + BASE, timeout=ANSWER_LIMIT) as client:
        for number in range(calls):
            pair = number % pairs
            headers = {"Authorization": bearer[pair]}
            at = (datetime.now(UTC) + timedelta(minutes=10)).isoformat()
            body = {"doctor": pair + 1, "patient": pair + 1, "scheduled_time": at}
            created = await client.post("/video-calls/", headers=headers, json=body)
            call = created.raise_for_status().json()["id"]
            for action, events in (("join", 2), ("end", 2)):
                sent.append(time.time())
                answer = await client.post(f"/video-calls/{call}/{action}/", headers=headers)
                answered.append(time.time())
                answer.raise_for_status()
                expected += 2 * events
    try:
        for _ in range(expected):
            await asyncio.wait_for(arrived.acquire(), timeout=ANSWER_LIMIT)
    except TimeoutError as error:
        raise BenchmarkError(f"of {expected} events {len(came)} were received") from error
    for task in listeners:
        task.cancel()
    await asyncio.gather(*(connection.close() for connection in connections))
    turns: list[list[Delays]] = [[] for _ in range(TURNS)]
    for made_at, received_at in came:
        request = bisect_right(sent, made_at) - 1
        delays = (received_at - made_at, answered[request] - made_at)
        turns[request * TURNS // len(sent)].append(delays)
    return turns


def rows(directory: Path, pairs: int, calls: int) -> list[Row]:
    """The middle and the slowest hundredth of the receipts, beside those of the answers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(DESCRIPTORS, hard)), hard))
    people = directory / "people.yaml"
    people.write_text(seed_of_pairs(pairs), encoding="utf-8")
    options = ("--seed", str(people), "--database", str(directory / "events.db"), "--log-level", "error")
    with running(SERVE(*options), core=None) as server:
        turns = asyncio.run(received(server.url, pairs, calls))
        status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    [peak] = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    progress(f"events: {2 * pairs:,} connections, the server's memory at its most {peak / 1024:.0f} MiB")
    what = f"event from change to receipt, {2 * pairs:,} connections"
    beside = "the answer to its request"
    return [
        compared(f"{what}: p{nth}, ms", beside, (_percentile(turn, nth) for turn in turns))
        for nth in (50, 99)
    ]


def _percentile(turn: list[Delays], nth: int) -> Delays:
    """Milliseconds, of events and of answers, each by itself."""
    events, answers = (sorted(column) for column in zip(*turn, strict=True))
    if nth == 50:
        return median(events) * 1000, median(answers) * 1000
    place = len(turn) * nth // 100
    return events[place] * 1000, answers[place] * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=500)
    arguments = parser.parse_args()
    with clear_end(), tempfile.TemporaryDirectory() as directory:
        print(markdown(rows(Path(directory), PAIRS, arguments.calls)))


if __name__ == "__main__":
    main()
