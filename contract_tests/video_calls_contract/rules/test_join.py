"""4. Join Video Call. What the credentials say is watched over in every join; see `observers`."""

from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from video_calls_contract.backend import Backend, Person
from video_calls_contract.call_record import Call
from video_calls_contract.checks import (
    differences,
    require,
    require_mistyped_ids_refused,
    require_outsiders_refused,
    require_refusal,
    require_success,
    require_unchanged,
)
from video_calls_contract.exchange import Exchange, Together, instant
from video_calls_contract.observers import LENIENCE
from video_calls_contract.outcomes import NotOffered
from video_calls_contract.scenarios import Joined, LateJoin, LongLife
from video_calls_contract.scheduling import Calls

EDGE = timedelta(minutes=2)
"""How far from the edge of the window a call may be that tells where the edge is."""


def answered(calls: Calls, call: Call, join: Exchange) -> Exchange:
    """A join that did not end in a server error, which is another rule's and tells nothing of this one.

    Raises:
        Blocked: it did.
    """
    if join.status >= 500:
        raise calls.blocked_at("join", call, join)
    return join


# "Join a video call and get Agora credentials."


@pytest.mark.rule("join.credentials")
@pytest.mark.parametrize("first", ["doctor", "patient"])
def test_doctor_and_patient_get_credentials(calls: Calls, first: str) -> None:
    with calls.soon() as call:
        both = call.participants if first == "doctor" else call.participants[::-1]
        for person in both:
            exchange = person.join(call.id)
            body = require_success(
                exchange, 200, call.created, because="a participant who joins within the window"
            )
            missing = [
                name for name in ("channel_name", "token", "uid", "expiration_time") if not body.get(name)
            ]
            require(not missing, f"credentials; without {', '.join(missing)}", exchange)


@pytest.mark.rule("join.not-found")
def test_a_call_that_does_not_exist_cannot_be_joined(calls: Calls) -> None:
    for person in calls.pair.participants:
        require_refusal(person.join(person.backend.no_call), 404, because="a call that does not exist")


@pytest.mark.rule("join.not-found")
def test_a_call_cannot_be_joined_by_a_mistyped_id(calls: Calls) -> None:
    with calls.soon() as call:
        require_mistyped_ids_refused("join", call)


# "User must be either the doctor or patient of the call"


@pytest.mark.rule("join.participants-only")
def test_nobody_else_joins_a_scheduled_call(calls: Calls) -> None:
    with calls.soon() as call:
        require_outsiders_refused("join", call)


@pytest.mark.rule("join.participants-only")
def test_nobody_else_joins_an_ongoing_call(calls: Calls) -> None:
    with calls.ongoing() as call:
        require_outsiders_refused("join", call)


# "Call must be scheduled within the next 15 minutes"


@pytest.mark.rule("join.window")
@pytest.mark.parametrize("role", ["doctor", "patient"])
def test_before_the_window_a_join_is_refused(calls: Calls, backend: Backend, role: str) -> None:
    early = 15 * 60 + backend.clock.margin.total_seconds()
    with calls.soon(minutes=0, seconds=early, within=EDGE) as call:
        before = call.read()
        exchange = answered(calls, call, getattr(call, role).join(call.id))
        require_refusal(
            exchange, 400, before=[call.created], because=f"a join {early / 60:.1f} minutes before the call"
        )
        require_unchanged(before, call.doctor, exchange)


@pytest.mark.rule("join.window")
@pytest.mark.parametrize("role", ["doctor", "patient"])
def test_within_the_window_a_join_is_accepted(calls: Calls, backend: Backend, role: str) -> None:
    early = 15 * 60 - backend.clock.margin.total_seconds()
    with calls.soon(minutes=0, seconds=early, within=-EDGE) as call:
        exchange = answered(calls, call, getattr(call, role).join(call.id))
        require_success(
            exchange, 200, call.created, because=f"a join {early / 60:.1f} minutes before the call"
        )


@pytest.mark.rule("join.window")
@pytest.mark.parametrize("minutes", [2, 7])
def test_shortly_before_the_call_a_join_is_accepted(calls: Calls, minutes: int) -> None:
    with calls.soon(minutes=minutes) as call:
        exchange = answered(calls, call, call.patient.join(call.id))
        require_success(exchange, 200, call.created, because=f"a join {minutes} minutes before the call")


@pytest.mark.rule("join.window")
def test_months_before_the_call_a_join_is_refused(calls: Calls) -> None:
    call = calls.scheduled()
    before = call.read()
    for person in call.participants:
        exchange = answered(calls, call, person.join(call.id))
        require_refusal(exchange, 400, before=[call.created], because="a join months before the call")
        require_unchanged(before, call.doctor, exchange)


@pytest.mark.rule("join.window")
def test_the_first_join_after_the_start_is_accepted_or_refused_with_400(
    calls: Calls, late_join: LateJoin
) -> None:
    # "Within the next 15 minutes" leaves open what holds after the start.
    join = answered(calls, late_join.call, late_join.join)
    if join.status == 400:
        other = differences(require_success(late_join.before), require_success(late_join.after))
        require(not other, f"a call that a refusal leaves as it is; {other}", join, late_join.after)
        return
    require_success(join, 200, late_join.call.created, because="a join just after the call's time, or 400")


# "Call must not be cancelled or completed"


def cannot_be_joined(calls: Calls, role: str, call: Call) -> None:
    before = call.read()
    exchange = answered(calls, call, getattr(call, role).join(call.id))
    require_refusal(exchange, 400, before=call.steps, because=f"a call that was {before.get('status')}")
    require_unchanged(before, call.doctor, exchange)


@pytest.mark.rule("join.not-cancelled")
@pytest.mark.parametrize("role", ["doctor", "patient"])
def test_a_cancelled_call_cannot_be_joined(calls: Calls, role: str) -> None:
    cannot_be_joined(calls, role, calls.cancelled())


@pytest.mark.rule("join.not-completed")
@pytest.mark.parametrize("role", ["doctor", "patient"])
def test_a_completed_call_cannot_be_joined(calls: Calls, role: str) -> None:
    cannot_be_joined(calls, role, calls.completed())


# "When the call actually started"


@pytest.mark.rule("join.starts-call")
@pytest.mark.parametrize("role", ["doctor", "patient"])
def test_the_first_join_starts_the_call(calls: Calls, backend: Backend, role: str) -> None:
    with calls.soon(minutes=12) as call:
        before = call.read()
        exchange = answered(calls, call, getattr(call, role).join(call.id))
        require_success(exchange, 200)
        read = call.doctor.get(call.id)
        body = require_success(read, 200, exchange)
        require(
            body.get("status") == "ongoing", "the call to be ongoing once somebody has joined", exchange, read
        )
        require(before.get("started_at") is None, "`started_at` to be null before the first join", exchange)
        started = instant(body.get("started_at"))
        require(
            started is not None
            and backend.clock.tells_of(started, exchange.sent_at, exchange.received_at, LENIENCE),
            f"`started_at` to be the time of the first join; got {body.get('started_at')!r}",
            exchange,
            read,
        )


@pytest.mark.rule("join.started-once")
def test_later_joins_do_not_move_its_start(joined: Joined) -> None:
    first, last = (
        require_success(read).get("started_at") for read in (joined.after_first, joined.after_last)
    )
    require(
        first == last, f"`started_at` to stay {first!r}; got {last!r}", joined.after_first, joined.after_last
    )


@pytest.mark.rule("join.started-once")
def test_a_join_seconds_later_does_not_move_its_start(long_life: LongLife) -> None:
    reads = [long_life.after_first_join, long_life.after_second_join]
    require_success(long_life.second_join)
    first, last = (require_success(read).get("started_at") for read in reads)
    require(first == last, f"`started_at` to stay {first!r}; got {last!r}", *reads)


def join_and_read(person: Person, call: Call, reads: list[Exchange]) -> Exchange:
    exchange = person.join(call.id)
    reads.append(person.get(call.id))
    return exchange


@pytest.mark.rule("join.started-once")
def test_simultaneous_joins_start_the_call_once(calls: Calls, together: Together) -> None:
    for _ in range(3):
        with calls.soon() as call:
            reads: list[Exchange] = []
            joins = together(
                [partial(join_and_read, person, call, reads) for person in call.participants * 3]
            )
            for exchange in joins:
                answered(calls, call, exchange)
                require_success(exchange, 200, because="a participant who joins while the other does")
            read = reads[0]
            started = require_success(read).get("started_at")
            for other in reads:
                require(
                    require_success(other).get("started_at") == started,
                    f"`started_at` to stay {started!r}",
                    *joins,
                    read,
                    other,
                )
            require_success(call.patient.join(call.id))
            later = call.doctor.get(call.id)
            require(
                require_success(later).get("started_at") == started,
                f"`started_at` to stay {started!r}",
                read,
                later,
            )
            names = {str(exchange.object.get("channel_name")) for exchange in joins}
            require(
                len(names) == 1, "simultaneous joins to lead to one channel", *joins, rule="join.same-channel"
            )
            by_person = {
                person.name: {
                    str(exchange.object.get("uid")) for exchange in joins if exchange.person == person.name
                }
                for person in call.participants
            }
            doctor, patient = by_person.values()
            require(not doctor & patient, "different uids for the two", *joins, rule="join.uid-differs")


# "Call status must be 'scheduled' or 'ongoing'"


@pytest.mark.rule("join.again")
def test_the_second_participant_joins_an_ongoing_call(joined: Joined) -> None:
    require_success(joined.by_patient, 200, joined.by_doctor, because="the second participant")


@pytest.mark.rule("join.again")
def test_the_second_participant_joins_an_ongoing_call_after_its_time(long_life: LongLife) -> None:
    require_success(
        long_life.second_join, 200, long_life.first_join, because="the second participant, after the start"
    )


@pytest.mark.rule("join.again")
def test_a_participant_joins_again(joined: Joined) -> None:
    require_success(
        joined.by_doctor_again, 200, joined.by_doctor, because="a participant who joins once more"
    )


# `"channel_name": "call_1704436789_5678"`


@pytest.mark.rule("join.same-channel")
def test_everybody_is_sent_to_the_channel_of_the_call(joined: Joined) -> None:
    channel = joined.call.record.get("channel_name")
    for exchange in (joined.by_doctor, joined.by_patient, joined.by_doctor_again):
        require(
            credentials(exchange).get("channel_name") == channel,
            f"`channel_name` to be the call's, {channel!r}",
            joined.call.created,
            exchange,
        )


# `"uid": 123`


@pytest.mark.rule("join.uid-differs")
def test_the_two_have_different_uids(joined: Joined) -> None:
    doctor, patient = credentials(joined.by_doctor), credentials(joined.by_patient)
    require(
        doctor.get("uid") != patient.get("uid"),
        "different uids for the two, for one uid can be in a channel once",
        joined.by_doctor,
        joined.by_patient,
    )


@pytest.mark.rule("join.uid-stable")
def test_a_participant_has_the_same_uid_again(joined: Joined) -> None:
    first, again = credentials(joined.by_doctor), credentials(joined.by_doctor_again)
    require(
        first.get("uid") == again.get("uid"),
        "the same uid at each join",
        joined.by_doctor,
        joined.by_doctor_again,
    )


def credentials(exchange: Exchange) -> dict[str, Any]:
    """What a join answered, where it succeeded; whether it has to is another rule's business."""
    if not exchange.succeeded:
        raise NotOffered("a join was refused")
    return exchange.object
