"""List every call of the user, page by page, without blocking.

VIDEO_CALLS_BASE_URL=http://127.0.0.1:8000/api/v1/video \
VIDEO_CALLS_TOKEN=$(video-calls-server token doctor@example.com) python examples/list_everything.py
"""

import asyncio

from video_calls_sdk import AsyncVideoCallsClient


async def main() -> None:
    async with AsyncVideoCallsClient() as client:
        page = await client.calls.list(page_size=100)
        print(f"{page.count} calls")
        async for call in page:
            print(call.id, call.scheduled_time.isoformat(), call.status, call.patient_details.user.full_name)


asyncio.run(main())
