"""Checks of exchanges, for tests: each raises `Violation` with the exchanges as evidence.

The text of a violation completes "expected ...": what a correct backend does, and what this one did.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from video_calls_spec import RuleId

from video_calls_contract.created_calls import Call
from video_calls_contract.exceptions import Violation
from video_calls_contract.exchange import Exchange, NotJsonError, instant
from video_calls_contract.users import User, wire_time

FORBIDDEN = (403, 404)
"""The statuses that refuse an outsider: 404 reveals even less than 403."""

TIMES = ("scheduled_time", "started_at", "ended_at", "created_at", "updated_at")
"""The fields of a call that are times."""

PRECISION = timedelta(seconds=1)
"""A backend may store whole seconds, although its first response was more precise."""

_FIELDS = ("id", "channel_name", "doctor", "patient", "status", *TIMES)
_UPDATED = "updated_at"


def require(holds: object, expected: str, *exchanges: Exchange, rule: RuleId | None = None) -> None:
    """Check a condition."""
    if not holds:
        raise Violation(expected, *exchanges, rule=rule)


def require_success(
    exchange: Exchange, status: int = 200, *before: Exchange, because: str = "", rule: RuleId | None = None
) -> dict[str, Any]:
    """Check that a response has this status and a JSON object, and return the object.

    Args:
        because: the request in words, for the message.
    """
    if exchange.status != status:
        raise Violation(
            f"{status}{_reason(because)}; got {exchange.status_text}", *before, exchange, rule=rule
        )
    try:
        body = exchange.json
    except NotJsonError:
        body = None
    if not isinstance(body, dict):
        unread = f"; {exchange.unread}" if exchange.unread else ""
        raise Violation(f"{status} with a JSON object{unread}", *before, exchange, rule=rule)
    return exchange.object


def require_refusal(
    exchange: Exchange,
    *statuses: int,
    before: Iterable[Exchange] = (),
    because: str = "",
    rule: RuleId | None = None,
) -> None:
    """Check that a response has one of these statuses. An observer checks its `error` text.

    Args:
        because: the request in words, for the message.
    """
    if exchange.status not in statuses:
        allowed = " or ".join(str(status) for status in statuses)
        raise Violation(
            f"{allowed}{_reason(because)}; got {exchange.status_text}", *before, exchange, rule=rule
        )


def require_any_refusal(exchange: Exchange, request: str, *before: Exchange) -> None:
    """Check that a response has a status from 400 to 499.

    Args:
        request: the request in words, for the message.
    """
    is_refusal = 400 <= exchange.status < 500  # noqa: PLR2004 (HTTP)
    require(is_refusal, f"{request} to be refused; got {exchange.status_text}", *before, exchange)


def _reason(because: str) -> str:
    return f", for {because}" if because else ""


def require_scheduled(created: Exchange, doctor: object, patient: object) -> None:
    """Check that the response to a create request shows a new call of this doctor and patient."""
    fields = {
        "status": "scheduled",
        "doctor": doctor,
        "patient": patient,
        "started_at": None,
        "ended_at": None,
    }
    for name, value in fields.items():
        actual = created.object.get(name)
        require(actual == value, f"`{name}` to be {value!r}; got {actual!r}", created)


def require_time(created: Exchange, at: datetime, *, rule: RuleId | None = None) -> None:
    """Check that the response to a create request shows a call at this time."""
    value = created.object.get("scheduled_time")
    actual = instant(value)
    require(
        actual is not None and abs(actual - at) < timedelta(seconds=1),
        f"`scheduled_time` to be the instant of the request, {wire_time(at.astimezone(UTC))}; got {value!r}",
        created,
        rule=rule,
    )


def require_completed(ended: Exchange) -> None:
    """Check that the response to an end request shows a completed call."""
    body = ended.object
    status = body.get("status")
    require(status == "completed", f"`status` to be 'completed'; got {status!r}", ended)
    require(body.get("ended_at") is not None, "`ended_at` to be a time; got None", ended)


def require_cancelled(cancelled: Exchange) -> None:
    """Check that the response to a cancel request shows a cancelled call that never started."""
    for name, expected in (("status", "cancelled"), ("started_at", None), ("ended_at", None)):
        actual = cancelled.object.get(name)
        require(actual == expected, f"`{name}` to be {expected!r}; got {actual!r}", cancelled)


def require_unchanged(
    call: dict[str, Any], reader: User, *evidence: Exchange, rule: RuleId | None = None
) -> None:
    """Read a call again, and check that it is the same as before a refused request.

    A changed `updated_at` breaks another rule: it is recorded, and the test continues.
    """
    again = reader.get(call.get("id"))
    body = require_success(again, 200, *evidence, because="the call, which still exists", rule=rule)
    changes = differences(call, body, ignoring=(_UPDATED,), precision=timedelta(0))
    require(
        not changes, f"a refused request to leave the call unchanged; {changes}", *evidence, again, rule=rule
    )
    _check_updated_at(call, body, reader, *evidence, again, precision=timedelta(0))


def require_same_call(
    one: dict[str, Any], other: dict[str, Any], expected: str, reader: User, *evidence: Exchange
) -> None:
    """Check that two responses show the same state of a call.

    A changed `updated_at` breaks another rule: it is recorded, and the test continues.
    """
    changes = differences(one, other, ignoring=(_UPDATED,))
    require(not changes, f"{expected}; {changes}", *evidence)
    _check_updated_at(one, other, reader, *evidence)


def _check_updated_at(
    one: dict[str, Any],
    other: dict[str, Any],
    reader: User,
    *evidence: Exchange,
    precision: timedelta = PRECISION,
) -> None:
    values = ({_UPDATED: call.get(_UPDATED)} for call in (one, other))
    if changes := differences(*values, precision=precision):
        expected = f"`updated_at` to stay when a call is only read, or a request is refused; {changes}"
        reader.backend.add_finding("model.updated-at", expected, *evidence)


def differences(
    one: dict[str, Any],
    other: dict[str, Any],
    *,
    ignoring: tuple[str, ...] = (),
    precision: timedelta = PRECISION,
) -> str:
    """Return which documented fields of a call differ in two responses; empty if none does.

    Args:
        precision: times that differ by less count as equal.
    """
    changes: list[str] = []
    for name in _FIELDS:
        left, right = one.get(name), other.get(name)
        if name in ignoring or left == right:
            continue
        if name in TIMES and _is_close(instant(left), instant(right), precision):
            continue
        changes.append(f"{name} was {left!r}, is {right!r}")
    return "; ".join(changes)


def _is_close(one: datetime | None, other: datetime | None, precision: timedelta) -> bool:
    if one is None or other is None:
        return False
    return one == other or abs(one - other) < precision


def require_outsiders_refused(action: str, call: Call) -> None:
    """Check that outsiders cannot do this action of `User.act`, and that their attempts change nothing.

    Raises:
        Missing: if the configuration has no such user.
        Violation: if one of them succeeds.
    """
    before = call.read()
    for outsider in call.pair.outsiders:
        exchange = outsider.act(action, call.id)
        require_refusal(exchange, *FORBIDDEN, because=f"the {outsider.name}, who is not in this call")
        require_unchanged(before, call.doctor, exchange)


def require_refused_by_status(action: str, call: Call) -> None:
    """Check that the call's status forbids this action of `User.act` to both participants."""
    before = call.read()
    because = f"{action} of a call that is {before.get('status')}"
    for user in call.participants:
        exchange = user.act(action, call.id)
        require_refusal(exchange, 400, before=call.steps, because=because)
        require_unchanged(before, call.doctor, exchange)
