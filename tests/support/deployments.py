"""The real command as people run it, on SQLite or with workers on PostgreSQL.

What it says is read as it comes, and what its database holds is looked up past it.
"""

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from video_calls_server import Settings
from video_calls_server.api.jwt import make_token
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from support.postgres import on_postgres

PATIENCE = 30.0  # seconds: for what takes one or two where nobody else uses the machine


@dataclass
class Server:
    """A running `serve`, and what it has printed and logged until now."""

    popen: "subprocess.Popen[str]"
    lines: list[str] = field(default_factory=list)
    more: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.popen.stdout
        for line in self.popen.stdout:
            with self.more:
                self.lines.append(line)
                self.more.notify_all()

    def says(self, pattern: str, times: int = 1) -> list[str]:
        """What the pattern finds, once it is found so many times."""

        def found() -> list[str]:
            return [match for line in self.lines for match in re.findall(pattern, line)]

        with self.more:
            assert self.more.wait_for(lambda: len(found()) >= times, PATIENCE), "".join(self.lines[-40:])
            return found()

    @property
    def url(self) -> str:
        return self.says(r"API +(http://[^/]+)")[0]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def workers(self, ever: int = 2) -> list[int]:
        """The workers that serve, when so many have since the start; itself, where it has none."""
        if "--workers" not in self.popen.args:
            return [self.popen.pid]
        listen = self.says(r"worker (\d+) listens", ever)
        ended = re.findall(r"worker (\d+) has ended", "".join(self.lines))
        return [int(pid) for pid in listen if pid not in ended]

    def connections(self) -> dict[int, set[int]]:
        """The TCP connections of each process that serves, by the port at their other end."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        here, established = f":{self.port:04X}", "01"
        remote = {
            row[9]: int(row[2].rpartition(":")[2], 16)
            for row in rows
            if row[1].endswith(here) and row[3] == established
        }
        found: dict[int, set[int]] = {}
        for worker in self.workers():
            links = [
                str(link.readlink()) for link in Path(f"/proc/{worker}/fd").iterdir() if link.is_symlink()
            ]
            sockets = {link.removeprefix("socket:[").removesuffix("]") for link in links}
            found[worker] = {port for inode, port in remote.items() if inode in sockets}
        return found

    def stop(self) -> tuple[int, float]:
        """Ask it to stop: its exit status, and the seconds that it took."""
        asked = time.monotonic()
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(PATIENCE), time.monotonic() - asked

    def assert_no_traceback(self) -> None:
        """It has logged nothing that it did not expect."""
        assert not [line for line in self.lines if "Traceback" in line], "".join(self.lines[-60:])


@contextmanager
def launching(directory: Path) -> Iterator[Callable[..., Server]]:
    """Starts the real command in this directory, on a free port or the one given, and kills it afterwards."""
    started: list[Server] = []

    def launch(*options: str, port: int = 0) -> Server:
        popen = subprocess.Popen(
            [sys.executable, "-m", "video_calls_server", "serve", "--port", str(port), *options],
            cwd=directory,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,  # so that a test can interrupt all of it, as a terminal does
        )
        server = Server(popen)
        started.append(server)
        server.says("curl")
        return server

    try:
        yield launch
    finally:
        for server in started:
            server.popen.kill()
            server.popen.wait()
            server.reader.join(PATIENCE)
            assert server.popen.stdout
            server.popen.stdout.close()


def headers(user_id: int) -> dict[str, str]:
    return {"Authorization": f"Bearer {make_token(Settings(), user_id, expires_in=3600)}"}


def soon(minutes: float) -> str:
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()


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


def seed(pairs: int) -> str:
    lines = ["users:"]
    for number in range(1, pairs + 1):
        for role, user in (("doctor", number), ("patient", pairs + number)):
            name = f"email: {role}{number}@example.com, full_name: {role} {number}"
            lines.append(f"  - {{id: {user}, {name}, {role}: {{id: {number}}}}}")
    return "\n".join(lines)


# -- what the database holds ------------------------------------------------------------------------


def rows_of(database: str, statement: str) -> list[Mapping[str, Any]]:
    """What a statement finds in a database, which is given as a path or as a URL."""
    if "://" in database:
        return asyncio.run(on_postgres(database, statement))
    with closing(sqlite3.connect(database, timeout=PATIENCE)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(statement)]


def events_of(database: str, calls: Iterable[int] | None = None) -> dict[int, list[str]]:
    """What has happened to each of these calls, or to all, in order, as the outbox has it."""
    events = defaultdict(list)
    for row in rows_of(database, "SELECT type, data FROM events ORDER BY id"):
        events[json.loads(row["data"])["call"]["id"]].append(row["type"])
    return {call: told for call, told in events.items() if calls is None or call in set(calls)}


# -- who follows events ----------------------------------------------------------------------------


@dataclass
class Subscriber:
    """A user who follows their events and resumes whenever the connection is lost."""

    user: int
    events: list[dict[str, Any]] = field(default_factory=list)
    more: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self, port: int) -> None:
        sent, last = headers(self.user), "0"
        while True:
            address = f"ws://127.0.0.1:{port}/api/v1/video/events/?last_event_id={last}"
            try:
                async with connect(address, additional_headers=sent, ping_interval=None) as connection:
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


def assert_unavailable(answer: httpx.Response) -> None:
    """It is the answer to what the server cannot do for now."""
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), answer.text
    assert answer.json()["error"]
    assert int(answer.headers["retry-after"]) >= 1
