"""The last requests, to list, to look into and to follow."""

from collections.abc import AsyncIterator
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
from video_calls_server.control.request_log import MAX_EXCHANGES, STATUS, Filter, RecordedExchange
from video_calls_server.control.routes.identities import find_actor
from video_calls_server.store import people

_DEFAULT = 100
_LONGEST_SHOWN = 80  # characters of what is no id
_SILENCE = 15.0
"""Seconds after which a quiet stream sends a comment, so that nothing between takes it for dead."""

_encode = msgspec.json.Encoder().encode

_Status = Annotated[
    str | None, QueryParameter(description="Such as 404, 4xx, or none: the client was told nothing.")
]
_LastEventId = Annotated[
    int | None,
    HeaderParameter(name="Last-Event-ID", description="As `after`; browsers send it when they come back."),
]
_Limit = Annotated[int, QueryParameter(ge=1, le=MAX_EXCHANGES)]


async def _wanted(  # noqa: PLR0917 (Litestar passes them by name)
    namespace: NamedDependency[Namespace],
    identity: FromQuery[str | None] = None,
    operation: FromQuery[str | None] = None,
    status: _Status = None,
    rule: FromQuery[str | None] = None,
    call: FromQuery[str | None] = None,
    fault: FromQuery[str | None] = None,
) -> Filter:
    if status is not None and not STATUS.fullmatch(status):
        raise ControlRefusal(f"{status!r} is no status; give one as 404, 4xx or none", field="status")
    wanted_call = None if call is None else parse_external_id(call)
    if call is not None and wanted_call is None:
        raise ControlRefusal(f"{call[:_LONGEST_SHOWN]!r} is not the id of a call", field="call")
    user_id = None
    if identity is not None:
        user_id = (await namespace.store.read(lambda connection: find_actor(connection, identity))).user_id
    return Filter(user_id, operation, status, rule, wanted_call, fault)


async def _to_exchange(namespace: Namespace, recorded: RecordedExchange) -> Exchange:
    user_id = recorded.user_id
    email = None
    if user_id is not None:
        email = await namespace.store.read(lambda connection: people.email_of(connection, user_id))
    return to_exchange(recorded, email)


@get("/", summary="List the last requests")
async def list_requests(
    namespace: NamedDependency[Namespace],
    wanted: NamedDependency[Filter],
    after: FromQuery[int] = 0,
    limit: _Limit = _DEFAULT,
) -> list[Exchange]:
    """Newest first, those with an id above `after` alone. Tokens are redacted."""
    found = [recorded for recorded in reversed(namespace.log.after(after)) if wanted.matches(recorded)]
    return [await _to_exchange(namespace, recorded) for recorded in found[:limit]]


@get("/{request_id:int}", summary="Look into one request")
async def read_request(namespace: NamedDependency[Namespace], request_id: FromPath[int]) -> Exchange:
    """What was sent and answered, the rule that refused it, and a curl line that sends it again."""
    for recorded in namespace.log:
        if recorded.id == request_id:
            return await _to_exchange(namespace, recorded)
    raise not_found(f"request {request_id} among the last {MAX_EXCHANGES}")


@get("/stream", summary="Follow requests as they come", media_type="text/event-stream")
async def stream_requests(
    namespace: NamedDependency[Namespace],
    wanted: NamedDependency[Filter],
    after: FromQuery[int | None] = None,
    last_event_id: _LastEventId = None,
) -> Stream:
    """Server-sent events, a request as JSON in each; from now on, or after the request of this id.

    Where no request has that id yet, the log has begun anew since, and all of it comes.
    """
    start = last_event_id if last_event_id is not None else after
    if start is None:
        start = namespace.log.last_id
    elif start > namespace.log.last_id:
        start = 0
    headers = {"Cache-Control": "no-store"}
    return Stream(_follow(namespace, wanted, start), media_type="text/event-stream", headers=headers)


@delete("/", summary="Forget the requests so far")
async def clear_requests(namespace: NamedDependency[Namespace]) -> None:
    """Ids go on."""
    namespace.log.clear()


async def _follow(namespace: Namespace, wanted: Filter, after: int) -> AsyncIterator[bytes]:
    with namespace.log.subscribe() as follower:
        yield b": from now on\n\n"
        while not namespace.log.closed:
            for recorded in namespace.log.after(after):
                after = recorded.id
                if wanted.matches(recorded):
                    exchange = _encode(await _to_exchange(namespace, recorded))
                    yield b"id: %d\ndata: %b\n\n" % (recorded.id, exchange)
            with anyio.move_on_after(_SILENCE) as silence:
                await follower.wait()
            if silence.cancelled_caught:
                yield b": still here\n\n"


def requests_router() -> Router:
    """The operations on the request log."""
    handlers = [list_requests, read_request, stream_requests, clear_requests]
    return Router("/requests", route_handlers=handlers, dependencies={"wanted": _wanted}, tags=["requests"])
