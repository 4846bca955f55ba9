"""Handle refusals: each rule of the API has its own exception.

VIDEO_CALLS_BASE_URL=http://127.0.0.1:8000/api/v1/video \
VIDEO_CALLS_TOKEN=$(video-calls-server token doctor@example.com) python examples/handle_errors.py
"""

from datetime import UTC, datetime, timedelta

from video_calls_sdk import (
    AuthenticationError,
    CallNotFoundError,
    ConnectionFailedError,
    DeadlineExceededError,
    JoinWindowError,
    SchedulingConflictError,
    StatusError,
    VideoCallsClient,
)

with VideoCallsClient(deadline=10.0) as client:
    try:
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        call = client.calls.create(doctor=1, patient=1, scheduled_time=tomorrow)
        try:
            client.calls.create(doctor=1, patient=1, scheduled_time=tomorrow + timedelta(minutes=20))
        except SchedulingConflictError as error:
            print(f"taken: {error.error}")
        try:
            client.calls.join(call.id)
        except JoinWindowError as error:
            print(f"too early: {error.error}")
        try:
            client.calls.get(999_999)
        except CallNotFoundError as error:
            print(f"gone: {error.error} (request id {error.request_id})")
        client.calls.cancel(call.id)
    except AuthenticationError:
        print("the token does not hold; get a new one")
    except StatusError as error:
        print(f"refused with {error.status}: {error.error} {error.fields or ''}")
    except (ConnectionFailedError, DeadlineExceededError) as error:
        print("the server may have acted:" if error.request_sent else "nothing was sent:", error)
