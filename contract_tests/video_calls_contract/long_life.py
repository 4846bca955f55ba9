"""What takes seconds to show: that times move, or stay, when the clock goes on; that a late join is welcome.

It is lived through in the background while the other tests run, on a pair that they leave alone.
"""

import threading
from dataclasses import dataclass

from video_calls_contract.exchange import Exchange
from video_calls_contract.scheduling import Calls

__all__ = ["GAP", "LongLife", "live_long"]

GAP = 1.2  # seconds, for backends that keep whole ones
_AHEAD = 4.0  # seconds until a call starts
_LATE = 1.5  # seconds after its start


@dataclass(frozen=True, slots=True)
class LongLife:
    """A call that was joined after its start, joined again and ended, with `GAP` seconds between; another
    that was refused a join and cancelled, seconds after it was made.

    Attributes:
        passed: whether the start had passed at the late join: what a backend's clock says cannot be known
            well enough if it differs from what its responses are dated.
    """

    passed: bool
    created: Exchange
    late_join: Exchange
    after_late_join: Exchange
    second_join: Exchange
    after_second_join: Exchange
    ended: Exchange
    after_end: Exchange
    other_created: Exchange
    other_refused: Exchange
    other_after_refusal: Exchange
    other_cancelled: Exchange
    other_after_cancel: Exchange


def live_long(calls: Calls) -> LongLife:
    """Live through it; `Blocked` where no call is to be had."""
    wait = threading.Event().wait
    other = calls.scheduled()
    with calls.soon(minutes=0, seconds=_AHEAD + calls.backend.clock.margin.total_seconds() - 20) as call:
        wait(_AHEAD + _LATE)
        late_join = call.doctor.join(call.id)
        after_late_join = call.doctor.get(call.id)
        refused = other.doctor.join(other.id)
        after_refusal = other.doctor.get(other.id)
        wait(GAP)
        second_join = call.patient.join(call.id)
        after_second_join = call.doctor.get(call.id)
        wait(GAP)
        ended = call.doctor.end(call.id)
        after_end = call.doctor.get(call.id)
    cancelled = other.patient.cancel(other.id)
    return LongLife(
        passed=calls.backend.clock.known,
        created=call.created,
        late_join=late_join,
        after_late_join=after_late_join,
        second_join=second_join,
        after_second_join=after_second_join,
        ended=ended,
        after_end=after_end,
        other_created=other.created,
        other_refused=refused,
        other_after_refusal=after_refusal,
        other_cancelled=cancelled,
        other_after_cancel=other.doctor.get(other.id),
    )
