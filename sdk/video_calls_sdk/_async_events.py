# `nox -s generate` derives _sync_events.py from this file.

"""The stream of events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from video_calls_sdk._configuration import Options
from video_calls_sdk._errors import ConfigurationError
from video_calls_sdk._event_flow import Action, Connect, Deliver, EventFlow, Receive, Task
from video_calls_sdk._models import Event
from video_calls_sdk._operation_flow import Authorize
from video_calls_sdk._transport import AsyncTransport

if TYPE_CHECKING:
    from video_calls_sdk._async_socket import AsyncSocket


class AsyncEventStream:
    """The events of the user's calls, as they happen. `AsyncVideoCallsClient.events` returns it.

    ```python
    async with client.events() as events:
        async for event in events:
            print(event.type, event.data.call.id)
    ```

    `async with` opens the connection, and closes it at the end. Without this, iterating opens the connection,
    and the end of the loop closes it. After a `break` from an asynchronous loop, Python closes it soon after.
    Only one task or thread may iterate.
    """

    def __init__(self, transport: AsyncTransport, options: Options, after: str | None) -> None:
        self._transport = transport
        self._event_flow = EventFlow(options, after)
        self._flow = self._event_flow.run()
        self._action: Action | None = None
        self._entered = False
        self._socket = _socket()

    @property
    def last_event_id(self) -> str | None:
        """Return the id of the last event, to resume after it with `after`."""
        return self._event_flow.last_event_id

    async def __aiter__(self) -> AsyncIterator[Event]:
        try:
            while (event := await self._next()) is not None:
                yield event
        finally:
            if not self._entered:
                await self.aclose()

    async def __anext__(self) -> Event:
        event = await self._next()
        if event is None:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Close the connection, which ends the loop over the events.

        Any task of the event loop may call it; for a synchronous stream, any thread. A signal handler must
        call it from a new thread, because it may wait for a lock that the loop holds.
        """
        await self._socket.aclose()

    async def __aenter__(self) -> AsyncEventStream:
        self._entered = True
        try:
            await self._next(only_open=True)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _next(self, *, only_open: bool = False) -> Event | None:
        """Return the next event; None if the stream is closed.

        With `only_open`, return None as soon as the connection is open.
        """
        event = None
        with self._socket.iterating():
            try:
                event = await self._follow(only_open=only_open)
            except Exception:
                await self.aclose()
                raise
        return event

    async def _follow(self, *, only_open: bool) -> Event | None:
        while not self._socket.is_closed:
            # A cancellation leaves the action in `self._action`, and the next call performs it again.
            action = next(self._flow) if self._action is None else self._action
            self._action = action
            if isinstance(action, Deliver):
                self._action = None
                return action.event
            if only_open and isinstance(action, Receive):
                return None
            try:
                outcome = await self._carry_out(action)
            except Exception as error:  # noqa: BLE001 (the flow decides what a failure means)
                self._action = self._flow.throw(error)
            else:
                self._action = self._flow.send(outcome)
        await self._socket.aclose()
        return None

    async def _carry_out(self, action: Task) -> Any:  # noqa: ANN401 (each action has its own outcome)
        if isinstance(action, Authorize):
            return await self._transport.authorize(action)
        if isinstance(action, Connect):
            return await self._socket.open(action)
        if isinstance(action, Receive):
            return await self._socket.receive()
        return await self._socket.wait(action.seconds)

    def __repr__(self) -> str:
        return f"<AsyncEventStream last_event_id={self.last_event_id!r}>"


def _socket() -> AsyncSocket:
    try:
        from video_calls_sdk._async_socket import AsyncSocket
    except ModuleNotFoundError as error:
        raise ConfigurationError("events need websockets: pip install 'video-calls[events]'") from error
    return AsyncSocket()
