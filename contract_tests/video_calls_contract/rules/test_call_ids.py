"""3 to 6: the id of a call in the path of get, join, end and cancel."""

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

import pytest

from video_calls_contract.checks import require_any_refusal, require_refusal, require_unchanged
from video_calls_contract.created_calls import Call
from video_calls_contract.exchange import Together
from video_calls_contract.scheduling import Calls
from video_calls_contract.users import Users

ACTIONS = ("get", "join", "end", "cancel")
ENDINGS = ("abc", ".5", "%20or%201=1")
"""Texts to add to an id. Loosely typed languages read only the digits before such a text."""

each_action = pytest.mark.parametrize(
    "action", [pytest.param(action, marks=pytest.mark.rule(f"{action}.not-found")) for action in ACTIONS]
)


@contextmanager
def call_for(action: str, calls: Calls) -> Generator[Call]:
    """Schedule a call whose doctor may do an action, such as `end`."""
    if action in ("get", "cancel"):
        yield calls.scheduled()
        return
    with calls.soon() if action == "join" else calls.ongoing() as call:
        yield call


# "404: Not Found"


@each_action
def test_unknown_call_is_not_found(calls: Calls, action: str) -> None:
    for user in calls.pair.participants:
        exchange = user.act(action, user.backend.no_call)
        require_refusal(exchange, 404, because="a call that does not exist")


@each_action
def test_id_with_extra_characters_is_refused(calls: Calls, action: str) -> None:
    with call_for(action, calls) as call:
        before = call.read()
        for ending in ENDINGS:
            exchange = call.doctor.act(action, f"{call.id}{ending}")
            require_any_refusal(exchange, "an id that only begins like the id of a call", *call.steps)
            require_unchanged(before, call.doctor, exchange)


@pytest.mark.rule("errors.no-server-error")
@pytest.mark.parametrize(
    "call_id",
    [
        "0", "-1", "9223372036854775808", "1" + 30 * "0", "abc", "1.5", "1e3", "null", "%F0%9F%98%80", "1%27",
        "00000000-0000-0000-0000-000000000000", "5ec0ffee-8d3a-4b6e-9f21-0c7d4ab95e1g", "a" * 65, "~",
    ],
)  # fmt: skip
def test_invalid_id_is_refused(users: Users, together: Together, call_id: str) -> None:
    for exchange in together([partial(users.doctor.act, action, call_id) for action in ACTIONS]):
        require_any_refusal(exchange, f"the id {call_id}")
