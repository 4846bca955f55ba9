"""The control layer beside the same server with `--no-control`: what a request costs when nothing is set.

`python benchmarks/control.py` prints its rows of the table. Everything runs on loopback and stops by itself.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from load import (
    DOCTOR_USER,
    SERVE,
    Server,
    connected,
    creation,
    pinned,
    request,
    response,
    running,
    store_calls,
)
from table import Row, clear_end, compared, markdown
from video_calls_server import Settings
from video_calls_server.api.tokens import make_token

TICK = os.sysconf("SC_CLK_TCK")
REQUESTS = 400  # in one turn of a server
BESIDE = "the same with --no-control"


@dataclass
class Turn:
    """What one turn of a server took for each request, in microseconds."""

    latency: float
    cpu: float


def cpu_seconds(server: Server) -> float:
    """The CPU time that a server has used so far."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def turn(server: Server, make: Callable[[Server], bytes], status: int) -> Turn:
    """Requests one after the other on one connection, so that each one's latency is its own."""
    latencies: list[float] = []
    with connected(server) as connection:
        before = cpu_seconds(server)
        for _ in range(REQUESTS):
            message = make(server)
            started = time.perf_counter()
            connection.sendall(message)
            response(connection, status)
            latencies.append(time.perf_counter() - started)
        used = cpu_seconds(server) - before
    return Turn(median(latencies) * 1e6, used / REQUESTS * 1e6)


def rows(directory: Path, rounds: int) -> list[Row]:
    """Latency and CPU time of each operation; the two servers take turns, and begin by turns."""
    token = make_token(Settings(), DOCTOR_USER, expires_in=3600)
    found: list[Row] = []
    with pinned() as core, ExitStack() as stack:
        silent = SERVE("--log-level", "warning")
        programs = (
            silent("--database", str(directory / "without.db"), "--no-control"),
            silent("--database", str(directory / "with.db")),
        )
        without, with_it = (stack.enter_context(running(program, core=core)) for program in programs)
        for server in (without, with_it):
            call, _ = store_calls(server, token)
        one = request("GET", f"{with_it.calls}{json.dumps(call['id'])}/", token=token)
        page = request("GET", with_it.calls, token=token)
        operations: list[tuple[str, int, Callable[[Server], bytes]]] = [
            ("GET one", 200, lambda _: one),
            ("GET list, 20 calls", 200, lambda _: page),
            ("POST create", 201, lambda server: creation(server, token)),
        ]
        for name, status, make in operations:
            turns: list[tuple[Turn, Turn]] = []
            for number in range(rounds + 1):
                order = (without, with_it) if number % 2 else (with_it, without)
                taken = {server.port: turn(server, make, status) for server in order}
                turns.append((taken[with_it.port], taken[without.port]))
            turns = turns[1:]  # the first round has warmed the servers up
            found += [
                compared(
                    f"control layer: {name}, latency µs", BESIDE, ((a.latency, b.latency) for a, b in turns)
                ),
                compared(f"control layer: {name}, CPU µs", BESIDE, ((a.cpu, b.cpu) for a, b in turns)),
            ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="how often each server has its turn")
    arguments = parser.parse_args()
    with clear_end(), tempfile.TemporaryDirectory() as directory:
        print(markdown(rows(Path(directory), arguments.rounds)))


if __name__ == "__main__":
    main()
