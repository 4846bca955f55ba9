"""The form in which the control API shows an exchange, with a curl command that sends the request again.

`video_calls_spec.redaction` redacts secrets by their names and their forms.
"""

import shlex
from datetime import datetime

import msgspec
from video_calls_spec import RULES
from video_calls_spec.redaction import REDACTED, is_secret, redact

from video_calls_server.api.ids import ExternalId
from video_calls_server.control.request_log import RawExchange, RawHeaders
from video_calls_server.domain.clock import instant

MAX_BODY = 64 * 1024
"""How many bytes of a body the log shows."""

_SUBPROTOCOL = "sec-websocket-protocol"  # browsers send their token in it
_CONNECTION_HEADERS = {"accept-encoding", "connection", "content-length", "host", "user-agent"}

_SCHEMES = {"basic", "bearer"}
_HANDSHAKE_HEADERS = {"sec-websocket-key", "sec-websocket-version"}


class ViolatedRule(msgspec.Struct):
    """The rule that refused a request, with its sentence in the API document."""

    id: str
    level: str
    section: str
    statement: str


class HttpMessage(msgspec.Struct):
    """The headers and the body of a request or a response."""

    headers: list[tuple[str, str]]
    body: str | None


class Exchange(msgspec.Struct):
    """A request and its response. `at` is in UTC; `status` is null if the client got no response."""

    id: int
    at: datetime
    duration_ms: float
    method: str
    path: str
    operation: str | None
    call: ExternalId | None
    identity: str | None
    status: int | None
    rule: ViolatedRule | None
    fault: str | None
    request_id: str | None
    request: HttpMessage
    response: HttpMessage
    curl: str


def to_exchange(raw: RawExchange, identity: str | None) -> Exchange:
    """Return an exchange for display; `identity` is the e-mail address of the token's user."""
    headers = _text_headers(raw.headers)
    response_headers = _text_headers(raw.response_headers)
    body = _body(raw.body)
    rule = None if raw.rule is None else RULES[raw.rule]
    return Exchange(
        id=raw.id,
        at=instant(raw.started),
        duration_ms=round(raw.duration * 1000, 2),
        method=raw.method,
        path=redact(raw.target),
        operation=raw.operation,
        call=raw.call_id,
        identity=identity,
        status=raw.status or None,
        rule=rule and ViolatedRule(rule.id, rule.level, rule.section, rule.statement),
        fault=redact(raw.fault) if raw.fault else None,
        request_id=next((value for name, value in response_headers if name == "x-request-id"), None),
        request=HttpMessage(headers, body),
        response=HttpMessage(response_headers, _body(raw.response_body)),
        curl=_curl(raw, headers, body),
    )


def _text_headers(headers: RawHeaders) -> list[tuple[str, str]]:
    texts: list[tuple[str, str]] = []
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if _holds_secret(name):
            scheme, _, rest = value.replace(",", " ").partition(" ")
            value = f"{scheme} {REDACTED}" if rest and scheme.lower() in _SCHEMES else REDACTED
        texts.append((name, redact(value)))
    return texts


def _body(body: bytes) -> str | None:
    if not body:
        return None
    text = redact(body[:MAX_BODY].decode("utf-8", "replace"))
    return text if len(body) <= MAX_BODY else f"{text}… ({len(body) - MAX_BODY} bytes more)"


def _holds_secret(header: str) -> bool:
    return header == _SUBPROTOCOL or is_secret(header)


def _curl(raw: RawExchange, headers: list[tuple[str, str]], body: str | None) -> str:
    """Return a curl command that sends the request again. It takes the token from `$TOKEN`."""
    words = ["curl", "-sSg", *_curl_method(raw.method)]
    slash = "" if raw.target.startswith("/") else "/"  # or the target would extend the port number
    words.append(shlex.quote(f"{_origin(raw.server)}{slash}{redact(raw.target)}"))
    for name, value in headers:
        if name == "authorization":
            words += ["-H", '"Authorization: Bearer $TOKEN"']
        elif name == _SUBPROTOCOL:
            words += ["-H", '"Sec-WebSocket-Protocol: bearer, $TOKEN"']
        elif name in _HANDSHAKE_HEADERS or not (
            name in _CONNECTION_HEADERS or _holds_secret(name) or name.startswith(("sec-", "origin"))
        ):
            words += ["-H", shlex.quote(f"{name}: {value}" if value else f"{name};")]
    if body is not None:
        if "content-type" not in dict(headers):
            words += ["-H", "content-type:"]  # otherwise curl would add the content type of a form
        words += ["--data-raw", shlex.quote(body)]
    return " ".join(words)


def _curl_method(method: str) -> list[str]:
    if method == "WEBSOCKET":  # show the frames as they arrive
        return ["-i", "-N", "--http1.1", "-H", shlex.quote("Connection: Upgrade")]
    return ["-I"] if method == "HEAD" else ["-X", shlex.quote(method)]


def _origin(server: tuple[str, int | None] | None) -> str:
    """Return the server's own address, because a request's `Host` could lead the token to another server."""
    host, port = server or ("localhost", None)
    if port is None:  # `host` is the path of a Unix socket
        return "http://localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
