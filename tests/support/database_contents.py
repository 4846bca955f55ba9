"""What is in the database of a server: its people, its rows, and the events of its calls."""

import asyncio
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any

from support.postgres import on_postgres

EVENTS_BY_STATUS: dict[str, list[str]] = {
    "cancelled": ["call.cancelled"],
    "completed": [
        "call.started",
        "participant.joined",
        "participant.joined",
        "participant.left",
        "participant.left",
        "call.ended",
    ],
}
"""The types of the events of a call, in order, by its final status."""


def people_yaml(pairs: int) -> str:
    """Return a seed file: users 1 to `pairs` are doctors, and as many users after them are patients."""
    lines = ["users:"]
    for number in range(1, pairs + 1):
        for role, user in (("doctor", number), ("patient", pairs + number)):
            name = f"email: {role}{number}@example.com, full_name: {role} {number}"
            lines.append(f"  - {{id: {user}, {name}, {role}: {{id: {number}}}}}")
    return "\n".join(lines)


def rows_of(database: str, statement: str) -> list[Mapping[str, Any]]:
    """Return the rows of a statement; the database is a path or a URL."""
    if "://" in database:
        return asyncio.run(on_postgres(database, statement))
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(statement)]


def events_of(database: str, calls: Iterable[int] | None = None) -> dict[int, list[str]]:
    """Return, for all calls or only for these, the types of a call's events in the outbox, in order."""
    events = defaultdict(list)
    for row in rows_of(database, "SELECT type, data FROM events ORDER BY id"):
        events[json.loads(row["data"])["call"]["id"]].append(row["type"])
    return {call: types for call, types in events.items() if calls is None or call in set(calls)}
