"""Use the SDK in a web framework: shared connections, and for each request a client with the user's token.

VIDEO_CALLS_BASE_URL=http://127.0.0.1:8000/api/v1/video uvicorn --app-dir examples web_handler:app --port 8001
curl -H "Authorization: Bearer $(video-calls-server token doctor@example.com)" http://127.0.0.1:8001/next-call
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
from litestar import Litestar, Request, Response, get
from litestar.datastructures import State
from litestar.exceptions import NotAuthorizedException
from video_calls_sdk import (
    AsyncVideoCallsClient,
    CallStatus,
    ConfigurationError,
    StatusError,
    VideoCallsError,
)


@asynccontextmanager
async def connections(app: Litestar) -> AsyncIterator[None]:
    async with httpx.AsyncClient() as http:  # shared by all requests; the clients never close it
        app.state.http = http
        yield


@get("/next-call")
async def next_call(request: Request[Any, Any, Any], state: State) -> dict[str, str | int] | None:
    """Return the user's next call, requested with the user's own token."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme != "Bearer":
        raise NotAuthorizedException
    client = AsyncVideoCallsClient(token=token, http_client=state.http)
    coming = [
        call
        async for call in client.calls.list()
        if call.status == CallStatus.SCHEDULED and call.scheduled_time > datetime.now(UTC)
    ]
    if not coming:
        return None
    call = min(coming, key=lambda call: call.scheduled_time)
    return {
        "id": call.id,
        "at": call.scheduled_time.isoformat(),
        "doctor": call.doctor_details.user.full_name,
        "patient": call.patient_details.user.full_name,
    }


def failed(_: Request[Any, Any, Any], error: VideoCallsError) -> Response[dict[str, str]]:
    if isinstance(error, StatusError) and error.status < 500:
        return Response({"error": error.error}, status_code=error.status)
    if isinstance(error, ConfigurationError):  # not a token
        return Response({"error": "unauthorized"}, status_code=401)
    return Response({"error": "video calls are unavailable"}, status_code=502)


app = Litestar([next_call], lifespan=[connections], exception_handlers={VideoCallsError: failed})
