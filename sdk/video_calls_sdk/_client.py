# Derived from _async_client.py by `nox -s generate`. Edit that file, not this one.

"""The client: does what `_flow` says. The blocking client is derived from the asynchronous one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel

from video_calls_sdk._answers import Answers, APIResponse
from video_calls_sdk._configuration import (
    NOT_GIVEN,
    NotGiven,
    base_url_of,
    changed,
    token_of,
)
from video_calls_sdk._flow import (
    DEFAULT_DEADLINE,
    DEFAULT_TIMEOUT,
    Authorize,
    Options,
    Request,
    Retries,
    Send,
    carry_out,
    get_call,
    list_calls,
)
from video_calls_sdk._ids import Id
from video_calls_sdk._models import JoinCredentials, VideoCall, VideoCallPage
from video_calls_sdk._paging import CallPage
from video_calls_sdk._requests import cancel_call, create_call, end_call, join_call, page_query
from video_calls_sdk._sync_events import EventStream
from video_calls_sdk._transport import GetToken, Transport, sleep

Model = TypeVar("Model", bound=BaseModel)


class VideoCallsClient:
    """A client of the Video Calls API.

    ```python
    with VideoCallsClient("https://api.example.com/api/v1/video", token=jwt) as client:
        call = client.calls.create(doctor=1, patient=1, scheduled_time=tomorrow)
        credentials = client.calls.join(call.id)
    ```

    An asynchronous client serves many tasks of one event loop; a blocking client serves many threads, and may
    be used after a fork.

    Args:
        base_url: the API's root, such as `https://api.example.com/api/v1/video`; by default
            `VIDEO_CALLS_BASE_URL` of the environment.
        token: the JWT to send, or a function that returns one; it is called again once after a 401. For an
            asynchronous client, it may be asynchronous. By default `VIDEO_CALLS_TOKEN` of the environment.
        timeout: seconds that an attempt may go without progress, or an `httpx.Timeout`.
        deadline: seconds that an operation may take, all attempts and waits together; None for no limit. A
            blocking client with your own `http_client` or `transport` checks it between the parts of a body.
        retries: a policy, or how often to try again.
        headers: sent with every request, beside the client's own.
        answers: "strict" raises `InvalidResponseError` for each answer that departs from the contract;
            "lenient" reads what can be read, and a field that cannot raises `UnreadableFieldError` when it is
            used.
        http_client: an `httpx.Client` to send with, such as one with event hooks; it is never closed
            here.
        transport: an `httpx.BaseTransport` for the client's own `httpx.Client`.

    Raises:
        ConfigurationError: if an argument cannot be used, or both `http_client` and `transport` are given.
    """

    def __init__(
        self,
        base_url: str | None = None,
        token: str | GetToken | None = None,
        *,
        timeout: float | httpx.Timeout = DEFAULT_TIMEOUT,
        deadline: float | None = DEFAULT_DEADLINE,
        retries: Retries | int = Retries(),  # noqa: B008 (frozen)
        headers: Mapping[str, str] | None = None,
        answers: Answers = "strict",
        http_client: httpx.Client | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._options = changed(
            Options(base_url_of(base_url)),
            timeout=timeout,
            deadline=deadline,
            retries=retries,
            headers=headers,
            answers=answers,
        )
        self._transport = Transport(
            token if callable(token) else token_of(token),
            base_url=self._options.base_url,
            http_client=http_client,
            transport=transport,
        )
        self._owner = True

    @property
    def calls(self) -> Calls:
        """The operations on video calls."""
        return Calls(Exchange(self._transport, self._options))

    def events(self, *, after: str | None = None) -> EventStream:
        """Follow what happens to the user's calls ("Websocket Events").

        It needs `pip install 'video-calls[events]'`. An asynchronous client needs asyncio too, and not trio.

        ```python
        with client.events() as events:
            for event in events:
                if event.type == EventType.PARTICIPANT_JOINED:
                    print(event.data.participant, "joined call", event.data.call.id)
        ```

        A type that this version does not know is a plain str. A connection that is lost is made again, as
        often as it takes, with waits of up to 30 seconds, and goes on after the last event: none is lost, and
        none comes twice. The first connection is tried as `retries` and `deadline` say. A token that the
        server refuses, or that has expired, is asked for again. From one run of a program to the next:

        ```python
        for event in client.events(after=saved):
            saved = event.id
        ```

        The connection is one of its own: it has the client's token, headers and timeout, and the proxies and
        certificates of the environment, but does not go through `http_client` or `transport`. Closing the
        client does not end it.

        Args:
            after: the id of an event, to begin with what came after it; by default, with what happens from
                now on.

        Raises:
            ConfigurationError: `websockets` is not installed, or `after` is no str.

        Iterating, and `with`, raise:

        * `EventsNotOfferedError`: the backend has no events.
        * `EventsExpiredError`: what came after the last event is no longer kept.
        * `InvalidEventIdError`: `after` is no id of an event.
        * `EventsClosedError`: the server closed the connection for another lasting reason.
        * `AuthenticationError`: the token is refused, also after it was asked for again.
        * `ConnectionFailedError`, `DeadlineExceededError`, `ServerError`, `RateLimitedError`: there was no
          first connection.
        * `InvalidResponseError`: a message is no event.
        * `ConfigurationError`: another task or thread iterates already, this is trio, or the URL, the token
          or the environment's proxy cannot be used.
        """
        return EventStream(self._transport, self._options, after)

    def with_options(
        self,
        *,
        timeout: float | httpx.Timeout | NotGiven = NOT_GIVEN,
        deadline: float | NotGiven | None = NOT_GIVEN,
        retries: Retries | int | NotGiven = NOT_GIVEN,
        headers: Mapping[str, str] | None = None,
        answers: Answers | NotGiven = NOT_GIVEN,
    ) -> VideoCallsClient:
        """The same client with other options, for one operation or for many.

        It has the same connections and the same token, and closing it closes nothing. `headers` are added.

        ```python
        client.with_options(deadline=2.0, retries=0).calls.get(1)
        ```

        Raises:
            ConfigurationError: something given cannot be used.
        """
        other = object.__new__(VideoCallsClient)
        other._options = changed(
            self._options,
            timeout=timeout,
            deadline=deadline,
            retries=retries,
            headers=headers,
            answers=answers,
        )
        other._transport = self._transport
        other._owner = False
        return other

    def close(self) -> None:
        """Close the connections; a client that was made by the caller stays open."""
        if self._owner:
            self._transport.close()

    def __enter__(self) -> VideoCallsClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<VideoCallsClient {self._options.base_url}>"


class Exchange:
    """Does what `carry_out` says, over a transport."""

    def __init__(self, transport: Transport, options: Options) -> None:
        self._transport = transport
        self._options = options

    def run(self, request: Request[Model]) -> APIResponse[Model]:
        """The answer to a request."""
        flow = carry_out(request, self._options)
        try:
            action = next(flow)
            while True:
                try:
                    if isinstance(action, Send):
                        outcome: Any = self._transport.send(action)
                    elif isinstance(action, Authorize):
                        outcome = self._transport.authorize(action)
                    else:
                        outcome = None
                        sleep(action.seconds)
                except Exception as error:  # noqa: BLE001 (the flow decides what a failure means)
                    action = flow.throw(error)
                else:
                    action = flow.send(outcome)
        except StopIteration as done:
            response: APIResponse[Model] = done.value
            return response
        finally:
            flow.close()


class CallsWithResponse:
    """The operations of `Calls`, each with its status, headers and request id beside the model."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def list(self, *, page: int | None = None, page_size: int | None = None) -> APIResponse[VideoCallPage]:
        """See `Calls.list`; this is one page alone."""
        return self._exchange.run(list_calls(page_query(page, page_size)))

    def create(
        self, *, doctor: Id, patient: Id, scheduled_time: datetime, idempotency_key: str | None = None
    ) -> APIResponse[VideoCall]:
        """See `Calls.create`."""
        return self._exchange.run(create_call(doctor, patient, scheduled_time, idempotency_key))

    def get(self, id: Id) -> APIResponse[VideoCall]:
        """See `Calls.get`."""
        return self._exchange.run(get_call(id))

    def join(self, id: Id) -> APIResponse[JoinCredentials]:
        """See `Calls.join`."""
        return self._exchange.run(join_call(id))

    def end(self, id: Id) -> APIResponse[VideoCall]:
        """See `Calls.end`."""
        return self._exchange.run(end_call(id))

    def cancel(self, id: Id) -> APIResponse[VideoCall]:
        """See `Calls.cancel`."""
        return self._exchange.run(cancel_call(id))


class Calls:
    """The operations on video calls, each as the contract has it.

    Each raises `AuthenticationError`, `RateLimitedError`, `ServerError`, `ConnectionFailedError`,
    `DeadlineExceededError` or `InvalidResponseError` beside what it names, another `StatusError` where a
    backend refuses in a way of its own, and `ConfigurationError` if the client is closed, the token cannot be
    sent, or an id is no `Id` that can be sent.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    @property
    def with_response(self) -> CallsWithResponse:
        """The same operations, each with its status, headers and request id beside the model.

        ```python
        answer = client.calls.with_response.get(1)
        print(answer.data.status, answer.request_id)
        ```
        """
        return CallsWithResponse(self._exchange)

    def list(self, *, page: int | None = None, page_size: int | None = None) -> CallPage:
        """The user's calls, newest `scheduled_time` first ("1. List Video Calls").

        It is one page, with `count` and `results`; iterating over it goes on to the pages after it.

        ```python
        page = client.calls.list(page_size=50)
        print(page.count, page.results)
        for call in client.calls.list():
            print(call.id, call.status)
        ```

        Args:
            page: the page to begin with, counted from 1.
            page_size: calls on a page, from 1 to 100; by default as many as the server chooses.

        Raises:
            InvalidFieldsError: `page_size` is out of its bounds; a backend may also bound it without a word.
            PageNotFoundError: there is no such page.
        """
        return CallPage(self._exchange.run, page_query(page, page_size))

    def create(
        self, *, doctor: Id, patient: Id, scheduled_time: datetime, idempotency_key: str | None = None
    ) -> VideoCall:
        """Schedule a call between a doctor and a patient ("2. Create Video Call").

        However often it has to be sent, one call is made: see `idempotency_key`.

        Args:
            doctor: the doctor's id (not their user's), as the backend gives it: an int or a str.
            patient: the patient's id (not their user's).
            scheduled_time: when it is to start: aware, with any offset, in the future.
            idempotency_key: names this call through all attempts, by default a new one; give your own to
                repeat a request after your program was restarted.

        Raises:
            NaiveDatetimeError: `scheduled_time` has no offset; nothing was sent.
            ConfigurationError: an id is not a valid `Id`, `scheduled_time` no datetime, or beyond what
                UTC can tell, or `idempotency_key` not of visible ASCII characters; nothing was sent.
            InvalidFieldsError: an id is not of the backend's form, or `idempotency_key` has more than 255
                characters.
            SchedulingConflictError: either has another call within 30 minutes.
            ScheduledInPastError: `scheduled_time` is not in the future.
            SameUserError: doctor and patient are one user.
            UnknownParticipantError: there is no such doctor or patient.
            InactiveParticipantError: one of the two is deactivated.
            NotParticipantError: the user is neither the doctor nor the patient.
            IdempotencyKeyReusedError: the key was used for another call.
        """
        request = create_call(doctor, patient, scheduled_time, idempotency_key)
        return (self._exchange.run(request)).data

    def get(self, id: Id) -> VideoCall:
        """One call ("3. Get Video Call Details").

        Raises:
            CallNotFoundError: there is no such call.
            NotParticipantError: it is a call of others.
        """
        return (self._exchange.run(get_call(id))).data

    def join(self, id: Id) -> JoinCredentials:
        """Agora credentials for a call's channel, good for an hour ("4. Join Video Call").

        The first join starts the call; it may be joined again, for a fresh token.

        Raises:
            JoinWindowError: it is more than 15 minutes before the call's time.
            CallCancelledError: the call is cancelled.
            CallCompletedError: the call is completed.
            CallNotFoundError: there is no such call.
            NotParticipantError: it is a call of others.
        """
        return (self._exchange.run(join_call(id))).data

    def end(self, id: Id) -> VideoCall:
        """End an ongoing call ("5. End Video Call"), and return it completed.

        Raises:
            CallNotOngoingError: the call is not ongoing.
            CallNotFoundError: there is no such call.
            NotParticipantError: it is a call of others.
        """
        return (self._exchange.run(end_call(id))).data

    def cancel(self, id: Id) -> VideoCall:
        """Cancel a scheduled call ("6. Cancel Video Call"), and return it cancelled.

        Raises:
            CallNotScheduledError: the call is not scheduled.
            CallNotFoundError: there is no such call.
            NotParticipantError: it is a call of others.
        """
        return (self._exchange.run(cancel_call(id))).data
