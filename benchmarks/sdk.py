"""The SDK, raw httpx and a generated client: the CPU time of an import and of a `get`."""

import asyncio
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from importlib import import_module, metadata
from itertools import count, repeat
from pathlib import Path
from typing import Any

import httpx
import video_calls_sdk
import video_calls_spec
import yaml
from load import API, BARE, pinned, running
from peers import GENERATED_CLIENT, PACKAGE
from table import BenchmarkError, Row, absent, compared
from video_calls_sdk import AsyncVideoCallsClient, VideoCall, VideoCallsClient

TOKEN = "header.payload.signature"  # noqa: S105 (the server here checks nothing)
BATCH = 10  # calls of one client in a turn
MOST_IMPORT, MOST_GET = 1.15, 1.10  # the ratios that the SDK aims at
RAW = "raw httpx"

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

Turn = list[float]
"""CPU seconds of raw httpx, the SDK and, if it is present, the generated client."""


# -- Imports ----------------------------------------------------------------------------------------


def installed(within: Path) -> Path:
    """Return a directory with links to what `pip install video-calls` installs, and nothing else.

    httpx imports its command line if its packages are installed, and pydantic searches all installed packages
    for plugins. So with more packages, the baseline would be slower than for a user.
    """
    directory = within / "installed"
    directory.mkdir()
    for package in (video_calls_sdk, video_calls_spec):  # an editable installation has no files of them
        source = Path(str(package.__file__)).parent
        (directory / source.name).symlink_to(source)
    names, visited = ["video-calls"], set[str]()
    while names:
        try:
            distribution = metadata.distribution(names.pop())
        except metadata.PackageNotFoundError:  # required on another platform
            continue
        if distribution.name in visited:
            continue
        visited.add(distribution.name)
        requirements = [each for each in distribution.requires or [] if "extra ==" not in each]
        names += [re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in requirements]
        for top in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            if not (directory / top).exists():
                (directory / top).symlink_to(Path(str(distribution.locate_file(top))))
    return directory


def fresh(script: str, path: list[Path]) -> float:
    """Return the CPU seconds of a script in its own interpreter; the first run writes the bytecode."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, path))}
    environment |= {"PYTHONPYCACHEPREFIX": str(path[0] / ".bytecode")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-S", "-c", script], env=environment, check=True, timeout=30)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def imports(installed: Path, peer: Path | None, rounds: int) -> list[Turn]:
    """Return the cost of the imports, round by round."""
    paths = [[installed], [installed], *([[installed, peer]] if peer else [])]
    scripts = list(zip(IMPORTS, paths, strict=False))
    return [[fresh(script, path) for script, path in scripts] for _ in range(rounds + 1)][1:]


# -- Calls ------------------------------------------------------------------------------------------


async def batch(call: Callable[[], Any], expected: object, *, is_async: bool) -> float:
    """Send a batch of calls, one after the other; return the CPU seconds of one call."""
    answer = None
    started = time.process_time()
    for _ in range(BATCH):
        answer = await call() if is_async else call()
    cost = (time.process_time() - started) / BATCH
    if answer != expected:
        raise BenchmarkError(f"expected {expected!r}, got {answer!r}")
    return cost


async def gets(
    base_url: str, example: dict[str, Any], rounds: int, ids: Iterator[int], *, peer: bool
) -> tuple[list[Turn], list[Turn]]:
    """Return the cost of a `get` of each synchronous and each asynchronous client, on open connections."""
    answer = VideoCall.model_validate_json(json.dumps(example))
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with AsyncExitStack() as stack:
        raw = stack.enter_context(httpx.Client(headers=headers))
        client = stack.enter_context(VideoCallsClient(base_url, token=TOKEN))
        async_raw = await stack.enter_async_context(httpx.AsyncClient(headers=headers))
        async_client = await stack.enter_async_context(AsyncVideoCallsClient(base_url, token=TOKEN))

        async def async_get() -> object:
            return (await async_raw.get(f"{base_url}/video-calls/{next(ids)}/")).json()

        blocking: list[tuple[Callable[[], Any], object]] = [
            (lambda: raw.get(f"{base_url}/video-calls/{next(ids)}/").json(), example),
            (lambda: client.calls.get(next(ids)), answer),
        ]
        awaited: list[tuple[Callable[[], Any], object]] = [
            (async_get, example),
            (lambda: async_client.calls.get(next(ids)), answer),
        ]
        if peer:
            theirs, operation, its_answer = generated(base_url, example)
            blocking.append((lambda: operation.sync(next(ids), client=theirs), its_answer))
            awaited.append((lambda: operation.asyncio(next(ids), client=theirs), its_answer))
        measured = [
            [[await batch(*call, is_async=calls is awaited) for call in calls] for _ in range(rounds + 1)]
            for calls in (blocking, awaited)
        ]
    return measured[0][1:], measured[1][1:]  # the first round has opened the connections


def generated(base_url: str, example: dict[str, Any]) -> tuple[Any, Any, object]:
    """Return the generated client, its operation that gets a call, and the result that is expected."""
    client = import_module(PACKAGE).AuthenticatedClient(base_url, TOKEN, raise_on_unexpected_status=True)
    operation = import_module(f"{PACKAGE}.api.video_calls.get_video_call")
    return client, operation, import_module(f"{PACKAGE}.models").VideoCall.from_dict(example)


# -- The table --------------------------------------------------------------------------------------


def both_baselines(what: str, turns: list[Turn], unit: float, most: float) -> list[Row]:
    """Return the rows that compare the SDK with raw httpx and with the generated client."""
    costs = [[cost / unit for cost in turn] for turn in turns]
    raw = compared(what, RAW, ((ours, its) for its, ours, *_ in costs), at_most=most)
    if len(costs[0]) < 3:
        return [raw, absent(what, GENERATED_CLIENT)]
    return [raw, compared(what, GENERATED_CLIENT, ((ours, its) for _, ours, its in costs))]


def rows(directory: Path, rounds: int, peer: Path | None) -> list[Row]:
    """Return the rows of the imports, and the rows of a `get` of one id and of changing ids."""
    contract = yaml.safe_load(video_calls_spec.openapi_path().read_text(encoding="utf-8"))
    example = contract["components"]["schemas"]["VideoCall"]["example"]
    answers = directory / "answers.json"
    answers.write_text(json.dumps({"one": example, "list": {}}), encoding="utf-8")
    if peer is not None:
        sys.path.append(str(peer))  # last, so that shared dependencies are ours
    with pinned() as core, running(BARE, core=core, answers=answers) as server:
        base_url = f"{server.url}{API}"
        costs = imports(installed(directory), peer, rounds)
        measured = both_baselines("SDK: import, CPU ms", costs, 1e-3, MOST_IMPORT)
        for which, ids in (("one call again", repeat(1)), ("other calls", count(1))):
            turns = asyncio.run(gets(base_url, example, 12 * rounds, ids, peer=peer is not None))
            for kind, its_turns in zip(("get", "async get"), turns, strict=True):
                measured += both_baselines(f"SDK: {kind}, {which}, CPU µs", its_turns, 1e-6, MOST_GET)
    return measured
