"""Servers in processes of their own, and requests to them as bytes over plain sockets.

The load has to cost a fraction of what the servers do, so no HTTP library is used.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from table import BenchmarkError

API = "/api/v1/video"
CALLS = f"{API}/video-calls/"
START_UP_LIMIT = 60.0  # seconds
ANSWER_LIMIT = 10.0  # seconds
STOP_LIMIT = 20.0  # seconds

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Program:
    """The command of a server, which takes its port by `--port`, and the paths of that server."""

    words: tuple[str, ...]
    calls: str = CALLS
    ready: str = "/healthz"

    def __call__(self, *options: str) -> "Program":
        """Return this program with further options."""
        return Program((*self.words, *options), self.calls, self.ready)


UVICORN = ("-m", "uvicorn", "bare:app", "--no-access-log", "--no-server-header", "--log-level", "warning")
BARE = Program((sys.executable, *UVICORN))
SERVE = Program((sys.executable, "-m", "video_calls_server", "serve"))


@dataclass
class Server:
    """A running server, and the times at which doctor 1 and patient 1 are still free there."""

    process: "subprocess.Popen[bytes]"
    port: int
    calls: str
    free_times: Iterator[datetime] = field(
        default_factory=lambda: (
            datetime.now(UTC).replace(microsecond=0) + timedelta(days=1, minutes=31 * n) for n in count()
        )
    )

    @property
    def url(self) -> str:
        """The origin of the server."""
        return f"http://127.0.0.1:{self.port}"


def seed_of_pairs(pairs: int) -> str:
    """Return a seed file with this many doctors (users from 1) and patients (the users after the doctors)."""
    people = ["users:"]
    for number in range(1, pairs + 1):
        for role, user in (("doctor", number), ("patient", pairs + number)):
            who = f"email: {role}{number}@example.com, full_name: {role} {number}"
            people.append(f"  - {{id: {user}, {who}, {role}: {{id: {number}}}}}")
    return "\n".join(people)


# -- Processes --------------------------------------------------------------------------------------


@contextmanager
def pinned() -> Iterator[set[int] | None]:
    """Pin this process to one core and yield another for servers; None if there are not two."""
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        yield None
        return
    before = os.sched_getaffinity(0)
    ours, theirs, *_ = sorted(before)
    os.sched_setaffinity(0, {ours})
    try:
        yield {theirs}
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def running(program: Program, *, core: set[int] | None, answers: Path | None = None) -> Iterator[Server]:
    """Start a program on a free port, yield it once it answers, and stop it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    process = subprocess.Popen(
        [*program.words, "--port", str(port)],
        cwd=Path(__file__).parent,
        env=os.environ | {"BARE_ANSWERS": str(answers)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        if core is not None:
            os.sched_setaffinity(process.pid, core)
        server = Server(process, port, program.calls)
        await_answer(server, program.ready)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_answer(server: Server, path: str) -> None:
    """Wait until this path answers 200."""
    deadline = time.perf_counter() + START_UP_LIMIT
    while time.perf_counter() < deadline and server.process.poll() is None:
        try:
            with connected(server) as connection:
                connection.sendall(request("GET", path, token="none"))  # noqa: S106 (not checked here)
                response(connection, 200)
                return
        except ConnectionError:
            time.sleep(0.002)
    raise BenchmarkError(f"{' '.join(map(str, server.process.args))} did not answer")


# -- HTTP -------------------------------------------------------------------------------------------


def connected(server: Server) -> socket.socket:
    """Return a connection to a server, with a timeout for each read."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=ANSWER_LIMIT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def request(method: str, path: str, *, token: str, body: bytes = b"") -> bytes:
    """Return the bytes of a request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


def creation(server: Server, token: str, time: datetime | None = None) -> bytes:
    """Return a request that creates a call at this time, or at the next free time of the server."""
    at = time or next(server.free_times)
    body = {"doctor": 1, "patient": 1, "scheduled_time": at.isoformat()}
    return request("POST", server.calls, token=token, body=json.dumps(body).encode())


def response(connection: socket.socket, status: int) -> bytes:
    """Read one response, which must have this status, and return its body."""
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += received(connection)
    length = _LENGTH.search(data, 0, end + 2)
    if not data.startswith(b"HTTP/1.1 %d " % status) or length is None:
        raise BenchmarkError(f"expected {status}, got {data[:500]!r}")
    missing = end + 4 + int(length[1]) - len(data)
    while missing > 0:
        data += (more := received(connection))
        missing -= len(more)
    return data[end + 4 :]


def received(connection: socket.socket) -> bytes:
    try:
        data = connection.recv(65536)
    except TimeoutError as error:
        port = connection.getpeername()[1]
        raise BenchmarkError(f"the server on port {port} gave no answer in {ANSWER_LIMIT:g} s") from error
    if not data:
        raise ConnectionResetError("a server closed the connection")
    return data
