"""Use the async client: book three calls at once, join and end the first, cancel the others.

VIDEO_CALLS_BASE_URL=http://127.0.0.1:8000/api/v1/video \
VIDEO_CALLS_TOKEN=$(video-calls-server token doctor@example.com) python examples/schedule_and_join_async.py
"""

import asyncio
from datetime import UTC, datetime, timedelta

from video_calls_sdk import AsyncVideoCallsClient


async def main() -> None:
    soon = datetime.now(UTC) + timedelta(minutes=10)
    times = [soon + number * timedelta(minutes=30) for number in range(3)]
    async with AsyncVideoCallsClient() as client:
        first, *others = await asyncio.gather(
            *(client.calls.create(doctor=1, patient=1, scheduled_time=time) for time in times)
        )
        print(f"{1 + len(others)} calls are booked, the first at {first.scheduled_time:%H:%M} UTC")

        credentials = await client.calls.join(first.id)
        print(f"uid {credentials.uid} may join {credentials.channel_name}")
        print(f"the first is {(await client.calls.end(first.id)).status}")

        for call in await asyncio.gather(*(client.calls.cancel(other.id) for other in others)):
            print(f"the one at {call.scheduled_time:%H:%M} UTC is {call.status}")


asyncio.run(main())
