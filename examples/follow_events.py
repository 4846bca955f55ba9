"""Follow the events of the user's calls, here until a call has ended.

VIDEO_CALLS_BASE_URL=http://127.0.0.1:8000/api/v1/video \
VIDEO_CALLS_TOKEN=$(video-calls-server token doctor@example.com) python examples/follow_events.py
"""

from datetime import UTC, datetime, timedelta

from video_calls_sdk import EventType, VideoCallsClient

with VideoCallsClient() as client:
    call = client.calls.create(doctor=1, patient=1, scheduled_time=datetime.now(UTC) + timedelta(minutes=5))
    with client.events() as events:
        client.calls.join(call.id)
        client.calls.end(call.id)
        for event in events:
            person = event.data.participant
            who = f", {person.role} {person.uid}" if person else ""
            print(f"{event.type}: call {event.data.call.id} is {event.data.call.status}{who}")
            if event.type == EventType.CALL_ENDED:
                break
