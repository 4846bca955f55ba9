"""Routes that export, import, reset and fill the state of a namespace, and its snapshots.

When an operation replaces the state, it closes the event connections, because they cannot resume.
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
from video_calls_server.control.state.document import State, StateError, read_state, state_json, state_of
from video_calls_server.control.state.loading import contents_of
from video_calls_server.control.state.sample_calls import SampleCallsError, add_sample_calls
from video_calls_server.control.state.snapshots import Contents, Snapshot
from video_calls_server.settings import MAX_SAMPLE_CALLS

_MAX_BODY = 256 * 1024 * 1024  # bytes; ten thousand calls with their events need a quarter of this


class SampleCalls(Struct, forbid_unknown_fields=True):
    """How many calls to add."""

    count: Annotated[int, Meta(ge=1, le=MAX_SAMPLE_CALLS)]


class SavedSnapshot(Struct):
    """A snapshot: when it was saved, in real time, and how many calls it has."""

    name: str
    saved_at: datetime
    calls: int


@dataclass
class _ReplaceState(Operation):
    """Adds the request body to the OpenAPI description, because the operation reads the bytes itself."""

    def __post_init__(self) -> None:
        content = {MediaType.JSON.value: OpenAPIMediaType(schema=Reference("#/components/schemas/State"))}
        self.request_body = RequestBody(content, required=True)


def _document(contents: Contents, ids: Ids) -> Response[State]:
    body: Any = state_json(state_of(contents), ids)  # `Response[State]` only documents the body
    return Response(body, media_type=MediaType.JSON)


# -- The state ---------------------------------------------------------------------------------------


@get("/", summary="Export the state")
async def read_whole_state(namespace: NamedDependency[Namespace]) -> Response[State]:
    """Return the state as one document, which can be edited and imported again."""
    return _document(await namespace.contents(), namespace.ids)


@put(
    "/",
    status_code=204,
    summary="Import a state",
    operation_class=_ReplaceState,
    request_max_body_size=_MAX_BODY,
)
async def replace_state(namespace: NamedDependency[Namespace], request: Request[Any, Any, Any]) -> None:
    """Replace the state. A document needs only users and calls; the server fills in the rest."""
    try:
        state = read_state(await request.body(), namespace.ids)
        contents = contents_of(state, now=namespace.clock.now(), running=namespace.clock.running)
    except StateError as error:
        raise ControlRefusal(str(error), code="invalid") from error
    await namespace.load(contents, with_clock=state.clock is not UNSET)


@post("/reset", status_code=204, summary="Reset the state")
async def reset_state(namespace: NamedDependency[Namespace]) -> None:
    """Restore the initial users, calls, events, clock and faults, which the server's settings define."""
    await namespace.reset()


@post("/calls", summary="Add sample calls")
async def add_calls(namespace: NamedDependency[Namespace], data: JSONBody[SampleCalls]) -> SampleCalls:
    """Add calls in all statuses around the clock's time. The same number gives the same calls."""
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
    """Return the snapshots, sorted by name. They are in memory, and are dropped with the namespace."""
    return [
        SavedSnapshot(each.name, each.saved_at, len(each.contents.dump.rows["calls"]))
        for each in namespace.snapshots
    ]


@get("/{name:str}", summary="Export a snapshot")
async def read_snapshot(namespace: NamedDependency[Namespace], name: FromPath[str]) -> Response[State]:
    """Return a snapshot as a document, in the form of the state."""
    return _document(_snapshot(namespace, name).contents, namespace.ids)


@put("/{name:str}", status_code=204, summary="Save a snapshot")
async def save_snapshot(namespace: NamedDependency[Namespace], name: FromPath[str]) -> None:
    """Save the state, the clock and the faults. This replaces an earlier snapshot with this name."""
    namespace.snapshots.save(name, await namespace.contents())


@post("/{name:str}/restore", status_code=204, summary="Restore a snapshot")
async def restore_snapshot(namespace: NamedDependency[Namespace], name: FromPath[str]) -> None:
    """Restore the state, the faults and the clock, which continues from the time that it showed."""
    await namespace.load(_snapshot(namespace, name).contents)


@delete("/{name:str}", summary="Delete a snapshot")
async def delete_snapshot(namespace: NamedDependency[Namespace], name: FromPath[str]) -> None:
    """Delete a snapshot. The state does not change."""
    if not namespace.snapshots.delete(name):
        raise not_found(f"snapshot {name!r}")


def _snapshot(namespace: Namespace, name: str) -> Snapshot:
    snapshot = namespace.snapshots.get(name)
    if snapshot is None:
        raise not_found(f"snapshot {name!r}; /snapshots lists {len(list(namespace.snapshots))}")
    return snapshot


def state_router() -> Router:
    """Return the operations on the state and its snapshots."""
    state = [read_whole_state, replace_state, reset_state, add_calls]
    snapshots = [list_snapshots, read_snapshot, save_snapshot, restore_snapshot, delete_snapshot]
    return Router(
        "/",
        route_handlers=[
            Router("/state", route_handlers=state, tags=["state"]),
            Router("/snapshots", route_handlers=snapshots, tags=["snapshots"]),
        ],
    )
