"""Who may control the server: callers with the control key or, if no key is set, callers on this machine.

This check stands before everything that only a mock has: before a namespace is made, before a fault header is
obeyed, and before the control API. The control API hands out everybody's tokens, so that a page of another
site in the developer's browser must not reach it either, nor anybody through a proxy on this machine.
"""

import hmac
import re
from collections.abc import Callable

from litestar.types import ASGIApp, Receive, Scope, Send

from video_calls_server.api.parsing import header
from video_calls_server.control.refusals import ControlRefusal
from video_calls_server.settings import is_loopback

KEY_HEADER = "Video-Calls-Control-Key"

LOOPBACK_ORIGINS = r"https?://(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?"
"""The origins whose pages may read and write on this machine, as a regular expression."""

_KEY_HEADER = KEY_HEADER.lower().encode()
_LOOPBACK_ORIGIN = re.compile(LOOPBACK_ORIGINS, re.ASCII)
_OF_PROXIES = re.compile(rb"via|cdn-loop|x-original-.*|.*(forwarded|proxy).*|.*(-|client)ip|.*remote-addr")
"""The names of headers that proxies add. Browsers and HTTP clients send none of them to a server itself."""

_IN_PROCESS = "testclient"
"""The client's address in Litestar's and Starlette's test clients, which call the application directly."""


class Access:
    """The check of one server. `key` is its control key, None if it has none."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def check(self, scope: Scope, purpose: str = "") -> None:
        """Return if the caller may control the server.

        Args:
            scope: of the request.
            purpose: what the caller asked for, as the beginning of a sentence that ends in ": ".

        Raises:
            ControlRefusal: 401 if the key is missing or wrong; 403 if no key is set and the caller may not be
                on this machine.
        """
        if self._key is not None:
            _check_key(scope, self._key, purpose)
        else:
            _check_place(scope, purpose)


def access_middleware(access: Access) -> Callable[[ASGIApp], ASGIApp]:
    """Return a middleware that rejects callers who may not control the server."""

    def middleware(app: ASGIApp) -> ASGIApp:
        async def guard(scope: Scope, receive: Receive, send: Send) -> None:
            access.check(scope)
            await app(scope, receive, send)

        return guard

    return middleware


def _check_key(scope: Scope, key: str, purpose: str) -> None:
    given = header(scope, _KEY_HEADER) or ""
    if not hmac.compare_digest(given.encode(), key.encode()):
        text = f"{purpose}the control key is {'wrong' if given else 'missing'}; send it as {KEY_HEADER}"
        raise ControlRefusal(text, status=401, code="control_key")


def _check_place(scope: Scope, purpose: str) -> None:
    reason = _reason_against(scope)
    if reason is not None:
        text = f"{purpose}without a control key, control is for this machine alone, and this request {reason}"
        raise ControlRefusal(f"{text}; set --control-key", status=403, code="control_key")


def _reason_against(scope: Scope) -> str | None:
    """Return what shows that a request may not come from a program or a page of this machine."""
    client = scope.get("client")
    peer = client[0] if client else None
    if not peer:
        return "comes from an unknown address"
    if peer != _IN_PROCESS and not is_loopback(peer):
        return f"comes from {peer[:100]}"
    for name, _ in scope["headers"]:
        if _OF_PROXIES.fullmatch(name):
            return f"comes through a proxy, which sends {name.decode()}"
    host = header(scope, b"host") or ""
    if not _LOOPBACK_ORIGIN.fullmatch(f"http://{host.lower()}"):
        return f"is addressed to {host[:100]!r}"
    origin = header(scope, b"origin")
    if origin is not None:
        return None if _LOOPBACK_ORIGIN.fullmatch(origin) else f"comes from a page of {origin[:100]!r}"
    # Browsers send no Origin with an <img> or a link, but say where these stand.
    is_elsewhere = header(scope, b"sec-fetch-site") == "cross-site"
    return "comes from a page of another site" if is_elsewhere else None
