"""Ids with a mistake in them: what begins like the id of a call is not that call."""

from video_calls_contract.checks import require, unchanged
from video_calls_contract.scheduling import Call

__all__ = ["mistyped_ids_are_refused"]

_ENDINGS = ("abc", ".5", "%20or%201=1")
"""What follows the id; loosely typed languages read the digits before it."""


def mistyped_ids_are_refused(action: str, call: Call) -> None:
    """Hold the backend to refusing this action, one of `Person.act`, at ids that only begin like the call's.

    Raises:
        Violation: if it takes one for the call's.
    """
    before = call.read()
    for ending in _ENDINGS:
        exchange = call.doctor.act(action, f"{call.id}{ending}")
        require(
            400 <= exchange.status < 500,  # noqa: PLR2004 (HTTP)
            f"400 or 404, for an id that only begins like that of a call; got {exchange.answer}",
            *call.steps,
            exchange,
        )
        unchanged(before, call.doctor, exchange)
