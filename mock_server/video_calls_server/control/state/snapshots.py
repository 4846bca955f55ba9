"""What a namespace was at a moment, and the moments that are kept under a name, in memory."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from video_calls_server.control.faults.model import Fault
from video_calls_server.control.refusals import ControlRefusal
from video_calls_server.domain.clock import instant
from video_calls_server.store.dump import Dump

MOST = 100
"""How many snapshots a namespace has at most."""

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
"""The names that snapshots, and namespaces, can have."""


@dataclass(frozen=True, slots=True)
class Contents:
    """All that a namespace holds at one time: its rows, its faults, what its clock shows, whether it runs."""

    dump: Dump
    faults: tuple[Fault, ...]
    time: datetime
    running: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A moment that is kept; `saved_at` is in real time."""

    name: str
    saved_at: datetime
    moment: Contents


class Snapshots:
    """The snapshots of one namespace."""

    def __init__(self) -> None:
        self._kept: dict[str, Snapshot] = {}

    def __iter__(self) -> Iterator[Snapshot]:
        """By name."""
        return iter(sorted(self._kept.values(), key=lambda snapshot: snapshot.name))

    def keep(self, name: str, moment: Contents) -> None:
        """Keep a moment, in place of what was kept under this name.

        Raises:
            ControlRefusal: if it cannot be a name, or there are too many already.
        """
        if not NAME.fullmatch(name):
            text = (
                f"{name[:80]!r} cannot be the name of a snapshot; give 1 to 64 letters, digits, '.', '_', '-'"
            )
            raise ControlRefusal(text, field="name")
        if name not in self._kept and len(self._kept) >= MOST:
            text = f"there are {MOST} snapshots already; delete those that are done with"
            raise ControlRefusal(text, field="name")
        self._kept[name] = Snapshot(name, instant(time.time()), moment)

    def get(self, name: str) -> Snapshot | None:
        """What is kept under this name."""
        return self._kept.get(name)

    def delete(self, name: str) -> bool:
        """Keep it no more; whether it was there."""
        return self._kept.pop(name, None) is not None
