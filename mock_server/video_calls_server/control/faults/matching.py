"""Which faults act on which requests, how often, and how a body is spoiled. Pure: nothing here does I/O.

`faulty` does to requests what is decided here.
"""

from collections.abc import Iterable, Iterator
from random import Random
from typing import Any, NamedTuple

import msgspec

from video_calls_server.api.ids import ExternalId
from video_calls_server.control.faults.model import EVENTS, Fault, KeptFault, Spoiling


class Asked(NamedTuple):
    """What faults match of a request. `identities` are those that faults are for and that are its user's."""

    operation: str
    call: ExternalId | None
    identities: frozenset[str]


class _Counted:
    """A fault, how often it has acted, and its own chance."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.acted = 0
        self.random = Random(fault.random_seed)  # noqa: S311 (no secret; it is meant to be predictable)

    @property
    def left(self) -> int | None:
        return None if self.fault.times is None else self.fault.times - self.acted

    def acts(self, asked: Asked) -> bool:
        """Whether it acts on this request."""
        if not _concerns(self.fault, asked.operation, asked.call):
            return False
        if self.fault.identity is not None and self.fault.identity not in asked.identities:
            return False
        return self.fault.probability is None or self.random.random() < self.fault.probability


class Acting:
    """The faults that act on one request, in order."""

    def __init__(self, faults: "Faults") -> None:
        self._faults = faults
        self._counted: list[_Counted] = []
        self.answer: Fault | None = None
        """The one that answers, drops or spoils the body, if any."""
        self.seconds_before = 0.0
        """The delay before the request is acted on."""
        self.seconds_after = 0.0
        """The delay before it is answered."""

    def __bool__(self) -> bool:
        return bool(self._counted)

    @property
    def names(self) -> str:
        """Their names, as the header of the answer has them."""
        return ", ".join(counted.fault.label for counted in self._counted)

    def add(self, counted: _Counted) -> None:
        """Let one more act."""
        counted.acted += 1
        self._counted.append(counted)
        fault = counted.fault
        seconds = fault.seconds(counted.random)
        if fault.after:
            self.seconds_after += seconds
        else:
            self.seconds_before += seconds
        if fault.answers:
            self.answer = fault

    def spare(self) -> None:
        """Do not count the last one, which found no body of a success to spoil."""
        self._counted.pop().acted -= 1
        self.answer = None
        self._faults.count()


class Faults:
    """The faults of one namespace, which is true while any may still act.

    `at_start` are those that it begins with, and has again after `reset`.
    """

    def __init__(self, at_start: Iterable[Fault] = ()) -> None:
        self._at_start = tuple(at_start)
        self._kept: dict[int, _Counted] = {}
        self._able: list[_Counted] = []
        self._last_id = 0
        self.reset()

    def reset(self) -> None:
        """Be as at the start."""
        self._last_id = 0
        self.replace(self._at_start)

    def __bool__(self) -> bool:
        return bool(self._able)

    def __iter__(self) -> Iterator[KeptFault]:
        """In the order in which they were added, those that are done with too."""
        return (_kept(fault_id, counted) for fault_id, counted in self._kept.items())

    def add(self, fault: Fault) -> KeptFault:
        """Have one more, after those that are there."""
        self._last_id += 1
        counted = self._kept[self._last_id] = _Counted(fault)
        self.count()
        return _kept(self._last_id, counted)

    def remove(self, fault_id: int) -> bool:
        """Have this one no more; whether it was there."""
        found = self._kept.pop(fault_id, None)
        self.count()
        return found is not None

    def clear(self) -> None:
        """Have none."""
        self._kept = {}
        self.count()

    def replace(self, faults: Iterable[Fault]) -> None:
        """Have these alone."""
        self.clear()
        for fault in faults:
            self.add(fault)

    def remaining(self) -> tuple[Fault, ...]:
        """Those that may still act, as faults that would act as often."""
        return tuple(msgspec.structs.replace(counted.fault, times=counted.left) for counted in self._able)

    def count(self) -> None:
        """Find out which may still act."""
        self._able = [counted for counted in self._kept.values() if counted.left != 0]

    def identities(
        self, operation: str, call: ExternalId | None, also: Iterable[Fault] = ()
    ) -> frozenset[str]:
        """Whose a request would have to be for some fault to act on it."""
        faults = [*also, *(counted.fault for counted in self._able)]
        return frozenset(
            fault.identity
            for fault in faults
            if fault.identity is not None and _concerns(fault, operation, call)
        )

    def act(self, asked: Asked, also: Iterable[Fault] = ()) -> Acting:
        """Which act on this request, counted as having done so: those that came with it, then those kept."""
        acting = Acting(self)
        for counted in (*map(_Counted, also), *self._able):
            if acting.answer is None and counted.acts(asked):
                acting.add(counted)
        self.count()
        return acting


def _concerns(fault: Fault, operation: str, call: ExternalId | None) -> bool:
    if operation == EVENTS and (fault.body or fault.after):
        return False
    return (fault.operation is None or fault.operation == operation) and (
        fault.call is None or fault.call == call
    )


def _kept(fault_id: int, counted: _Counted) -> KeptFault:
    fields = msgspec.structs.asdict(counted.fault)
    fields["name"] = counted.fault.label
    return KeptFault(**fields, id=fault_id, acted=counted.acted, left=counted.left)


def spoiled(body: bytes, how: Spoiling) -> bytes:
    """The JSON body of a success, spoiled; the same for the same body. Of one that is truncated, half.

    `corrupted` is as long as the body and no JSON. The others are JSON that breaks the contract in the first
    field of a call or of credentials, which is a required one; in a page, that of its first call, or its
    `count` where it has none.
    """
    match how:
        case "truncated":
            return body[: len(body) // 2]
        case "corrupted":
            return body[:-1] + (b"}" if body.endswith(b"]") else b"]")
        case _:
            return msgspec.json.encode(_breaking(msgspec.json.decode(body, type=dict[str, Any]), how))


def _breaking(content: dict[str, Any], how: Spoiling) -> dict[str, Any]:
    results = content.get("results")
    target: dict[str, Any] = results[0] if results else content
    field = next(iter(target))
    match how:
        case "missing_field":
            del target[field]
        case "wrong_type":
            target[field] = 0 if isinstance(target[field], str) else "of another type"
        case _:
            target[field] = None
    return content
