"""Servers as processes, on SQLite or with workers on PostgreSQL: their output, connections and databases."""

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

PATIENCE = 30.0  # seconds, for a busy machine


@dataclass
class Server:
    """A running `video-calls-server serve`, and its output so far."""

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
        """Wait until the output matches a pattern so many times; return the matches."""

        def matches() -> list[str]:
            return [match for line in self.lines for match in re.findall(pattern, line)]

        with self.more:
            assert self.more.wait_for(lambda: len(matches()) >= times, PATIENCE), "".join(self.lines[-40:])
            return matches()

    @property
    def url(self) -> str:
        return self.says(r"API +(http://[^/]+)")[0]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def workers(self, ever: int = 2) -> list[int]:
        """Return the pids of the workers, once `ever` have started; without workers, the server's own."""
        if "--workers" not in self.popen.args:
            return [self.popen.pid]
        listen = self.says(r"worker (\d+) listens", ever)
        ended = re.findall(r"worker (\d+) has ended", "".join(self.lines))
        return [int(pid) for pid in listen if pid not in ended]

    def connections(self) -> dict[int, set[int]]:
        """Return the remote ports of the TCP connections of each process that serves."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        here, established = f":{self.port:04X}", "01"
        remote = {
            row[9]: int(row[2].rpartition(":")[2], 16)
            for row in rows
            if row[1].endswith(here) and row[3] == established
        }
        connections: dict[int, set[int]] = {}
        for worker in self.workers():
            links = [
                str(link.readlink()) for link in Path(f"/proc/{worker}/fd").iterdir() if link.is_symlink()
            ]
            sockets = {link.removeprefix("socket:[").removesuffix("]") for link in links}
            connections[worker] = {port for inode, port in remote.items() if inode in sockets}
        return connections

    def stop(self) -> tuple[int, float]:
        """Send SIGTERM; return the exit status and the seconds until the end."""
        start = time.monotonic()
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(PATIENCE), time.monotonic() - start

    def assert_no_traceback(self) -> None:
        """Fail if the output has a traceback."""
        assert not [line for line in self.lines if "Traceback" in line], "".join(self.lines[-60:])


@contextmanager
def launching(directory: Path) -> Iterator[Callable[..., Server]]:
    """Yield a function that starts the server in this directory; kill all of them at the end."""
    started: list[Server] = []

    def launch(*options: str, port: int = 0) -> Server:
        popen = subprocess.Popen(
            [sys.executable, "-m", "video_calls_server", "serve", "--port", str(port), *options],
            cwd=directory,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,  # a test can interrupt the whole group, as a terminal does
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


# The events of a call, in order, by its final status.
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


# -- contents of the database ------------------------------------------------------------------------


def rows_of(database: str, statement: str) -> list[Mapping[str, Any]]:
    """Return the rows of a statement; the database is a path or a URL."""
    if "://" in database:
        return asyncio.run(on_postgres(database, statement))
    with closing(sqlite3.connect(database, timeout=PATIENCE)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(statement)]


def events_of(database: str, calls: Iterable[int] | None = None) -> dict[int, list[str]]:
    """Return the types of the events of each call in the outbox, in order; of all calls, or of these."""
    events = defaultdict(list)
    for row in rows_of(database, "SELECT type, data FROM events ORDER BY id"):
        events[json.loads(row["data"])["call"]["id"]].append(row["type"])
    return {call: types for call, types in events.items() if calls is None or call in set(calls)}


# -- followers of events ----------------------------------------------------------------------------


@dataclass
class Subscriber:
    """A user who follows events and resumes when the connection is lost."""

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
            await asyncio.sleep(0.02)  # spares a starting server a storm of connections

    async def has(self, count: int) -> None:
        while len(self.events) < count:
            self.more.clear()
            await asyncio.wait_for(self.more.wait(), timeout=60)


def assert_unavailable(answer: httpx.Response) -> None:
    """Fail unless this is the response of a server whose database is unavailable."""
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), answer.text
    assert answer.json()["error"]
    assert int(answer.headers["retry-after"]) >= 1
