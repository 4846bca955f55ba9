"""Faults as they happen to requests: a middleware of the API, outside everything else of it.

What a fault does instead of an answer, or to one, is done here; which faults act is decided in `faults`.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

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
from video_calls_server.control.faults.matching import Acting, Asked, spoiled
from video_calls_server.control.faults.model import EVENTS, Fault, FaultError, parse_fault
from video_calls_server.control.namespaces import namespace_of
from video_calls_server.control.refusals import ControlRefusal
from video_calls_server.domain.people import Actor
from video_calls_server.store import UnavailableError

HEADER = "Video-Calls-Fault"
"""Of a request: a fault for it alone. Of an answer: the names of those that acted."""

TRY_AGAIN = 1013
"""The code with which a WebSocket is closed that cannot be answered a status."""

_HEADER = HEADER.lower().encode()
_DROPPED = "dropped"
_RETRY_AFTER_RATE = 1  # seconds

_RULES_OF_STATUS: dict[int, RuleId] = {
    401: "auth.valid-token",
    404: "errors.unknown-path",
    405: "errors.method-not-allowed",
}
"""Rules of every operation, for statuses that more than one of them answers."""

_KINDS = {
    500: ("Internal server error", "internal_error"),
    503: ("The service is unavailable for the moment", "unavailable"),
}


class ConnectionDropped(Exception):
    """A fault dropped the connection of a request that came without one, from this very process."""


def raise_if_dropped(scope: Scope) -> None:
    """Tell whoever called the application in this process what a client at a socket sees by itself.

    For the outermost layer, once the request is served: further in, an exception would be answered.

    Raises:
        ConnectionDropped: a fault dropped the connection.
    """
    if _DROPPED in scope["state"]:
        raise ConnectionDropped(f"a fault dropped the connection: {scope['state']['fault']}")


def faulty(access: Access) -> Callable[[ASGIApp], ASGIApp]:
    """Return a middleware that lets faults happen to a request.

    These are the faults of the namespace and, if the caller may control the server, those of the request's
    header.
    """

    def middleware(app: ASGIApp) -> ASGIApp:
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            texts = [value for name, value in scope["headers"] if name == _HEADER]
            if not texts and not namespace_of(scope).faults:
                await app(scope, receive, send)
                return
            try:
                acting = await _acting(access, texts, scope)
            except FaultError as error:
                text, fields = f"{HEADER}: {error}", {error.field: [error.reason]}
                body = Error(error=text, code="bad_request", fields=fields)
                await _answer(JsonResponse(body, status=400), scope, receive, send)
            except ControlRefusal as error:
                body = Error(error=error.error, code=error.code)
                await _answer(JsonResponse(body, status=error.status), scope, receive, send)
            else:
                await _serve(app, acting, scope, receive, send)

        return serve

    return middleware


async def _acting(access: Access, texts: list[bytes], scope: Scope) -> Acting | None:
    """Return the faults that act on a request, or None if none does; `texts` are those of its own header.

    Raises:
        ControlRefusal: if the request has a fault of its own, and its caller may not control the server.
        FaultError: if the request's header does not say a fault.
    """
    faults = namespace_of(scope).faults
    if texts:
        access.check(scope, f"{HEADER} is for callers who may control the server: ")
    own = [parse_fault(text.decode("latin-1")) for text in texts]
    operation = EVENTS if scope["type"] == ScopeType.WEBSOCKET else _operation_id(scope)
    if operation is None:
        return None
    call = parse_external_id(str(scope["path_params"].get("id", "")))
    wanted = faults.identities(operation, call, own)
    identities = await _identities(wanted, scope) if wanted else wanted
    return faults.act(Asked(operation, call, identities), own) or None


def _operation_id(scope: Scope) -> str | None:
    """The operation that is asked for; None for OPTIONS, which is none."""
    found = getattr(scope["route_handler"], "operation_id", None)
    return found if isinstance(found, str) else None


async def _identities(wanted: frozenset[str], scope: Scope) -> frozenset[str]:
    """Those of these e-mail addresses that are of the active user who is asking."""
    actor = await _actor(scope)
    if actor is None:
        return frozenset()
    operations = namespace_of(scope).operations
    try:
        return frozenset([email for email in wanted if await operations.authenticate(email) == actor])
    except UnavailableError:  # which the API will find out as well, and answer
        return frozenset()


async def _actor(scope: Scope) -> Actor | None:
    """The active user who is asking, None where it is nobody; the API will say so."""
    verifier: TokenVerifier = scope["litestar_app"].state.verifier
    try:
        authorization, _ = credentials(scope)
        verified = await verifier.verify(authorization)
        return await namespace_of(scope).operations.authenticate(verified.user)
    except (Refusal, UnavailableError):
        return None


# -- Requests -----------------------------------------------------------------------------------------


class _Served:
    """What the API answered to a request, kept until the faults have had their way with it."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[Header] = []
        self.body = b""

    async def take(self, message: Message) -> None:
        """Take in a part of it."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message["headers"])
        elif message["type"] == "http.response.body":
            self.body += message["body"]

    async def pass_on(self, send: Send, body: bytes, names: str, *, whole: bool = True) -> None:
        """Send it with this body, which is the whole or not."""
        headers = [pair for pair in self.headers if pair[0].lower() != b"content-length"]
        length = len(body) if whole else len(self.body)
        headers += [(b"content-length", b"%d" % length), *_naming(names)]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": not whole})


async def _serve(app: ASGIApp, acting: Acting | None, scope: Scope, receive: Receive, send: Send) -> None:
    if acting is None:
        await app(scope, receive, send)
        return
    scope["state"]["fault"] = acting.names
    await namespace_of(scope).delay(acting.seconds_before)
    if scope["type"] == ScopeType.HTTP:
        await _answer_request(app, acting, scope, receive, send)
    else:
        await _shake_hands(app, acting, scope, receive, send)


async def _answer_request(app: ASGIApp, acting: Acting, scope: Scope, receive: Receive, send: Send) -> None:
    fault = acting.answer
    served: _Served | None = None
    if fault is None or fault.after or fault.body:
        served = _Served()
        await app(scope, receive, served.take)
    else:
        scope["user"] = await _actor(scope)  # for the log, for the API never finds it out
    await namespace_of(scope).delay(acting.seconds_after)
    if fault is not None and fault.drop:
        await _drop("abort", scope, receive)
    elif fault is not None and fault.status is not None:
        await _refusal(fault, fault.status, scope, acting.names)(scope, receive, send)
    elif served is not None:
        await _pass_on(served, acting, scope, receive, send)


async def _pass_on(served: _Served, acting: Acting, scope: Scope, receive: Receive, send: Send) -> None:
    how = (acting.answer and acting.answer.body) or None
    if how is not None and not 200 <= served.status < 300:  # noqa: PLR2004 (the successes)
        acting.spare()
        how = None
        scope["state"]["fault"] = acting.names or None
    if how is None:
        await served.pass_on(send, served.body, acting.names)
        return
    whole = how != "truncated"
    await served.pass_on(send, spoiled(served.body, how), acting.names, whole=whole)
    if not whole:
        await _drop("close", scope, receive)


async def _drop(how: str, scope: Scope, receive: Receive) -> None:
    """Drop the connection and wait until it is gone, for uvicorn would answer in our place."""
    connection: dict[Any, Any] | None = (scope.get("extensions") or {}).get(DROP_EXTENSION)
    if connection is None:
        scope["state"][_DROPPED] = True
        return
    connection[how]()
    while not (await receive())["type"].endswith(".disconnect"):
        pass


# -- The WebSocket ------------------------------------------------------------------------------------


async def _shake_hands(app: ASGIApp, acting: Acting, scope: Scope, receive: Receive, send: Send) -> None:
    fault = acting.answer

    async def send_naming(message: Message) -> None:
        if message["type"] == "websocket.accept":
            message["headers"] = [*message["headers"], *_naming(acting.names)]
        await send(message)

    if fault is not None and fault.drop:
        await _drop("abort", scope, receive)
    elif fault is not None and fault.status is not None:
        await _answer(_refusal(fault, fault.status, scope, acting.names), scope, receive, send)
    else:
        await app(scope, receive, send_naming)


async def _answer(answer: JsonResponse, scope: Scope, receive: Receive, send: Send) -> None:
    """JsonResponse a request, or a handshake as if it were one."""
    if scope["type"] == ScopeType.HTTP:
        await answer(scope, receive, send)
        return
    extensions: dict[str, Any] = scope.get("extensions") or {}
    if "websocket.http.response" not in extensions:
        await send({"type": "websocket.close", "code": TRY_AGAIN, "reason": f"status {answer.status}"})
        return
    # Litestar's types know no answers to handshakes.
    start: Any = {
        "type": "websocket.http.response.start",
        "status": answer.status,
        "headers": answer.headers,
    }
    body: Any = {"type": "websocket.http.response.body", "body": answer.body, "more_body": False}
    await send(start)
    await send(body)
    # uvicorn tells of a disconnect when it has answered, and again when the connection is closed. Before
    # that it would take the end of the application for a handshake that was forgotten.
    left = 2 if DROP_EXTENSION in extensions else 0
    while left:
        left -= (await receive())["type"] == "websocket.disconnect"


# -- What is answered ---------------------------------------------------------------------------------


def _naming(names: str) -> list[Header]:
    return [(_HEADER, names.encode())] if names else []


def _refusal(fault: Fault, status: int, scope: Scope, names: str) -> JsonResponse:
    """The answer of a fault, by default what this status normally says of the operation."""
    retry_after = fault.retry_after
    if retry_after is None:
        retry_after = {429: _RETRY_AFTER_RATE, 503: RETRY_AFTER_UNAVAILABLE}.get(status)
    text, code = _error(status, EVENTS if scope["type"] != ScopeType.HTTP else _operation_id(scope))
    if code == "limits.rate":
        text = f"{text}; try again in {retry_after} second{'' if retry_after == 1 else 's'}"
    headers = _naming(names)
    if retry_after is not None:
        headers.append((b"retry-after", b"%d" % retry_after))
    if status == HTTPStatus.UNAUTHORIZED:
        headers += [(name.lower().encode(), value.encode()) for name, value in CHALLENGE.items()]
    return JsonResponse(
        Error(error=fault.error or text, code=fault.code or code), status=status, headers=headers
    )


def _error(status: int, operation: str | None) -> tuple[str, str]:
    """The text and the code of an error with this status."""
    if status in _KINDS:
        return _KINDS[status]
    of_all = _RULES_OF_STATUS.get(status)
    for rule in RULES.values():
        if rule.status != status or rule.error is None:
            continue
        if rule.operation == operation or (rule.operation == "*" and rule.id == (of_all or rule.id)):
            prefix = "page_size: " if rule.id == "list.page-size" else ""
            return prefix + rule.error, rule.id
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = f"Status {status}"
    return phrase, phrase.lower().replace(" ", "_").replace("'", "")
