"""The SDK beside raw httpx and a generated client: what an import, a `get`, and 10,000 calls cost.

`python benchmarks/sdk.py` prints its rows of the table, and what has no ratio. Everything runs on loopback
and stops by itself.
"""

import argparse
import asyncio
import gc
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from importlib import import_module, metadata
from itertools import count, repeat
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import httpx
import pydantic_core
import video_calls_sdk
import video_calls_spec
import yaml
from constant import running
from load import pinned
from peers import BESIDE_CLIENT, PACKAGE, find_client
from table import BenchmarkError, Row, absent, clear_end, compared, markdown
from video_calls_sdk import AsyncVideoCallsClient, VideoCall, VideoCallsClient

TOKEN = "header.payload.signature"  # noqa: S105 (the server here checks nothing)
BATCH = 10  # calls of one client before it is the other's turn
FEW, MANY = 1_000, 10_000  # calls after which memory is read
TIME_LIMIT = 30  # seconds for one fresh interpreter
MOST_IMPORT, MOST_GET, MOST_MEMORY = 1.15, 1.10, 1.02  # the ratios that the SDK is held to
RAW = "raw httpx"

Clock = Literal["cpu", "wall"]

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
    "import video_calls_sdk",
    f"from {PACKAGE} import AuthenticatedClient\nfrom {PACKAGE}.api.video_calls import get_video_call",
)

# What the first call of a fresh interpreter imports, raw and through the SDK, blocking and not.
SYNC_FIRST_CALLS = (
    "import httpx, sys; before = set(sys.modules)\n"
    "with httpx.Client() as client: client.get(sys.argv[1] + '/video-calls/1/').json()\n"
    "print(*set(sys.modules) - before)",
    "import video_calls_sdk, sys; before = set(sys.modules)\n"
    "with video_calls_sdk.VideoCallsClient(sys.argv[1], token='t') as client: client.calls.get(1)\n"
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
    "import video_calls_sdk, sys; before = set(sys.modules)\n"
    "import asyncio\n"
    "async def main():\n"
    "    async with video_calls_sdk.AsyncVideoCallsClient(sys.argv[1], token='t') as client:\n"
    "        await client.calls.get(1)\n"
    "asyncio.run(main())\n"
    "print(*set(sys.modules) - before)",
)


class Cost(NamedTuple):
    """What something took, in seconds: of the processor, and by the clock."""

    cpu: float
    wall: float


Turn = list[Cost]
"""Raw httpx, the SDK and, where it is present, the generated client, one right after the other."""


# -- Imports ----------------------------------------------------------------------------------------


def installed(within: Path) -> Path:
    """A directory with links to what `pip install video-calls` brings, and to nothing else of what is here.

    httpx imports its command line, and pydantic looks for plugins, in all that is installed: with more of it,
    the baseline would be slower than the one that users have.
    """
    directory = within / "installed"
    if directory.exists():
        return directory
    directory.mkdir()
    for package in (video_calls_sdk, video_calls_spec):  # where they are in an editable installation, too
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
    return directory


def fresh(script: str, installed: list[Path], *arguments: str) -> tuple[Cost, str]:
    """Run a script in an interpreter of its own, with bytecode at hand as after an installation."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, installed))}
    environment |= {"PYTHONPYCACHEPREFIX": str(installed[0] / ".bytecode")}
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


def imports(installed: list[Path], peer: Path | None, rounds: int) -> list[Turn]:
    """What the imports cost, round by round."""
    places = [installed, installed, *([[*installed, peer]] if peer else [])]
    scripts = IMPORTS[: len(places)]
    turns = [
        [fresh(script, place)[0] for script, place in zip(scripts, places, strict=True)]
        for _ in range(rounds + 1)
    ]
    return turns[1:]  # the first round has written the bytecode


def burst(scripts: tuple[str, str], installed: list[Path], base_url: str) -> list[str]:
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


def gets(base_url: str, body: bytes, rounds: int, ids: Iterator[int], peer: bool) -> list[Turn]:
    """What a `get` costs each client, on a connection that is kept."""
    raw_answer, answer = pydantic_core.from_json(body), VideoCall.model_validate_json(body)
    headers = {"authorization": f"Bearer {TOKEN}"}
    with httpx.Client(headers=headers) as raw, VideoCallsClient(base_url, token=TOKEN) as client:
        calls: list[tuple[Callable[[], Any], object]] = [
            (lambda: raw.get(f"{base_url}/video-calls/{next(ids)}/").json(), raw_answer),
            (lambda: client.calls.get(next(ids)), answer),
        ]
        if peer:
            theirs, operation, its_answer = generated(base_url, raw_answer)
            calls.append((lambda: operation.sync(next(ids), client=theirs), its_answer))
        turns = [[batch(*call) for call in calls] for _ in range(rounds + 1)]
        if peer:
            theirs.get_httpx_client().close()
    return turns[1:]  # the first round has opened the connections


async def async_gets(base_url: str, body: bytes, rounds: int, ids: Iterator[int], peer: bool) -> list[Turn]:
    """The same for the asynchronous clients."""
    raw_answer, answer = pydantic_core.from_json(body), VideoCall.model_validate_json(body)
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with (
        httpx.AsyncClient(headers=headers) as raw,
        AsyncVideoCallsClient(base_url, token=TOKEN) as client,
    ):

        async def raw_get() -> object:
            return (await raw.get(f"{base_url}/video-calls/{next(ids)}/")).json()

        calls: list[tuple[Callable[[], Awaitable[Any]], object]] = [
            (raw_get, raw_answer),
            (lambda: client.calls.get(next(ids)), answer),
        ]
        if peer:
            theirs, operation, its_answer = generated(base_url, raw_answer)
            calls.append((lambda: operation.asyncio(next(ids), client=theirs), its_answer))
        turns = [[await async_batch(*call) for call in calls] for _ in range(rounds + 1)]
        if peer:
            await theirs.get_async_httpx_client().aclose()
    return turns[1:]


def generated(base_url: str, answer: object) -> tuple[Any, Any, object]:
    """The generated client, which `rows` has made importable; its GET one; and what that returns."""
    client = import_module(PACKAGE).AuthenticatedClient(base_url, TOKEN, raise_on_unexpected_status=True)
    operation = import_module(f"{PACKAGE}.api.video_calls.get_video_call")
    return client, operation, import_module(f"{PACKAGE}.models").VideoCall.from_dict(answer)


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


def memory(base_url: str, few: int, many: int) -> list[int]:
    """Bytes that this process holds after few calls and after many."""
    held = list[int]()
    with VideoCallsClient(base_url, token=TOKEN) as client:
        for calls in (few, many - few):
            for _ in range(calls):
                client.calls.get(1)
            held.append(resident())
    return held


async def async_memory(base_url: str, few: int, many: int) -> list[int]:
    """The same for the asynchronous client."""
    held = list[int]()
    async with AsyncVideoCallsClient(base_url, token=TOKEN) as client:
        for calls in (few, many - few):
            for _ in range(calls):
                await client.calls.get(1)
            held.append(resident())
    return held


def resident() -> int:
    """The resident set of this process, which counts what lies outside of Python, too."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


# -- The table --------------------------------------------------------------------------------------


def beside(what: str, turns: list[Turn], unit: float, most: float, clock: Clock) -> list[Row]:
    """The rows of one measurement: beside raw httpx, and beside the generated client where it is present."""
    taken = [[getattr(cost, clock) / unit for cost in turn] for turn in turns]
    # The aim is for CPU time: the clock also counts the wait for the server.
    raw = compared(
        what, RAW, ((ours, its) for its, ours, *_ in taken), at_most=most if clock == "cpu" else None
    )
    if len(taken[0]) < 3:
        return [raw, absent(what, BESIDE_CLIENT)]
    return [raw, compared(what, BESIDE_CLIENT, ((ours, its) for _, ours, its in taken))]


def rows(directory: Path, rounds: int, peer: Path | None, clock: Clock = "cpu") -> list[Row]:
    """The imports, and a `get` of each kind; whether ids come again matters to who keeps what it has read."""
    body = example()
    if peer is not None and str(peer) not in sys.path:
        sys.path.append(str(peer))  # last: what both need is ours
    said = {"cpu": "CPU", "wall": "clock"}[clock]
    has_peer = peer is not None
    with pinned() as core, running(body, core) as base_url:
        taken = imports([installed(directory)], peer, rounds)
        found = beside(f"SDK: import, {said} ms", taken, 1e-3, MOST_IMPORT, clock)
        for which, ids in (("one call again", repeat(1)), ("other calls", count(1))):
            turns = gets(base_url, body, 12 * rounds, ids, has_peer)
            found += beside(f"SDK: get, {which}, {said} µs", turns, 1e-6, MOST_GET, clock)
            turns = asyncio.run(async_gets(base_url, body, 12 * rounds, ids, has_peer))
            found += beside(f"SDK: async get, {which}, {said} µs", turns, 1e-6, MOST_GET, clock)
    return found


def memory_rows(few: int = FEW, many: int = MANY) -> list[Row]:
    """What the process holds after many calls, beside what it held after few."""
    with pinned() as core, running(example(), core) as base_url:
        held = (memory(base_url, few, many), asyncio.run(async_memory(base_url, few, many)))
    return [
        compared(
            f"SDK: memory after {many:,} {kind}, MiB",
            f"after {few:,}",
            [(after_many / 2**20, after_few / 2**20)],
            at_most=MOST_MEMORY,
        )
        for kind, (after_few, after_many) in zip(("calls", "async calls"), held, strict=True)
    ]


def without_ratio(directory: Path) -> Iterator[str]:
    """What there is nothing beside."""
    with pinned() as core, running(example(), core) as base_url:
        place = [installed(directory)]
        for kind, scripts in (("", SYNC_FIRST_CALLS), (" async", ASYNC_FIRST_CALLS)):
            modules = burst(scripts, place, base_url)
            yield f"imported by the first{kind} call and not by httpx's: {' '.join(modules) or 'nothing'}"
        yield f"with_options: {median(with_options(base_url)) / 1e-6:.1f} µs"


def example() -> bytes:
    """The contract's example of a call."""
    contract = yaml.safe_load(video_calls_spec.openapi_path().read_text(encoding="utf-8"))
    return pydantic_core.to_json(contract["components"]["schemas"]["VideoCall"]["example"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25, help="how often each import is measured")
    parser.add_argument("--clock", action="store_true", help="time by the clock, in place of the CPU's")
    arguments = parser.parse_args()
    with clear_end(), tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        peer = find_client(path, install=True)
        found = rows(path, arguments.rounds, peer, "wall" if arguments.clock else "cpu")
        print(markdown(found + memory_rows()), *without_ratio(path), sep="\n")


if __name__ == "__main__":
    main()
