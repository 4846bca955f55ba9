"""What tests say about exchanges. A check that does not hold raises `Violation`, with its evidence."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from video_calls_spec import RuleId

from video_calls_contract.backend import Person, wire_time
from video_calls_contract.exchange import Exchange, NotJsonError, instant

__all__ = [
    "COARSEST",
    "FIELDS",
    "FORBIDDEN",
    "TIMES",
    "Blocked",
    "NotOffered",
    "OutsidePolicy",
    "Violation",
    "accepted",
    "differences",
    "is_at",
    "is_cancelled",
    "is_completed",
    "is_scheduled",
    "refused",
    "require",
    "same_call",
    "unchanged",
]

FORBIDDEN = (403, 404)
"""What a backend may answer about other people's calls: 404 tells even less than 403."""

FIELDS = (
    "id",
    "channel_name",
    "doctor",
    "patient",
    "doctor_details",
    "patient_details",
    "status",
    "scheduled_time",
    "started_at",
    "ended_at",
    "created_at",
    "updated_at",
)
"""The fields of a call that the document names."""

TIMES = ("scheduled_time", "started_at", "ended_at", "created_at", "updated_at")
"""Those that are times."""

_UPDATED = "updated_at"

COARSEST = timedelta(seconds=1)
"""How coarsely a backend may store a time that it has answered more finely."""


class Violation(AssertionError):
    """The backend did something else than a rule says.

    Attributes:
        expected: what would have kept the rule.
        exchanges: where it shows, the telling one last.
        rule: whose violation it is, where that is not the test's first rule.
    """

    def __init__(self, expected: str, *exchanges: Exchange, rule: RuleId | None = None) -> None:
        super().__init__(expected)
        self.expected = expected
        self.exchanges = exchanges
        self.rule = rule


class Blocked(Exception):
    """A test could not get where its rule begins, for the backend refused what comes before.

    Attributes:
        exchange: the refusal, where it was one.
    """

    def __init__(self, reason: str, exchange: Exchange | None = None) -> None:
        super().__init__(reason)
        self.exchange = exchange


class OutsidePolicy(Blocked):
    """The backend does not book the time that a test needs, and need not."""


class NotOffered(Exception):
    """The backend lacks what it may lack."""


def require(holds: object, expected: str, *exchanges: Exchange, rule: RuleId | None = None) -> None:
    """What is expected, which these exchanges show or do not.

    Raises:
        Violation: they do not.
    """
    if not holds:
        raise Violation(expected, *exchanges, rule=rule)


def accepted(
    exchange: Exchange, status: int = 200, *before: Exchange, because: str = "", rule: RuleId | None = None
) -> dict[str, Any]:
    """The body of a request that has to be answered with this status and a JSON object.

    Raises:
        Violation: it was not.
    """
    if exchange.status != status:
        raise Violation(f"{status}{_reason(because)}; got {exchange.answer}", *before, exchange, rule=rule)
    try:
        body = exchange.json
    except NotJsonError:
        body = None
    if not isinstance(body, dict):
        unread = f"; {exchange.unread}" if exchange.unread else ""
        raise Violation(f"{status} with a JSON object{unread}", *before, exchange, rule=rule)
    return exchange.object


def refused(
    exchange: Exchange,
    *statuses: int,
    before: Iterable[Exchange] = (),
    because: str = "",
    rule: RuleId | None = None,
) -> None:
    """A request that has to be refused with one of these statuses.

    That a refusal has an `error` text is watched over in every exchange of a run.

    Raises:
        Violation: it was not.
    """
    if exchange.status not in statuses:
        wanted = " or ".join(str(status) for status in statuses)
        raise Violation(f"{wanted}{_reason(because)}; got {exchange.answer}", *before, exchange, rule=rule)


def is_scheduled(created: Exchange, doctor: object, patient: object) -> None:
    """Hold an accepted creation to the new call of this doctor and patient.

    Raises:
        Violation: it shows another call.
    """
    expected = {
        "status": "scheduled",
        "doctor": doctor,
        "patient": patient,
        "started_at": None,
        "ended_at": None,
    }
    for name, value in expected.items():
        got = created.object.get(name)
        require(got == value, f"`{name}` {value!r}; got {got!r}", created)


def is_at(created: Exchange, at: datetime, *, rule: RuleId | None = None) -> None:
    """Hold an accepted creation to the time that was asked for.

    Raises:
        Violation: the call has another time.
    """
    value = created.object.get("scheduled_time")
    got = instant(value)
    require(
        got is not None and abs(got - at) < timedelta(seconds=1),
        f"`scheduled_time` to be the instant asked for, {wire_time(at.astimezone(UTC))}; got {value!r}",
        created,
        rule=rule,
    )


def is_completed(ended: Exchange) -> None:
    """Hold an accepted end to what it does.

    Raises:
        Violation: it shows a call that has not ended.
    """
    body = ended.object
    require(body.get("status") == "completed", "the call to be completed", ended)
    require(body.get("ended_at") is not None, "`ended_at` to be set", ended)


def is_cancelled(cancelled: Exchange) -> None:
    """Hold an accepted cancellation to what it does.

    Raises:
        Violation: it shows a call that is not cancelled, or one that has started.
    """
    body = cancelled.object
    require(body.get("status") == "cancelled", "the call to be cancelled", cancelled)
    require(body.get("started_at") is None, "a cancelled call never to have started", cancelled)
    require(body.get("ended_at") is None, "a cancelled call never to have ended", cancelled)


def unchanged(call: dict[str, Any], reader: Person, *evidence: Exchange, rule: RuleId | None = None) -> None:
    """A refused request has left the call as it was read before: read it again, and compare field by field.

    An `updated_at` that has moved is a finding of its own rule, which does not end the test.

    Raises:
        Violation: another field differs.
    """
    again = reader.get(call.get("id"))
    body = accepted(again, 200, *evidence, because="the call is still there", rule=rule)
    changed = differences(call, body, ignoring=(_UPDATED,), coarsest=timedelta(0))
    require(
        not changed, f"a call that a refusal leaves as it is; changed: {changed}", *evidence, again, rule=rule
    )
    _same_updated_at(call, body, reader, *evidence, again, coarsest=timedelta(0))


def same_call(
    one: dict[str, Any], other: dict[str, Any], expected: str, reader: Person, *evidence: Exchange
) -> None:
    """Two answers show a call alike. An `updated_at` that differs is a finding of its own rule.

    Raises:
        Violation: another field differs.
    """
    changed = differences(one, other, ignoring=(_UPDATED,))
    require(not changed, f"{expected}; {changed}", *evidence)
    _same_updated_at(one, other, reader, *evidence)


def _same_updated_at(
    one: dict[str, Any],
    other: dict[str, Any],
    reader: Person,
    *evidence: Exchange,
    coarsest: timedelta = COARSEST,
) -> None:
    if moved := differences(
        {_UPDATED: one.get(_UPDATED)}, {_UPDATED: other.get(_UPDATED)}, coarsest=coarsest
    ):
        expected = f"`updated_at` to stay when the call is only read, or a request is refused; {moved}"
        reader.backend.set_aside("model.updated-at", expected, *evidence)


def differences(
    one: dict[str, Any],
    other: dict[str, Any],
    *,
    ignoring: tuple[str, ...] = (),
    coarsest: timedelta = COARSEST,
) -> str:
    """The document's fields in which two answers about a call differ, as text; empty where none does.

    A backend may answer a change with finer times than it stores: `coarsest` is what they may differ by.
    """
    found: list[str] = []
    for name in FIELDS:
        left, right = one.get(name), other.get(name)
        if name in ignoring or left == right or name.endswith("_details"):
            continue
        if name in TIMES and _about(instant(left), instant(right), coarsest):
            continue
        found.append(f"{name} was {left!r}, is {right!r}")
    return "; ".join(found)


def _about(one: datetime | None, other: datetime | None, coarsest: timedelta) -> bool:
    if one is None or other is None:
        return False
    return one == other or abs(one - other) < coarsest


def _reason(because: str) -> str:
    return f", for {because}" if because else ""
