"""3. Get Video Call Details."""

import pytest

from video_calls_contract.checks import (
    FORBIDDEN,
    require,
    require_refusal,
    require_same_call,
    require_success,
)
from video_calls_contract.scheduling import Calls

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
