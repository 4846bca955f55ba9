"""The log on the standard error stream, as lines of text or of JSON.

Named arguments, as in `logger.info("%(method)s", {"method": "GET"})`, become fields of the JSON.
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

from video_calls_server.observability.request_id import current_request_id
from video_calls_server.settings import Settings

NO_VALUE = "-"
"""A missing value in the text; the JSON then omits the field."""

QUEUE_SIZE = 10_000
"""The largest number of lines that wait to be written; further lines are dropped and counted."""

BATCH_INTERVAL = 0.02
"""Seconds between two writes; writing lines in batches makes requests faster."""

FLUSH_TIMEOUT = 1.0
"""Seconds for which an ending process waits until its output is read."""

_TEXT = "%(asctime)s %(levelname)-7s %(message)s"

logger = logging.getLogger("video_calls_server")


class Output:
    """Writes to a file descriptor in a thread. If no process reads the output, only this thread blocks.

    It does not use Python's streams, because a thread that blocks in a stream keeps the process from ending.
    """

    def __init__(self, descriptor: int) -> None:
        self._queue: SimpleQueue[bytes | Event] = SimpleQueue()
        Thread(target=_write_all, args=(descriptor, self._queue), daemon=True).start()

    @property
    def is_full(self) -> bool:
        """Whether `QUEUE_SIZE` texts wait to be written."""
        return self._queue.qsize() >= QUEUE_SIZE

    def write(self, text: str) -> None:
        """Queue the text for the next write."""
        self._queue.put(text.encode(errors="backslashreplace"))

    def flush(self) -> None:
        """Wait until all texts are written, at most for `FLUSH_TIMEOUT`."""
        is_written = Event()
        self._queue.put(is_written)
        is_written.wait(FLUSH_TIMEOUT)


def _write_all(descriptor: int, queue: "SimpleQueue[bytes | Event]") -> None:
    while True:
        items = [queue.get()]
        time.sleep(BATCH_INTERVAL)
        while not queue.empty():
            items.append(queue.get())
        with suppress(OSError):  # the reader has closed the pipe
            _write(descriptor, b"".join(item for item in items if isinstance(item, bytes)))
        for item in items:
            if isinstance(item, Event):
                item.set()


def _write(descriptor: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # another process has made the shared descriptor non-blocking
            select.select([], [descriptor], [])


class _LogHandler(logging.Handler):
    """Writes the log to an output, and reports how many lines it dropped."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record as a line, or drop it if the output is full."""
        if self._output.is_full:
            self._dropped += 1
            return
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            logger.warning(
                "%(dropped)d lines of the log were dropped, because nothing reads it", {"dropped": dropped}
            )
        self._output.write(f"{self.format(record)}\n")

    def flush(self) -> None:
        """Wait until the log is written. `logging` calls this when the process ends."""
        self._output.flush()


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON. `span_fields` returns the fields of the current span."""

    def __init__(self, span_fields: Callable[[], Mapping[str, str]] | None = None) -> None:
        super().__init__()
        self._span_fields = span_fields

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its line break."""
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if current_request_id.get() != NO_VALUE:
            fields["request_id"] = current_request_id.get()
        if self._span_fields is not None:
            fields.update(self._span_fields())
        if isinstance(record.args, Mapping):
            for name, value in record.args.items():
                if value != NO_VALUE:
                    fields.setdefault(name, value)
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        # A value that JSON cannot represent becomes text.
        return msgspec.json.encode(fields, enc_hook=str).decode()


def configure_logging(settings: Settings) -> None:
    """Configure the log of this process."""
    handler = (
        logging.NullHandler() if sys.__stderr__ is None else _LogHandler(Output(sys.__stderr__.fileno()))
    )
    handler.setFormatter(_formatter(settings))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    # The informational lines of these loggers only repeat lines of this server.
    for name in ("uvicorn.error", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _formatter(settings: Settings) -> logging.Formatter:
    if settings.log_format == "text":
        return logging.Formatter(_TEXT)
    if not settings.otel:
        return JsonFormatter()
    from video_calls_server.observability.spans import current_ids

    return JsonFormatter(current_ids)
