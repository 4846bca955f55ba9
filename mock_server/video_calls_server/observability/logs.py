"""The log on the standard error stream, as lines of text or of JSON.

A message that has named arguments (`logger.info("%(method)s", {"method": "GET"})`) has them as fields of its
JSON, so that text and fields cannot differ, and the text costs what it did.
"""

import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import msgspec

from video_calls_server import tracing
from video_calls_server.settings import Settings

NOTHING = "-"
"""How the text says that a field has no value; JSON then has no such field."""

_TEXT = "%(asctime)s %(levelname)-7s %(message)s"


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
        if tracing.request_id.get() != NOTHING:
            fields["request_id"] = tracing.request_id.get()
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
    handler = logging.StreamHandler(sys.stderr)
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
