"""Who may use the control API: whoever has the key or, where none is set, this machine alone.

It hands out everybody's tokens, so that a page of another site in the developer's browser must not reach it
either: the addresses that such a page's request names, in `Host` and `Origin`, are looked at too.
"""

import hmac
import ipaddress
from collections.abc import Callable
from urllib.parse import urlsplit

from litestar.types import ASGIApp, Receive, Scope, Send

from video_calls_server.api.middleware import header
from video_calls_server.control.errors import ControlError
from video_calls_server.settings import is_loopback

KEY_HEADER = "Video-Calls-Control-Key"

_KEY_HEADER = KEY_HEADER.lower().encode()


def guarded(key: str | None, *, allows_origin: Callable[[str], bool]) -> Callable[[ASGIApp], ASGIApp]:
    """A middleware that lets nobody pass but who may.

    Raises, of a request:
        ControlError: 401 where the key is missing or wrong; without one, 403 for what is from elsewhere.
    """

    def middleware(app: ASGIApp) -> ASGIApp:
        async def guard(scope: Scope, receive: Receive, send: Send) -> None:
            if key is not None:
                _check_key(scope, key)
            else:
                _check_place(scope, allows_origin)
            await app(scope, receive, send)

        return guard

    return middleware


def _check_key(scope: Scope, key: str) -> None:
    given = header(scope, _KEY_HEADER) or ""
    if not hmac.compare_digest(given.encode(), key.encode()):
        what = "is wrong" if given else "is missing"
        raise ControlError(f"the control key {what}; send it as {KEY_HEADER}", status=401, code="control_key")


def _check_place(scope: Scope, allows_origin: Callable[[str], bool]) -> None:
    client = scope.get("client")
    if client is not None and not _is_here(client[0]):
        raise _elsewhere(f"this request comes from {client[0]}")
    host = header(scope, b"host") or ""
    if not is_loopback(_hostname(f"//{host}")):
        raise _elsewhere(f"this request is addressed to {host[:100]!r}")
    origin = header(scope, b"origin")
    if origin is not None and not is_loopback(_hostname(origin)) and not allows_origin(origin):
        raise _elsewhere(f"this request comes from a page of {origin[:100]!r}")


def _elsewhere(what: str) -> ControlError:
    text = f"without a control key, control is for this machine alone, and {what}; set --control-key"
    return ControlError(text, status=403, code="control_key")


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_here(peer: str) -> bool:
    """Whether a peer is on this machine; one without an address is in this process, or at a socket of it."""
    try:
        return ipaddress.ip_address(peer).is_loopback
    except ValueError:
        return True
