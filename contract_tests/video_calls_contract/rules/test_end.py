"""5. End Video Call."""

from functools import partial

import pytest

from video_calls_contract.call_record import Call
from video_calls_contract.checks import (
    differences,
    require,
    require_completed,
    require_mistyped_ids_refused,
    require_outsiders_refused,
    require_refusal,
    require_same_call,
    require_success,
    require_unchanged,
)
from video_calls_contract.exchange import Together
from video_calls_contract.scheduling import Calls

# "End an ongoing video call."


@pytest.mark.rule("end.completes")
@pytest.mark.parametrize("role", ["doctor", "patient"])
def test_either_participant_ends_an_ongoing_call(calls: Calls, role: str) -> None:
    with calls.ongoing() as call:
        before = call.read()
        ended = getattr(call, role).end(call.id)
        body = require_success(ended, 200, *call.steps, because=f"the {role}, who ends an ongoing call")
        require_completed(ended)
        others = differences(before, body, ignoring=("status", "ended_at", "updated_at"))
        require(not others, f"nothing else of the call to change; {others}", ended)
        read = call.patient.get(call.id)
        require_same_call(
            body, require_success(read), "the call to be as the answer said", call.patient, ended, read
        )


@pytest.mark.rule("end.not-found")
def test_a_call_that_does_not_exist_cannot_be_ended(calls: Calls) -> None:
    for person in calls.pair.participants:
        require_refusal(person.end(person.backend.no_call), 404, because="a call that does not exist")


@pytest.mark.rule("end.not-found")
def test_a_call_cannot_be_ended_by_a_mistyped_id(calls: Calls) -> None:
    with calls.ongoing() as call:
        require_mistyped_ids_refused("end", call)


# "User must be either the doctor or patient of the call"


@pytest.mark.rule("end.participants-only")
def test_nobody_else_ends_the_call(calls: Calls) -> None:
    with calls.ongoing() as call:
        require_outsiders_refused("end", call)


# "Call status must be 'ongoing'"


def cannot_be_ended(call: Call) -> None:
    before = call.read()
    for person in call.participants:
        exchange = person.end(call.id)
        require_refusal(
            exchange, 400, before=call.steps, because=f"the end of a call that is {before.get('status')}"
        )
        require_unchanged(before, call.doctor, exchange)


@pytest.mark.rule("end.ongoing-only")
def test_a_scheduled_call_cannot_be_ended(calls: Calls) -> None:
    with calls.soon() as call:
        cannot_be_ended(call)


@pytest.mark.rule("end.ongoing-only")
def test_of_simultaneous_ends_one_is_accepted(calls: Calls, together: Together) -> None:
    for _ in range(2):
        with calls.ongoing() as call:
            ends = together([partial(person.end, call.id) for person in call.participants * 2])
            winners = [exchange for exchange in ends if exchange.succeeded]
            require(
                len(winners) == 1,
                f"one of four simultaneous ends to be accepted; {len(winners)} were",
                *call.steps,
                *ends,
            )


@pytest.mark.rule("end.ongoing-only")
def test_a_completed_call_cannot_be_ended_again(calls: Calls) -> None:
    cannot_be_ended(calls.completed())


@pytest.mark.rule("end.ongoing-only")
def test_a_cancelled_call_cannot_be_ended(calls: Calls) -> None:
    cannot_be_ended(calls.cancelled())
