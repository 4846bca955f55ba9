"""2. Create Video Call."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest

from video_calls_contract.channel_names import SAMPLE, how_predictable
from video_calls_contract.checks import (
    require,
    require_refusal,
    require_same_call,
    require_scheduled,
    require_success,
    require_time,
    require_unchanged,
)
from video_calls_contract.created_calls import OPEN, OVERLAP, Call
from video_calls_contract.exceptions import Blocked, NotOffered, OutsidePolicy, Violation
from video_calls_contract.exchange import Exchange, Together, instant
from video_calls_contract.ids import NO_CALL, Id, absent
from video_calls_contract.pagination import LARGE, read_list
from video_calls_contract.pairs import Pair
from video_calls_contract.scheduling import Calls
from video_calls_contract.users import Users

MANY_CALLS = 60  # calls of one doctor; a new call overlaps one of them
RACES = 4

# "Schedule a new video call between a doctor and patient."


@pytest.mark.rule("create.schedules")
@pytest.mark.parametrize("by", ["doctor", "patient"])
def test_participant_schedules_call(calls: Calls, by: str) -> None:
    for pair in calls.pairs:
        at = calls.free_times.take(reach=8)
        if not calls.free_times.policy.step:
            at += timedelta(minutes=7, seconds=41)
        exchange = pair.create(getattr(pair, by), at)
        body = require_success(exchange, 201, because=f"a valid request of the {by}")
        require_scheduled(exchange, pair.doctor.doctor, pair.patient.patient)
        require_time(exchange, at, rule="model.scheduled-time")
        read = pair.doctor.get(body.get("id"))
        body_read = require_success(read, 200, exchange, because="the new call")
        require_same_call(
            body, body_read, "the call to be read as it was created", pair.doctor, exchange, read
        )


@pytest.mark.rule("create.participants-only")
@pytest.mark.parametrize("name", ["other_doctor", "other_patient"])
def test_create_by_non_participant_is_refused(calls: Calls, users: Users, name: str) -> None:
    exchange = calls.pair.create(users[name], calls.free_times.take())
    require_refusal(exchange, 403, 404, because=f"the {name}, who is not a participant of the new call")


# "400: Bad Request (validation error)"

ABSENT: Any = object()
"""Stands for a field that the body does not have."""

MISSING: list[Any] = [ABSENT, None, [], {}, ""]
INVALID_IDS: list[Any] = [
    "abc", "1 OR 1=1", [1], {"id": 1}, "<b>1</b>", "\u0000", "x" * 5000, 0, -1, 2**63, 10**30,
]  # fmt: skip
# Even lenient parsers refuse these. Dates such as 13-05 and 02-30 are not here: some accept them.
INVALID_TIMES: list[Any] = [
    "tomorrow",
    "2031-13-45T10:00:00Z",
    "2031-02-45T10:00:00Z",
    "2031-01-05T25:00:00Z",
    "2031-01-05T10:61:00Z",
    ["2031-01-05T10:00:00Z"],
    {"$gt": ""},
    "'; --",
    "x" * 5000,
    "\u202e2031",
]
INVALID_FIELDS: list[tuple[str, Any]] = [
    *[("doctor", value) for value in MISSING + INVALID_IDS],
    *[("patient", value) for value in MISSING + INVALID_IDS],
    *[("scheduled_time", value) for value in MISSING + INVALID_TIMES],
]


@pytest.fixture(scope="module")
def responses_to_invalid_fields(calls: Calls, together: Together) -> list[Exchange]:
    """Send one body for each of `INVALID_FIELDS`, as the participant whose id in the body is valid."""
    pair, at = calls.pair, calls.free_times.take()

    def send(name: str, value: object) -> Exchange:
        body = {**pair.body(at), name: value}
        if value is ABSENT:
            del body[name]
        return (pair.patient if name == "doctor" else pair.doctor).post_call(body)

    return together([partial(send, name, value) for name, value in INVALID_FIELDS])


@pytest.mark.rule("create.valid-body")
@pytest.mark.parametrize(
    "number",
    range(len(INVALID_FIELDS)),
    ids=[f"{name}={'missing' if value is ABSENT else repr(value)[:24]}" for name, value in INVALID_FIELDS],
)
def test_missing_or_malformed_field_is_refused(
    responses_to_invalid_fields: list[Exchange], number: int
) -> None:
    require_refusal(
        responses_to_invalid_fields[number],
        400,
        because=f"a body with a missing or malformed {INVALID_FIELDS[number][0]}",
    )


SIMILAR_TO_ID: dict[str, Callable[[Id], object]] = {
    "text after it": lambda own: f"{own}abc",
    "in a list": lambda own: [own],
    "in an object": lambda own: {"id": own},
}
SIMILAR_TO_TIME: dict[str, Callable[[datetime], object]] = {
    "milliseconds": lambda at: round(at.timestamp() * 1000),
    "seconds": lambda at: round(at.timestamp()),
    "31st of a month of 30 days": lambda at: f"{_next(at, (4, 6, 9, 11))}-31T{at:%H:%M:%S}Z",
    "30th of February": lambda at: f"{_next(at, (2,))}-30T{at:%H:%M:%S}Z",
}


def _next(at: datetime, months: tuple[int, ...]) -> str:
    """Return the year and month when one of these months comes next, such as `2031-02`."""
    return next(
        f"{at.year + month // 12}-{month % 12 + 1:02}"
        for month in range(at.month - 1, 36)
        if month % 12 + 1 in months
    )


@pytest.mark.rule("create.valid-body")
@pytest.mark.parametrize("form", SIMILAR_TO_ID)
@pytest.mark.parametrize("role", ["doctor", "patient"])
def test_value_that_resembles_id_is_refused(calls: Calls, role: str, form: str) -> None:
    pair = calls.pair
    by = pair.patient if role == "doctor" else pair.doctor
    body = pair.body(calls.free_times.take())
    exchange = by.post_call({**body, role: SIMILAR_TO_ID[form](body[role])})
    require_refusal(exchange, 400, 404, because=f"a value that is not the {role}'s id ({form})")


@pytest.mark.rule("create.valid-body")
@pytest.mark.parametrize("form", SIMILAR_TO_TIME)
def test_value_that_resembles_time_is_refused(calls: Calls, form: str) -> None:
    exchange = calls.pair.create(calls.pair.doctor, SIMILAR_TO_TIME[form](calls.free_times.take()))
    require_refusal(exchange, 400, because=f"a value that is not an RFC 3339 time ({form})")


@pytest.mark.rule("create.valid-body")
def test_body_without_fields_is_refused(calls: Calls) -> None:
    require_refusal(calls.pair.doctor.post_call({}), 400, because="a body without its fields")


@pytest.mark.rule("errors.no-server-error")
@pytest.mark.parametrize(
    "time", ["1970-01-01T00:00:00Z", "2031-01-05T24:00:00Z", "2999-12-31T23:59:59+00:00"]
)
def test_unusual_time_causes_no_server_error(calls: Calls, time: str) -> None:
    exchange = calls.pair.create(calls.pair.doctor, time)
    require(exchange.succeeded or exchange.status == 400, f"201 or 400; got {exchange.status_text}", exchange)


# `"scheduled_time": "2024-01-05T10:00:00Z"`


@pytest.mark.rule("create.aware-time")
def test_time_without_offset_is_refused(calls: Calls) -> None:
    exchange = calls.pair.create(calls.pair.doctor, calls.free_times.take().replace(tzinfo=None))
    require_refusal(exchange, 400, because="a time without an offset")


@pytest.mark.rule("create.time-offset")
@pytest.mark.parametrize("hours", [5.5, -8, 0, 13.75])
def test_time_with_offset_keeps_its_instant(calls: Calls, hours: float) -> None:
    calls.scheduled()
    at = calls.free_times.take().astimezone(timezone(timedelta(hours=hours)))
    text = at.isoformat()
    exchange = calls.pair.create(calls.pair.doctor, text)
    require_success(exchange, 201, because=f"the time {text}")
    require_time(exchange, at)


@pytest.mark.rule("create.schedules")
def test_time_with_milliseconds_is_accepted(calls: Calls) -> None:
    at = calls.free_times.take()
    text = at.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
    exchange = calls.pair.create(calls.pair.doctor, text)
    require_success(exchange, 201, because=f"the time {text}")
    require_time(exchange, at)


# "Scheduled time must be in the future"


@pytest.mark.rule("create.future")
@pytest.mark.parametrize("ago", ["a moment", "an hour", "a day", "years"])
def test_past_time_is_refused(calls: Calls, ago: str) -> None:
    age = {
        "a moment": calls.backend.clock.margin,
        "an hour": timedelta(hours=1, minutes=7),
        "a day": timedelta(days=1, minutes=31),
        "years": timedelta(days=2000),
    }[ago]
    with calls.reserved_pair() as pair:
        for user in pair.participants:
            # The booking policy allows its weekday and time of day: only the past is wrong.
            exchange = pair.create(user, calls.free_times.policy.last_open(calls.backend.clock.now() - age))
            require_refusal(exchange, 400, because=f"a time that was {age} ago")


@pytest.mark.rule("create.future")
def test_past_time_with_other_offset_is_refused(calls: Calls) -> None:
    for hours in (14, -11):
        past = calls.free_times.policy.last_open(calls.backend.clock.now() - timedelta(hours=2)).astimezone(
            timezone(timedelta(hours=hours))
        )
        exchange = calls.pair.create(calls.pair.doctor, past.isoformat())
        require_refusal(exchange, 400, because="a time that was two hours ago")


@pytest.mark.rule("create.schedules")
def test_time_a_few_minutes_ahead_is_accepted(calls: Calls) -> None:
    calls.scheduled()
    try:
        with calls.soon(minutes=2, within=timedelta(minutes=8)) as call:
            require_success(call.creation, 201)
    except Blocked as blocked:
        if blocked.exchange is None or isinstance(blocked, OutsidePolicy):
            raise
        require_success(
            blocked.exchange,
            201,
            because="a time two minutes ahead, without an overlapping open call",
            rule="create.frees-slot" if any(map(calls.has_closed_near, calls.pairs)) else None,
        )


# "Doctor and patient cannot be the same user"


@pytest.mark.rule("create.different-users")
def test_same_user_as_doctor_and_patient_is_refused(users: Users, calls: Calls) -> None:
    dual = users["dual_user"]
    require_refusal(
        dual.create(dual.doctor, dual.patient, calls.free_times.take()),
        400,
        because="a doctor and a patient who are the same user",
    )


@pytest.mark.rule("create.different-users")
def test_doctor_who_is_also_patient_schedules_calls(users: Users, calls: Calls) -> None:
    dual = users["dual_user"]
    for user in (dual, users.patient):
        exchange = user.create(dual.doctor, users.patient.patient, calls.free_times.take())
        require_success(
            exchange, 201, because="a user who is both doctor and patient, as doctor of another user"
        )
    for user in (dual, users.doctor):
        exchange = user.create(users.doctor.doctor, dual.patient, calls.free_times.take())
        require_success(
            exchange, 201, because="a user who is both doctor and patient, as patient of another user"
        )


@pytest.mark.rule("create.different-users")
def test_different_users_with_equal_ids_are_accepted(calls: Calls) -> None:
    equal = [pair for pair in calls.pairs if pair.doctor.doctor == pair.patient.patient]
    if not equal:
        raise NotOffered("no doctor of the configuration has the id of a patient")
    exchange = equal[0].create(equal[0].doctor, calls.free_times.take())
    require_success(exchange, 201, because="different users whose doctor id and patient id are equal")


# "No overlapping calls within 30 minutes for either doctor or patient"


def pair_sharing(calls: Calls, shared: str) -> Pair:
    """Return a pair that shares the doctor, the patient, or both, with the first pair."""
    if shared == "doctor":
        return calls.pair_of("doctor", "other_patient")
    if shared == "patient":
        return calls.pair_of("other_doctor", "patient")
    return calls.pair


def time_of(call: Call) -> datetime:
    at = instant(call.creation.object.get("scheduled_time"))
    if at is None:
        raise Blocked("a new call has no readable `scheduled_time`")
    return at


@pytest.mark.rule("create.no-overlap")
@pytest.mark.parametrize("shared", ["both", "doctor", "patient"])
@pytest.mark.parametrize("minutes", [(-29, -16, -1), (0, 1, 16, 29)], ids=["before", "after"])
def test_overlap_with_scheduled_call_is_refused(
    calls: Calls, together: Together, shared: str, minutes: tuple[int, ...]
) -> None:
    pair, policy = pair_sharing(calls, shared), calls.free_times.policy
    distances = {policy.minutes_on_grid(distance) for distance in minutes}
    if min(minutes) < 0 and distances == {0}:
        raise OutsidePolicy(f"the backend books only every {policy.step_minutes} minutes")
    call = calls.scheduled(reach=29)
    at = time_of(call)
    before = call.read()
    exchanges = together(
        [
            partial(pair.create, user, at + timedelta(minutes=distance))
            for distance in sorted(distances)
            for user in pair.participants
        ]
    )
    for exchange in exchanges:
        require_refusal(
            exchange, 400, before=[call.creation], because="a call less than 30 minutes from another"
        )
    require_unchanged(before, call.doctor, *exchanges)
    for user in pair.participants:
        for page in read_list(user, LARGE).pages:
            for entry in page.calls:
                start = instant(entry.get("scheduled_time"))
                is_new = entry.get("id") != call.id and start is not None and abs(start - at) < OVERLAP
                if is_new and entry.get("status") == "scheduled":
                    evidence = (*exchanges, page.about(entry.get("id")))
                    raise Violation("no call to result from a refused request", *evidence)


@pytest.mark.rule("create.no-overlap")
def test_overlap_across_midnight_is_refused(calls: Calls) -> None:
    before, after = (calls.free_times.policy.minutes_on_grid(minutes, outwards=True) for minutes in (-5, 10))
    midnight = calls.free_times.midnight(reach=10)
    if midnight is None or after - before >= 30:
        raise NotOffered("the backend books no two overlapping times around midnight in UTC")
    first = calls.pair.create(calls.pair.doctor, midnight + timedelta(minutes=before))
    if not first.succeeded:
        raise NotOffered("the backend books no calls around midnight in UTC")
    exchange = calls.pair.create(calls.pair.patient, midnight + timedelta(minutes=after))
    require_refusal(
        exchange, 400, before=[first], because="a call 30 minutes or less after one of the day before"
    )


@pytest.mark.rule("create.no-overlap")
def test_overlap_among_many_calls_is_refused(calls: Calls, together: Together) -> None:
    pair, many = calls.pair, calls.free_times.at_most(MANY_CALLS)
    missing = many - len(calls.created.open_far(pair))
    together([partial(pair.create, pair.doctor, calls.free_times.take()) for _ in range(missing)])
    far_calls = calls.created.open_far(pair)
    if len(far_calls) < many:
        raise NotOffered(f"the backend books fewer than {many} calls of one doctor")
    by_time = sorted(far_calls, key=lambda one: one[1])
    for call_id, at in {by_time[0], by_time[len(far_calls) // 2], by_time[-1], far_calls[0], far_calls[-1]}:
        distance = calls.free_times.policy.minutes_on_grid(4)
        exchange = pair.create(pair.patient, at + timedelta(minutes=distance))
        if exchange.status != 400:
            call = pair.doctor.get(call_id)
            if exchange.succeeded and call.object.get("status") not in OPEN:
                calls.created.close_created(exchange)
                continue  # another test has closed the call
            require_refusal(
                exchange,
                400,
                before=[call],
                because=f"a call {distance} minutes after another of the doctor's {len(far_calls)} calls",
            )


@pytest.mark.rule("create.no-overlap")
@pytest.mark.parametrize("minutes", [-8, 3, 25])
def test_overlap_with_ongoing_call_is_refused(calls: Calls, minutes: int) -> None:
    with calls.ongoing() as call:
        distance = calls.free_times.policy.minutes_on_grid(minutes)
        at = time_of(call) + timedelta(minutes=distance)
        calls.free_times.require_allowed(at)
        exchange = call.pair.create(call.patient, at)
        require_refusal(
            exchange, 400, before=call.steps, because=f"a call {abs(distance)} minutes from an ongoing one"
        )


@pytest.mark.rule("create.adjacent")
@pytest.mark.parametrize("minutes", [-31, 31, 50, -75])
@pytest.mark.parametrize("shared", ["both", "doctor", "patient"])
def test_call_over_30_minutes_away_is_accepted(calls: Calls, shared: str, minutes: int) -> None:
    pair = pair_sharing(calls, shared)
    distance = calls.free_times.policy.minutes_on_grid(minutes, outwards=True)
    call = calls.scheduled(reach=abs(distance))
    at = time_of(call)
    exchange = pair.create(pair.patient, at + timedelta(minutes=distance))
    require_success(
        exchange, 201, call.creation, because=f"a call {abs(distance)} minutes from the nearest one"
    )


@pytest.mark.rule("create.adjacent")
def test_same_time_is_accepted_for_other_pair(calls: Calls) -> None:
    other = calls.pair_of("other_doctor", "other_patient")
    call = calls.scheduled()
    at = time_of(call)
    exchange = other.create(other.doctor, at)
    require_success(
        exchange, 201, call.creation, because="a call of another doctor and another patient at the same time"
    )


# "Validation prevents scheduling conflicts"


@pytest.mark.rule("create.frees-slot")
def test_time_of_cancelled_call_is_free_again(calls: Calls) -> None:
    call = calls.scheduled()
    at = time_of(call)
    cancelled = calls.step(call, "cancel")
    exchange = call.pair.create(call.patient, at)
    require_success(exchange, 201, cancelled, because="the time of a cancelled call")


@pytest.mark.rule("create.frees-slot")
def test_time_of_completed_call_is_free_again(calls: Calls) -> None:
    with calls.ongoing() as call:
        at = time_of(call)
        ended = calls.step(call, "end")
        calls.free_times.require_allowed(at)
        exchange = call.pair.create(call.doctor, at)
        if not exchange.succeeded and calls.created.conflict(call.pair, at):
            raise Blocked("a call from outside this run took the time of the completed call", exchange)
        require_success(exchange, 201, ended, because="the time of a completed call")


@pytest.mark.rule("create.no-race")
@pytest.mark.parametrize("shared", ["both", "doctor", "patient"])
def test_only_one_of_conflicting_simultaneous_requests_succeeds(
    calls: Calls, together: Together, shared: str
) -> None:
    pair, other = calls.pair, pair_sharing(calls, shared)
    contenders = [
        (pair, pair.doctor, 0),
        (other, other.patient, 4),
        (pair, pair.patient, 0),
        (other, other.doctor, 6),
        (pair, pair.doctor, 2),
        (other, other.patient, 0),
    ]
    calls.scheduled()
    on_grid = calls.free_times.policy.minutes_on_grid
    for _ in range(RACES):
        at = calls.free_times.take(reach=4)
        exchanges = together(
            [
                partial(who.create, by, at + timedelta(minutes=on_grid(minutes)))
                for who, by, minutes in contenders
            ]
        )
        winners = [exchange for exchange in exchanges if exchange.succeeded]
        if len(winners) > 1:  # does the backend accept an overlap even without a race?
            later = pair.create(pair.doctor, at)
            because = "a call at the time of existing ones"
            require_refusal(later, 400, before=winners, because=because, rule="create.no-overlap")
        require(
            len(winners) <= 1,
            f"one of six simultaneous requests to succeed; {len(winners)} did",
            *winners,
        )
        require(winners, "one of six simultaneous requests to succeed; none did", *exchanges)


# "Both doctor and patient must be valid and active users"


def create_with(users: Users, role: str, profile_id: object, at: datetime) -> Exchange:
    """Create a call with this doctor's or patient's id, as the other participant."""
    doctor, patient = users.doctor, users.patient
    if role == "doctor":
        return patient.create(profile_id, patient.patient, at)
    return doctor.create(doctor.doctor, profile_id, at)


@pytest.mark.parametrize(
    "role",
    [
        pytest.param("doctor", marks=pytest.mark.rule("create.doctor-valid")),
        pytest.param("patient", marks=pytest.mark.rule("create.patient-valid")),
    ],
)
def test_unknown_participant_is_refused(users: Users, calls: Calls, role: str) -> None:
    unknown = absent(users.doctor.doctor if role == "doctor" else users.patient.patient)
    exchange = create_with(users, role, unknown, calls.free_times.take())
    require_refusal(exchange, 400, because=f"a {role} who does not exist")


@pytest.mark.parametrize(
    "role",
    [
        pytest.param("doctor", marks=pytest.mark.rule("create.doctor-active")),
        pytest.param("patient", marks=pytest.mark.rule("create.patient-active")),
    ],
)
def test_deactivated_participant_is_refused(users: Users, calls: Calls, role: str) -> None:
    inactive = users.identity(f"inactive_{role}")
    profile_id = inactive.doctor if role == "doctor" else inactive.patient
    exchange = create_with(users, role, profile_id, calls.free_times.take())
    require_refusal(exchange, 400, because=f"a deactivated {role}")


# The VideoCall model: "Call status (scheduled/ongoing/completed/cancelled)"

READ_ONLY: dict[str, Any] = {
    "id": NO_CALL,
    "channel_name": "call_chosen_by_the_client",
    "status": "completed",
    "started_at": "2020-01-05T10:00:00Z",
    "ended_at": "2020-01-05T10:30:00Z",
    "created_at": "2020-01-05T08:00:00Z",
    "updated_at": "2020-01-05T08:00:00Z",
}


@pytest.mark.rule("create.read-only-fields")
@pytest.mark.parametrize("name", READ_ONLY)
def test_read_only_field_is_not_taken_from_request(calls: Calls, name: str) -> None:
    pair, value = calls.pair, READ_ONLY[name]
    exchange = pair.create(pair.doctor, calls.free_times.take(), **{name: value})
    if exchange.status == 400:
        return
    body = require_success(
        exchange, 201, because=f"a body with `{name}`, which is ignored or refused with 400"
    )
    read = pair.doctor.get(body.get("id"))
    time = instant(value)
    for actual in (body.get(name), read.object.get(name)):
        is_taken = actual == value or (time is not None and instant(actual) == time)
        require(not is_taken, f"`{name}` not to be taken from the request; got {actual!r}", exchange, read)
    require(body.get("status") == "scheduled", "`status` to be 'scheduled'", exchange)


# "Unique identifier for the Agora channel"; "Channel names are randomly generated"


def one_by_one(requests: Sequence[Callable[[], Exchange]]) -> list[Exchange]:
    return [request() for request in requests]


@pytest.fixture(scope="module")
def sample(calls: Calls) -> list[Exchange]:
    """Create calls one after another, as an attacker who tries to predict the next channel."""
    creations = calls.several(SAMPLE, one_by_one)
    return [exchange for exchange in creations if isinstance(exchange.object.get("channel_name"), str)]


@pytest.mark.rule("create.unique-channel")
@pytest.mark.usefixtures("sample")
def test_each_call_has_its_own_channel(calls: Calls) -> None:
    # The channel name of a closed call must not be used again.
    closed = calls.scheduled()
    closed.doctor.cancel(closed.id)
    calls.scheduled()
    first: dict[str, Exchange] = {}
    for exchange in calls.created.creations:
        name = exchange.object.get("channel_name")
        if not isinstance(name, str):
            continue  # `model.schema` reports this
        if name in first:
            raise Violation(
                f"each call to have a channel of its own; two calls have {name!r}", first[name], exchange
            )
        first[name] = exchange


@pytest.mark.rule("create.random-channel")
def test_channel_names_are_not_predictable(calls: Calls, sample: list[Exchange]) -> None:
    if len(sample) < SAMPLE // 2:
        calls.scheduled()
        raise Blocked("too few calls could be scheduled to compare their channels")
    reason = how_predictable([exchange.object for exchange in sample])
    require(not reason, f"`channel_name` to be random; {reason}", *sample[-3:])
