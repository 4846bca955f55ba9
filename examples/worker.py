"""A worker with a handler for each type of event, which goes on where it stopped and misses nothing.

VIDEO_CALLS_BASE_URL=http://127.0.0.1:8000/api/v1/video \
VIDEO_CALLS_TOKEN=$(video-calls-server token doctor@example.com) python examples/worker.py worker.db

How far it has come is in worker.db. An event is done once its handler has ended: after a crash the one that
was at work comes again, and then what happened meanwhile. So a handler has to bear an event that comes twice;
`event.id` tells. What a handler failed at is put aside in the table `failed`. SIGTERM and Ctrl-C let the
handler at work end. Where tokens expire, give the client a function for them, as in refresh_token.py.
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
    """Has the function called with each event of this type."""

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
    """How far the worker has come, in a file."""

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
        """All events up to this one are done."""
        with self.database:
            self.database.execute("INSERT OR REPLACE INTO done VALUES (1, ?)", (event_id,))

    def put_aside(self, event: Event) -> None:
        """Keep an event whose handler has just failed, with the reason."""
        row = event.id, event.model_dump_json(), traceback.format_exc()
        with self.database:
            self.database.execute("INSERT OR REPLACE INTO failed VALUES (?, ?, ?)", row)


def work(client: VideoCallsClient, progress: Progress) -> None:
    with client.events(after=progress.last()) as events:

        def stop(*_: object) -> None:
            # In a thread, for a handler of signals cannot wait for locks that the code below it holds.
            threading.Thread(target=events.close).start()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        progress.save(events.last_event_id)  # where it begins, too, so that the first crash loses nothing
        print(f"at work after event {events.last_event_id}", flush=True)
        for event in events:
            try:
                if handler := HANDLERS.get(event.type):
                    handler(event)
            except Exception:  # noqa: BLE001 (the next event is not to wait for this one)
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
