"""Decide which faults act on a request, and how a fault changes a body. Pure: no I/O.

The middleware carries out these decisions.
"""

from collections.abc import Iterable, Iterator
from random import Random
from typing import Any, NamedTuple

import msgspec

from video_calls_server.api.ids import ExternalId
from video_calls_server.control.faults.model import EVENTS, BodyFault, Fault, StoredFault


class RequestInfo(NamedTuple):
    """What faults compare with a request. `email` is in lower case, or None if no fault needs it."""

    operation: str
    call: ExternalId | None
    email: str | None


class _Entry:
    """A fault, the number of requests that it has acted on, and its own source of random numbers."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.acted = 0
        self.random = Random(fault.random_seed)  # noqa: S311 (no secret; it is meant to be predictable)

    @property
    def left(self) -> int | None:
        return None if self.fault.times is None else self.fault.times - self.acted

    def acts(self, request: RequestInfo) -> bool:
        if not _matches(self.fault, request.operation, request.call):
            return False
        if self.fault.identity is not None and self.fault.identity.lower() != request.email:
            return False
        return self.fault.probability is None or self.random.random() < self.fault.probability

    def stored(self, fault_id: int) -> StoredFault:
        fields = msgspec.structs.asdict(self.fault)
        fields["name"] = self.fault.label
        return StoredFault(**fields, id=fault_id, acted=self.acted, left=self.left)


class FaultPlan:
    """The faults that act on one request, in order."""

    def __init__(self, faults: "Faults") -> None:
        self._faults = faults
        self._entries: list[_Entry] = []
        self.final: Fault | None = None
        """The fault that responds, drops the connection or changes the body, if any."""
        self.delay_before = 0.0
        """Seconds before the server handles the request."""
        self.delay_after = 0.0
        """Seconds between the handling and the response."""

    def __bool__(self) -> bool:
        return bool(self._entries)

    @property
    def labels(self) -> str:
        """The labels of the faults, as the response's header lists them."""
        return ", ".join(entry.fault.label for entry in self._entries)

    def add(self, entry: _Entry) -> None:
        """Add a fault to the plan, and count that the fault acts once more."""
        entry.acted += 1
        self._entries.append(entry)
        fault = entry.fault
        delay = fault.draw_delay(entry.random)
        if fault.after:
            self.delay_after += delay
        else:
            self.delay_before += delay
        if fault.is_final:
            self.final = fault

    def remove_final(self) -> None:
        """Remove the final fault and its count. Call this if there is no successful body to change."""
        self._entries.pop().acted -= 1
        self.final = None
        self._faults.update_active()


class Faults:
    """The faults of one namespace. The object is true while any fault can still act.

    `at_start` are the faults that the namespace has at its start and after `reset`.
    """

    def __init__(self, at_start: Iterable[Fault] = ()) -> None:
        self._at_start = tuple(at_start)
        self._by_id: dict[int, _Entry] = {}
        self._active: list[_Entry] = []
        self.reset()

    def reset(self) -> None:
        """Restore the faults that the namespace had at its start."""
        self._last_id = 0
        self.replace(self._at_start)

    def __bool__(self) -> bool:
        return bool(self._active)

    def __iter__(self) -> Iterator[StoredFault]:
        """Yield all faults in the order in which they were added, also those that cannot act any more."""
        return (entry.stored(fault_id) for fault_id, entry in self._by_id.items())

    def add(self, fault: Fault) -> StoredFault:
        """Add a fault after the existing ones."""
        self._last_id += 1
        entry = self._by_id[self._last_id] = _Entry(fault)
        self.update_active()
        return entry.stored(self._last_id)

    def remove(self, fault_id: int) -> bool:
        """Remove a fault. Return whether it existed."""
        entry = self._by_id.pop(fault_id, None)
        self.update_active()
        return entry is not None

    def replace(self, faults: Iterable[Fault] = ()) -> None:
        """Replace all faults by these."""
        self._by_id = {}
        self.update_active()
        for fault in faults:
            self.add(fault)

    def remaining(self) -> tuple[Fault, ...]:
        """Return the faults that can still act. Their `times` is the number of requests that remain."""
        return tuple(msgspec.structs.replace(entry.fault, times=entry.left) for entry in self._active)

    def update_active(self) -> None:
        """Recompute which faults can still act."""
        self._active = [entry for entry in self._by_id.values() if entry.left != 0]

    def depend_on_user(self, own: Iterable[Fault] = ()) -> bool:
        """Return whether any fault is for one user only.

        Args:
            own: the faults in the request's header, in addition to those that can still act.
        """
        return any(fault.identity is not None for fault in (*own, *(entry.fault for entry in self._active)))

    def plan(self, request: RequestInfo, own: Iterable[Fault] = ()) -> FaultPlan:
        """Choose and count the faults that act on a request. Those in its header (`own`) come first."""
        plan = FaultPlan(self)
        for entry in (*map(_Entry, own), *self._active):
            if plan.final is None and entry.acts(request):
                plan.add(entry)
        self.update_active()
        return plan


def _matches(fault: Fault, operation: str, call: ExternalId | None) -> bool:
    if operation == EVENTS and (fault.body or fault.after):
        return False
    return (fault.operation is None or fault.operation == operation) and (
        fault.call is None or fault.call == call
    )


def apply_body_fault(body: bytes, body_fault: BodyFault) -> bytes:
    """Return the changed JSON body of a successful response. The same body always changes in the same way.

    `truncated` keeps the first half. `corrupted` keeps the length and makes the JSON invalid. The others keep
    the JSON valid, but change the first field of a call or of credentials, which the contract requires.
    In a page, they change the first field of the first call or, if the page is empty, `count`.
    """
    if body_fault == "truncated":
        return body[: len(body) // 2]
    if body_fault == "corrupted":
        return body[:-1] + (b"}" if body.endswith(b"]") else b"]")
    content = msgspec.json.decode(body, type=dict[str, Any])
    results = content.get("results")
    target: dict[str, Any] = results[0] if results else content
    field = next(iter(target))
    match body_fault:
        case "missing_field":
            del target[field]
        case "wrong_type":
            target[field] = 0 if isinstance(target[field], str) else "of another type"
        case "null":
            target[field] = None
    return msgspec.json.encode(content)
