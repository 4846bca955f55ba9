"""Rules of section 2, Create Video Call, checked when clients create calls.

A request conflicts with an earlier one if its call overlaps the earlier call, or if it has the same
`Idempotency-Key`. But meanwhile, another client may have cancelled the earlier call or reset the data. So a
conflict is a violation only if a later response shows that the earlier call still exists.
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from video_calls_spec import RuleId

from video_calls_contract.checks import PRECISION, require, require_refusal, require_scheduled, require_time
from video_calls_contract.clock import MOST_DIFFERENCE
from video_calls_contract.exceptions import Violation
from video_calls_contract.exchange import Exchange, instant
from video_calls_contract.observers.registry import MOST_FINDINGS
from video_calls_contract.watch.decoding import caller_of, calls_of, header
from video_calls_contract.watch.history import Conflict, History, LastSeen, half_hours
from video_calls_contract.watch.registration import Checks, is_refused

CHECKS = Checks()

_APART = timedelta(minutes=30) - PRECISION
_KEY_LIFETIME = timedelta(hours=1)
"""After this time, a backend may have forgotten an `Idempotency-Key`."""

_OPEN = ("scheduled", "ongoing")
_ANY = (*_OPEN, "completed", "cancelled")


# -- Valid bodies -------------------------------------------------------------------------------------


def _flaws(creation: Exchange) -> Iterator[tuple[RuleId, tuple[int, ...], str]]:
    """Yield the flaws of a request: the rule, the statuses with which to refuse it, and the flaw in words."""
    body = creation.sent_object
    kind = header(creation.request_headers, "content-type") or "json"
    if "json" not in kind.lower():
        yield "errors.media-type", (415, 400), f"a body of {kind}"
    if not body and creation.request_body.strip() != b"{}":
        yield "errors.malformed-json", (400,), "a body that is no JSON object"
    missing = [name for name in ("doctor", "patient", "scheduled_time") if body.get(name) is None]
    if body and missing:
        yield "create.valid-body", (400,), f"a body without {', '.join(missing)}"
    with suppress(ValueError):
        if datetime.fromisoformat(str(body.get("scheduled_time"))).tzinfo is None:
            yield "create.aware-time", (400,), "a time without an offset, which is no instant"


def _check_flaws(rule: RuleId) -> None:
    @CHECKS.of(rule)
    def check(_: History, exchange: Exchange) -> bool | None:
        flaws = _flaws(exchange) if exchange.operation == "createVideoCall" else ()
        return any(
            is_refused(exchange, *statuses, because=why) for slug, statuses, why in flaws if slug == rule
        )


for _rule in ("errors.media-type", "errors.malformed-json", "create.valid-body", "create.aware-time"):
    _check_flaws(_rule)


# -- The new call -------------------------------------------------------------------------------------


@CHECKS.of("create.schedules", "createVideoCall")
def _creation_shows_new_call(_: History, exchange: Exchange) -> bool | None:
    body = exchange.sent_object
    if not {"doctor", "patient"} <= body.keys():
        return False
    # A client may send a numeric id as text: it is the same id.
    ids = [(body[role], exchange.object.get(role)) for role in ("doctor", "patient")]
    require_scheduled(exchange, *(actual if str(actual) == str(own) else own for own, actual in ids))
    return None


@CHECKS.of("model.scheduled-time", "createVideoCall")
def _call_has_time_of_request(history: History, exchange: Exchange) -> bool | None:
    at = instant(exchange.sent_object.get("scheduled_time"))
    if at is None or str(exchange.object.get("id")) in history.last_seen:
        return False
    require_time(exchange, at)
    return None


@CHECKS.of("create.future", "createVideoCall")
def _past_time_is_refused(history: History, exchange: Exchange) -> None:
    at, created = (instant(exchange.object.get(name)) for name in ("scheduled_time", "created_at"))
    now = min(history.clock.possible_times(exchange.sent_at)) - MOST_DIFFERENCE
    if at is not None and created is not None and at < min(created, now):
        require_refusal(exchange, 400, because="a time that has passed")


# -- Conflicts with earlier creations -----------------------------------------------------------------


@CHECKS.of("create.no-overlap")
def _overlap_is_refused(history: History, exchange: Exchange) -> bool | None:
    if exchange.operation != "createVideoCall":
        return _check_conflicts("create.no-overlap", history, exchange)
    call = exchange.object if exchange.succeeded else exchange.sent_object
    overlaps = {
        str(earlier.call["id"]): earlier
        for role, user_id, number in half_hours(call)
        for near in (number - 1, number, number + 1)
        for earlier in history.bookings.get((role, user_id, near), ())
        if earlier.call["id"] != call.get("id")
        and _is_close(earlier, call)
        and _is_later(exchange, earlier.exchange)
    }
    if exchange.succeeded:
        expected = "400 for a second call of a user within 30 minutes, while the first call is open; got 201"
        for earlier in overlaps.values():
            _add("create.no-overlap", history, Conflict(expected, earlier, exchange, _OPEN))
        return False
    last_seen = [history.last_seen.get(call_id) for call_id in overlaps]
    is_open = any(last and last.call.get("status") in _OPEN for last in last_seen)
    return is_open and exchange.status == 400  # noqa: PLR2004 (HTTP)


def _is_close(earlier: LastSeen, call: dict[str, Any]) -> bool:
    one, other = earlier.time("scheduled_time"), instant(call.get("scheduled_time"))
    return one is not None and other is not None and abs(one - other) < _APART


@CHECKS.of("create.idempotency-key")
def _key_creates_one_call(history: History, exchange: Exchange) -> bool | None:
    caller, key = caller_of(exchange), header(exchange.request_headers, "idempotency-key")
    if exchange.operation != "createVideoCall" or not caller or not key:
        return _check_conflicts("create.idempotency-key", history, exchange)
    first, call = history.keys.get((caller, key)), next(calls_of(exchange), None)
    if first is None or not _is_later(exchange, first.exchange):
        if call:
            history.keys.get_or_add((caller, key), history.excerpt(exchange, call))
        return False
    is_other_body = _sent_values(first.exchange) != _sent_values(exchange)
    if call is None:
        return is_other_body and exchange.status == 422  # noqa: PLR2004 (the contract's status)
    expected = "a refusal of the key with another body" if is_other_body else "the first response again"
    if first.call["id"] == call["id"]:
        require(not is_other_body, f"{expected}; got {exchange.status_text}", first.exchange, exchange)
        history.supports_keys = True
        return None
    is_same_body = first.exchange.request_body == exchange.request_body
    is_remembered = exchange.sent_at < first.exchange.received_at + _KEY_LIFETIME
    if history.supports_keys and is_remembered and (is_same_body or is_other_body):
        conflict = Conflict(f"{expected}; got another call", first, exchange, _ANY)
        _add("create.idempotency-key", history, conflict)
    return False


def _sent_values(exchange: Exchange) -> list[object]:
    """Return what a request for a call asks for, whatever the spelling."""
    body = exchange.sent_object
    time = body.get("scheduled_time")
    return [str(body.get("doctor")), str(body.get("patient")), instant(time) or time]


def _is_later(exchange: Exchange, earlier: Exchange) -> bool:
    """Return whether a request was sent after `earlier` ended: only then is their order known."""
    return exchange.sent_at > earlier.received_at


def _add(rule: RuleId, history: History, conflict: Conflict) -> None:
    conflicts = history.conflicts.get_or_add((rule, str(conflict.first.call["id"])), [])
    if len(conflicts) < MOST_FINDINGS:
        conflicts.append(conflict._replace(second=history.shortened(conflict.second, None)))


def _check_conflicts(rule: RuleId, history: History, exchange: Exchange) -> bool:
    """Check that no response after the second request of a conflict shows the call of the first.

    Raises:
        Violation: if a response shows it.
    """
    for call in calls_of(exchange):
        for expected, first, second, statuses in history.conflicts.get((rule, str(call["id"])), ()):
            is_same = call.get("channel_name") == first.call.get("channel_name")  # ids may start again
            is_same &= instant(call.get("scheduled_time")) == first.time("scheduled_time")
            if is_same and call.get("status") in statuses and _is_later(exchange, second):
                raise Violation(expected, first.exchange, second, exchange.about(call["id"]))
    return False
