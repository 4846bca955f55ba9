"""4. Join Video Call. The observers check the credentials of every join."""

import time
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from video_calls_contract.checks import (
    differences,
    require,
    require_outsiders_refused,
    require_refusal,
    require_success,
    require_unchanged,
)
from video_calls_contract.created_calls import Call
from video_calls_contract.exceptions import NotOffered
from video_calls_contract.exchange import Exchange, Together, instant
from video_calls_contract.observers.registry import LENIENCE
from video_calls_contract.scenarios import JoinScenario, LateJoin, Lifecycle
from video_calls_contract.scheduling import Calls
from video_calls_contract.users import User

EDGE = timedelta(minutes=2)
"""To test where the window starts, a join is at most this far from the start."""


def no_server_error(calls: Calls, call: Call, join: Exchange) -> Exchange:
    """Return the response to a join, unless it is a server error, which violates another rule.

    Raises:
        Blocked: if it is a server error.
    """
    if join.status >= 500:
        raise calls.blocked_at("join", call, join)
    return join


# "Join a video call and get Agora credentials."


@pytest.mark.rule("join.credentials")
@pytest.mark.parametrize("first", ["doctor", "patient"])
def test_participant_gets_credentials(calls: Calls, first: str) -> None:
    with calls.soon() as call:
        both = call.participants if first == "doctor" else call.participants[::-1]
        for user in both:
            exchange = user.join(call.id)
            body = require_success(
                exchange, 200, call.creation, because="a participant who joins within the window"
            )
            missing = [
                name for name in ("channel_name", "token", "uid", "expiration_time") if not body.get(name)
            ]
            require(not missing, f"complete credentials; {', '.join(missing)} is missing", exchange)


# "User must be either the doctor or patient of the call"


@pytest.mark.rule("join.participants-only")
def test_join_of_scheduled_call_by_outsider_is_refused(calls: Calls) -> None:
    with calls.soon() as call:
        require_outsiders_refused("join", call)


@pytest.mark.rule("join.participants-only")
def test_join_of_ongoing_call_by_outsider_is_refused(calls: Calls) -> None:
    with calls.ongoing() as call:
        require_outsiders_refused("join", call)


# "Call must be scheduled within the next 15 minutes"


@pytest.mark.rule("join.window")
@pytest.mark.parametrize("role", ["doctor", "patient"])
def test_join_before_window_is_refused(calls: Calls, role: str) -> None:
    early = 15 * 60 + calls.backend.clock.margin.total_seconds()
    with calls.soon(minutes=0, seconds=early, within=EDGE) as call:
        before = call.read()
        exchange = no_server_error(calls, call, getattr(call, role).join(call.id))
        require_refusal(
            exchange, 400, before=[call.creation], because=f"a join {early / 60:.1f} minutes before the call"
        )
        require_unchanged(before, call.doctor, exchange)


@pytest.mark.rule("join.window")
@pytest.mark.parametrize("role", ["doctor", "patient"])
def test_join_at_start_of_window_is_accepted(calls: Calls, role: str) -> None:
    early = 15 * 60 - calls.backend.clock.margin.total_seconds()
    with calls.soon(minutes=0, seconds=early, within=-EDGE) as call:
        exchange = no_server_error(calls, call, getattr(call, role).join(call.id))
        require_success(
            exchange, 200, call.creation, because=f"a join {early / 60:.1f} minutes before the call"
        )


@pytest.mark.rule("join.window")
@pytest.mark.parametrize("minutes", [2, 7])
def test_join_shortly_before_call_is_accepted(calls: Calls, minutes: int) -> None:
    with calls.soon(minutes=minutes) as call:
        exchange = no_server_error(calls, call, call.patient.join(call.id))
        require_success(exchange, 200, call.creation, because=f"a join {minutes} minutes before the call")


@pytest.mark.rule("join.window")
def test_join_months_before_call_is_refused(calls: Calls) -> None:
    call = calls.scheduled()
    before = call.read()
    for user in call.participants:
        exchange = no_server_error(calls, call, user.join(call.id))
        require_refusal(exchange, 400, before=[call.creation], because="a join months before the call")
        require_unchanged(before, call.doctor, exchange)


@pytest.mark.rule("join.window")
@pytest.mark.late
def test_first_join_after_start_is_accepted_or_refused(calls: Calls, late_join: LateJoin) -> None:
    # "Within the next 15 minutes" does not say whether a join after the start is allowed.
    join = no_server_error(calls, late_join.call, late_join.join)
    if join.status == 400:
        changes = differences(require_success(late_join.before), require_success(late_join.after))
        require(not changes, f"a refused join to leave the call unchanged; {changes}", join, late_join.after)
        return
    require_success(join, 200, late_join.call.creation, because="a join just after the call's time, or 400")


# "Call must not be cancelled or completed"


def require_join_refused(calls: Calls, role: str, call: Call) -> None:
    before = call.read()
    exchange = no_server_error(calls, call, getattr(call, role).join(call.id))
    require_refusal(exchange, 400, before=call.steps, because=f"a call that is {before.get('status')}")
    require_unchanged(before, call.doctor, exchange)


@pytest.mark.rule("join.not-cancelled")
@pytest.mark.parametrize("role", ["doctor", "patient"])
def test_join_of_cancelled_call_is_refused(calls: Calls, role: str) -> None:
    require_join_refused(calls, role, calls.cancelled())


@pytest.mark.rule("join.not-completed")
@pytest.mark.parametrize("role", ["doctor", "patient"])
def test_join_of_completed_call_is_refused(calls: Calls, role: str) -> None:
    require_join_refused(calls, role, calls.completed())


# "When the call actually started"


@pytest.mark.rule("join.starts-call")
@pytest.mark.parametrize("role", ["doctor", "patient"])
def test_first_join_starts_call(calls: Calls, role: str) -> None:
    with calls.soon(minutes=12) as call:
        before = call.read()
        exchange = no_server_error(calls, call, getattr(call, role).join(call.id))
        require_success(exchange, 200)
        read = call.doctor.get(call.id)
        body = require_success(read, 200, exchange)
        status, early_start = body.get("status"), before.get("started_at")
        expected = f"`status` to be 'ongoing' after the first join; got {status!r}"
        require(status == "ongoing", expected, exchange, read)
        expected = f"`started_at` to be null before the first join; got {early_start!r}"
        require(early_start is None, expected, exchange)
        started = instant(body.get("started_at"))
        require(
            started is not None
            and calls.backend.clock.matches(started, exchange.sent_at, exchange.received_at, LENIENCE),
            f"`started_at` to be the time of the first join; got {body.get('started_at')!r}",
            exchange,
            read,
        )


def require_same_start(*reads: Exchange) -> None:
    first, last = (require_success(read).get("started_at") for read in reads)
    require(first == last, f"`started_at` to stay {first!r}; got {last!r}", *reads)


@pytest.mark.rule("join.started-once")
def test_later_join_keeps_started_at(joins: JoinScenario) -> None:
    require_same_start(joins.after_first, joins.after_last)


@pytest.mark.rule("join.started-once")
@pytest.mark.late
def test_join_seconds_later_keeps_started_at(lifecycle: Lifecycle) -> None:
    require_success(lifecycle.second_join)
    require_same_start(lifecycle.after_first_join, lifecycle.after_second_join)


def join_and_read(user: User, call: Call, reads: list[Exchange], delay: float) -> Exchange:
    time.sleep(delay)
    exchange = user.join(call.id)
    reads.append(user.get(call.id))
    return exchange


@pytest.mark.rule("join.started-once")
@pytest.mark.alone
def test_simultaneous_joins_start_call_once(calls: Calls, together: Together) -> None:
    # A read shows a second start only if it comes between the two. So some joins come milliseconds later.
    for delay in (0.0, 0.005, 0.02):
        with calls.soon() as call:
            reads: list[Exchange] = []
            joins = together(
                [
                    partial(join_and_read, user, call, reads, number * delay)
                    for number, user in enumerate(call.participants * 3)
                ]
            )
            for exchange in joins:
                no_server_error(calls, call, exchange)
                require_success(exchange, 200, because="simultaneous joins of both participants")
            require_success(call.patient.join(call.id))
            reads.append(call.doctor.get(call.id))
            started = require_success(reads[0]).get("started_at")
            for read in reads[1:]:
                is_same = require_success(read).get("started_at") == started
                require(is_same, f"`started_at` to stay {started!r}", *joins, reads[0], read)
            names = {str(exchange.object.get("channel_name")) for exchange in joins}
            expected = f"simultaneous joins to return one channel; got {', '.join(sorted(names))}"
            require(len(names) == 1, expected, *joins, rule="join.same-channel")
            doctor, patient = (
                {str(exchange.object.get("uid")) for exchange in joins if exchange.user == user.name}
                for user in call.participants
            )
            expected = f"the participants to have different uids; both got {', '.join(doctor & patient)}"
            require(not doctor & patient, expected, *joins, rule="join.uid-differs")


# "Call status must be 'scheduled' or 'ongoing'"


@pytest.mark.rule("join.again")
def test_second_participant_joins_ongoing_call(joins: JoinScenario) -> None:
    require_success(joins.by_patient, 200, joins.by_doctor, because="the second participant")


@pytest.mark.rule("join.again")
@pytest.mark.late
def test_second_participant_joins_after_start(lifecycle: Lifecycle) -> None:
    require_success(
        lifecycle.second_join, 200, lifecycle.first_join, because="the second participant after the start"
    )


@pytest.mark.rule("join.again")
def test_participant_joins_again(joins: JoinScenario) -> None:
    require_success(joins.by_doctor_again, 200, joins.by_doctor, because="a participant who joins again")


# `"channel_name": "call_1704436789_5678"`


@pytest.mark.rule("join.same-channel")
def test_join_returns_channel_of_call(joins: JoinScenario) -> None:
    channel = joins.call.creation.object.get("channel_name")
    for exchange in (joins.by_doctor, joins.by_patient, joins.by_doctor_again):
        actual = credentials(exchange).get("channel_name")
        expected = f"`channel_name` to be the call's, {channel!r}; got {actual!r}"
        require(actual == channel, expected, joins.call.creation, exchange)


# `"uid": 123`


@pytest.mark.rule("join.uid-differs")
@pytest.mark.alone
def test_participants_have_different_uids(joins: JoinScenario) -> None:
    doctor, patient = (credentials(join).get("uid") for join in (joins.by_doctor, joins.by_patient))
    expected = f"the participants to have different uids, for one channel; both got {doctor!r}"
    require(doctor != patient, expected, joins.by_doctor, joins.by_patient)


@pytest.mark.rule("join.uid-stable")
def test_participant_keeps_uid_at_second_join(joins: JoinScenario) -> None:
    first, again = (credentials(join).get("uid") for join in (joins.by_doctor, joins.by_doctor_again))
    expected = f"the doctor's uid to stay {first!r} at the second join; got {again!r}"
    require(first == again, expected, joins.by_doctor, joins.by_doctor_again)


def credentials(exchange: Exchange) -> dict[str, Any]:
    """Return the body of the response to a join.

    Raises:
        NotOffered: if the join was refused; other rules check whether it may be.
    """
    if not exchange.succeeded:
        raise NotOffered("a join was refused")
    return exchange.object
