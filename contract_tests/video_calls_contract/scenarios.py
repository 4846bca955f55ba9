"""Sequences of requests whose responses several tests check.

They raise `Blocked` if the backend refuses a step that the tests do not check. `Lifecycle` and `LateJoin`
take seconds, so they run in the background. Other tests do not touch their calls.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta

from video_calls_contract.clock import LEAST_MARGIN
from video_calls_contract.created_calls import Call
from video_calls_contract.exchange import Exchange
from video_calls_contract.scheduling import Calls

_GAP = 1.2  # seconds between two changes, because some backends store whole seconds
_AHEAD = 3.0  # seconds from the creation of a call to its start
_LATE = 1.5  # seconds from the start of a call to the late join


@dataclass(frozen=True, slots=True)
class JoinScenario:
    """Both participants joined a call, the doctor twice; then the call was ended."""

    call: Call
    by_doctor: Exchange
    by_patient: Exchange
    by_doctor_again: Exchange
    after_first: Exchange
    after_last: Exchange


def play_joins(calls: Calls) -> JoinScenario:
    """Send the requests of a `JoinScenario`."""
    with calls.ongoing() as call:
        after_first = call.doctor.get(call.id)
        by_patient = call.patient.join(call.id)
        by_doctor_again = call.doctor.join(call.id)
        after_last = call.doctor.get(call.id)
        call.patient.end(call.id)
    return JoinScenario(call, call.steps[-1], by_patient, by_doctor_again, after_first, after_last)


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """Two calls that changed, with seconds in between. `..._again` is the first get after the creation.

    The doctor joined the first call, the patient joined it after its start, and the doctor ended it. `other`
    is days or months ahead: the backend had to refuse a join, and the patient cancelled the call.
    """

    created: Exchange
    created_again: Exchange
    first_join: Exchange
    after_first_join: Exchange
    second_join: Exchange
    after_second_join: Exchange
    ended: Exchange
    after_end: Exchange
    other_created_again: Exchange
    other_after_refusal: Exchange
    other_cancelled: Exchange
    other_after_cancel: Exchange


def play_lifecycle(calls: Calls, wait: Callable[[float], None]) -> Lifecycle:
    """Send the requests of a `Lifecycle`; `wait` sleeps for some seconds."""
    with calls.created.keeping():
        other = calls.scheduled()
        other_created_again = other.doctor.get(other.id)
        with _starting_soon(calls) as call:
            created_again = call.doctor.get(call.id)
            wait(_GAP)
            first_join = calls.step(call, "join")
            after_first_join = call.doctor.get(call.id)
            other.doctor.join(other.id)
            after_refusal = other.doctor.get(other.id)
            wait(_AHEAD + _LATE - _GAP)
            second_join = call.patient.join(call.id)
            after_second_join = call.doctor.get(call.id)
            wait(_GAP)
            ended = call.doctor.end(call.id)
            after_end = call.doctor.get(call.id)
        cancelled = other.patient.cancel(other.id)
    return Lifecycle(
        created=call.creation,
        created_again=created_again,
        first_join=first_join,
        after_first_join=after_first_join,
        second_join=second_join,
        after_second_join=after_second_join,
        ended=ended,
        after_end=after_end,
        other_created_again=other_created_again,
        other_after_refusal=after_refusal,
        other_cancelled=cancelled,
        other_after_cancel=other.doctor.get(other.id),
    )


@dataclass(frozen=True, slots=True)
class LateJoin:
    """The first join of a call, after its start; `before` and `after` show the call."""

    call: Call
    before: Exchange
    join: Exchange
    after: Exchange


def play_late_join(calls: Calls, wait: Callable[[float], None]) -> LateJoin:
    """Send the requests of a `LateJoin`; `wait` sleeps for some seconds."""
    with calls.created.keeping(), _starting_soon(calls, within=timedelta(seconds=1)) as call:
        wait(_AHEAD + _LATE)
        before = call.doctor.get(call.id)
        join = call.patient.join(call.id)
        return LateJoin(call, before, join, call.doctor.get(call.id))


def _starting_soon(calls: Calls, *, within: timedelta | None = None) -> AbstractContextManager[Call]:
    margin = calls.backend.clock.margin - LEAST_MARGIN
    return calls.soon(minutes=0, seconds=_AHEAD + margin.total_seconds(), within=within)
