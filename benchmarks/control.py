"""The control layer beside the same server with `--no-control`: what a request costs when nothing is set.

`python benchmarks/control.py` prints one table. Everything runs on loopback and stops by itself.
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

from server import (
    CALLS,
    DOCTOR_USER,
    SERVE,
    BenchmarkError,
    Server,
    connected,
    cores,
    creation,
    print_table,
    request,
    response,
    running,
    store_calls,
)
from video_calls_server import Settings
from video_calls_server.api.tokens import make_token

TICK = os.sysconf("SC_CLK_TCK")
REQUESTS = 400  # in one turn of a server


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


def row(name: str, turns: list[tuple[Turn, Turn]]) -> list[str]:
    """Medians of both servers, and of the ratios of neighbouring turns with their middle half."""
    cells = [name]
    for figure in ("latency", "cpu"):
        pairs = [(getattr(without, figure), getattr(with_it, figure)) for without, with_it in turns]
        ratios = sorted(with_it / without for without, with_it in pairs)
        quarter = len(ratios) // 4
        cells += [
            f"{median(pair[0] for pair in pairs):,.0f}",
            f"{median(pair[1] for pair in pairs):,.0f}",
            f"{median(ratios):.2f} ({ratios[quarter]:.2f}-{ratios[-1 - quarter]:.2f})",
        ]
    return cells


def measure(directory: Path, rounds: int) -> None:
    load_core, core = cores() or (None, None)
    if load_core is not None:
        os.sched_setaffinity(0, load_core)
    token = make_token(Settings(), DOCTOR_USER, expires_in=3600)

    def serve(name: str, *options: str) -> list[str]:
        return [*SERVE, "--database", str(directory / f"{name}.db"), "--log-level", "warning", *options]

    with ExitStack() as stack:
        commands = (serve("without", "--no-control"), serve("with"))
        without, with_it = (
            stack.enter_context(running(command, core=core, answers=directory / "unused"))
            for command in commands
        )
        for server in (without, with_it):
            call, _ = store_calls(server, token)
        one = request("GET", f"{CALLS}{json.dumps(call['id'])}/", token=token)
        page = request("GET", CALLS, token=token)
        operations: list[tuple[str, int, Callable[[Server], bytes]]] = [
            ("GET one", 200, lambda _: one),
            ("GET list, 20 calls", 200, lambda _: page),
            ("POST create", 201, lambda server: creation(server, token)),
        ]
        rows: list[list[str]] = []
        for name, status, make in operations:
            turns: list[tuple[Turn, Turn]] = []
            for number in range(rounds + 1):
                order = (without, with_it) if number % 2 else (with_it, without)
                taken = {server.port: turn(server, make, status) for server in order}
                turns.append((taken[without.port], taken[with_it.port]))
            rows.append(row(name, turns[1:]))  # the first round has warmed the servers up
        heads = ["", "latency without (µs)", "with", "ratio", "CPU without (µs)", "with", "ratio"]
        print_table(heads, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="how often each server has its turn")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        try:
            measure(Path(directory), arguments.rounds)
        except (BenchmarkError, OSError) as error:
            raise SystemExit(f"no result: {error or type(error).__name__}") from error


if __name__ == "__main__":
    main()
