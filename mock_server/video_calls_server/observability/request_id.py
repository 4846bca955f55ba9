"""What log lines say of the request that is being served: its id and its path."""

from contextvars import ContextVar
from urllib.parse import quote

from litestar.types import Scope

request_id: ContextVar[str] = ContextVar("request_id", default="-")


def sent_path(scope: Scope) -> str:
    """Return the path as it was sent, percent-encoded, so that it cannot end a line of the log."""
    raw = scope.get("raw_path")
    return raw.decode("ascii", "backslashreplace") if raw else quote(scope["path"])
