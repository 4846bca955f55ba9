"""The VideoCall model: what a record says, and that it says the same again."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from video_calls_contract.checks import PRECISION, TIMES
from video_calls_contract.exchange import Exchange, as_object, instant
from video_calls_contract.ids import is_id
from video_calls_contract.observers.registry import (
    LENIENCE,
    CheckOfCall,
    Complaint,
    Known,
    Observer,
    Observers,
    observes,
    of_each_call,
)
from video_calls_contract.schema import complaints

STATUSES = ("scheduled", "ongoing", "completed", "cancelled")


IDS = (("id",), ("doctor",), ("patient",), ("doctor_details", "id"), ("patient_details", "id"))
"""Where the ids of a call are."""


def _ids(exchange: Exchange) -> Iterator[tuple[str, object]]:
    """The ids of every call in an exchange, each with the name of its field."""
    for call in exchange.calls:
        for role, *field in IDS:
            value = as_object(call.get(role)).get(field[0]) if field else call.get(role)
            if isinstance(value, int | str) and not isinstance(value, bool):
                yield ".".join((role, *field)), value


@observes("model.schema")
def schema(observers: Observers, exchange: Exchange) -> list[Complaint] | None:
    """Success has the documented status, is JSON, and has the fields of the document."""
    if not exchange.operation or not exchange.succeeded:
        return None
    return [*((complaint,) for complaint in complaints(exchange)), *_other_types(observers, exchange)]


def _other_types(observers: Observers, exchange: Exchange) -> Iterator[Complaint]:
    """Calls have ids of one type in every answer; so have doctors, and so have patients."""
    for name, value in _ids(exchange):
        kind = name.removesuffix("_details.id")
        known = observers.id_types.get(kind)
        if known is None:
            known = observers.id_types[kind] = Known(observers.shortened(exchange, None), {"id": value})
        first = known.values["id"]
        if type(value) is not type(first):
            whose = "a call" if kind == "id" else f"a {kind}"
            yield (
                f"ids of one type; {whose} had the id {first!r}, and `{name}` is {value!r}",
                known.exchange,
            )
            return


@observes("model.integer-ids")
def integer_ids(_: Observers, exchange: Exchange) -> list[Complaint] | None:
    """Ids are numbers, as in every example of the document."""
    ids = list(_ids(exchange))
    if not ids:
        return None
    return [
        (f"`{name}` to be an integer, as in the document's examples; got {value!r}",)
        for name, value in ids
        if isinstance(value, str)
    ][:1]


@observes("model.status-values")
def status_values(_: Observers, exchange: Exchange) -> list[Complaint] | None:
    """No other status than the four."""
    calls = list(exchange.calls)
    if not calls:
        return None
    expected = f"`status` to be one of {', '.join(STATUSES)}"
    return [
        (f"{expected}; got {call.get('status')!r}",) for call in calls if call.get("status") not in STATUSES
    ]


@observes("model.utc")
def utc(_: Observers, exchange: Exchange) -> list[Complaint] | None:
    """Times are written with Z."""
    bodies = list(exchange.calls)
    if exchange.operation == "joinVideoCall" and exchange.succeeded:
        bodies = [{"expiration_time": exchange.object.get("expiration_time")}]
    if not bodies:
        return None
    return [
        (f"`{name}` in UTC, ending in Z; got {value!r}",)
        for body in bodies
        for name, value in body.items()
        if name in (*TIMES, "expiration_time") and isinstance(value, str) and not value.endswith("Z")
    ][:1]


def _details(observers: Observers, exchange: Exchange, call: dict[str, Any]) -> Iterator[Complaint]:
    for role in ("doctor", "patient"):
        described = as_object(call.get(f"{role}_details"))
        if not described or not is_id(call.get(role)):
            continue  # the schema's business
        if described.get("id") != call.get(role):
            yield (
                f"`{role}_details.id` to be the call's `{role}`, {call.get(role)!r}; "
                f"got {described.get('id')!r}",
            )
        user = as_object(described.get("user"))
        if user:
            person = (user.get("email"), user.get("full_name"))
            if not isinstance(person[0], str) or "@" not in person[0]:
                yield (f"`{role}_details.user.email` to be an e-mail address; got {person[0]!r}",)
                continue
            known = observers.people.remembered((role, call.get(role)), Known(exchange))
            first = known.values.setdefault("user", person)
            if person != first:
                yield (
                    f"the same {role} to be described as in other calls, {first!r}; got {person!r}",
                    known.exchange,
                )
            namesakes = observers.people.remembered((role, "email", person[0]), Known(exchange))
            other = namesakes.values.setdefault("id", call.get(role))
            if other != call.get(role):
                yield (
                    f"{role} {call.get(role)!r} not to be described as {role} {other!r} is",
                    namesakes.exchange,
                )


observes("model.details")(of_each_call(_details))


def _final(observers: Observers, exchange: Exchange, call: dict[str, Any]) -> Iterator[Complaint]:
    """What has ended or was cancelled is so in every reading that was asked for after it was."""
    status, known = call.get("status"), observers.final.get(call["id"])
    if known is None:
        if status in ("completed", "cancelled"):
            observers.final[call["id"]] = observers.shortened(exchange, call["id"])
        return
    was = next((one.get("status") for one in known.calls if one.get("id") == call["id"]), status)
    if status != was and exchange.sent_at > known.received_at:
        yield (f"the call to stay {was}; got {status!r}", known)


observes("get.returns-call")(of_each_call(_final))


def _constant(name: str) -> CheckOfCall:
    def check(observers: Observers, exchange: Exchange, call: dict[str, Any]) -> Iterator[Complaint]:
        first, where = observers.first_seen(exchange, call, name)
        value = call.get(name)
        if value == first:
            return
        before, now = instant(first), instant(value)
        if before is None or now is None or abs(before - now) >= PRECISION:
            yield (f"`{name}` to stay {first!r} through the call's life; got {value!r}", where)

    return check


observes("model.channel-constant")(of_each_call(_constant("channel_name")))
observes("model.scheduled-time")(of_each_call(_constant("scheduled_time")))


def _created_at(observers: Observers, exchange: Exchange, call: dict[str, Any]) -> Iterator[Complaint]:
    created = instant(call.get("created_at"))
    if created is None:
        yield ("`created_at` to be a time",)
    elif exchange.operation == "createVideoCall":
        tolerance = timedelta(seconds=75)
        if not observers.clock.tells_of(created, exchange.sent_at, exchange.received_at, tolerance):
            yield (f"`created_at` to be the time of creation; got {call['created_at']!r}",)
    yield from _constant("created_at")(observers, exchange, call)


observes("model.created-at")(of_each_call(_created_at))


def _happened(name: str, since: tuple[str, ...], action: str) -> Observer:
    """`name` is null in every other status than these, and in these the time of its action."""

    def check(observers: Observers, exchange: Exchange, call: dict[str, Any]) -> Iterator[Complaint]:
        status, value = call.get("status"), call.get(name)
        if status not in STATUSES:
            return
        if status not in since:
            if value is not None:
                yield (f"`{name}` to be null while the call is {status}; got {value!r}",)
            return
        time = instant(value)
        if time is None:
            yield (f"`{name}` to be a time once the call is {status}; got {value!r}",)
            return
        if exchange.operation == action and not observers.clock.tells_of(
            time, exchange.sent_at, exchange.received_at, LENIENCE
        ):
            yield (f"`{name}` to be the time at which it happened; got {value!r}",)
        first, where = observers.first_seen(exchange, call, name) if name in call else (None, exchange)
        before = instant(first)
        if before is not None and abs(before - time) >= PRECISION:
            yield (f"`{name}` to stay {first!r}; got {value!r}", where)
        elif before is None:
            observers.known[call["id"]].values[name] = value
        started = instant(call.get("started_at"))
        if name == "ended_at" and started and time < started - PRECISION:
            yield (f"`ended_at` not to be before `started_at`, {call['started_at']!r}; got {value!r}",)

    return of_each_call(check)


observes("model.started-at")(_happened("started_at", ("ongoing", "completed"), ""))
observes("model.ended-at")(_happened("ended_at", ("completed",), "endVideoCall"))


def _updated_at(observers: Observers, exchange: Exchange, call: dict[str, Any]) -> Iterator[Complaint]:
    updated, created = instant(call.get("updated_at")), instant(call.get("created_at"))
    if updated is None:
        yield ("`updated_at` to be a time",)
        return
    if created is not None and updated < created - PRECISION:
        yield (
            f"`updated_at` not to be before `created_at`, {call['created_at']!r}; got {call['updated_at']!r}",
        )
    changed = exchange.operation in {"createVideoCall", "endVideoCall", "cancelVideoCall"}
    if changed and not observers.clock.tells_of(updated, exchange.sent_at, exchange.received_at, LENIENCE):
        yield (f"`updated_at` to be the time of this change; got {call['updated_at']!r}",)


observes("model.updated-at")(of_each_call(_updated_at))
