"""The server on PostgreSQL: it behaves as on SQLite, also if several processes share a database."""

import asyncio
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import httpx
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import IntegrityError
from video_calls_server.api.jwt import make_token
from video_calls_server.store import Store, StoreError, calls, events, schema, store_for
from video_calls_server.store import migrate as migration
from video_calls_server.store import postgres as postgres_store
from video_calls_server.store.database import REVISION, database_url
from video_calls_server.store.migrate import migrate
from video_calls_server.store.pool import PoolLimits
from video_calls_server.store.seed import load_seed
from video_calls_server.store.statement import Statement

from support.api import CALLS, Api
from support.listener import listening
from support.postgres import migrated_by, on_postgres, postgres_server
from support.server_command import assert_one_line_error, run

OF_DATABASE = "pg_stat_activity WHERE datname = current_database()"
COMPLETED_BY_ONE = ["call.started", "participant.joined", "participant.left", "call.ended"]


def fails_to_open(url: str, pool: PoolLimits = PoolLimits()) -> str:  # noqa: B008 (it is immutable)
    """Return the error message of a store that cannot be opened."""
    store = store_for(url, load_seed(), pool)
    with pytest.raises(StoreError) as error:
        asyncio.run(store.open())
    text = str(error.value)
    assert "\n" not in text
    return text


@asynccontextmanager
async def opened(url: str, pool: PoolLimits = PoolLimits()) -> AsyncIterator[Store]:  # noqa: B008 (it is immutable)
    store = store_for(url, load_seed(), pool)
    await store.open()
    yield store
    await store.close()


def execute(url: str, *statements: str) -> list[Any]:
    return asyncio.run(on_postgres(url, *statements))


@contextmanager
def open_transaction(url: str, *statements: str) -> Iterator[Callable[[str], list[Any]]]:
    """Run another transaction until the context ends. Yield a function that runs a statement in it."""
    with anyio.from_thread.start_blocking_portal() as portal:
        import asyncpg

        connection = portal.call(partial(asyncpg.connect, url))
        try:
            for statement in ("BEGIN", *statements):
                portal.call(connection.execute, statement)
            yield partial(portal.call, connection.fetch)
        finally:
            portal.call(connection.close)


def waiting_for_a_lock(url: str) -> int:
    sql = f"SELECT count(*) FROM {OF_DATABASE} AND wait_event_type = 'Lock'"  # noqa: S608
    return int(execute(url, sql)[0][0])


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"timeout: {what}"
        time.sleep(0.02)


# -- Opening -----------------------------------------------------------------------------------------


def test_database_with_tables_of_another_program_is_refused(empty_postgres_url: str) -> None:
    execute(
        empty_postgres_url,
        "CREATE TABLE recipes (id int)",
        "CREATE TABLE alembic_version AS SELECT 'ae1027a6acf'::text AS version_num",
    )
    assert "holds other tables (recipes); give one of this server's own" in fails_to_open(empty_postgres_url)
    with pytest.raises(StoreError, match="holds other tables"):
        migrated_by(empty_postgres_url)
    tables = execute(empty_postgres_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    assert tables[0][0] == 2


@pytest.mark.parametrize(
    "change",
    [
        {"host": "127.0.0.1", "port": 9, "query": {}},
        {"host": "no..where", "query": {}},
        {"username": "nobody_of_this_name"},
    ],
    ids=["port", "host", "user"],
)
def test_unreachable_database_is_named_without_its_password(postgres: str, change: dict[str, Any]) -> None:
    url = make_url(postgres).set(**change | {"password": "the-secret-of-all"})
    address = url.render_as_string(hide_password=False)
    text = fails_to_open(address)
    assert text.startswith("cannot open the database ")
    with pytest.raises(StoreError) as error:
        migrated_by(address)
    assert "\n" not in str(error.value)
    assert "the-secret-of-all" not in f"{text}{error.value}"


def test_store_names_missing_table_at_start(postgres_url: str) -> None:
    execute(postgres_url, "DROP TABLE request_windows")
    assert "lacks the tables request_windows" in fails_to_open(postgres_url)


def test_serve_on_empty_database_names_migrate_command(empty_postgres_url: str, tmp_path: Path) -> None:
    arguments = ("--database", empty_postgres_url)
    assert_one_line_error(run("serve", *arguments, cwd=tmp_path), "is empty", "video-calls-server migrate")
    result = run("migrate", *arguments, cwd=tmp_path)
    assert (result.exit_code, result.stdout) == (0, f"revision none to {REVISION}\n")
    assert run("migrate", *arguments, cwd=tmp_path).stdout == f"revision {REVISION}\n"


def test_missing_asyncpg_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    monkeypatch.delitem(sys.modules, "video_calls_server.store.postgres", raising=False)
    words = r'asyncpg is not installed; .*pip install "video-calls\[server,postgres\]"'
    with pytest.raises(StoreError, match=words):
        store_for("postgresql://somebody@127.0.0.1/calls", load_seed())
    with pytest.raises(StoreError, match=words):
        migrated_by("postgresql://somebody@127.0.0.1/calls")


def test_url_accepts_options_of_driver(postgres_url: str) -> None:
    joint = "&" if "?" in postgres_url else "?"

    async def work() -> None:
        async with opened(f"{postgres_url}{joint}sslmode=disable") as store:
            assert len((await store.people()).people) == 8

    asyncio.run(work())


def test_concurrent_starts_add_seed_once(postgres_url: str) -> None:
    stores = [store_for(postgres_url, load_seed()) for _ in range(4)]

    async def work() -> None:
        await asyncio.gather(*(store.open() for store in stores))
        for store in stores:
            assert await store.people() == load_seed()
            await store.close()

    asyncio.run(work())


# -- Migrations --------------------------------------------------------------------------------------


def test_revision_equals_last_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migration.__file__).with_name("migrations")))
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


def test_migrated_file_can_be_opened(tmp_path: Path) -> None:
    path = str(tmp_path / "calls.db")
    assert migrated_by(path) == (None, REVISION)
    assert migrated_by(path) == (REVISION, REVISION)

    async def work() -> None:
        async with opened(path) as store:
            assert await store.people() == load_seed()

    asyncio.run(work())


def test_migration_of_non_database_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, but somebody's notes\n" * 100)
    with pytest.raises(StoreError, match="cannot change the database"):
        migrated_by(str(tmp_path / "notes.txt"))


def test_migration_of_tables_without_revision_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "other.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE calls (id); CREATE TABLE alembic_version (version_num)")
    with pytest.raises(StoreError, match="calls"):
        migrated_by(path)


def test_failed_migration_of_file_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "calls.db")
    with monkeypatch.context() as broken:
        broken.setattr(schema.revisions, "insert", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            migrated_by(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    assert migrated_by(path) == (None, REVISION)


def test_concurrent_migrations_run_once(empty_postgres_url: str) -> None:
    async def work() -> list[tuple[str | None, str]]:
        url = database_url(empty_postgres_url)
        return await asyncio.gather(*(migrate(url, "the database") for _ in range(4)))

    assert Counter(asyncio.run(work())) == {(None, REVISION): 1, (REVISION, REVISION): 3}
    assert migrated_by(empty_postgres_url) == (REVISION, REVISION)


# -- One application ---------------------------------------------------------------------------------


@pytest.fixture
def on_pg(postgres_url: str, make_api: Callable[..., Api]) -> Api:
    return make_api(database=postgres_url)


def test_ids_beyond_database_range_are_unknown(on_pg: Api) -> None:
    users: list[Any] = [2**31, 2**63, 2**70, -(2**70), "nobody@example.com", "a\0b@example.com"]
    for user in users:
        token = make_token(on_pg.settings, user, expires_in=60)
        answer = on_pg.client.get(CALLS, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401, user
    for identity in ("9" * 18, "9" * 19, "a%00b@example.com"):
        for path in ("calls", "requests"):
            assert on_pg.control("GET", f"/{path}?identity={identity}").status_code == 404, identity
    body = {"doctor": 2**63, "patient": 2**70, "scheduled_time": "2024-01-06T08:00:00Z"}
    assert on_pg.post("doctor", CALLS, json=body).status_code == 400


def test_unexpected_integrity_error_is_raised(postgres_url: str) -> None:
    async def work() -> None:
        async with opened(postgres_url) as store:
            with pytest.raises(IntegrityError):
                await store.write(
                    lambda connection: connection.exec_driver_sql("INSERT INTO patients VALUES (9, 999)")
                )
            assert await store.people() == load_seed()

    asyncio.run(work())


def test_state_moves_from_postgresql_to_sqlite(on_pg: Api, make_api: Callable[..., Api]) -> None:
    assert on_pg.create(headers={"Idempotency-Key": "once"}).status_code == 201
    on_pg.create(minutes=300)
    for status in ("completed", "cancelled"):
        on_pg.clock.advance(hours=2)
        on_pg.call(status)
    state = on_pg.manage("GET", "/state")
    on_sqlite = make_api()
    on_sqlite.manage("PUT", "/state", state)
    assert on_sqlite.manage("GET", "/state") == state
    on_pg.manage("PUT", "/snapshots/before")
    on_pg.manage("POST", "/state/reset")
    assert on_pg.manage("GET", "/state")["calls"] == []
    on_pg.manage("POST", "/snapshots/before/restore")
    assert on_pg.manage("GET", "/state") == state
    assert on_pg.create(minutes=600).json()["id"] == 5


# -- Two applications on one database ----------------------------------------------------------------


@pytest.fixture
def both(postgres_url: str, make_api: Callable[..., Api]) -> list[Api]:
    return [make_api(database=postgres_url, lock_timeout=10.0) for _ in range(2)]


def send_concurrently(requests: list[Callable[[], httpx.Response]]) -> list[httpx.Response]:
    """Send requests that begin at the same time, and return the responses."""
    barrier = threading.Barrier(len(requests))

    def one(request: Callable[[], httpx.Response]) -> httpx.Response:
        barrier.wait()
        return request()

    with ThreadPoolExecutor(len(requests)) as threads:
        return list(threads.map(one, requests))


def event_types(api: Api, call_id: int) -> list[str]:
    """Return the types of the events of a call."""
    sql = f"SELECT type FROM events WHERE data::json->'call'->>'id' = '{call_id}' ORDER BY id"  # noqa: S608 (it is ours)
    return [row[0] for row in execute(api.settings.database, sql)]


def by_code(answers: list[httpx.Response]) -> Counter[object]:
    return Counter(answer.json()["code"] if answer.is_error else answer.status_code for answer in answers)


def test_database_refuses_overlap_that_rule_misses(both: list[Api], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "neighbours", lambda *_: [])
    answers = send_concurrently([partial(api.create, minutes=60) for api in both * 4])
    assert by_code(answers) == {201: 1, "create.no-overlap": 7}
    assert both[0].create("patient", minutes=60, doctor=2).json()["code"] == "create.no-overlap"
    assert both[0].create("doctor", minutes=89, patient=2).json()["code"] == "create.no-overlap"
    assert both[0].create(minutes=90).status_code == 201
    assert both[0].create("other_doctor", minutes=60, doctor=2, patient=2).status_code == 201


def test_two_applications_share_the_rate_limit(postgres_url: str, make_api: Callable[..., Api]) -> None:
    both = [make_api(database=postgres_url, rate_limit="5/day", lock_timeout=10.0) for _ in range(2)]
    answers = send_concurrently([partial(api.get, "doctor") for api in both * 5])
    assert Counter(answer.status_code for answer in answers) == {200: 5, 429: 5}


# -- Events ------------------------------------------------------------------------------------------


def test_events_of_another_application_arrive_in_order(both: list[Api]) -> None:
    first, second = both
    with listening(first, "patient") as session:
        for _ in range(3):
            second.call("completed")
        events = [session.next() for _ in range(12)]
    ids = [int(event["id"]) for event in events]
    assert ids == sorted(ids)
    assert [event["type"] for event in events] == 3 * COMPLETED_BY_ONE


def test_event_waits_for_uncommitted_earlier_event(
    both: list[Api], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = both
    one = first.create(minutes=10).json()["id"]
    two = first.create("other_doctor", minutes=40, doctor=2).json()["id"]
    first.clock.advance(minutes=30)
    add_event, calls_of_it = events.add_event, []

    def add_and_wait(connection: Connection, *arguments: Any, **options: Any) -> None:
        add_event(connection, *arguments, **options)
        calls_of_it.append(1)
        if len(calls_of_it) == 1:  # the event has an id and is not committed
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(42)")

    monkeypatch.setattr(events, "add_event", add_and_wait)
    with (
        ThreadPoolExecutor() as threads,
        listening(first, "patient") as session,
        open_transaction(postgres_url, "SELECT pg_advisory_xact_lock(42)") as fetch,
    ):
        earlier = threads.submit(first.act, "doctor", one, "join")
        wait_until(lambda: waiting_for_a_lock(postgres_url) == 1, "the earlier one waits")
        later = threads.submit(second.act, "other_doctor", two, "join")
        wait_until(lambda: later.done() or waiting_for_a_lock(postgres_url) == 2, "the later one waits too")
        fetch("COMMIT")
        assert (earlier.result().status_code, later.result().status_code) == (200, 200)
        received = [session.next() for _ in range(4)]
    assert [event["data"]["call"]["id"] for event in received] == [one, one, two, two]
    ids = [int(event["id"]) for event in received]
    assert ids == sorted(ids)


def test_listener_reconnects_without_losing_events(both: list[Api], postgres_url: str) -> None:
    first, second = both
    terminate = f"SELECT count(pg_terminate_backend(pid)) FROM {OF_DATABASE} AND query LIKE 'LISTEN%'"  # noqa: S608
    listeners = terminate.replace("pg_terminate_backend(pid)", "*")
    with listening(first, "patient") as session:
        for number in range(1, 3):
            assert execute(postgres_url, terminate)[0][0] == 2
            second.call("completed")  # while no listener is connected
            assert session.types(4) == COMPLETED_BY_ONE
            wait_until(lambda: execute(postgres_url, listeners)[0][0] == 2, f"listening again, {number}")


def test_listener_pings_its_connection(
    postgres_url: str, make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "PING_INTERVAL", 0.01)
    make_api(database=postgres_url)
    pings = f"SELECT count(*) FROM {OF_DATABASE} AND query = 'SELECT 1'"  # noqa: S608
    wait_until(lambda: execute(postgres_url, pings)[0][0], "ping")


# -- Failures ----------------------------------------------------------------------------------------


def test_transaction_is_retried_after_conflict(postgres_url: str) -> None:
    states = ["40001", "40P01", "23505", "23P01"]
    attempts: Counter[str] = Counter()

    def fail_at_first(kind: str, states: list[str], connection: Connection) -> str:
        attempts[kind] += 1
        if kind == "write":
            connection.exec_driver_sql("UPDATE users SET full_name = full_name || '!'")
        for state in states[attempts[kind] - 1 : attempts[kind]]:
            connection.exec_driver_sql(f"DO $$ BEGIN RAISE SQLSTATE '{state}'; END $$")
        return "done"

    async def work() -> None:
        async with opened(postgres_url) as store:
            assert await store.read(partial(fail_at_first, "read", states[:1])) == "done"
            assert await store.write(partial(fail_at_first, "write", states)) == "done"
            names = {user.full_name for user, _, _ in (await store.people()).people}
            assert all(name.count("!") == 1 for name in names)

    asyncio.run(work())
    assert attempts == {"read": 2, "write": len(states) + 1}


@pytest.mark.parametrize("option", ["statement_timeout", "lock_timeout"])
def test_request_gets_503_after_statement_or_lock_timeout(
    both: list[Api], postgres_url: str, make_api: Callable[..., Api], option: str
) -> None:
    other, _ = both
    api = make_api(database=postgres_url, **{"lock_timeout": 20.0, option: 0.2})
    call_id = other.create(minutes=10).json()["id"]
    with open_transaction(postgres_url, "SELECT 1 FROM calls FOR UPDATE"):
        answer = api.act("doctor", call_id, "join")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert other.get("doctor", f"{CALLS}{call_id}/").json()["status"] == "scheduled"
    assert other.act("doctor", call_id, "join").status_code == 200
    assert event_types(api, call_id) == ["call.started", "participant.joined"]


def test_cancelled_write_is_rolled_back(postgres_url: str) -> None:
    def work(connection: Connection) -> None:
        Statement(text("UPDATE users SET full_name = 'changed'")).run(connection)
        Statement(text("SELECT pg_sleep(60)")).run(connection)

    def sleeps() -> int:
        sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        return int(execute(postgres_url, sql)[0][0])

    async def cancelled() -> None:
        async with opened(postgres_url, PoolLimits(size=1)) as store:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(store.write, work)
                await anyio.to_thread.run_sync(wait_until, sleeps, "the work sleeps")
                tasks.cancel_scope.cancel()
            assert await store.people() == load_seed()

    asyncio.run(cancelled())


def test_write_cancelled_at_begin_leaves_no_transaction(postgres_url: str) -> None:
    idle = f"SELECT FROM {OF_DATABASE} AND state = 'idle in transaction'"

    async def cancelled() -> None:
        async with opened(postgres_url, PoolLimits(size=1)) as store:
            for turns in range(1, 12):  # turns of the event loop; for some of these numbers, BEGIN is running
                change = asyncio.create_task(store.write(calls.count_all_calls))
                for _ in range(turns):
                    await asyncio.sleep(0)
                change.cancel()
                await asyncio.wait([change])
                assert await on_postgres(postgres_url, idle) == [], turns

    asyncio.run(cancelled())


def test_request_succeeds_after_table_change(postgres_url: str, make_api: Callable[..., Api]) -> None:
    api = make_api(database=postgres_url, pool_size=1)
    api.call("cancelled")
    execute(postgres_url, "ALTER TABLE users ALTER COLUMN full_name TYPE varchar(300)")
    api.call("cancelled")


def test_request_gets_503_if_pool_is_exhausted(postgres_url: str, make_api: Callable[..., Api]) -> None:
    api = make_api(database=postgres_url, pool_size=1, pool_wait=0.3)
    call_id = api.create(minutes=10).json()["id"]
    with (
        ThreadPoolExecutor() as threads,
        open_transaction(postgres_url, "SELECT 1 FROM calls FOR UPDATE"),
    ):
        joins = threads.submit(api.act, "doctor", call_id, "join")
        wait_until(lambda: waiting_for_a_lock(postgres_url), "the join waits")
        assert api.get("doctor").status_code == 503
    assert joins.result().status_code == 200


def test_lost_connections_are_replaced(postgres_url: str, make_api: Callable[..., Api]) -> None:
    api = make_api(database=postgres_url)
    terminate = f"SELECT count(pg_terminate_backend(pid)) FROM {OF_DATABASE} AND pid <> pg_backend_pid()"  # noqa: S608
    for number in range(1, 4):
        send_concurrently([partial(api.get, "doctor")] * 8)  # opens several connections
        assert execute(postgres_url, terminate)[0][0] > 1
        assert [api.get("doctor").status_code for _ in range(8)] == [200] * 8
        assert api.create(minutes=60 * number).status_code == 201


def test_requests_get_503_until_stopped_database_restarts(make_api: Callable[..., Api]) -> None:
    # Other runs of pytest delete its own temporary directories.
    with TemporaryDirectory() as directory, postgres_server(Path(directory) / "data") as server:
        url = server.get_uri()
        migrated_by(url)
        api = make_api(database=url, pool_wait=0.5)
        call_id = api.create(minutes=10).json()["id"]
        server.stop()
        for answer in (api.get("doctor"), api.act("doctor", call_id, "join"), api.create(minutes=90)):
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert int(answer.headers["retry-after"]) > 0
        server.ensure_postgres_running()
        wait_until(lambda: api.get("doctor").status_code == 200, "served again")
        assert api.get("doctor").json()["count"] == 1
        with listening(api, "patient") as session:
            assert api.act("doctor", call_id, "join").status_code == 200
            assert session.types(1) == ["call.started"]
