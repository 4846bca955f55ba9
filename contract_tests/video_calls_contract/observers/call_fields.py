"""The VideoCall model: the fields of a call, and which of them must not change."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from video_calls_contract.checks import PRECISION, TIMES
from video_calls_contract.exchange import Exchange, as_object, instant
from video_calls_contract.ids import is_id
from video_calls_contract.observers.registry import (
    LENIENCE,
    CallCheck,
    Finding,
    FirstSeen,
    Observer,
    Observers,
    Verdict,
    observes,
    of_each_call,
)
from video_calls_contract.schema import problems

STATUSES = ("scheduled", "ongoing", "completed", "cancelled")

_IDS = (("id",), ("doctor",), ("patient",), ("doctor_details", "id"), ("patient_details", "id"))
"""The paths of ids in a call."""


def _ids(exchange: Exchange) -> Iterator[tuple[str, object]]:
    """Yield the ids of every call in an exchange, each with the name of its field."""
    for call in exchange.calls:
        for role, *field in _IDS:
            value = as_object(call.get(role)).get(field[0]) if field else call.get(role)
            if isinstance(value, int | str) and not isinstance(value, bool):
                yield ".".join((role, *field)), value


@observes("model.schema")
def schema(observers: Observers, exchange: Exchange) -> Verdict:
    """Check the status, media type and body of a success."""
    if not exchange.operation or not exchange.succeeded:
        return None
    return [*problems(exchange), *_mixed_id_types(observers, exchange)]


def _mixed_id_types(observers: Observers, exchange: Exchange) -> Iterator[Finding]:
    """Check that all ids of calls have the same type, and likewise all ids of doctors and of patients."""
    for name, value in _ids(exchange):
        kind = name.removesuffix("_details.id")
        origin = observers.id_types.get(kind)
        if origin is None:
            origin = observers.id_types[kind] = FirstSeen(observers.shortened(exchange, None), {"id": value})
        first = origin.values["id"]
        if type(value) is not type(first):
            whose = "a call" if kind == "id" else f"a {kind}"
            yield Finding(
                f"ids to have one type; {whose} had the id {first!r}, and `{name}` is {value!r}",
                (origin.exchange, exchange),
            )
            return


@observes("model.integer-ids")
def integer_ids(_: Observers, exchange: Exchange) -> Verdict:
    """Check that ids are numbers, as in every example of the document."""
    ids = list(_ids(exchange))
    if not ids:
        return None
    return [
        f"`{name}` to be an integer, as in the document's examples; got {value!r}"
        for name, value in ids
        if isinstance(value, str)
    ][:1]


@observes("model.status-values")
def status_values(_: Observers, exchange: Exchange) -> Verdict:
    """Check that a call has one of the four statuses."""
    calls = list(exchange.calls)
    if not calls:
        return None
    expected = f"`status` to be one of {', '.join(STATUSES)}"
    return [f"{expected}; got {call.get('status')!r}" for call in calls if call.get("status") not in STATUSES]


@observes("model.utc")
def utc(_: Observers, exchange: Exchange) -> Verdict:
    """Check that times end in Z."""
    bodies = list(exchange.calls)
    if exchange.operation == "joinVideoCall" and exchange.succeeded:
        bodies = [{"expiration_time": exchange.object.get("expiration_time")}]
    if not bodies:
        return None
    return [
        f"`{name}` to be in UTC, with Z at its end; got {value!r}"
        for body in bodies
        for name, value in body.items()
        if name in (*TIMES, "expiration_time") and isinstance(value, str) and not value.endswith("Z")
    ][:1]


@observes("model.details")
@of_each_call
def details(observers: Observers, exchange: Exchange, call: dict[str, Any]) -> Iterator[str | Finding]:
    """Check that the details of a doctor or patient have this user's id, and are equal in all calls."""
    for role in ("doctor", "patient"):
        described, profile_id = as_object(call.get(f"{role}_details")), call.get(role)
        if not described or not is_id(profile_id):
            continue  # `model.schema` reports this
        if described.get("id") != profile_id:
            actual = described.get("id")
            yield f"`{role}_details.id` to be the call's `{role}`, {profile_id!r}; got {actual!r}"
        user = as_object(described.get("user"))
        if not user:
            continue
        identity = (user.get("email"), user.get("full_name"))
        if not isinstance(identity[0], str) or "@" not in identity[0]:
            yield f"`{role}_details.user.email` to be an e-mail address; got {identity[0]!r}"
            continue
        same_id = observers.users.get_or_add((role, profile_id), FirstSeen(exchange))
        if identity != (first := same_id.values.setdefault("user", identity)):
            yield Finding(
                f"the {role} to have the same details in all calls, {first!r}; got {identity!r}",
                (same_id.exchange, exchange.about(call["id"])),
            )
        same_email = observers.users.get_or_add((role, "email", identity[0]), FirstSeen(exchange))
        if profile_id != (other := same_email.values.setdefault("id", profile_id)):
            yield Finding(
                f"{role} {profile_id!r} to have other details than {role} {other!r}",
                (same_email.exchange, exchange.about(call["id"])),
            )


@observes("get.returns-call")
@of_each_call
def closed_call(observers: Observers, exchange: Exchange, call: dict[str, Any]) -> Iterator[Finding]:
    """Check that a completed or cancelled call keeps its status in every later response."""
    status, earlier = call.get("status"), observers.final.get(call["id"])
    if earlier is None:
        if status in ("completed", "cancelled"):
            observers.final[call["id"]] = observers.shortened(exchange, call["id"])
        return
    first = next((one.get("status") for one in earlier.calls if one.get("id") == call["id"]), status)
    if status != first and exchange.sent_at > earlier.received_at:
        yield Finding(f"the call to stay {first}; got {status!r}", (earlier, exchange.about(call["id"])))


def _constant(name: str) -> CallCheck:
    """Return a check that a field of a call does not change."""

    def check(observers: Observers, exchange: Exchange, call: dict[str, Any]) -> Iterator[Finding]:
        first, where = observers.first_seen(exchange, call, name)
        value = call.get(name)
        if value == first:
            return
        before, now = instant(first), instant(value)
        if before is None or now is None or abs(before - now) >= PRECISION:
            expected = f"`{name}` of a call to stay {first!r}; got {value!r}"
            yield Finding(expected, (where, exchange.about(call["id"])))

    return check


observes("model.channel-constant")(of_each_call(_constant("channel_name")))
observes("model.scheduled-time")(of_each_call(_constant("scheduled_time")))


@observes("model.created-at")
@of_each_call
def created_at(observers: Observers, exchange: Exchange, call: dict[str, Any]) -> Iterator[str | Finding]:
    """Check that `created_at` is the time of the creation, and does not change."""
    created = instant(call.get("created_at"))
    if created is None:
        yield "`created_at` to be a time"
    elif exchange.operation == "createVideoCall":
        tolerance = timedelta(seconds=75)
        if not observers.clock.matches(created, exchange.sent_at, exchange.received_at, tolerance):
            yield f"`created_at` to be the time of creation; got {call['created_at']!r}"
    yield from _constant("created_at")(observers, exchange, call)


def _time_of_step(name: str, statuses: tuple[str, ...], operation: str) -> Observer:
    """Return an observer of a field that is null until a step of the call, and then is the time of this step.

    Args:
        statuses: the statuses of the call in which the field is a time.
        operation: the request that sets the field and returns it; empty if no response does both.
    """

    def check(observers: Observers, exchange: Exchange, call: dict[str, Any]) -> Iterator[str | Finding]:
        status, value = call.get("status"), call.get(name)
        if status not in STATUSES:
            return
        if status not in statuses:
            if value is not None:
                yield f"`{name}` to be null while the call is {status}; got {value!r}"
            return
        time = instant(value)
        if time is None:
            yield f"`{name}` to be a time when the call is {status}; got {value!r}"
            return
        if exchange.operation == operation and not observers.clock.matches(
            time, exchange.sent_at, exchange.received_at, LENIENCE
        ):
            yield f"`{name}` to be the time of this request; got {value!r}"
        first, where = observers.first_seen(exchange, call, name) if name in call else (None, exchange)
        before = instant(first)
        if before is not None and abs(before - time) >= PRECISION:
            expected = f"`{name}` to stay {first!r}; got {value!r}"
            yield Finding(expected, (where, exchange.about(call["id"])))
        elif before is None:
            observers.calls[call["id"]].values[name] = value
        started = instant(call.get("started_at"))
        if name == "ended_at" and started and time < started - PRECISION:
            yield f"`ended_at` not to be before `started_at`, {call['started_at']!r}; got {value!r}"

    return of_each_call(check)


observes("model.started-at")(_time_of_step("started_at", ("ongoing", "completed"), ""))
observes("model.ended-at")(_time_of_step("ended_at", ("completed",), "endVideoCall"))


@observes("model.updated-at")
@of_each_call
def updated_at(observers: Observers, exchange: Exchange, call: dict[str, Any]) -> Iterator[str]:
    """Check that a change sets `updated_at` to its time, and that it is not before `created_at`."""
    updated, created = instant(call.get("updated_at")), instant(call.get("created_at"))
    if updated is None:
        yield "`updated_at` to be a time"
        return
    value = call["updated_at"]
    if created is not None and updated < created - PRECISION:
        yield f"`updated_at` not to be before `created_at`, {call['created_at']!r}; got {value!r}"
    is_change = exchange.operation in {"createVideoCall", "endVideoCall", "cancelVideoCall"}
    if is_change and not observers.clock.matches(updated, exchange.sent_at, exchange.received_at, LENIENCE):
        yield f"`updated_at` to be the time of this change; got {value!r}"
