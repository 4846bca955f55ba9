"""All calls of a namespace, what each rule would say of one, and who is in its channel."""

from datetime import datetime
from typing import Literal
from uuid import uuid4

from litestar import Router, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Struct
from sqlalchemy import Connection
from video_calls_spec import RULES

from video_calls_server._structs import VideoCall
from video_calls_server.agora.notifications import Notice
from video_calls_server.api.ids import ExternalId, Ids, stored_id
from video_calls_server.api.representation import video_call, with_ids
from video_calls_server.control.namespaces import Namespace
from video_calls_server.control.refusals import not_found
from video_calls_server.control.routes.identities import find_actor
from video_calls_server.control.rule_checks import Verdict, allowed_changes, join_opening, verdicts
from video_calls_server.domain.calls import NOT_FOUND, Action, Call
from video_calls_server.domain.people import Actor, Role
from video_calls_server.store import calls, people

MOST = 500
_LONGEST_SHOWN = 80  # characters of what is no id


class CallDetails(VideoCall, kw_only=True):
    """A call with the roles that are now in its channel, and what the rules allow to its participants now.

    `allowed` holds which of join, end and cancel a participant may do. `join_opens_at` is the start of the
    join window, null if the call can no longer be joined.
    """

    present: list[Role]
    allowed: list[Action]
    join_opens_at: datetime | None


class RuleVerdict(Struct):
    """Whether a rule refuses, were it asked alone; with the document's sentence."""

    id: str
    refuses: bool
    statement: str


class ActionVerdict(Struct):
    """What an action would come to now."""

    action: Action
    operation: str
    allowed: bool
    refused_by: str | None
    error: str | None
    rules: list[RuleVerdict]


class CallVerdicts(Struct):
    """What each action of a person on a call would come to at this time."""

    call: ExternalId
    identity: str
    time: datetime
    actions: list[ActionVerdict]


class Presence(Struct, forbid_unknown_fields=True):
    """Whether a participant is in the channel."""

    present: bool


class PresenceResult(Struct):
    """Who is in the channel now, and whether that was news. Only an ongoing call has anybody present."""

    call: ExternalId
    present: list[Role]
    changed: bool


class Disconnection(Struct, forbid_unknown_fields=True):
    """With which code to close event connections: 1012 is a restart of the service."""

    code: Literal[1001, 1012, 1013, 4401, 4402, 4408, 4410] = 1012


class DisconnectResult(Struct):
    """How many connections were closed."""

    closed: int


@get("/calls", summary="List everybody's calls, or one person's")
async def list_calls(
    namespace: NamedDependency[Namespace], identity: FromQuery[str | None] = None
) -> list[CallDetails]:
    """The newest by scheduled time first, 500 at most."""

    def work(connection: Connection) -> list[Call]:
        if identity is None:
            return calls.newest_calls(connection, most=MOST)
        _, found = calls.page_of_calls(connection, find_actor(connection, identity), size=MOST, skip=0)
        return found

    found, now = await namespace.store.read(work), namespace.clock.now()
    return [_known(call, namespace.ids, now) for call in found]


@get("/calls/{call_id:str}/verdicts", summary="Ask what each rule would say now")
async def read_verdicts(
    namespace: NamedDependency[Namespace], call_id: FromPath[str], identity: FromQuery[str]
) -> CallVerdicts:
    """For get, join, end and cancel by this person (a user id or an e-mail address); nothing is done."""

    def work(connection: Connection) -> tuple[Call, Actor, bool]:
        actor = find_actor(connection, identity)
        is_active = people.active_actor(connection, actor.user_id) is not None
        return find_call(connection, namespace.ids, call_id), actor, is_active

    call, actor, is_active = await namespace.store.read(work)
    now = namespace.clock.now()
    found = verdicts(call, actor, now, is_active=is_active)
    shown = namespace.ids.format("call", call.id)
    return CallVerdicts(shown, identity, now, [_said(verdict) for verdict in found])


@put("/calls/{call_id:str}/participants/{role:str}", summary="Let a participant join or leave the channel")
async def change_presence(
    namespace: NamedDependency[Namespace],
    call_id: FromPath[str],
    role: FromPath[Role],
    data: JSONBody[Presence],
) -> PresenceResult:
    """As Agora's notification would: the participants' event connections are told."""
    call = await namespace.store.read(lambda connection: find_call(connection, namespace.ids, call_id))
    user = call.doctor.user if role == "doctor" else call.patient.user
    presence: Literal["joined", "left"] = "joined" if data.present else "left"
    await namespace.operations.apply_notice(Notice(uuid4().hex, call.channel_name, user.id, presence, None))
    after = await namespace.store.read(lambda connection: find_call(connection, namespace.ids, call_id))
    shown = namespace.ids.format("call", call.id)
    return PresenceResult(shown, sorted(after.present), after.present != call.present)


@post("/events/disconnect", status_code=200, summary="Close all event connections", tags=["events"])
async def disconnect(
    namespace: NamedDependency[Namespace], data: JSONBody[Disconnection]
) -> DisconnectResult:
    """To see whether a client comes back, and goes on where it was."""
    return DisconnectResult(namespace.hub.close(data.code, "Closed on request of the control API"))


def find_call(connection: Connection, ids: Ids, call_id: ExternalId) -> Call:
    """The call of an id, as the API shows it.

    Raises:
        ControlRefusal: there is none.
    """
    number = stored_id(ids, "call", call_id)
    call = None if number is None else calls.call(connection, number)
    if call is None:
        raise not_found(f"call {str(call_id)[:_LONGEST_SHOWN]}")
    return call


def _known(call: Call, ids: Ids, now: datetime) -> CallDetails:
    shown = with_ids(video_call(call), ids)
    fields = {name: getattr(shown, name) for name in shown.__struct_fields__}
    return CallDetails(
        **fields,
        present=sorted(call.present),
        allowed=allowed_changes(call, now),
        join_opens_at=join_opening(call),
    )


def _said(verdict: Verdict) -> ActionVerdict:
    rules = [RuleVerdict(rule, refuses, RULES[rule].statement) for rule, refuses in verdict.rules.items()]
    operation, allowed = RULES[NOT_FOUND[verdict.action]].operation, verdict.refused_by is None
    return ActionVerdict(verdict.action, operation, allowed, verdict.refused_by, verdict.error, rules)


def calls_router() -> Router:
    """The operations on calls and event connections."""
    handlers = [list_calls, read_verdicts, change_presence, disconnect]
    return Router("/", route_handlers=handlers, tags=["calls"])
