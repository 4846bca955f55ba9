"""Routes that list the calls of a namespace, check the rules on one, and change who is in its channel."""

from datetime import datetime
from typing import Literal
from uuid import uuid4

from litestar import Router, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Struct
from sqlalchemy import Connection

from video_calls_server._structs import VideoCall
from video_calls_server.agora.notifications import Notice
from video_calls_server.api.ids import ExternalId, Ids, whole_number
from video_calls_server.api.representation import video_call, with_ids
from video_calls_server.control.namespaces import Namespace
from video_calls_server.control.refusals import not_found
from video_calls_server.control.routes.identities import find_actor
from video_calls_server.control.rule_checks import ActionVerdict, allowed_changes, join_opening, verdicts
from video_calls_server.domain.calls import Action, Call
from video_calls_server.domain.people import Actor, Role
from video_calls_server.store import calls, people

_MAX_CALLS = 500
_MAX_QUOTE = 80  # characters; an error text quotes no more of an invalid id


class CallDetails(VideoCall, kw_only=True):
    """A call, who is in its channel now, and what the rules allow its participants now.

    `allowed` has those of join, end and cancel that a participant may do. `join_opens_at` is the start of the
    join window, null if the call can no longer be joined.
    """

    present: list[Role]
    allowed: list[Action]
    join_opens_at: datetime | None


class CallVerdicts(Struct):
    """The outcome of each action of a user on a call at this time."""

    call: ExternalId
    identity: str
    time: datetime
    actions: list[ActionVerdict]


class Presence(Struct, forbid_unknown_fields=True):
    """Whether a participant is in the channel."""

    present: bool


class PresenceResult(Struct):
    """Who is in the channel now, and whether the request changed this. Only ongoing calls have presence."""

    call: ExternalId
    present: list[Role]
    changed: bool


class Disconnection(Struct, forbid_unknown_fields=True):
    """The code that closes event connections; 1012 means that the service restarts."""

    code: Literal[1001, 1012, 1013, 4401, 4402, 4408, 4410] = 1012


class DisconnectResult(Struct):
    """How many connections the server has closed."""

    closed: int


@get("/calls", summary="List the calls of all users or of one")
async def list_calls(
    namespace: NamedDependency[Namespace], identity: FromQuery[str | None] = None
) -> list[CallDetails]:
    """Return at most 500 calls, the latest scheduled time first."""

    def work(connection: Connection) -> list[Call]:
        if identity is None:
            return calls.newest_calls(connection, most=_MAX_CALLS)
        _, page = calls.page_of_calls(connection, find_actor(connection, identity), size=_MAX_CALLS, skip=0)
        return page

    rows, now = await namespace.store.read(work), namespace.clock.now()
    return [_details(call, namespace.ids, now) for call in rows]


@get("/calls/{call_id:str}/verdicts", summary="Check the rules on a call now")
async def read_verdicts(
    namespace: NamedDependency[Namespace], call_id: FromPath[str], identity: FromQuery[str]
) -> CallVerdicts:
    """Return the outcome of get, join, end and cancel by a user (id or e-mail address). Nothing changes."""

    def work(connection: Connection) -> tuple[Call, Actor, bool]:
        actor = find_actor(connection, identity)
        is_active = people.active_actor(connection, actor.user_id) is not None
        return find_call(connection, namespace.ids, call_id), actor, is_active

    call, actor, is_active = await namespace.store.read(work)
    now = namespace.clock.now()
    results = verdicts(call, actor, now, is_active=is_active)
    external_id = namespace.ids.format("call", call.id)
    return CallVerdicts(external_id, identity, now, results)


@put("/calls/{call_id:str}/participants/{role:str}", summary="Add a participant to the channel or remove one")
async def change_presence(
    namespace: NamedDependency[Namespace],
    call_id: FromPath[str],
    role: FromPath[Role],
    data: JSONBody[Presence],
) -> PresenceResult:
    """Do what a notification of Agora does, including the events to the participants."""
    call = await namespace.store.read(lambda connection: find_call(connection, namespace.ids, call_id))
    user = call.doctor.user if role == "doctor" else call.patient.user
    presence: Literal["joined", "left"] = "joined" if data.present else "left"
    await namespace.operations.apply_notice(Notice(uuid4().hex, call.channel_name, user.id, presence, None))
    after = await namespace.store.read(lambda connection: find_call(connection, namespace.ids, call_id))
    external_id = namespace.ids.format("call", call.id)
    return PresenceResult(external_id, sorted(after.present), after.present != call.present)


@post("/events/disconnect", status_code=200, summary="Close all event connections", tags=["events"])
async def disconnect(
    namespace: NamedDependency[Namespace], data: JSONBody[Disconnection]
) -> DisconnectResult:
    """Close all event connections, to test whether clients reconnect and resume."""
    return DisconnectResult(namespace.hub.close(data.code, "Closed on request of the control API"))


def find_call(connection: Connection, ids: Ids, call_id: ExternalId) -> Call:
    """Return the call with this id. `call_id` is the id that clients see.

    Raises:
        ControlRefusal: if there is no such call.
    """
    # A number is an id of the store, even if clients see UUIDs.
    number = ids.parse("call", call_id) if isinstance(call_id, str) else whole_number(str(call_id))
    call = calls.call(connection, number)
    if call is None:
        raise not_found(f"call {str(call_id)[:_MAX_QUOTE]}")
    return call


def _details(call: Call, ids: Ids, now: datetime) -> CallDetails:
    body = with_ids(video_call(call), ids)
    fields = {name: getattr(body, name) for name in body.__struct_fields__}
    return CallDetails(
        **fields,
        present=sorted(call.present),
        allowed=allowed_changes(call, now),
        join_opens_at=join_opening(call),
    )


def calls_router() -> Router:
    """Return the operations on calls and event connections."""
    handlers = [list_calls, read_verdicts, change_presence, disconnect]
    return Router("/", route_handlers=handlers, tags=["calls"])
