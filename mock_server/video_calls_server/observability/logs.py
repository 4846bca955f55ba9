"""The log on the standard error stream, as lines of text or of JSON.

A message that has named arguments (`logger.info("%(method)s", {"method": "GET"})`) has them as fields of its
JSON, so that text and fields cannot differ, and the text costs what it did.
"""

import logging
import os
import select
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from queue import SimpleQueue
from threading import Event, Thread

import msgspec

from video_calls_server.observability import request_id
from video_calls_server.settings import Settings

NOTHING = "-"
"""How the text says that a field has no value; JSON then has no such field."""

WAITING = 10_000
"""How many lines of the log wait at most to be written; further ones are dropped and counted."""

GATHERING = 0.02
"""Seconds for which lines are gathered: one write for many costs a request less than a write for each."""

LAST_WORDS = 1.0
"""Seconds for which a process that ends waits until its output is read."""

_TEXT = "%(asctime)s %(levelname)-7s %(message)s"

logger = logging.getLogger("video_calls_server")


class Output:
    """Writes to a file descriptor in a thread, so that a parent process that reads nothing blocks nothing.

    It does not use Python's streams: a thread that is blocked in one of them keeps the process from ending.
    """

    def __init__(self, descriptor: int) -> None:
        self._queue: SimpleQueue[bytes | Event] = SimpleQueue()
        Thread(target=_write_all, args=(descriptor, self._queue), daemon=True).start()

    @property
    def is_full(self) -> bool:
        """Whether `WAITING` texts are not written yet."""
        return self._queue.qsize() >= WAITING

    def write(self, text: str) -> None:
        """Write the text soon."""
        self._queue.put(text.encode(errors="backslashreplace"))

    def flush(self) -> None:
        """Wait until everything is written, `LAST_WORDS` at most."""
        written = Event()
        self._queue.put(written)
        written.wait(LAST_WORDS)


def _write_all(descriptor: int, queue: "SimpleQueue[bytes | Event]") -> None:
    while True:
        items = [queue.get()]
        time.sleep(GATHERING)
        while not queue.empty():
            items.append(queue.get())
        with suppress(OSError):  # the reader is gone
            _write(descriptor, b"".join(item for item in items if isinstance(item, bytes)))
        for item in items:
            if isinstance(item, Event):
                item.set()


def _write(descriptor: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # another process that shares the descriptor has made it non-blocking
            select.select([], [descriptor], [])


class _LogHandler(logging.Handler):
    """Writes the log to an output, and says how many lines it had to drop."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record as a line, or drop it if nobody reads the log."""
        if self._output.is_full:
            self._dropped += 1
            return
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            logger.warning("%(dropped)d lines of the log are lost: nobody read it", {"dropped": dropped})
        self._output.write(f"{self.format(record)}\n")

    def flush(self) -> None:
        """Wait until the log is written; `logging` does so when the process ends."""
        self._output.flush()


class JsonFormatter(logging.Formatter):
    """One JSON object a line; `trace` are fields of the span that is being recorded."""

    def __init__(self, trace: Callable[[], Mapping[str, str]] | None = None) -> None:
        super().__init__()
        self._trace = trace

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id.request_id.get() != NOTHING:
            fields["request_id"] = request_id.request_id.get()
        if self._trace is not None:
            fields.update(self._trace())
        if isinstance(record.args, Mapping):
            for name, value in record.args.items():
                if value != NOTHING:
                    fields.setdefault(name, value)
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        # No message is lost for a value that JSON has no form for.
        return msgspec.json.encode(fields, enc_hook=str).decode()


def configure_logging(settings: Settings) -> None:
    """Write the log of this process as the settings say."""
    handler = (
        logging.NullHandler() if sys.__stderr__ is None else _LogHandler(Output(sys.__stderr__.fileno()))
    )
    handler.setFormatter(_formatter(settings))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    # Their lines repeat ours.
    for name in ("uvicorn.error", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _formatter(settings: Settings) -> logging.Formatter:
    if settings.log_format == "text":
        return logging.Formatter(_TEXT)
    if not settings.otel:
        return JsonFormatter()
    from video_calls_server.observability.spans import current_ids

    return JsonFormatter(current_ids)
