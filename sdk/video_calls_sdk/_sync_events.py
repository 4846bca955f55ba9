# Derived from _async_events.py by `nox -s generate`. Edit that file, not this one.

"""The stream of events."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from video_calls_sdk._configuration import Options
from video_calls_sdk._errors import ConfigurationError
from video_calls_sdk._event_flow import Action, Connect, Deliver, EventFlow, Receive, Task
from video_calls_sdk._models import Event
from video_calls_sdk._operation_flow import Authorize
from video_calls_sdk._transport import Transport

if TYPE_CHECKING:
    from video_calls_sdk._sync_socket import Socket


class EventStream:
    """The events of the user's calls, as they happen. `VideoCallsClient.events` returns it.

    ```python
    with client.events() as events:
        for event in events:
            print(event.type, event.data.call.id)
    ```

    `with` opens the connection, and closes it at the end. Without this, iterating opens the connection,
    and the end of the loop closes it. After a `break` from an asynchronous loop, Python closes it soon after.
    Only one task or thread may iterate.
    """

    def __init__(self, transport: Transport, options: Options, after: str | None) -> None:
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

    def __iter__(self) -> Iterator[Event]:
        try:
            while (event := self._next()) is not None:
                yield event
        finally:
            if not self._entered:
                self.close()

    def __next__(self) -> Event:
        event = self._next()
        if event is None:
            raise StopIteration
        return event

    def close(self) -> None:
        """Close the connection, which ends the loop over the events.

        Any task of the event loop may call it; for a synchronous stream, any thread. A signal handler must
        call it from a new thread, because it may wait for a lock that the loop holds.
        """
        self._socket.close()

    def __enter__(self) -> EventStream:
        self._entered = True
        try:
            self._next(only_open=True)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _next(self, *, only_open: bool = False) -> Event | None:
        """Return the next event; None if the stream is closed.

        With `only_open`, return None as soon as the connection is open.
        """
        event = None
        with self._socket.iterating():
            try:
                event = self._follow(only_open=only_open)
            except Exception:
                self.close()
                raise
        return event

    def _follow(self, *, only_open: bool) -> Event | None:
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
                outcome = self._carry_out(action)
            except Exception as error:  # noqa: BLE001 (the flow decides what a failure means)
                self._action = self._flow.throw(error)
            else:
                self._action = self._flow.send(outcome)
        self._socket.close()
        return None

    def _carry_out(self, action: Task) -> Any:  # noqa: ANN401 (each action has its own outcome)
        if isinstance(action, Authorize):
            return self._transport.authorize(action)
        if isinstance(action, Connect):
            return self._socket.open(action)
        if isinstance(action, Receive):
            return self._socket.receive()
        return self._socket.wait(action.seconds)

    def __repr__(self) -> str:
        return f"<EventStream last_event_id={self.last_event_id!r}>"


def _socket() -> Socket:
    try:
        from video_calls_sdk._sync_socket import Socket
    except ModuleNotFoundError as error:
        raise ConfigurationError("events need websockets: pip install 'video-calls[events]'") from error
    return Socket()
