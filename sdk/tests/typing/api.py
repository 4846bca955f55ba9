"""Typed uses of the public surface: checked by mypy and pyright, both strict, and never run."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import assert_type

import httpx
from video_calls_sdk import (
    APIResponse,
    AsyncCallPage,
    AsyncEventStream,
    AsyncVideoCallsClient,
    CallPage,
    CallStatus,
    Event,
    EventsExpiredError,
    EventStream,
    EventType,
    Id,
    Participant,
    Retries,
    Role,
    SchedulingConflictError,
    VideoCall,
    VideoCallPage,
    VideoCallsClient,
)


def synchronous() -> None:
    with VideoCallsClient("https://api.example.com/api/v1/video", token=lambda: "jwt") as client:
        assert_type(client, VideoCallsClient)
        assert_type(client.calls.list(page=1, page_size=50), CallPage)
        assert_type(list(client.calls.list()), list[VideoCall])
        assert_type(client.calls.get(1), VideoCall)
        assert_type(client.calls.get("9f0c2b7e-5d1a-4c3b-8a60-1e2f3a4b5c6d").id, Id)
        assert_type(client.calls.with_response.get(1).data, VideoCall)
        assert_type(client.calls.with_response.list(), APIResponse[VideoCallPage])
        assert_type(client.with_options(timeout=1.0, deadline=None, retries=0), VideoCallsClient)
        client.with_options(timeout=httpx.Timeout(1.0), retries=Retries(attempts=1), headers={"a": "b"})


async def asynchronous() -> AsyncIterator[VideoCall]:
    async def token() -> str:
        return "jwt"

    async with AsyncVideoCallsClient(token=token) as client:
        assert_type(client, AsyncVideoCallsClient)
        page = await client.calls.list()
        assert_type(page, AsyncCallPage)
        assert_type(page.results, list[VideoCall])
        async for call in client.calls.list():
            yield assert_type(call, VideoCall)
        async for call in page:
            yield assert_type(call, VideoCall)
        assert_type((await client.calls.with_response.end(1)).data.ended_at, datetime | None)


def events(client: VideoCallsClient) -> list[Event]:
    with client.events(after="17") as stream:
        assert_type(stream, EventStream)
        assert_type(stream.last_event_id, str | None)
        assert_type(next(stream), Event)
        for event in stream:
            assert_type(event, Event)
        stream.close()
    return list(client.events())


async def asynchronous_events(client: AsyncVideoCallsClient) -> AsyncIterator[Event]:
    async with client.events(after="17") as stream:
        assert_type(stream, AsyncEventStream)
        assert_type(stream.last_event_id, str | None)
        assert_type(await anext(stream), Event)
        async for event in stream:
            yield assert_type(event, Event)
        await stream.aclose()


def kinds(event: Event, expired: EventsExpiredError) -> str | int:
    assert_type(event.data.participant, Participant | None)
    assert_type(event.data.call, VideoCall)
    assert_type((expired.code, expired.reason, expired.last_event_id), tuple[int, str, str | None])
    if event.data.participant and event.data.participant.role is Role.DOCTOR:
        return event.data.participant.uid
    match event.type:
        case EventType():
            return assert_type(event.type, EventType)
        case unknown:
            return assert_type(unknown, str)


def statuses(call: VideoCall) -> str:
    match call.status:
        case CallStatus.SCHEDULED | CallStatus.ONGOING:
            return "open"
        case CallStatus():
            return "closed"
        case unknown:
            return assert_type(unknown, str)


def errors(error: SchedulingConflictError) -> None:
    assert_type(error.status, int)
    assert_type(error.fields, dict[str, list[str]])
    assert_type(error.retry_after, float | None)


def wrong(client: VideoCallsClient, call: VideoCall) -> None:
    client.calls.get(1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.calls.create(1, 1, call.scheduled_time)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
