"""The contents of a namespace, and its snapshots: contents that are kept in memory under a name."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from video_calls_server.control.faults.model import Fault
from video_calls_server.control.refusals import ControlRefusal
from video_calls_server.domain.clock import instant
from video_calls_server.store.dump import Dump

MAX_SNAPSHOTS = 100
"""How many snapshots a namespace has at most."""

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
"""The valid names of snapshots and of namespaces."""


@dataclass(frozen=True, slots=True)
class Contents:
    """A copy of a namespace: its rows, its faults, the time of its clock, and whether the clock runs."""

    dump: Dump
    faults: tuple[Fault, ...]
    time: datetime
    running: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Contents under a name; `saved_at` is in real time."""

    name: str
    saved_at: datetime
    contents: Contents


class Snapshots:
    """The snapshots of one namespace."""

    def __init__(self) -> None:
        self._by_name: dict[str, Snapshot] = {}

    def __iter__(self) -> Iterator[Snapshot]:
        """Yield the snapshots, sorted by name."""
        return iter(sorted(self._by_name.values(), key=lambda snapshot: snapshot.name))

    def save(self, name: str, contents: Contents) -> None:
        """Save the contents as a snapshot. It replaces an earlier snapshot with this name.

        Raises:
            ControlRefusal: if the name is invalid, or if there are too many snapshots.
        """
        if not NAME.fullmatch(name):
            text = (
                f"{name[:80]!r} cannot be the name of a snapshot; give 1 to 64 letters, digits, '.', '_', '-'"
            )
            raise ControlRefusal(text, field="name")
        if name not in self._by_name and len(self._by_name) >= MAX_SNAPSHOTS:
            text = f"there are already {MAX_SNAPSHOTS} snapshots; delete those that are no longer needed"
            raise ControlRefusal(text, field="name")
        self._by_name[name] = Snapshot(name, instant(time.time()), contents)

    def get(self, name: str) -> Snapshot | None:
        """Return the snapshot with this name, or None."""
        return self._by_name.get(name)

    def delete(self, name: str) -> bool:
        """Delete a snapshot. Return whether it existed."""
        return self._by_name.pop(name, None) is not None
