"""The state of a namespace: to begin anew, to take out and put in, to fill with calls, to save and restore.

Whenever it is replaced, who follows events is told to begin anew: what they knew is no more.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from litestar import MediaType, Request, Response, Router, delete, get, post, put
from litestar.di import NamedDependency
from litestar.openapi.spec import OpenAPIMediaType, Operation, Reference, RequestBody
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Meta, Struct

from video_calls_server.api.ids import Ids
from video_calls_server.control.namespaces import Namespace
from video_calls_server.control.refusals import ControlRefusal, not_found
from video_calls_server.control.state.document import State, StateError, read_state, state_of, written
from video_calls_server.control.state.loading import contents_of
from video_calls_server.control.state.sample_calls import SampleCallsError, add_sample_calls
from video_calls_server.control.state.snapshots import Contents, Snapshot
from video_calls_server.settings import MAX_SAMPLE_CALLS

_LARGEST = 256 * 1024 * 1024  # bytes; ten thousand calls with their events are a quarter of it


class RealisticCalls(Struct, forbid_unknown_fields=True):
    """How many calls to make."""

    count: Annotated[int, Meta(ge=1, le=MAX_SAMPLE_CALLS)]


class SavedSnapshot(Struct):
    """A snapshot: when it was saved, in real time, and how many calls there are in it."""

    name: str
    saved_at: datetime
    calls: int


@dataclass
class _TakesState(Operation):
    """The document is read from the bytes of the body, so that it is taken at its word."""

    def __post_init__(self) -> None:
        content = {MediaType.JSON.value: OpenAPIMediaType(schema=Reference("#/components/schemas/State"))}
        self.request_body = RequestBody(content, required=True)


def _document(moment: Contents, ids: Ids) -> Response[State]:
    body: Any = written(state_of(moment), ids)  # the type is for the API's own description
    return Response(body, media_type=MediaType.JSON)


# -- The state ---------------------------------------------------------------------------------------


@get("/", summary="Take out the whole state")
async def read_whole_state(namespace: NamedDependency[Namespace]) -> Response[State]:
    """As one document, which can be kept, changed by hand and put in again."""
    return _document(await namespace.contents(), namespace.ids)


@put(
    "/",
    status_code=204,
    summary="Put in a whole state",
    operation_class=_TakesState,
    request_max_body_size=_LARGEST,
)
async def replace_state(namespace: NamedDependency[Namespace], request: Request[Any, Any, Any]) -> None:
    """In place of all that is there. Users and calls are enough; what a call does not say is chosen."""
    try:
        state = read_state(await request.body(), namespace.ids)
        moment = contents_of(state, now=namespace.clock.now(), running=namespace.clock.running)
    except StateError as error:
        raise ControlRefusal(str(error), code="invalid") from error
    await namespace.load(moment, with_clock=state.clock is not UNSET)


@post("/reset", status_code=204, summary="Begin anew")
async def reset_state(namespace: NamedDependency[Namespace]) -> None:
    """People, calls, events, clock and faults as the server started with."""
    await namespace.reset()


@post("/calls", summary="Make realistic calls")
async def make_calls(namespace: NamedDependency[Namespace], data: JSONBody[RealisticCalls]) -> RealisticCalls:
    """In all statuses, around the clock's time, beside those that there are; the same for the same number."""
    now = namespace.clock.now()
    try:
        await namespace.store.write(lambda connection: add_sample_calls(connection, data.count, now=now))
    except SampleCallsError as error:
        raise ControlRefusal(str(error)) from error
    await namespace.announce_new_state()
    return data


# -- Snapshots ---------------------------------------------------------------------------------------


@get("/", summary="List the snapshots")
async def list_snapshots(namespace: NamedDependency[Namespace]) -> list[SavedSnapshot]:
    """By name. They are kept in memory, for as long as the namespace is there."""
    return [
        SavedSnapshot(each.name, each.saved_at, len(each.moment.dump.rows["calls"]))
        for each in namespace.snapshots
    ]


@get("/{name:str}", summary="Take out a snapshot")
async def read_snapshot(namespace: NamedDependency[Namespace], name: FromPath[str]) -> Response[State]:
    """As the document that the state itself is taken out as."""
    return _document(_snapshot(namespace, name).moment, namespace.ids)


@put("/{name:str}", status_code=204, summary="Save a snapshot")
async def save_snapshot(namespace: NamedDependency[Namespace], name: FromPath[str]) -> None:
    """Of the state, the clock and the faults, in place of one of the same name."""
    namespace.snapshots.keep(name, await namespace.contents())


@post("/{name:str}/restore", status_code=204, summary="Restore a snapshot")
async def restore_snapshot(namespace: NamedDependency[Namespace], name: FromPath[str]) -> None:
    """All is as it was then; the clock goes on from the time that it showed."""
    await namespace.load(_snapshot(namespace, name).moment)


@delete("/{name:str}", summary="Delete a snapshot")
async def delete_snapshot(namespace: NamedDependency[Namespace], name: FromPath[str]) -> None:
    """The state itself stays."""
    if not namespace.snapshots.delete(name):
        raise not_found(f"snapshot {name!r}")


def _snapshot(namespace: Namespace, name: str) -> Snapshot:
    snapshot = namespace.snapshots.get(name)
    if snapshot is None:
        raise not_found(f"snapshot {name!r}; {len(list(namespace.snapshots))} are listed under /snapshots")
    return snapshot


def state_router() -> Router:
    """The operations on the state and its snapshots."""
    of_state = [read_whole_state, replace_state, reset_state, make_calls]
    of_snapshots = [list_snapshots, read_snapshot, save_snapshot, restore_snapshot, delete_snapshot]
    return Router(
        "/",
        route_handlers=[
            Router("/state", route_handlers=of_state, tags=["state"]),
            Router("/snapshots", route_handlers=of_snapshots, tags=["snapshots"]),
        ],
    )
