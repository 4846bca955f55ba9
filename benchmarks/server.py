"""The reference server beside a bare Litestar application: requests per second and start-up time, as ratios.

`python benchmarks/server.py` prints one table. Everything runs on loopback and stops by itself.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

from video_calls_server import Settings
from video_calls_server.api.tokens import make_token

CALLS = "/api/v1/video/video-calls/"
DOCTOR_USER = 101  # of the default seed: the user of doctor 1
STORED_CALLS = 40  # two pages, so that a page of 20 has a link to the next
CONNECTIONS = 8
MOST_REQUESTS = 50_000  # in one round
START_UP_LIMIT = 30.0  # seconds
ANSWER_LIMIT = 10.0  # seconds
STOP_LIMIT = 10.0  # seconds

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)

UVICORN = ["uvicorn", "bare:app", "--no-access-log", "--no-server-header", "--log-level", "warning"]
SERVE = ["video_calls_server", "serve"]


class BenchmarkError(Exception):
    """A server did not start, or gave another answer than the one that is measured."""


@dataclass
class Target:
    """Where a server listens, and the times at which doctor 1 and patient 1 are still free there."""

    port: int
    free_times: Iterator[datetime] = field(
        default_factory=lambda: (
            datetime.now(UTC).replace(microsecond=0) + timedelta(days=1, minutes=31 * n) for n in count()
        )
    )


@dataclass(kw_only=True)
class Server(Target):
    """A server in a process of its own."""

    process: "subprocess.Popen[bytes]"


# -- Processes --------------------------------------------------------------------------------------


def cores() -> tuple[set[int], set[int]] | None:
    """A core for the load and another for the servers, None where processes cannot be pinned to two."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    available = sorted(os.sched_getaffinity(0))
    return ({available[0]}, {available[1]}) if len(available) > 1 else None


@contextmanager
def running(module: list[str], *, core: set[int] | None, answers: Path) -> Iterator[Server]:
    """`python -m module…` on a free port, from its first answer to /healthz on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", *module, "--port", str(port)],
        cwd=Path(__file__).parent,
        env=os.environ | {"BARE_ANSWERS": str(answers)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        if core is not None:
            os.sched_setaffinity(process.pid, core)
        server = Server(port=port, process=process)
        await_answer(server)
        yield server
    finally:
        process.terminate()  # which its workers are told of, where it has some
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_answer(server: Server) -> None:
    """Wait until /healthz answers 200."""
    deadline = time.perf_counter() + START_UP_LIMIT
    while time.perf_counter() < deadline and server.process.poll() is None:
        try:
            with connected(server) as connection:
                connection.sendall(request("GET", "/healthz"))
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


def request(method: str, path: str, *, token: str = "", body: bytes = b"") -> bytes:
    """The bytes of a request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


def creation(server: Target, token: str) -> bytes:
    """A POST for the next free time of this server."""
    body = {"doctor": 1, "patient": 1, "scheduled_time": next(server.free_times).isoformat()}
    return request("POST", CALLS, token=token, body=json.dumps(body).encode())


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
    data = connection.recv(65536)
    if not data:
        raise ConnectionResetError
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


# -- Measurements -----------------------------------------------------------------------------------


def requests_per_second(
    servers: list[Server], token: str, call_id: int, rounds: int, seconds: float
) -> Iterator[tuple[str, list[list[float]]]]:
    """For each operation its rate at each server, round by round; the servers take turns within a round."""
    one = request("GET", f"{CALLS}{call_id}/", token=token)
    page = request("GET", CALLS, token=token)
    for name, status, make in (
        ("GET one", 200, lambda _: one),
        ("GET list, 20 calls", 200, lambda _: page),
        ("POST create", 201, partial(creation, token=token)),
    ):
        requests = [partial(make, server) for server in servers]
        measured = [
            [rate(server, each, status, seconds) for server, each in zip(servers, requests, strict=True)]
            for _ in range(rounds + 1)
        ]
        yield f"{name} (requests/s)", measured[1:]  # the first round has warmed the servers up


def start_up(
    commands: list[Callable[[], list[str]]], rounds: int, core: set[int] | None, answers: Path
) -> list[list[float]]:
    """Milliseconds from spawning each server to its first answer, round by round."""

    def once(command: list[str]) -> float:
        started = time.perf_counter()
        with running(command, core=core, answers=answers):
            return (time.perf_counter() - started) * 1000

    measured = [[once(command()) for command in commands] for _ in range(rounds + 1)]
    return measured[1:]  # the first round has warmed the disk's cache


# -- The table --------------------------------------------------------------------------------------


def cells(name: str, rounds: list[list[float]]) -> list[str]:
    """A row of the table from measurements whose last column is the bare application's."""
    *references, bare = zip(*rounds, strict=True)
    row = [name, f"{median(bare):,.0f}"]
    for reference in references:
        ratios = [mine / its for mine, its in zip(reference, bare, strict=True)]
        row += [
            f"{median(reference):,.0f}",
            f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
        ]
    return row


def print_table(heads: list[str], rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
    print()


def store_calls(server: Target, token: str) -> tuple[dict[str, object], dict[str, object]]:
    """Create the calls that are read later; the last of them, and the first page."""
    with connected(server) as connection:
        for _ in range(STORED_CALLS):
            connection.sendall(creation(server, token))
            call = json.loads(response(connection, 201))
        connection.sendall(request("GET", CALLS, token=token))
        return call, json.loads(response(connection, 200))


def measure(directory: Path, rounds: int, seconds: float) -> None:
    load_core, core = cores() or (None, None)
    if load_core is not None:
        os.sched_setaffinity(0, load_core)
    token = make_token(Settings(), DOCTOR_USER, expires_in=3600)
    answers = directory / "answers.json"
    fresh = count()

    def serve(name: str, *options: str) -> list[str]:
        return [*SERVE, "--database", str(directory / f"{name}.db"), *options]

    with ExitStack() as stack:
        servers = [
            stack.enter_context(running(command, core=core, answers=answers))
            for command in (serve("logging"), serve("quiet", "--log-level", "warning"))
        ]
        for server in servers:
            call, page = store_calls(server, token)
        answers.write_text(json.dumps({"one": call, "list": page}), encoding="utf-8")
        servers.append(stack.enter_context(running(UVICORN, core=core, answers=answers)))
        call_id = int(str(call["id"]))
        print_table(
            ["", "bare", "reference", "ratio", "reference, no request log", "ratio"],
            [cells(*row) for row in requests_per_second(servers, token, call_id, rounds, seconds)],
        )
    starts = start_up(
        [lambda: serve("logging"), lambda: serve(f"new-{next(fresh)}"), lambda: UVICORN],
        rounds,
        core,
        answers,
    )
    print_table(
        ["", "bare", "on its database", "ratio", "on a new database", "ratio"],
        [cells("start-up (ms)", starts)],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often each server has its turn")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one turn under load")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        try:
            measure(Path(directory), arguments.rounds, arguments.seconds)
        except (BenchmarkError, OSError) as error:
            raise SystemExit(f"no result: {error or type(error).__name__}") from error


if __name__ == "__main__":
    main()
