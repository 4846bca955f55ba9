"""The SQLite store: failures, and that a transaction is atomic."""

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from video_calls_server.store import Store, StoreError, UnavailableError, store_for
from video_calls_server.store.migrate import migrate
from video_calls_server.store.seed import load_seed


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = store_for(str(tmp_path / "calls.db"), load_seed())
    asyncio.run(store.open())
    yield store
    asyncio.run(store.close())


def test_write_is_unavailable_while_file_is_locked(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("video_calls_server.store.sqlite.BUSY_TIMEOUT", 0.05)
    change = "UPDATE users SET full_name = 'changed' WHERE id = 101"
    other = sqlite3.connect(tmp_path / "calls.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnavailableError):
        asyncio.run(store.write(lambda connection: connection.exec_driver_sql(change)))
    other.execute("ROLLBACK")
    other.close()
    asyncio.run(store.write(lambda connection: connection.exec_driver_sql(change)))
    assert "changed" in {user.full_name for user, _, _ in asyncio.run(store.people()).people}


def test_read_runs_while_write_waits_for_lock(store: Store, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "calls.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    finished: list[str] = []

    async def change() -> None:
        statement = "UPDATE users SET full_name = 'changed' WHERE id = 101"
        await store.write(lambda connection: connection.exec_driver_sql(statement))
        finished.append("change")

    async def read() -> None:
        await store.read(lambda connection: connection.dialect.name)
        finished.append("read")
        other.execute("ROLLBACK")

    async def both() -> None:
        await asyncio.gather(change(), read())

    asyncio.run(both())
    other.close()
    assert finished == ["read", "change"]


@pytest.mark.parametrize(
    ("revision", "words"),
    [
        ("9999", "revision 9999, and this server knows 0001; use the newer server"),
        ("0000", "revision 0000, and this server needs 0001; .* video-calls-server migrate"),
    ],
)
def test_file_of_another_schema_version_is_refused(
    store: Store, tmp_path: Path, revision: str, words: str
) -> None:
    asyncio.run(store.close())
    with sqlite3.connect(tmp_path / "calls.db") as other:
        other.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    other.close()
    with pytest.raises(StoreError, match=words):
        asyncio.run(store.open())
    with pytest.raises(StoreError):
        asyncio.run(migrate(store.url, store.name))


def test_seed_is_ignored_if_database_exists(store: Store, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("users: [{id: 7, email: a@example.com, full_name: A}]")
    asyncio.run(store.close())
    again = store_for(str(tmp_path / "calls.db"), load_seed(tmp_path / "other.yaml"))
    asyncio.run(again.open())
    assert len(asyncio.run(again.people()).people) == 8
    asyncio.run(again.close())
