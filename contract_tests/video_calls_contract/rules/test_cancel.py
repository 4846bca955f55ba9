"""6. Cancel Video Call."""

from functools import partial

import pytest

from video_calls_contract.call_record import Call
from video_calls_contract.checks import (
    differences,
    require,
    require_cancelled,
    require_mistyped_ids_refused,
    require_outsiders_refused,
    require_refusal,
    require_same_call,
    require_success,
    require_unchanged,
)
from video_calls_contract.exchange import Together
from video_calls_contract.scheduling import Calls

# "Cancel a scheduled video call."


def is_cancelled_by(role: str, call: Call) -> None:
    before = call.read()
    cancelled = getattr(call, role).cancel(call.id)
    body = require_success(cancelled, 200, call.created, because=f"the {role}, who cancels a scheduled call")
    require_cancelled(cancelled)
    others = differences(before, body, ignoring=("status", "updated_at"))
    require(not others, f"nothing else of the call to change; {others}", cancelled)
    read = call.doctor.get(call.id)
    shown = require_success(read, 200, cancelled, because="a cancelled call, which is still there")
    require_same_call(body, shown, "the call to be as the answer said", call.doctor, cancelled, read)


@pytest.mark.rule("cancel.cancels")
@pytest.mark.parametrize("role", ["doctor", "patient"])
def test_either_participant_cancels_a_scheduled_call(calls: Calls, role: str) -> None:
    is_cancelled_by(role, calls.scheduled())


@pytest.mark.rule("cancel.cancels")
@pytest.mark.parametrize("role", ["doctor", "patient"])
def test_a_call_within_its_join_window_is_cancelled_too(calls: Calls, role: str) -> None:
    with calls.soon() as call:
        is_cancelled_by(role, call)


@pytest.mark.rule("cancel.not-found")
def test_a_call_that_does_not_exist_cannot_be_cancelled(calls: Calls) -> None:
    for person in calls.pair.participants:
        require_refusal(person.cancel(person.backend.no_call), 404, because="a call that does not exist")


@pytest.mark.rule("cancel.not-found")
def test_a_call_cannot_be_cancelled_by_a_mistyped_id(calls: Calls) -> None:
    require_mistyped_ids_refused("cancel", calls.scheduled())


# "User must be either the doctor or patient of the call"


@pytest.mark.rule("cancel.participants-only")
def test_nobody_else_cancels_the_call(calls: Calls) -> None:
    for pair in calls.pairs():
        require_outsiders_refused("cancel", calls.scheduled(pair))


# "Call status must be 'scheduled'"


@pytest.mark.rule("cancel.scheduled-only")
def test_a_call_is_not_cancelled_while_it_is_joined(calls: Calls, together: Together) -> None:
    for _ in range(3):
        with calls.soon() as call:
            doctor, patient = call.participants
            both = together([partial(doctor.join, call.id), partial(patient.cancel, call.id)])
            require(
                not all(exchange.succeeded for exchange in both),
                "one of a join and a cancellation at the same time to be refused; both were accepted",
                *both,
            )


def cannot_be_cancelled(call: Call) -> None:
    before = call.read()
    for person in call.participants:
        exchange = person.cancel(call.id)
        require_refusal(
            exchange,
            400,
            before=call.steps,
            because=f"the cancellation of a call that is {before.get('status')}",
        )
        require_unchanged(before, call.doctor, exchange)


@pytest.mark.rule("cancel.scheduled-only")
def test_an_ongoing_call_cannot_be_cancelled(calls: Calls) -> None:
    with calls.ongoing() as call:
        cannot_be_cancelled(call)


@pytest.mark.rule("cancel.scheduled-only")
def test_a_completed_call_cannot_be_cancelled(calls: Calls) -> None:
    cannot_be_cancelled(calls.completed())


@pytest.mark.rule("cancel.scheduled-only")
def test_a_cancelled_call_cannot_be_cancelled_again(calls: Calls) -> None:
    cannot_be_cancelled(calls.cancelled())
