"""Decide who may control the server: callers with the control key or, if no key is set, on this machine.

The server checks this before the control API handles a request, before it creates a namespace, and before it
applies a fault from a request's header. The control API issues tokens for every user. Therefore a server
without a key also refuses pages of other sites in the developer's browser, and requests through a proxy on
this machine.
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
"""A regular expression for the origins of pages on this machine."""

_KEY_HEADER = KEY_HEADER.lower().encode()
_LOOPBACK_ORIGIN = re.compile(LOOPBACK_ORIGINS, re.ASCII)
_PROXY_HEADER = re.compile(rb"via|cdn-loop|x-original-.*|.*(forwarded|proxy).*|.*(-|client)ip|.*remote-addr")
"""The names of headers that proxies add. Browsers and HTTP clients do not send them to a server directly."""

_IN_PROCESS = "testclient"
"""The client's address in Litestar's and Starlette's test clients, which call the application in process."""


class Access:
    """Checks whether callers may control a server. `key` is the server's control key, or None."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def check(self, scope: Scope, purpose: str = "") -> None:
        """Refuse callers who may not control the server.

        Args:
            scope: the scope of the request.
            purpose: the start of the error text, which ends in ": ".

        Raises:
            ControlRefusal: 401 if the key is missing or wrong; 403 if no key is set, and it is not certain
                that the caller is on this machine.
        """
        if self._key is None:
            reason = _reason_to_refuse(scope)
            if reason is not None:
                text = f"without a control key, only this machine has control, and this request {reason}"
                raise ControlRefusal(f"{purpose}{text}; set --control-key", status=403, code="control_key")
            return
        key = header(scope, _KEY_HEADER) or ""
        if not hmac.compare_digest(key.encode(), self._key.encode()):
            text = f"{purpose}the control key is {'wrong' if key else 'missing'}; send it as {KEY_HEADER}"
            raise ControlRefusal(text, status=401, code="control_key")


def access_middleware(access: Access) -> Callable[[ASGIApp], ASGIApp]:
    """Return a middleware that rejects callers who may not control the server."""

    def middleware(app: ASGIApp) -> ASGIApp:
        async def guard(scope: Scope, receive: Receive, send: Send) -> None:
            access.check(scope)
            await app(scope, receive, send)

        return guard

    return middleware


def _reason_to_refuse(scope: Scope) -> str | None:
    """Return why it is not certain that a request comes from this machine, or None if it is certain."""
    client = scope.get("client")
    peer = client[0] if client else None
    if not peer:
        return "comes from an unknown address"
    if peer != _IN_PROCESS and not is_loopback(peer):
        return f"comes from {peer[:100]}"
    for name, _ in scope["headers"]:
        if _PROXY_HEADER.fullmatch(name):
            return f"comes through a proxy, which sends {name.decode()}"
    host = header(scope, b"host") or ""
    if not _LOOPBACK_ORIGIN.fullmatch(f"http://{host.lower()}"):
        return f"is addressed to {host[:100]!r}"
    origin = header(scope, b"origin")
    if origin is not None:
        return None if _LOOPBACK_ORIGIN.fullmatch(origin) else f"comes from a page of {origin[:100]!r}"
    # For an <img> or a link, browsers send Sec-Fetch-Site and no Origin.
    is_cross_site = header(scope, b"sec-fetch-site") == "cross-site"
    return "comes from a page of another site" if is_cross_site else None
