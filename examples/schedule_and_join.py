"""Schedule a call ten minutes from now, join it as the doctor, and end it.

VIDEO_CALLS_BASE_URL=http://127.0.0.1:8000/api/v1/video \
VIDEO_CALLS_TOKEN=$(video-calls-server token doctor@example.com) python examples/schedule_and_join.py
"""

from datetime import UTC, datetime, timedelta

from video_calls_sdk import VideoCallsClient

with VideoCallsClient() as client:
    soon = datetime.now(UTC) + timedelta(minutes=10)
    call = client.calls.create(doctor=1, patient=1, scheduled_time=soon)
    print(f"call {call.id} is {call.status}, at {call.scheduled_time:%H:%M} UTC")

    credentials = client.calls.join(call.id)
    until = f"{credentials.expiration_time:%H:%M} UTC"
    print(f"uid {credentials.uid} may join {credentials.channel_name} until {until}")

    print(f"call {call.id} is {client.calls.end(call.id).status}")
