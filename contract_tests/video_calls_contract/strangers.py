"""What those who are not in a call may not do to it."""

from video_calls_contract.checks import FORBIDDEN, refused, unchanged
from video_calls_contract.scheduling import Call

__all__ = ["strangers_cannot"]


def strangers_cannot(action: str, call: Call) -> None:
    """Hold the backend to refusing them this action, one of `Person.act`, and to leaving the call as it is.

    Raises:
        Missing: the configuration has nobody else.
        Violation: it did not.
    """
    before = call.read()
    for stranger in call.pair.strangers:
        exchange = stranger.act(action, call.id)
        refused(exchange, *FORBIDDEN, because=f"the {stranger.name}, who is not in this call")
        unchanged(before, call.doctor, exchange)
