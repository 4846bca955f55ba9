"""5. End Video Call."""

from functools import partial

import pytest

from video_calls_contract.checks import (
    differences,
    require,
    require_completed,
    require_outsiders_refused,
    require_refused_by_status,
    require_same_call,
    require_success,
)
from video_calls_contract.exchange import Together
from video_calls_contract.scheduling import Calls

# "End an ongoing video call."


@pytest.mark.rule("end.completes")
@pytest.mark.parametrize("role", ["doctor", "patient"])
def test_participant_ends_ongoing_call(calls: Calls, role: str) -> None:
    with calls.ongoing() as call:
        before = call.read()
        ended = getattr(call, role).end(call.id)
        body = require_success(ended, 200, *call.steps, because=f"the {role}, who ends an ongoing call")
        require_completed(ended)
        changes = differences(before, body, ignoring=("status", "ended_at", "updated_at"))
        require(not changes, f"an end to change nothing else; {changes}", ended)
        read = call.patient.get(call.id)
        require_same_call(
            body, require_success(read), "the call to be read as end returned it", call.patient, ended, read
        )


# "User must be either the doctor or patient of the call"


@pytest.mark.rule("end.participants-only")
def test_end_by_outsider_is_refused(calls: Calls) -> None:
    with calls.ongoing() as call:
        require_outsiders_refused("end", call)


# "Call status must be 'ongoing'"


@pytest.mark.rule("end.ongoing-only")
def test_end_of_scheduled_call_is_refused(calls: Calls) -> None:
    with calls.soon() as call:
        require_refused_by_status("end", call)


@pytest.mark.rule("end.ongoing-only")
def test_only_one_of_simultaneous_ends_succeeds(calls: Calls, together: Together) -> None:
    for _ in range(2):
        with calls.ongoing() as call:
            ends = together([partial(user.end, call.id) for user in call.participants * 2])
            winners = [exchange for exchange in ends if exchange.succeeded]
            require(
                len(winners) == 1,
                f"one of four simultaneous ends to succeed; {len(winners)} did",
                *call.steps,
                *ends,
            )


@pytest.mark.rule("end.ongoing-only")
def test_end_of_completed_call_is_refused(calls: Calls) -> None:
    require_refused_by_status("end", calls.completed())


@pytest.mark.rule("end.ongoing-only")
def test_end_of_cancelled_call_is_refused(calls: Calls) -> None:
    require_refused_by_status("end", calls.cancelled())
