"""3. Get Video Call Details."""

from functools import partial

import pytest

from video_calls_contract.checks import (
    FORBIDDEN,
    require,
    require_any_refusal,
    require_mistyped_ids_refused,
    require_refusal,
    require_same_call,
    require_success,
)
from video_calls_contract.exchange import Together
from video_calls_contract.scheduling import Calls
from video_calls_contract.users import Users

# "Retrieve details of a specific video call."


@pytest.mark.rule("get.returns-call")
def test_participant_reads_created_call(calls: Calls) -> None:
    for pair in calls.pairs:
        call = calls.scheduled(pair)
        for user in pair.participants:
            exchange = user.get(call.id)
            body = require_success(exchange, 200, call.creation, because="a participant who reads the call")
            require_same_call(
                call.creation.object,
                body,
                "the call to be read as it was created",
                user,
                call.creation,
                exchange,
            )


@pytest.mark.rule("get.returns-call")
@pytest.mark.parametrize("status", ["completed", "cancelled"])
def test_participant_reads_changed_call(calls: Calls, status: str) -> None:
    call = calls.completed() if status == "completed" else calls.cancelled()
    changed = call.steps[-1]
    for user in call.participants:
        exchange = user.get(call.id)
        body = require_success(exchange, 200, changed, because="a participant who reads the call")
        require_same_call(
            changed.object, body, f"the call to be read as it was {status}", user, changed, exchange
        )


# "404: Not Found"


@pytest.mark.rule("get.not-found")
def test_get_of_unknown_call_is_not_found(calls: Calls) -> None:
    for user in calls.pair.participants:
        require_refusal(user.get(user.backend.no_call), 404, because="a call that does not exist")


@pytest.mark.rule("get.not-found")
def test_get_with_mistyped_id_is_refused(calls: Calls) -> None:
    require_mistyped_ids_refused("get", calls.scheduled())


@pytest.mark.rule("errors.no-server-error")
@pytest.mark.parametrize(
    "call_id",
    [
        *(
            "0",
            "-1",
            "9223372036854775808",
            "1" + 30 * "0",
            "abc",
            "1.5",
            "1e3",
            "null",
            "%F0%9F%98%80",
            "1%27",
        ),
        *("00000000-0000-0000-0000-000000000000", "5ec0ffee-8d3a-4b6e-9f21-0c7d4ab95e1g", "a" * 65, "~"),
    ],
)
def test_invalid_id_is_refused(users: Users, together: Together, call_id: str) -> None:
    actions = ("get", "join", "end", "cancel")
    for exchange in together([partial(users.doctor.act, action, call_id) for action in actions]):
        require_any_refusal(exchange, f"the id {call_id}")


# "Users can only access their own video calls"


@pytest.mark.rule("get.participants-only")
def test_get_by_outsider_is_refused(calls: Calls) -> None:
    for pair in calls.pairs:
        call = calls.scheduled(pair)
        for outsider in pair.outsiders:
            exchange = outsider.get(call.id)
            require_refusal(exchange, *FORBIDDEN, because=f"the {outsider.name}, who is not in this call")
            require(
                str(call.creation.object.get("channel_name")) not in exchange.text,
                "the refusal to reveal nothing of the call; it holds the channel's name",
                exchange,
            )


@pytest.mark.rule("get.participants-only")
def test_get_of_closed_call_by_outsider_is_refused(calls: Calls) -> None:
    for call in (calls.cancelled(), calls.completed()):
        for outsider in call.pair.outsiders:
            require_refusal(
                outsider.get(call.id), *FORBIDDEN, because=f"the {outsider.name}, who was not in this call"
            )
