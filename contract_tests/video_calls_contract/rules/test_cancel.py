"""6. Cancel Video Call."""

from functools import partial

import pytest

from video_calls_contract.checks import (
    differences,
    require,
    require_cancelled,
    require_outsiders_refused,
    require_refused_by_status,
    require_same_call,
    require_success,
)
from video_calls_contract.created_calls import Call
from video_calls_contract.exchange import Together
from video_calls_contract.scheduling import Calls

# "Cancel a scheduled video call."


def require_cancellation(role: str, call: Call) -> None:
    before = call.read()
    cancelled = getattr(call, role).cancel(call.id)
    body = require_success(cancelled, 200, call.creation, because=f"the {role}, who cancels a scheduled call")
    require_cancelled(cancelled)
    changes = differences(before, body, ignoring=("status", "updated_at"))
    require(not changes, f"a cancellation to change nothing else; {changes}", cancelled)
    read = call.doctor.get(call.id)
    body_read = require_success(read, 200, cancelled, because="a cancelled call, which still exists")
    require_same_call(
        body, body_read, "the call to be read as cancel returned it", call.doctor, cancelled, read
    )


@pytest.mark.rule("cancel.cancels")
@pytest.mark.parametrize("role", ["doctor", "patient"])
def test_participant_cancels_scheduled_call(calls: Calls, role: str) -> None:
    require_cancellation(role, calls.scheduled())


@pytest.mark.rule("cancel.cancels")
@pytest.mark.parametrize("role", ["doctor", "patient"])
def test_cancel_within_join_window_is_accepted(calls: Calls, role: str) -> None:
    with calls.soon() as call:
        require_cancellation(role, call)


# "User must be either the doctor or patient of the call"


@pytest.mark.rule("cancel.participants-only")
def test_cancel_by_outsider_is_refused(calls: Calls) -> None:
    for pair in calls.pairs:
        require_outsiders_refused("cancel", calls.scheduled(pair))


# "Call status must be 'scheduled'"


@pytest.mark.rule("cancel.scheduled-only")
def test_simultaneous_join_and_cancel_do_not_both_succeed(calls: Calls, together: Together) -> None:
    for _ in range(3):
        with calls.soon() as call:
            doctor, patient = call.participants
            both = together([partial(doctor.join, call.id), partial(patient.cancel, call.id)])
            require(
                not all(exchange.succeeded for exchange in both),
                "either a join or a simultaneous cancellation to be refused; both were accepted",
                *both,
            )


@pytest.mark.rule("cancel.scheduled-only")
def test_cancel_of_ongoing_call_is_refused(calls: Calls) -> None:
    with calls.ongoing() as call:
        require_refused_by_status("cancel", call)


@pytest.mark.rule("cancel.scheduled-only")
def test_cancel_of_completed_call_is_refused(calls: Calls) -> None:
    require_refused_by_status("cancel", calls.completed())


@pytest.mark.rule("cancel.scheduled-only")
def test_cancel_of_cancelled_call_is_refused(calls: Calls) -> None:
    require_refused_by_status("cancel", calls.cancelled())
