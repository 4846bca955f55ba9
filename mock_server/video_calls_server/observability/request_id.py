"""The id and the path of the current request, for log lines."""

from contextvars import ContextVar
from urllib.parse import quote

from litestar.types import Scope

current_request_id: ContextVar[str] = ContextVar("request_id", default="-")


def sent_path(scope: Scope) -> str:
    """Return the path as the client sent it: percent-encoded, so that it contains no line break."""
    raw = scope.get("raw_path")
    return raw.decode("ascii", "backslashreplace") if raw else quote(scope["path"])
