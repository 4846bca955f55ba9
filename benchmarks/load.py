"""Servers in processes of their own, and the load on them: requests as bytes over plain sockets.

What drives the servers has to cost a fraction of what they do, so no HTTP library is between.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path

from table import BenchmarkError

CALLS = "/api/v1/video/video-calls/"
DOCTOR_USER = 101  # of the default seed: the user of doctor 1
STORED_CALLS = 40  # two pages, so that a page of 20 has a link to the next
CONNECTIONS = 8
MOST_REQUESTS = 50_000  # in one round
START_UP_LIMIT = 30.0  # seconds
ANSWER_LIMIT = 10.0  # seconds
STOP_LIMIT = 20.0  # seconds

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Program:
    """How to start a server, which is told its port by `--port`, and where it has what."""

    words: tuple[str, ...]
    calls: str = CALLS
    ready: str = "/healthz"

    def __call__(self, *options: str) -> "Program":
        """The same with further options."""
        return Program((*self.words, *options), self.calls, self.ready)


UVICORN = ("-m", "uvicorn", "bare:app", "--no-access-log", "--no-server-header", "--log-level", "warning")
BARE = Program((sys.executable, *UVICORN))
SERVE = Program((sys.executable, "-m", "video_calls_server", "serve"))


def seed_of_pairs(pairs: int) -> str:
    """A doctor and a patient for each of the pairs, as a seed file: users 1 and on, and those after them."""
    people = ["users:"]
    for number in range(1, pairs + 1):
        for role, user in (("doctor", number), ("patient", pairs + number)):
            who = f"email: {role}{number}@example.com, full_name: {role} {number}"
            people.append(f"  - {{id: {user}, {who}, {role}: {{id: {number}}}}}")
    return "\n".join(people)


@dataclass
class Target:
    """Where a server listens, and the times at which doctor 1 and patient 1 are still free there."""

    port: int
    calls: str = CALLS
    free_times: Iterator[datetime] = field(
        default_factory=lambda: (
            datetime.now(UTC).replace(microsecond=0) + timedelta(days=1, minutes=31 * n) for n in count()
        )
    )


@dataclass(kw_only=True)
class Server(Target):
    """A server in a process of its own."""

    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        """Its origin."""
        return f"http://127.0.0.1:{self.port}"


# -- Processes --------------------------------------------------------------------------------------


def cores() -> tuple[set[int], set[int]] | None:
    """A core for the load and another for the servers, None where processes cannot be pinned to two."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    available = sorted(os.sched_getaffinity(0))
    return ({available[0]}, {available[1]}) if len(available) > 1 else None


@contextmanager
def pinned() -> Iterator[set[int] | None]:
    """This process has a core to itself; the other one, for servers. None where there are not two."""
    found = cores()
    if found is None:
        yield None
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, found[0])
    try:
        yield found[1]
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def running(program: Program, *, core: set[int] | None, answers: Path | None = None) -> Iterator[Server]:
    """A program on a free port, from its first answer on."""
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
        server = Server(port=port, calls=program.calls, process=process)
        await_answer(server, program.ready)
        yield server
    finally:
        process.terminate()  # which its workers are told of, where it has some
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
                connection.sendall(request("GET", path, token="nobody"))  # noqa: S106 (none is checked)
                response(connection, 200)
                return
        except ConnectionError:
            time.sleep(0.002)
    raise BenchmarkError(f"{' '.join(map(str, server.process.args))} did not answer")


# -- HTTP -------------------------------------------------------------------------------------------


def connected(server: Target) -> socket.socket:
    """A connection to a server, on which nothing is awaited for ever."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=ANSWER_LIMIT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def request(method: str, path: str, *, token: str, body: bytes = b"") -> bytes:
    """The bytes of a request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


def creation(server: Target, token: str) -> bytes:
    """A POST for the next free time of this server."""
    body = {"doctor": 1, "patient": 1, "scheduled_time": next(server.free_times).isoformat()}
    return request("POST", server.calls, token=token, body=json.dumps(body).encode())


def response(connection: socket.socket, status: int) -> bytes:
    """Read one response, which must have this status; its body."""
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
        raise BenchmarkError(
            f"the server on port {port} gave no answer within {ANSWER_LIMIT:.0f} s"
        ) from error
    if not data:
        raise ConnectionResetError("a server closed the connection")
    return data


def rate(server: Server, make: Callable[[], bytes], status: int, seconds: float) -> float:
    """Requests per second over 8 connections, each of which always has one request under way.

    The responses are awaited in the order of the requests. The server, which has the other seven to
    work on meanwhile, is never idle, and the load costs a fraction of an event loop's.
    """
    with ExitStack() as stack:
        open_ = deque[socket.socket]()
        for _ in range(CONNECTIONS):
            open_.append(stack.enter_context(connected(server)))
        started = time.perf_counter()
        for connection in open_:
            connection.sendall(make())
        answered = 0
        while time.perf_counter() - started < seconds and answered < MOST_REQUESTS:
            response(open_[0], status)
            answered += 1
            open_[0].sendall(make())
            open_.rotate(-1)
        elapsed = time.perf_counter() - started
        for connection in open_:
            response(connection, status)
    return answered / elapsed


def requests_per_second(
    servers: list[Server], token: str, call_id: int, rounds: int, seconds: float
) -> Iterator[tuple[str, list[list[float]]]]:
    """For each operation its rate at each server, round by round; the servers take turns within a round."""
    operations: list[tuple[str, int, Callable[[Server], bytes]]] = [
        ("GET one", 200, lambda server: request("GET", f"{server.calls}{call_id}/", token=token)),
        ("GET list, 20 calls", 200, lambda server: request("GET", server.calls, token=token)),
    ]
    for name, status, of in operations:
        requests = [partial(_same, of(server)) for server in servers]
        yield f"{name}, requests/s", _in_turns(servers, requests, status, rounds, seconds)
    creations = [partial(creation, server, token) for server in servers]
    yield "POST create, requests/s", _in_turns(servers, creations, 201, rounds, seconds)


def _same(message: bytes) -> bytes:
    return message


def _in_turns(
    servers: list[Server], requests: list[Callable[[], bytes]], status: int, rounds: int, seconds: float
) -> list[list[float]]:
    measured = [
        [rate(server, make, status, seconds) for server, make in zip(servers, requests, strict=True)]
        for _ in range(rounds + 1)
    ]
    return measured[1:]  # the first round has warmed the servers up


def store_calls(server: Target, token: str) -> tuple[dict[str, object], dict[str, object]]:
    """Create the calls that are read later; the last of them, and the first page."""
    with connected(server) as connection:
        for _ in range(STORED_CALLS):
            connection.sendall(creation(server, token))
            call = json.loads(response(connection, 201))
        connection.sendall(request("GET", server.calls, token=token))
        return call, json.loads(response(connection, 200))
