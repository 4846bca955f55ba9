"""Routes that list, read, stream and clear the request log."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

import anyio
import msgspec
from litestar import Router, delete, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, HeaderParameter, QueryParameter
from litestar.response import Stream

from video_calls_server.api.ids import parse_external_id
from video_calls_server.control.exchange import Exchange, to_exchange
from video_calls_server.control.namespaces import Namespace
from video_calls_server.control.refusals import ControlRefusal, not_found
from video_calls_server.control.request_log import MAX_EXCHANGES, STATUS, Filter, RawExchange
from video_calls_server.control.routes.identities import find_actor
from video_calls_server.store import people

_DEFAULT_LIMIT = 100
_MAX_QUOTE = 80  # characters; an error text quotes no more of an invalid id
_KEEP_ALIVE = 15.0
"""Seconds without an exchange after which a stream sends a comment, so that proxies keep it open."""

_encode = msgspec.json.Encoder().encode

_Status = Annotated[
    str | None, QueryParameter(description="Such as 404, 4xx, or none: the client got no response.")
]
_LastEventId = Annotated[
    int | None,
    HeaderParameter(name="Last-Event-ID", description="As `after`; browsers send it when they reconnect."),
]
_Limit = Annotated[int, QueryParameter(ge=1, le=MAX_EXCHANGES)]


async def _filter(  # noqa: PLR0917 (Litestar passes them by name)
    namespace: NamedDependency[Namespace],
    identity: FromQuery[str | None] = None,
    operation: FromQuery[str | None] = None,
    status: _Status = None,
    rule: FromQuery[str | None] = None,
    call: FromQuery[str | None] = None,
    fault: FromQuery[str | None] = None,
) -> Filter:
    if status is not None and not STATUS.fullmatch(status):
        raise ControlRefusal(f"{status!r} is not a status; give one such as 404, 4xx or none", field="status")
    call_id = None if call is None else parse_external_id(call)
    if call is not None and call_id is None:
        raise ControlRefusal(f"{call[:_MAX_QUOTE]!r} is not the id of a call", field="call")
    user_id = None
    if identity is not None:
        user_id = (await namespace.store.read(lambda connection: find_actor(connection, identity))).user_id
    return Filter(user_id, operation, status, rule, call_id, fault)


async def _to_exchange(namespace: Namespace, raw: RawExchange) -> Exchange:
    if raw.user_id is None:
        return to_exchange(raw, None)
    return to_exchange(raw, await namespace.store.read(partial(people.email_of, user_id=raw.user_id)))


@get("/", summary="List the last requests")
async def list_requests(
    namespace: NamedDependency[Namespace],
    conditions: NamedDependency[Filter],
    after: FromQuery[int] = 0,
    limit: _Limit = _DEFAULT_LIMIT,
) -> list[Exchange]:
    """Return exchanges with ids above `after`, newest first. Secrets are redacted."""
    matching = [raw for raw in reversed(namespace.log.after(after)) if conditions.matches(raw)]
    return [await _to_exchange(namespace, raw) for raw in matching[:limit]]


@get("/{request_id:int}", summary="Read one request")
async def read_request(namespace: NamedDependency[Namespace], request_id: FromPath[int]) -> Exchange:
    """Return an exchange, the rule that refused the request, and a curl command that sends it again."""
    for raw in namespace.log:
        if raw.id == request_id:
            return await _to_exchange(namespace, raw)
    raise not_found(f"request {request_id} among the last {MAX_EXCHANGES}")


@get("/stream", summary="Stream requests", media_type="text/event-stream")
async def stream_requests(
    namespace: NamedDependency[Namespace],
    conditions: NamedDependency[Filter],
    after: FromQuery[int | None] = None,
    last_event_id: _LastEventId = None,
) -> Stream:
    """Stream exchanges as server-sent events: new ones or, if an id is sent, those after this id.

    If no exchange has that id yet, the server has restarted, and the stream begins with the whole log.
    """
    start = last_event_id if last_event_id is not None else after
    if start is None:
        start = namespace.log.last_id
    elif start > namespace.log.last_id:
        start = 0
    headers = {"Cache-Control": "no-store"}
    return Stream(_stream(namespace, conditions, start), media_type="text/event-stream", headers=headers)


@delete("/", summary="Clear the request log")
async def clear_requests(namespace: NamedDependency[Namespace]) -> None:
    """Remove all exchanges. The ids of later exchanges continue."""
    namespace.log.clear()


async def _stream(namespace: Namespace, conditions: Filter, after: int) -> AsyncIterator[bytes]:
    with namespace.log.subscribe() as subscription:
        yield b": connected\n\n"
        while not namespace.log.closed:
            for raw in namespace.log.after(after):
                after = raw.id
                if conditions.matches(raw):
                    exchange = _encode(await _to_exchange(namespace, raw))
                    yield b"id: %d\ndata: %b\n\n" % (raw.id, exchange)
            with anyio.move_on_after(_KEEP_ALIVE) as timeout:
                await subscription.wait()
            if timeout.cancelled_caught:
                yield b": keep-alive\n\n"


def requests_router() -> Router:
    """Return the operations on the request log."""
    handlers = [list_requests, read_request, stream_requests, clear_requests]
    return Router(
        "/requests", route_handlers=handlers, dependencies={"conditions": _filter}, tags=["requests"]
    )
