"""A worker with a handler for each type of event, which resumes after a restart without missing one.

VIDEO_CALLS_BASE_URL=http://127.0.0.1:8000/api/v1/video \
VIDEO_CALLS_TOKEN=$(video-calls-server token doctor@example.com) python examples/worker.py worker.db

worker.db has the id of the last handled event. After a crash, the event of the interrupted handler comes
again, and then the later ones. So a handler must accept an event twice; compare `event.id`. The table
`failed` has the events whose handlers failed. SIGTERM and Ctrl-C wait for the running handler. If tokens
expire, pass a function as the token, as in refresh_token.py.
"""

import signal
import sqlite3
import sys
import threading
import traceback
from collections.abc import Callable

from video_calls_sdk import Event, EventsExpiredError, EventType, VideoCallsClient

Handler = Callable[[Event], None]
HANDLERS: dict[str, Handler] = {}


def on(event_type: EventType) -> Callable[[Handler], Handler]:
    """Register the function as the handler of this type of event."""

    def register(handler: Handler) -> Handler:
        HANDLERS[event_type] = handler
        return handler

    return register


@on(EventType.CALL_STARTED)
def tell_the_reception(event: Event) -> None:
    call = event.data.call
    print(f"event {event.id}: {call.doctor_details.user.full_name} is in call {call.id}", flush=True)


@on(EventType.CALL_ENDED)
def write_an_invoice(event: Event) -> None:
    call = event.data.call
    print(f"event {event.id}: call {call.id} lasted from {call.started_at} to {call.ended_at}", flush=True)


class Progress:
    """The last handled event and the failed ones, in a file."""

    def __init__(self, path: str) -> None:
        self.database = sqlite3.connect(path)
        with self.database:
            self.database.execute("CREATE TABLE IF NOT EXISTS done (one INTEGER PRIMARY KEY, event_id)")
            self.database.execute("CREATE TABLE IF NOT EXISTS failed (event_id PRIMARY KEY, event, why)")

    def last(self) -> str | None:
        """Return the id of the last handled event."""
        row: tuple[str | None] | None = self.database.execute("SELECT event_id FROM done").fetchone()
        return row[0] if row else None

    def save(self, event_id: str | None) -> None:
        """Store this event as the last handled one."""
        with self.database:
            self.database.execute("INSERT OR REPLACE INTO done VALUES (1, ?)", (event_id,))

    def put_aside(self, event: Event) -> None:
        """Store an event whose handler has just failed, with the traceback."""
        row = event.id, event.model_dump_json(), traceback.format_exc()
        with self.database:
            self.database.execute("INSERT OR REPLACE INTO failed VALUES (?, ?, ?)", row)


def work(client: VideoCallsClient, progress: Progress) -> None:
    with client.events(after=progress.last()) as events:

        def stop(*_: object) -> None:
            # In a thread, because a signal handler cannot wait for locks of the code that it interrupted.
            threading.Thread(target=events.close).start()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        progress.save(events.last_event_id)  # store the start too, so that a first crash loses no event
        print(f"at work after event {events.last_event_id}", flush=True)
        for event in events:
            try:
                if handler := HANDLERS.get(event.type):
                    handler(event)
            except Exception:  # noqa: BLE001 (a failure must not stop the worker)
                progress.put_aside(event)
            progress.save(event.id)
    print("stopped", flush=True)


if __name__ == "__main__":
    progress = Progress(sys.argv[1])
    with VideoCallsClient() as client:
        try:
            work(client, progress)
        except EventsExpiredError:
            progress.save(None)
            sys.exit("events are no longer kept that were not done: look through the calls, then start again")
