"""The stream of events: does what `_events` says. The blocking one is derived from the asynchronous one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from video_calls_sdk._errors import ConfigurationError
from video_calls_sdk._events import Action, Connect, Following, Receive, Task, Tell
from video_calls_sdk._flow import Authorize, Options
from video_calls_sdk._models import Event
from video_calls_sdk._transport import AsyncTransport

if TYPE_CHECKING:
    from video_calls_sdk._async_socket import AsyncSocket


class AsyncEventStream:
    """The events of the user's calls, as they happen; made by `AsyncVideoCallsClient.events`.

    ```python
    async with client.events() as events:
        async for event in events:
            print(event.type, event.data.call.id)
    ```

    `async with` opens the connection, and closes it at the end. Without it, the first event opens the
    connection, and the end of the loop closes it; after a `break` from an asynchronous loop, Python does so
    soon. One task, or one thread, iterates.
    """

    def __init__(self, transport: AsyncTransport, options: Options, after: str | None) -> None:
        self._transport = transport
        self._following = Following(options, after)
        self._flow = self._following.run()
        self._action: Action | None = None
        self._entered = False
        self._socket = _socket()

    @property
    def last_event_id(self) -> str | None:
        """The id of the event that came last, to go on from there another time with `after`."""
        return self._following.last_event_id

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
        """Close the connection and end the loop over it, from any task of the event loop, or from any thread.

        A handler of signals starts a thread for it, because it waits for locks that the loop may hold.
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
        """The next event, None where there is none any more, or once the connection is open."""
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
            # What was interrupted is done again.
            action = next(self._flow) if self._action is None else self._action
            self._action = action
            if isinstance(action, Tell):
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

    async def _carry_out(self, action: Task) -> Any:  # noqa: ANN401 (as many things as there are actions)
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
