"""The middleware that applies faults to requests; it is the outermost layer of the API.

`matching` decides which faults act. This module delays, replaces or changes the response, or drops the
connection.
"""

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Literal

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from video_calls_spec import RULES, RuleId

from video_calls_server._structs import Error
from video_calls_server.api.connection_drop import DROP_EXTENSION
from video_calls_server.api.errors import RETRY_AFTER_UNAVAILABLE, Refusal
from video_calls_server.api.events import credentials
from video_calls_server.api.ids import parse_external_id
from video_calls_server.api.json_response import Header, JsonResponse
from video_calls_server.api.jwt import CHALLENGE, TokenVerifier
from video_calls_server.control.access import Access
from video_calls_server.control.faults.matching import FaultPlan, RequestInfo, apply_body_fault
from video_calls_server.control.faults.model import EVENTS, Fault, FaultError, parse_fault
from video_calls_server.control.namespaces import namespace_of
from video_calls_server.control.refusals import ControlRefusal
from video_calls_server.domain.people import Actor
from video_calls_server.store import UnavailableError, people

HEADER = "Video-Calls-Fault"
"""In a request: a fault for this request only. In a response: the labels of the faults that acted."""

TRY_AGAIN = 1013
"""The code that closes a WebSocket if the ASGI server cannot respond to the handshake with a status."""

_HEADER = HEADER.lower().encode()
_DROPPED = "dropped"
_RETRY_AFTER_RATE = 1  # seconds

_RULES_OF_STATUS: dict[int, RuleId] = {
    401: "auth.valid-token",
    404: "errors.unknown-path",
    405: "errors.method-not-allowed",
}
"""For a status of several rules that hold for every operation: the rule whose text a fault sends."""

_SERVER_ERRORS = {
    500: ("Internal server error", "internal_error"),
    503: ("The service is unavailable for the moment", "unavailable"),
}


class ConnectionDropped(Exception):
    """A fault dropped the connection of a request that came from this process, without a socket."""


def raise_if_dropped(scope: Scope) -> None:
    """Raise an error instead of dropping a connection, because a caller in this process has no connection.

    Call this in the outermost layer, after the request, because inner layers turn exceptions into responses.

    Raises:
        ConnectionDropped: if a fault dropped the connection.
    """
    if _DROPPED in scope["state"]:
        raise ConnectionDropped(f"a fault dropped the connection: {scope['state']['fault']}")


def fault_middleware(access: Access) -> Callable[[ASGIApp], ASGIApp]:
    """Return a middleware that applies faults to requests.

    It applies the faults of the namespace and, if the caller may control the server, the faults in the
    request's header.
    """

    def middleware(app: ASGIApp) -> ASGIApp:
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            texts = [value for name, value in scope["headers"] if name == _HEADER]
            if not texts and not namespace_of(scope).faults:
                await app(scope, receive, send)
                return
            try:
                plan = await _plan(access, texts, scope)
            except FaultError as error:
                text, fields = f"{HEADER}: {error}", {error.field: [error.reason]}
                body = Error(error=text, code="bad_request", fields=fields)
                await _respond(JsonResponse(body, status=400), scope, receive, send)
            except ControlRefusal as refusal:
                body = Error(error=refusal.error, code=refusal.code)
                await _respond(JsonResponse(body, status=refusal.status), scope, receive, send)
            else:
                await _serve(app, plan, scope, receive, send)

        return serve

    return middleware


async def _plan(access: Access, texts: list[bytes], scope: Scope) -> FaultPlan | None:
    """Return the faults that act on a request, or None if none does. `texts` are its headers with faults.

    Raises:
        ControlRefusal: if the request has the header, and its caller may not control the server.
        FaultError: if the header does not describe a fault.
    """
    faults = namespace_of(scope).faults
    if texts:
        access.check(scope, f"{HEADER} is for callers who may control the server: ")
    own = [parse_fault(text.decode("latin-1")) for text in texts]
    operation = EVENTS if scope["type"] == ScopeType.WEBSOCKET else _operation_id(scope)
    if operation is None:
        return None
    call = parse_external_id(str(scope["path_params"].get("id", "")))
    email = await _email(scope) if faults.depend_on_user(own) else None
    return faults.plan(RequestInfo(operation, call, email), own) or None


def _operation_id(scope: Scope) -> str | None:
    """Return the id of the requested operation, or None for an OPTIONS request."""
    operation_id = getattr(scope["route_handler"], "operation_id", None)
    return operation_id if isinstance(operation_id, str) else None


async def _email(scope: Scope) -> str | None:
    """Return the e-mail address of the request's active user in lower case, or None if there is none."""
    actor = await _actor(scope)
    if actor is None:
        return None
    try:
        email = await namespace_of(scope).store.read(partial(people.email_of, user_id=actor.user_id))
    except UnavailableError:  # the API will fail too, and send the error
        return None
    return email.lower() if email else None


async def _actor(scope: Scope) -> Actor | None:
    """Return the request's active user, or None if the API will refuse the request."""
    verifier: TokenVerifier = scope["litestar_app"].state.verifier
    try:
        authorization, _ = credentials(scope)
        verified = await verifier.verify(authorization)
        return await namespace_of(scope).operations.authenticate(verified.user)
    except (Refusal, UnavailableError):
        return None


# -- Requests ----------------------------------------------------------------------------------------


class _BufferedResponse:
    """The response of the API, buffered until the faults have acted on it."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[Header] = []
        self.body = b""

    async def receive(self, message: Message) -> None:
        """Buffer a message that the API sends."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message["headers"])
        elif message["type"] == "http.response.body":
            self.body += message["body"]

    async def send(self, send: Send, body: bytes, labels: str, *, complete: bool = True) -> None:
        """Send the response with this body. `content-length` is that of the complete body."""
        headers = [pair for pair in self.headers if pair[0].lower() != b"content-length"]
        length = len(body) if complete else len(self.body)
        headers += [(b"content-length", b"%d" % length), *_fault_header(labels)]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": not complete})


async def _serve(app: ASGIApp, plan: FaultPlan | None, scope: Scope, receive: Receive, send: Send) -> None:
    if plan is None:
        await app(scope, receive, send)
        return
    scope["state"]["fault"] = plan.labels
    await namespace_of(scope).delay(plan.delay_before)
    if scope["type"] == ScopeType.HTTP:
        await _serve_request(app, plan, scope, receive, send)
    else:
        await _serve_handshake(app, plan, scope, receive, send)


async def _serve_request(app: ASGIApp, plan: FaultPlan, scope: Scope, receive: Receive, send: Send) -> None:
    fault = plan.final
    response: _BufferedResponse | None = None
    if fault is None or fault.after or fault.body:
        response = _BufferedResponse()
        await app(scope, receive, response.receive)
    else:
        scope["user"] = await _actor(scope)  # for the log, because the API does not see this request
    await namespace_of(scope).delay(plan.delay_after)
    if fault is not None and fault.drop:
        await _drop("abort", scope, receive)
    elif fault is not None and fault.status is not None:
        await _refusal(fault, fault.status, scope, plan.labels)(scope, receive, send)
    elif response is not None:
        await _send_buffered(response, plan, scope, receive, send)


async def _send_buffered(
    response: _BufferedResponse, plan: FaultPlan, scope: Scope, receive: Receive, send: Send
) -> None:
    body_fault = (plan.final and plan.final.body) or None
    if body_fault is not None and not 200 <= response.status < 300:  # noqa: PLR2004 (the successes)
        plan.remove_final()
        body_fault = None
        scope["state"]["fault"] = plan.labels or None
    if body_fault is None:
        await response.send(send, response.body, plan.labels)
        return
    complete = body_fault != "truncated"
    body = apply_body_fault(response.body, body_fault)
    await response.send(send, body, plan.labels, complete=complete)
    if not complete:
        await _drop("close", scope, receive)


async def _drop(how: Literal["abort", "close"], scope: Scope, receive: Receive) -> None:
    """Drop the connection and wait until it is closed: uvicorn would respond if the app returned before."""
    connection: dict[Any, Any] | None = (scope.get("extensions") or {}).get(DROP_EXTENSION)
    if connection is None:
        scope["state"][_DROPPED] = True
        return
    connection[how]()
    while not (await receive())["type"].endswith(".disconnect"):
        pass


# -- The WebSocket -----------------------------------------------------------------------------------


async def _serve_handshake(app: ASGIApp, plan: FaultPlan, scope: Scope, receive: Receive, send: Send) -> None:
    fault = plan.final

    async def send_with_header(message: Message) -> None:
        if message["type"] == "websocket.accept":
            message["headers"] = [*message["headers"], *_fault_header(plan.labels)]
        await send(message)

    if fault is not None and fault.drop:
        await _drop("abort", scope, receive)
    elif fault is not None and fault.status is not None:
        await _respond(_refusal(fault, fault.status, scope, plan.labels), scope, receive, send)
    else:
        await app(scope, receive, send_with_header)


async def _respond(response: JsonResponse, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a response to a request or to a WebSocket handshake."""
    if scope["type"] == ScopeType.HTTP:
        await response(scope, receive, send)
        return
    extensions: dict[str, Any] = scope.get("extensions") or {}
    if "websocket.http.response" not in extensions:
        await send({"type": "websocket.close", "code": TRY_AGAIN, "reason": f"status {response.status}"})
        return
    # Litestar's types lack the responses to handshakes.
    start: Any = {
        "type": "websocket.http.response.start",
        "status": response.status,
        "headers": response.headers,
    }
    body: Any = {"type": "websocket.http.response.body", "body": response.body, "more_body": False}
    await send(start)
    await send(body)
    # uvicorn sends two disconnect messages: after the response, and when the connection is closed. Wait for
    # both, because uvicorn reports an incomplete handshake if the application returns before the second.
    remaining = 2 if DROP_EXTENSION in extensions else 0
    while remaining:
        remaining -= (await receive())["type"] == "websocket.disconnect"


# -- Refusals ----------------------------------------------------------------------------------------


def _fault_header(labels: str) -> list[Header]:
    return [(_HEADER, labels.encode())] if labels else []


def _refusal(fault: Fault, status: int, scope: Scope, labels: str) -> JsonResponse:
    """Return the response of a fault. By default, it has the operation's error text for this status."""
    retry_after = fault.retry_after
    if retry_after is None:
        retry_after = {429: _RETRY_AFTER_RATE, 503: RETRY_AFTER_UNAVAILABLE}.get(status)
    text, code = _error(status, EVENTS if scope["type"] != ScopeType.HTTP else _operation_id(scope))
    if code == "limits.rate":
        text = f"{text}; try again in {retry_after} second{'' if retry_after == 1 else 's'}"
    headers = _fault_header(labels)
    if retry_after is not None:
        headers.append((b"retry-after", b"%d" % retry_after))
    if status == HTTPStatus.UNAUTHORIZED:
        headers += [(name.lower().encode(), value.encode()) for name, value in CHALLENGE.items()]
    return JsonResponse(
        Error(error=fault.error or text, code=fault.code or code), status=status, headers=headers
    )


def _error(status: int, operation: str | None) -> tuple[str, str]:
    """Return the error text and the code with which an operation responds with this status."""
    if status in _SERVER_ERRORS:
        return _SERVER_ERRORS[status]
    preferred = _RULES_OF_STATUS.get(status)
    for rule in RULES.values():
        if rule.status != status or rule.error is None:
            continue
        if rule.operation == operation or (rule.operation == "*" and rule.id == (preferred or rule.id)):
            prefix = "page_size: " if rule.id == "list.page-size" else ""
            return prefix + rule.error, rule.id
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = f"Status {status}"
    return phrase, phrase.lower().replace(" ", "_").replace("'", "")
