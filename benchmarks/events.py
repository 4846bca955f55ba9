"""How long events take from the change to their receipt, with a thousand connections open.

The server runs as a process of its own on a file; its clients all live in this one, on the same two cores.
"""

import argparse
import asyncio
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from websockets.asyncio.client import ClientConnection, connect

PAIRS = 500
BASE = "/api/v1/video"


def seed() -> str:
    """A thousand people: a doctor and a patient for each of the pairs."""
    people: list[str] = ["users:"]
    for number in range(1, PAIRS + 1):
        for role, user in (("doctor", number), ("patient", PAIRS + number)):
            people.append(
                f"  - {{id: {user}, email: {role}{number}@example.com, full_name: {role} {number}, "
            )
            people[-1] += f"{role}: {{id: {number}}}}}"
    return "\n".join(people)


def tokens() -> list[str]:
    """A token for each of them."""
    from video_calls_server import Settings
    from video_calls_server.api.tokens import make_token

    return [make_token(Settings(), user, expires_in=3600) for user in range(1, 2 * PAIRS + 1)]


async def measure(url: str, calls: int) -> None:
    """Open a connection for everybody, then start and end calls and see when each event arrives."""
    bearer = [f"Bearer {token}" for token in tokens()]
    opened = time.perf_counter()
    address = url.replace("http", "ws", 1) + f"{BASE}/events/"
    gate = asyncio.Semaphore(50)

    async def open_one(authorization: str) -> ClientConnection:
        async with gate:
            return await connect(
                address,
                additional_headers={"Authorization": authorization},
                ping_interval=None,
                open_timeout=60,
            )

    connections = await asyncio.gather(*(open_one(authorization) for authorization in bearer))
    opened = time.perf_counter() - opened
    delays: list[float] = []
    arrived = asyncio.Semaphore(0)

    async def listen(connection: ClientConnection) -> None:
        async for message in connection:
            event = json.loads(message)
            delays.append(time.time() - datetime.fromisoformat(event["created_at"]).timestamp())
            arrived.release()

    listeners = [asyncio.create_task(listen(connection)) for connection in connections]
    expected = 0
    began = time.perf_counter()
    async with httpx.AsyncClient(base_url=url + BASE, timeout=30) as client:
        for number in range(calls):
            pair = number % PAIRS
            headers = {"Authorization": bearer[pair]}
            at = (datetime.now(UTC) + timedelta(minutes=10)).isoformat()
            body = {"doctor": pair + 1, "patient": pair + 1, "scheduled_time": at}
            call = (await client.post("/video-calls/", headers=headers, json=body)).json()["id"]
            for action, events in (("join", 2), ("end", 2)):
                (await client.post(f"/video-calls/{call}/{action}/", headers=headers)).raise_for_status()
                expected += 2 * events
    for _ in range(expected):
        await asyncio.wait_for(arrived.acquire(), timeout=30)
    took = time.perf_counter() - began
    for task in listeners:
        task.cancel()
    await asyncio.gather(*(connection.close() for connection in connections))
    delays.sort()
    print(f"{len(connections)} connections, opened in {opened:.1f} s")
    print(f"{calls} calls started and ended in {took:.1f} s: {expected:,} events received, none missing")
    print(
        f"from the change to its receipt: p50 {1000 * statistics.median(delays):.1f} ms, "
        f"p99 {1000 * delays[int(len(delays) * 0.99)]:.1f} ms, longest {1000 * delays[-1]:.1f} ms"
    )


def main() -> None:
    """Start a server, measure, stop it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=500)
    options = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, limit[1]), limit[1]))
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "people.yaml").write_text(seed())
        command = [
            sys.executable,
            "-m",
            "video_calls_server",
            "serve",
            "--port",
            "0",
            "--seed",
            "people.yaml",
        ]
        server = subprocess.Popen(
            [*command, "--log-level", "error"],
            cwd=directory,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            address = re.compile(r"http://[\d.]+:\d+")
            found = next(match for line in server.stdout or () if (match := address.search(line)))
            asyncio.run(measure(found[0], options.calls))
            memory = Path(f"/proc/{server.pid}/status").read_text()
            peak = re.search(r"VmHWM:\s+(\d+) kB", memory)
            if peak:
                print(f"the server's memory at its most: {int(peak[1]) / 1024:.0f} MiB")
        finally:
            server.terminate()
            server.wait(timeout=20)


if __name__ == "__main__":
    main()
