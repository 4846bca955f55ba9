# `nox -s generate` derives _sync_client.py from this file.

"""The client and its operations."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar

import anyio
import httpx
from pydantic import BaseModel

from video_calls_sdk._async_events import AsyncEventStream
from video_calls_sdk._configuration import (
    DEFAULT_DEADLINE,
    DEFAULT_TIMEOUT,
    NOT_GIVEN,
    NotGiven,
    Options,
    Retries,
    checked_base_url,
    static_token,
)
from video_calls_sdk._ids import Id
from video_calls_sdk._models import JoinCredentials, VideoCall, VideoCallPage
from video_calls_sdk._operation_flow import Authorize, Send, carry_out
from video_calls_sdk._paging import AsyncCallList
from video_calls_sdk._requests import (
    Request,
    cancel_call,
    create_call,
    end_call,
    get_call,
    join_call,
    list_calls,
    page_query,
)
from video_calls_sdk._responses import Answers, APIResponse
from video_calls_sdk._transport import AsyncGetToken, AsyncTransport

Model = TypeVar("Model", bound=BaseModel)


class AsyncVideoCallsClient:
    """A client of the Video Calls API.

    ```python
    async with AsyncVideoCallsClient("https://api.example.com/api/v1/video", token=jwt) as client:
        call = await client.calls.create(doctor=1, patient=1, scheduled_time=tomorrow)
        credentials = await client.calls.join(call.id)
    ```

    Many tasks of one event loop can share an asynchronous client. Many threads can share a synchronous
    client, which can also be used after a fork.

    Args:
        base_url: the API's root, such as `https://api.example.com/api/v1/video`; by default
            `VIDEO_CALLS_BASE_URL` of the environment.
        token: the JWT to send, or a function that returns one, which the client calls again after a 401. An
            asynchronous client accepts an asynchronous function too. By default `VIDEO_CALLS_TOKEN` of the
            environment.
        timeout: seconds that an attempt may wait without progress, or an `httpx.Timeout`.
        deadline: seconds that an operation may take, all attempts and waits together; None for no limit. A
            synchronous client with your own `http_client` or `transport` checks it only between the parts of
            a body.
        retries: a policy, or the number of retries.
        headers: sent with every request, in addition to the client's own.
        answers: "strict" raises `InvalidResponseError` if a response departs from the contract. "lenient"
            reads the valid fields; an invalid field raises `UnreadableFieldError` when it is used.
        http_client: an `httpx.AsyncClient` to send with, such as one with event hooks. The client never
            closes it.
        transport: an `httpx.AsyncBaseTransport` for the client's own `httpx.AsyncClient`.

    Raises:
        ConfigurationError: if an argument cannot be used, or if you pass both `http_client` and `transport`.
    """

    def __init__(
        self,
        base_url: str | None = None,
        token: str | AsyncGetToken | None = None,
        *,
        timeout: float | httpx.Timeout = DEFAULT_TIMEOUT,
        deadline: float | None = DEFAULT_DEADLINE,
        retries: Retries | int = Retries(),  # noqa: B008 (frozen)
        headers: Mapping[str, str] | None = None,
        answers: Answers = "strict",
        http_client: httpx.AsyncClient | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._options = Options(checked_base_url(base_url)).replace(
            timeout=timeout,
            deadline=deadline,
            retries=retries,
            headers=headers,
            answers=answers,
        )
        self._transport = AsyncTransport(
            token if callable(token) else static_token(token),
            base_url=self._options.base_url,
            http_client=http_client,
            transport=transport,
        )
        self._owner = True

    @property
    def calls(self) -> AsyncCalls:
        """Return the operations on video calls."""
        return AsyncCalls(AsyncDriver(self._transport, self._options))

    def events(self, *, after: str | None = None) -> AsyncEventStream:
        """Return the stream of the events of the user's calls ("Websocket Events").

        Events need `pip install 'video-calls[events]'`. An asynchronous client needs asyncio; trio does not
        work.

        ```python
        async with client.events() as events:
            async for event in events:
                if event.type == EventType.PARTICIPANT_JOINED:
                    print(event.data.participant, "joined call", event.data.call.id)
        ```

        `event.type` is a plain str if this version does not know the type. The stream re-establishes lost
        connections (backoff up to 30 seconds) and resumes after the last event, without gaps or duplicates.
        `retries` and `deadline` apply to the first connection. If the token is refused or expires, the stream
        calls your token function again. To resume in the next run of a program, save the id of the last
        event:

        ```python
        async for event in client.events(after=saved):
            saved = event.id
        ```

        The stream has its own connection, which stays open when you close the client. The connection uses the
        client's token, headers and timeout, and the proxies and certificates of the environment, but not
        `http_client` or `transport`.

        Args:
            after: the id of an event; the stream begins with the next event. By default, it begins with
                the next event that happens.

        Raises:
            ConfigurationError: if `websockets` is not installed, or if `after` is not a str.

        Iterating, and `async with`, raise:

        * `EventsNotOfferedError`: if the backend has no events.
        * `EventsExpiredError`: if the server no longer keeps the events after `after`.
        * `InvalidEventIdError`: if `after` is not the id of an event.
        * `EventsClosedError`: if the server closed the connection for another reason, and a reconnect would
          not help.
        * `AuthenticationError`: if the server refuses the token, and also the next token of your function.
        * `ConnectionFailedError`, `DeadlineExceededError`, `ServerError`, `RateLimitedError`: if the first
          connection fails.
        * `InvalidResponseError`: if a message is not an event.
        * `ConfigurationError`: if another task or thread is iterating, if trio runs the loop, or if the URL,
          the token or the environment's proxy cannot be used.
        """
        return AsyncEventStream(self._transport, self._options, after)

    def with_options(
        self,
        *,
        timeout: float | httpx.Timeout | NotGiven = NOT_GIVEN,
        deadline: float | NotGiven | None = NOT_GIVEN,
        retries: Retries | int | NotGiven = NOT_GIVEN,
        headers: Mapping[str, str] | None = None,
        answers: Answers | NotGiven = NOT_GIVEN,
    ) -> AsyncVideoCallsClient:
        """Return a client with other options, for one operation or for many.

        The new client shares the connections and the token of this client, so closing the new client closes
        nothing. It sends its `headers` in addition to those of this client.

        ```python
        await client.with_options(deadline=2.0, retries=0).calls.get(1)
        ```

        Raises:
            ConfigurationError: if an argument cannot be used.
        """
        other = object.__new__(AsyncVideoCallsClient)
        other._options = self._options.replace(
            timeout=timeout,
            deadline=deadline,
            retries=retries,
            headers=headers,
            answers=answers,
        )
        other._transport = self._transport
        other._owner = False
        return other

    async def aclose(self) -> None:
        """Close the connections of the client. An `http_client` that you passed stays open."""
        if self._owner:
            await self._transport.aclose()

    async def __aenter__(self) -> AsyncVideoCallsClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<AsyncVideoCallsClient {self._options.base_url}>"


class AsyncDriver:
    """Performs the actions that `carry_out` yields, with a transport."""

    def __init__(self, transport: AsyncTransport, options: Options) -> None:
        self._transport = transport
        self._options = options

    async def run(self, request: Request[Model]) -> APIResponse[Model]:
        """Send a request, and return the response."""
        flow = carry_out(request, self._options)
        try:
            action = next(flow)
            while True:
                try:
                    if isinstance(action, Send):
                        outcome: Any = await self._transport.send(action)
                    elif isinstance(action, Authorize):
                        outcome = await self._transport.authorize(action)
                    else:
                        outcome = None
                        await anyio.sleep(action.seconds)
                except Exception as error:  # noqa: BLE001 (the flow decides what a failure means)
                    action = flow.throw(error)
                else:
                    action = flow.send(outcome)
        except StopIteration as stop:
            response: APIResponse[Model] = stop.value
            return response
        finally:
            flow.close()


class AsyncCallsWithResponse:
    """The operations of `AsyncCalls`. Each returns the model together with status, headers and request id."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver

    async def list(
        self, *, page: int | None = None, page_size: int | None = None
    ) -> APIResponse[VideoCallPage]:
        """Return one page; see `AsyncCalls.list`."""
        return await self._driver.run(list_calls(page_query(page, page_size)))

    async def create(
        self, *, doctor: Id, patient: Id, scheduled_time: datetime, idempotency_key: str | None = None
    ) -> APIResponse[VideoCall]:
        """Schedule a call; see `AsyncCalls.create`."""
        return await self._driver.run(create_call(doctor, patient, scheduled_time, idempotency_key))

    async def get(self, id: Id) -> APIResponse[VideoCall]:
        """Return a call; see `AsyncCalls.get`."""
        return await self._driver.run(get_call(id))

    async def join(self, id: Id) -> APIResponse[JoinCredentials]:
        """Return Agora credentials; see `AsyncCalls.join`."""
        return await self._driver.run(join_call(id))

    async def end(self, id: Id) -> APIResponse[VideoCall]:
        """End a call; see `AsyncCalls.end`."""
        return await self._driver.run(end_call(id))

    async def cancel(self, id: Id) -> APIResponse[VideoCall]:
        """Cancel a call; see `AsyncCalls.cancel`."""
        return await self._driver.run(cancel_call(id))


class AsyncCalls:
    """The six operations on video calls.

    Each operation can also raise `AuthenticationError`, `RateLimitedError`, `ServerError`,
    `ConnectionFailedError`, `DeadlineExceededError` or `InvalidResponseError`. It raises another
    `StatusError` if a backend refuses for a reason of its own, and `ConfigurationError` if the client is
    closed, or if the token or an id cannot be sent.
    """

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver

    @property
    def with_response(self) -> AsyncCallsWithResponse:
        """Return the same operations; their results include status, headers and request id.

        ```python
        response = await client.calls.with_response.get(1)
        print(response.data.status, response.request_id)
        ```
        """
        return AsyncCallsWithResponse(self._driver)

    def list(self, *, page: int | None = None, page_size: int | None = None) -> AsyncCallList:
        """Return the user's calls, newest `scheduled_time` first ("1. List Video Calls").

        The result is one page, with `count` and `results`. Iterating over it fetches the following pages too.

        ```python
        page = await client.calls.list(page_size=50)
        print(page.count, page.results)
        async for call in client.calls.list():
            print(call.id, call.status)
        ```

        Args:
            page: the page to begin with, counted from 1.
            page_size: the number of calls on a page, from 1 to 100; by default the server chooses.

        Raises:
            InvalidFieldsError: if `page_size` is out of bounds; some backends use the nearest size instead.
            PageNotFoundError: if there is no such page.
        """
        return AsyncCallList(self._driver.run, page_query(page, page_size))

    async def create(
        self, *, doctor: Id, patient: Id, scheduled_time: datetime, idempotency_key: str | None = None
    ) -> VideoCall:
        """Schedule a call between a doctor and a patient ("2. Create Video Call").

        Retries create one call, because all attempts have the same `idempotency_key`.

        Args:
            doctor: the id of the doctor, not of the doctor's user, as the backend sends it: an int or a str.
            patient: the id of the patient, not of the patient's user.
            scheduled_time: when the call starts: aware, with any offset, in the future.
            idempotency_key: identifies this call in all attempts; by default a new key. Pass your own to
                repeat a request after a restart of your program.

        Raises:
            NaiveDatetimeError: if `scheduled_time` has no offset; nothing was sent.
            ConfigurationError: if an id is not a valid `Id`, `scheduled_time` is not a datetime or has no
                equivalent in UTC, or `idempotency_key` is not visible ASCII; nothing was sent.
            InvalidFieldsError: if the backend has ids of another form, or if `idempotency_key` has more than
                255 characters.
            SchedulingConflictError: if the doctor or the patient has another call within 30 minutes.
            ScheduledInPastError: if `scheduled_time` is not in the future.
            SameUserError: if doctor and patient are the same user.
            UnknownParticipantError: if there is no such doctor or patient.
            InactiveParticipantError: if the doctor or the patient is deactivated.
            NotParticipantError: if the user is neither the doctor nor the patient.
            IdempotencyKeyReusedError: if the key was used for another call.
        """
        request = create_call(doctor, patient, scheduled_time, idempotency_key)
        return (await self._driver.run(request)).data

    async def get(self, id: Id) -> VideoCall:
        """Return a call ("3. Get Video Call Details").

        Raises:
            CallNotFoundError: if there is no such call.
            NotParticipantError: if the user is neither the doctor nor the patient.
        """
        return (await self._driver.run(get_call(id))).data

    async def join(self, id: Id) -> JoinCredentials:
        """Return Agora credentials for a call's channel, valid for an hour ("4. Join Video Call").

        The first join starts the call. Each later join returns a new token.

        Raises:
            JoinWindowError: if the call starts in more than 15 minutes.
            CallCancelledError: if the call is cancelled.
            CallCompletedError: if the call is completed.
            CallNotFoundError: if there is no such call.
            NotParticipantError: if the user is neither the doctor nor the patient.
        """
        return (await self._driver.run(join_call(id))).data

    async def end(self, id: Id) -> VideoCall:
        """End an ongoing call ("5. End Video Call"), and return it completed.

        Raises:
            CallNotOngoingError: if the call is not ongoing.
            CallNotFoundError: if there is no such call.
            NotParticipantError: if the user is neither the doctor nor the patient.
        """
        return (await self._driver.run(end_call(id))).data

    async def cancel(self, id: Id) -> VideoCall:
        """Cancel a scheduled call ("6. Cancel Video Call"), and return it cancelled.

        Raises:
            CallNotScheduledError: if the call is not scheduled.
            CallNotFoundError: if there is no such call.
            NotParticipantError: if the user is neither the doctor nor the patient.
        """
        return (await self._driver.run(cancel_call(id))).data
