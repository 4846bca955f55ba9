"""Test without a server: respx responds with the examples of the contract.

python -m pip install -c constraints.txt -e ".[testing]"   (in a clone of the repository)
pytest examples/testing/test_booking_answers.py
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import respx
from booking import book_first_free, door
from video_calls_sdk import VideoCallsClient
from video_calls_sdk.testing import example_response


@pytest.fixture
def client() -> Iterator[VideoCallsClient]:
    with VideoCallsClient("https://api.example.com/api/v1/video", token="any", retries=0) as client:
        yield client


def test_booking_when_time_is_taken_uses_next(
    client: VideoCallsClient, video_calls_router: respx.MockRouter
) -> None:
    create = video_calls_router["createVideoCall"]
    create.side_effect = [
        example_response("createVideoCall", 400, "overlap"),
        example_response("createVideoCall"),
    ]
    times = [datetime(2030, 1, 5, 10, 0, tzinfo=UTC) + timedelta(minutes=30 * number) for number in range(3)]

    assert book_first_free(client, doctor=1, patient=1, times=times).status == "scheduled"
    attempted_times = [json.loads(call.request.content)["scheduled_time"] for call in create.calls]
    assert attempted_times == ["2030-01-05T10:00:00Z", "2030-01-05T10:30:00Z"]


@pytest.mark.parametrize(
    ("status", "example", "message"),
    [(200, None, "Welcome to call_"), (400, "early", "You are early"), (503, None, "being repaired")],
)
def test_door_shows_message_for_join_response(
    client: VideoCallsClient,
    video_calls_router: respx.MockRouter,
    status: int,
    example: str | None,
    message: str,
) -> None:
    video_calls_router["joinVideoCall"].return_value = example_response("joinVideoCall", status, example)
    assert message in door(client, 1)
