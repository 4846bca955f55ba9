"""The SDK beside raw httpx: what an import, a `get`, `with_options` and 10,000 calls cost.

`python benchmarks/sdk.py` prints one table. Everything runs on loopback and stops by itself.
"""

import argparse
import asyncio
import gc
import multiprocessing
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from itertools import count, repeat
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import httpx
import pydantic_core
import video_calls
import video_calls_spec
import yaml
from video_calls import AsyncVideoCallsClient, VideoCall, VideoCallsClient, VideoCallsError

API = "/api/v1/video"
TOKEN = "header.payload.signature"  # noqa: S105 (the server here checks nothing)
BATCH = 10  # calls of one client before it is the other's turn
FEW, MANY = 1_000, 10_000  # calls after which memory is read
TIME_LIMIT = 30  # seconds for one fresh interpreter, and for the server's start
MOST_IMPORT, MOST_GET = 1.15, 1.10  # the ratios that the SDK is held to

IMPORTS = (
    """
from datetime import datetime
import httpx
from pydantic import BaseModel
class Call(BaseModel):
    id: int
    status: str
    scheduled_time: datetime
""",
    "import video_calls",
)

# What the first call of a fresh interpreter imports, raw and through the SDK, blocking and not.
SYNC_FIRST_CALLS = (
    "import httpx, sys; before = set(sys.modules)\n"
    "with httpx.Client() as client: client.get(sys.argv[1] + '/video-calls/1/').json()\n"
    "print(*set(sys.modules) - before)",
    "import video_calls, sys; before = set(sys.modules)\n"
    "with video_calls.VideoCallsClient(sys.argv[1], token='t') as client: client.calls.get(1)\n"
    "print(*set(sys.modules) - before)",
)
ASYNC_FIRST_CALLS = (
    "import httpx, sys; before = set(sys.modules)\n"
    "import asyncio\n"
    "async def main():\n"
    "    async with httpx.AsyncClient() as client:\n"
    "        (await client.get(sys.argv[1] + '/video-calls/1/')).json()\n"
    "asyncio.run(main())\n"
    "print(*set(sys.modules) - before)",
    "import video_calls, sys; before = set(sys.modules)\n"
    "import asyncio\n"
    "async def main():\n"
    "    async with video_calls.AsyncVideoCallsClient(sys.argv[1], token='t') as client:\n"
    "        await client.calls.get(1)\n"
    "asyncio.run(main())\n"
    "print(*set(sys.modules) - before)",
)


class BenchmarkError(Exception):
    """The server did not start, or a client gave another answer than the contract's example."""


FAILURES = (BenchmarkError, VideoCallsError, httpx.HTTPError, subprocess.SubprocessError, OSError)


class Cost(NamedTuple):
    """What something took, in seconds: of the processor, and by the clock."""

    cpu: float
    wall: float


Pair = tuple[Cost, Cost]
"""Raw httpx and the SDK, one right after the other."""


# -- The server -------------------------------------------------------------------------------------


class Constant(asyncio.Protocol):
    """Answers every GET of a call with the same bytes, anything else with 404."""

    answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with nothing received."""
        self.transport: Any = transport  # a socket's, which can also write
        self.received = b""

    def data_received(self, data: bytes) -> None:
        """Answer each request of which the head is here."""
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, self.received = self.received.split(b"\r\n\r\n", 1)
            found = head.startswith(f"GET {API}/video-calls/".encode())
            self.transport.write(
                self.answer if found else b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
            )


def serve(body: bytes, core: set[int] | None, started: "Connection[int, None]") -> None:
    """Serve on a free port, which is told to `started`, until the process is ended."""
    if core is not None:
        os.sched_setaffinity(0, core)
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    Constant.answer = head.encode() + body

    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(Constant, "127.0.0.1", 0)
        started.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(forever())


@contextmanager
def running(body: bytes, core: set[int] | None) -> Iterator[str]:
    """The base URL of a server in another process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=serve, args=(body, core, theirs), daemon=True)
    process.start()
    try:
        if not ours.poll(TIME_LIMIT):
            raise BenchmarkError("the server did not start")
        yield f"http://127.0.0.1:{ours.recv()}{API}"
    finally:
        process.kill()
        process.join()


def cores() -> tuple[set[int], set[int]] | None:
    """A core for the clients and another for the server, None where processes cannot be pinned to two."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    available = sorted(os.sched_getaffinity(0))
    return ({available[0]}, {available[1]}) if len(available) > 1 else None


# -- Imports ----------------------------------------------------------------------------------------


def install(directory: Path) -> None:
    """Link into a directory what `pip install video-calls` brings, and nothing else of this environment.

    httpx imports its command line, and pydantic looks for plugins, in all that is installed: with more of it,
    the baseline would be slower than the one that users have.
    """
    for package in (video_calls, video_calls_spec):  # where they are in an editable installation, too
        source = Path(str(package.__file__)).parent
        (directory / source.name).symlink_to(source)
    names, seen = ["video-calls"], set[str]()
    while names:
        try:
            distribution = metadata.distribution(names.pop())
        except metadata.PackageNotFoundError:  # required on another platform
            continue
        if distribution.name in seen:
            continue
        seen.add(distribution.name)
        requirements = [each for each in distribution.requires or [] if "extra ==" not in each]
        names += [re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in requirements]
        for top in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            if not (directory / top).exists():
                (directory / top).symlink_to(Path(str(distribution.locate_file(top))))


def fresh(script: str, installed: Path, *arguments: str) -> tuple[Cost, str]:
    """Run a script in an interpreter of its own, with bytecode at hand as after an installation."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"PYTHONPATH": str(installed), "PYTHONPYCACHEPREFIX": str(installed / ".bytecode")}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    output = subprocess.run(
        [sys.executable, "-S", "-c", script, *arguments],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
    ).stdout
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu, wall), output


def imports(installed: Path, rounds: int) -> list[Pair]:
    """What the two imports cost, round by round."""
    raw, ours = IMPORTS
    pairs = [(fresh(raw, installed)[0], fresh(ours, installed)[0]) for _ in range(rounds + 1)]
    return pairs[1:]  # the first round has written the bytecode


def burst(scripts: tuple[str, str], installed: Path, base_url: str) -> list[str]:
    """The modules that the SDK's first call imports and that raw httpx's does not."""
    raw, ours = (set(fresh(script, installed, base_url)[1].split()) for script in scripts)
    return sorted(ours - raw)


# -- Calls ------------------------------------------------------------------------------------------


def batch(call: Callable[[], Any], expected: object) -> Cost:
    """What one call of a batch costs."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(BATCH):
        answer = call()
    cost = Cost((time.process_time() - cpu) / BATCH, (time.perf_counter() - wall) / BATCH)
    check(answer, expected)
    return cost


async def async_batch(call: Callable[[], Awaitable[Any]], expected: object) -> Cost:
    """What one call of a batch costs, awaited one after the other."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(BATCH):
        answer = await call()
    cost = Cost((time.process_time() - cpu) / BATCH, (time.perf_counter() - wall) / BATCH)
    check(answer, expected)
    return cost


def check(answer: object, expected: object) -> None:
    if answer != expected:
        raise BenchmarkError(f"expected {expected!r}, got {answer!r}")


def gets(base_url: str, body: bytes, rounds: int, ids: Iterator[int]) -> list[Pair]:
    """What a `get` costs, raw and through the SDK, each on a connection that is kept."""
    raw_answer, answer = pydantic_core.from_json(body), VideoCall.model_validate_json(body)
    headers = {"authorization": f"Bearer {TOKEN}"}
    with httpx.Client(headers=headers) as raw, VideoCallsClient(base_url, token=TOKEN) as client:
        pairs = [
            (
                batch(lambda: raw.get(f"{base_url}/video-calls/{next(ids)}/").json(), raw_answer),
                batch(lambda: client.calls.get(next(ids)), answer),
            )
            for _ in range(rounds + 1)
        ]
    return pairs[1:]  # the first round has opened the connections


async def async_gets(base_url: str, body: bytes, rounds: int, ids: Iterator[int]) -> list[Pair]:
    """The same for the asynchronous clients."""
    raw_answer, answer = pydantic_core.from_json(body), VideoCall.model_validate_json(body)
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with (
        httpx.AsyncClient(headers=headers) as raw,
        AsyncVideoCallsClient(base_url, token=TOKEN) as client,
    ):

        async def raw_get() -> object:
            return (await raw.get(f"{base_url}/video-calls/{next(ids)}/")).json()

        pairs = [
            (
                await async_batch(raw_get, raw_answer),
                await async_batch(lambda: client.calls.get(next(ids)), answer),
            )
            for _ in range(rounds + 1)
        ]
    return pairs[1:]


def gets_of(which: str, base_url: str, body: bytes, rounds: int, ids: Iterator[int]) -> Iterator[list[str]]:
    """The rows of both kinds of client; whether ids come again matters to who keeps what it has read."""
    yield compared(f"get, {which} (µs)", gets(base_url, body, rounds, ids), 1e-6, MOST_GET)
    pairs = asyncio.run(async_gets(base_url, body, rounds, ids))
    yield compared("the same, async (µs)", pairs, 1e-6, MOST_GET)


def with_options(base_url: str) -> list[float]:
    """Seconds for one `with_options`, batch by batch."""
    seconds = list[float]()
    with VideoCallsClient(base_url, token=TOKEN) as client:
        for _ in range(20):
            started = time.perf_counter()
            for _ in range(1_000):
                client.with_options(timeout=5.0, deadline=20.0)
            seconds.append((time.perf_counter() - started) / 1_000)
    return seconds


# -- Memory -----------------------------------------------------------------------------------------


def memory(base_url: str) -> list[int]:
    """Bytes that this process holds after few calls and after many."""
    held = list[int]()
    with VideoCallsClient(base_url, token=TOKEN) as client:
        for calls in (FEW, MANY - FEW):
            for _ in range(calls):
                client.calls.get(1)
            held.append(resident())
    return held


async def async_memory(base_url: str) -> list[int]:
    """The same for the asynchronous client."""
    held = list[int]()
    async with AsyncVideoCallsClient(base_url, token=TOKEN) as client:
        for calls in (FEW, MANY - FEW):
            for _ in range(calls):
                await client.calls.get(1)
            held.append(resident())
    return held


def resident() -> int:
    """The resident set of this process, which counts what lies outside of Python, too."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


# -- The table --------------------------------------------------------------------------------------


def compared(name: str, pairs: list[Pair], unit: float, most: float) -> list[str]:
    """A row: both costs in processor time, their ratio, and the ratio by the clock."""
    raw, ours = (median(costs.cpu for costs in side) / unit for side in zip(*pairs, strict=True))
    by_cpu = ratio([ours.cpu / raw.cpu for raw, ours in pairs])
    by_clock = ratio([ours.wall / raw.wall for raw, ours in pairs])
    return [name, f"{raw:,.0f}", f"{ours:,.0f}", by_cpu, by_clock, f"{most:.2f}"]


def ratio(ratios: list[float]) -> str:
    """The median and, in brackets, where the middle half lies."""
    low, middle, high = quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def measure(directory: Path, rounds: int) -> list[list[str]]:
    """The rows of the table."""
    contract = yaml.safe_load(video_calls_spec.openapi_path().read_text(encoding="utf-8"))
    body = pydantic_core.to_json(contract["components"]["schemas"]["VideoCall"]["example"])
    clients, server = cores() or (None, None)
    if clients is not None:
        os.sched_setaffinity(0, clients)
    install(directory)
    with running(body, server) as base_url:
        first = [burst(scripts, directory, base_url) for scripts in (SYNC_FIRST_CALLS, ASYNC_FIRST_CALLS)]
        options = with_options(base_url)
        held, async_held = memory(base_url), asyncio.run(async_memory(base_url))
        return [
            compared("import (ms)", imports(directory, rounds), 1e-3, MOST_IMPORT),
            *gets_of("one call again", base_url, body, 12 * rounds, repeat(1)),
            *gets_of("other calls", base_url, body, 12 * rounds, count(1)),
            ["imported by the first call", "", " ".join(first[0]) or "nothing", "", "", "nothing"],
            ["the same, async", "", " ".join(first[1]) or "nothing", "", "", "nothing"],
            ["with_options (µs)", "", f"{median(options) / 1e-6:.1f}", "", "", ""],
            grown(f"memory after {FEW:,} and {MANY:,} calls (MiB)", held),
            grown("the same, async", async_held),
        ]


def grown(name: str, held: list[int]) -> list[str]:
    few, many = (size / 2**20 for size in held)
    return [name, "", f"{few:.1f} and {many:.1f}", "", "", "flat"]


def print_table(heads: list[str], rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25, help="how often each import is measured")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        try:
            rows = measure(Path(directory), arguments.rounds)
        except FAILURES as error:
            raise SystemExit(f"no result: {error or type(error).__name__}") from error
    print_table(["", "httpx", "SDK", "ratio of CPU time", "ratio by the clock", "at most"], rows)


if __name__ == "__main__":
    main()
