"""Backends with one violation each: the small backend with a policy, or the altered reference server."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from agora_token_builder.AccessToken import AccessToken

from support import alterations as alter
from support.alterations import Alteration, Answer, Forward, Json, Request

ROLES = ("doctor", "patient")
ANY = ("any doctor", "any patient")
CLOSED = ("completed", "cancelled")
NO_LIMIT = 10**9
CERTIFICATE = "de7e109c0dede7e109c0dede7e109c0d"  # the public certificate of the reference server
HOUR, DAY = 3600, 86400

SMALL: dict[str, dict[str, str | Json]] = {
    "auth.scheme": {"any scheme before the token is accepted": "any-scheme"},
    "list.own-calls": {
        "doctor sees calls of others": {"may": {"list": "any doctor"}},
        "patient sees calls of others": {"may": {"list": "any patient"}},
        "outsider sees calls of others": {"may": {"list": "outsiders"}},
        "patient sees calls of the doctor with the same id": {"may": {"list": "equal numbers"}},
        "dual user sees only the doctor's calls": {"may": {"list": "one side"}},
        "completed calls are hidden": {"hidden": ["completed"]},
        "second page has a call of others": "foreign-page-2",
        "cached list lags behind joins and ends": "list-from-cache",
        "list without calls is 404": "empty-list-404",
    },
    "list.pages": {
        "call is on two pages": {"step": 1},
        "call between two pages is missing": {"step": -1},
        "`next` is null a page too early": {"early": 7},
        "`previous` is always null": {"no_previous": True},
    },
    "create.no-overlap": {
        "only the doctor's calls overlap": {"sharing": ["doctor"]},
        "only the patient's calls overlap": {"sharing": ["patient"]},
        "only earlier calls overlap": {"minutes": {"after": -0.01}},
        "only later calls overlap": {"minutes": {"before": -0.01}},
        "calls must be 29 minutes apart": {"minutes": {"before": 29, "after": 29}},
        "ongoing calls do not overlap": {"blocking": ["scheduled"]},
        "only the latest calls overlap": "overlap-latest",
        "only calls of the same day overlap": "overlap-one-day",
    },
    "create.adjacent": {"calls must be 35 minutes apart": {"minutes": {"before": 35, "after": 35}}},
    "create.frees-slot": {
        f"{status} calls block": {"blocking": ["scheduled", "ongoing", status]} for status in CLOSED
    },
    "create.no-race": {f"requests for one {role} race": {"unlocked": [role]} for role in ROLES},
    "create.time-offset create.aware-time": {"time offset is ignored": {"ignores_offset": True}},
    "create.future": {"time five minutes ago is accepted": {"earliest": -5}},
    "create.different-users": {
        "doctor and patient may be one user": {"same_user": "allowed"},
        "equal ids are taken for one user": {"same_user": "number"},
    },
    **{
        f"create.{role}-{rule}": {f"{kind} {role} is accepted": {"accepted": [f"{kind} {role}"]}}
        for role in ROLES
        for rule, kind in (("valid", "unknown"), ("active", "inactive"))
    },
    "create.read-only-fields": {
        "`created_at` comes from the request": "body-sets-created-at",
        "`status` comes from the request": {"writable": "status"},
    },
    "create.valid-body": {
        "leading digits of a text are an id": "loose-body-id",
        "missing time has a default": {"defaults": {"scheduled_time": "2031-01-05T10:00:00Z"}},
        "number is a time": "number-as-time",
        "day that does not exist rolls over": "rolling-days",
    },
    "create.random-channel": {
        "channel is a number": {"channel": "counter"},
        "channel is the hash of a number": {"channel": "hash"},
    },
    "create.unique-channel": {
        "channel is the same for two participants": {"channel": "participants"},
        "channel of a cancelled call is used again": {"channel": "freed"},
    },
    "create.participants-only": {"anyone schedules for anyone": {"may": {"create": "anyone"}}},
    "create.schedules": {"patient may not schedule": {"may": {"create": "the doctor"}}},
    "get.participants-only": {f"{kind} reads": {"may": {"get": kind}} for kind in ANY},
    "get.returns-call": {
        "patient may not read": {"may": {"get": "the doctor"}},
        "end is not saved": {"unsaved": "end"},
    },
    "get.not-found join.not-found end.not-found cancel.not-found": {
        "leading digits in a path are the id": "loose-path-id"
    },
    "join.window": {
        "window opens 10 minutes before the start": {"opens": {"doctor": 10, "patient": 10}},
        "window opens 20 minutes before the start": {"opens": {"doctor": 20, "patient": 20}},
        "patient has no window": {"opens": {"patient": NO_LIMIT}},
        "early join is refused but starts the call": {"though_refused": {"join": "done"}},
    },
    "join.participants-only": {
        **{f"{kind} joins": {"may": {"join": kind}} for kind in ANY},
        "outsider's join is refused but starts the call": {"though_refused": {"join": "done"}},
    },
    "join.again": {"join after the start is refused": {"closes_at_start": True}},
    "join.credentials join.again": {"patient may not join": {"may": {"join": "the doctor"}}},
    "join.not-cancelled": {"cancelled call is joined": {"also_from": {"join": "cancelled"}}},
    "join.not-completed": {"completed call is joined": {"also_from": {"join": "completed"}}},
    "join.started-once": {
        "later join changes `started_at`": {"restarts": True},
        "first joins race": "two-first-joins",
    },
    "join.starts-call": {
        "`started_at` is `scheduled_time`": {"sets": {"join": {"started_at": "scheduled_time"}}},
        "joined call stays scheduled": {"to": {"join": "scheduled"}},
        "join is not saved": {"unsaved": "join"},
    },
    "join.starts-call model.started-at": {"`started_at` is not set": {"sets": {"join": {}}}},
    "join.uid-differs": {"uid is the id of the profile": "profile-uid"},
    "join.uid-stable": {"each join has another uid": {"random_uid": True}},
    "join.token-channel": {"token is for another channel": {"token": {"channel": "another"}}},
    "join.token-uid": {"token is for another uid": {"token": {"uid": 4711}}},
    "join.token-signature": {"token has another certificate": {"token": {"certificate": "0" * 32}}},
    "join.token-format join.app-id": {"token has another app id": {"token": {"app_id": "0" * 32}}},
    "join.token-privileges": {"token has no audio privilege": {"token": {"privileges": [1, 3, 4]}}},
    "join.token-lifetime join.token-timestamp": {
        "token is valid a minute too long": {"token": {"lifetime": 3660}}
    },
    "join.token-lifetime join.expiration-time": {
        "privileges are valid half an hour": {"token": {"each": 1800}}
    },
    "join.same-channel": {"each participant has a channel": {"channel_each": True}},
    "end.participants-only": {f"{kind} ends": {"may": {"end": kind}} for kind in ANY},
    "cancel.participants-only": {f"{kind} cancels": {"may": {"cancel": kind}} for kind in ANY},
    "end.ongoing-only": {
        **{f"{status} call is ended": {"also_from": {"end": status}} for status in ("scheduled", *CLOSED)},
        "end of a scheduled call is refused but completes it": {"though_refused": {"end": "done"}},
        "ends race": "two-ends",
    },
    "cancel.scheduled-only": {
        f"{status} call is cancelled": {"also_from": {"cancel": status}} for status in ("ongoing", *CLOSED)
    },
    "end.completes": {"patient may not end": {"may": {"end": "the doctor"}}},
    "end.completes model.ended-at": {"`ended_at` is not set": {"sets": {"end": {}}}},
    "end.completes model.started-at": {
        "end removes `started_at`": {"sets": {"end": {"ended_at": "now", "started_at": None}}}
    },
    "end.completes model.status-values": {"ended call is `ended`": {"to": {"end": "ended"}}},
    "model.ended-at": {"`ended_at` is `scheduled_time`": {"sets": {"end": {"ended_at": "scheduled_time"}}}},
    "model.started-at": {
        "end changes `started_at`": {"sets": {"end": {"ended_at": "now", "started_at": "now"}}}
    },
    "cancel.cancels get.returns-call": {"cancellation is not saved": {"unsaved": "cancel"}},
    "cancel.cancels model.ended-at": {
        "cancellation sets `ended_at`": {"sets": {"cancel": {"ended_at": "now"}}}
    },
    "model.updated-at": {
        **{
            f"{action} leaves `updated_at`": f"{action}-keeps-updated-at"
            for action in ("join", "end", "cancel")
        },
        "reading a call changes `updated_at`": "touched-by-get",
        "refused join changes `updated_at`": {"though_refused": {"join": "touched"}},
    },
    "errors.order": {
        "state is checked before the participant": {"state_first": True},
        "body is checked before the token": "body-before-token",
    },
    "errors.detailed": {"every refusal has the same text": "one-error-text"},
    "privacy.errors": {"refusal has a traceback": "traceback"},
}

# -- Kinds of alterations ---------------------------------------------------------------------------


def admit(rule: str, only: Callable[[Request], object]) -> Alteration:
    """If this rule refuses a request, serve it as if the doctor had sent it."""

    async def answer(request: Request, forward: Forward) -> Answer:
        response = await forward(request)
        is_admitted = response.code == rule and only(request)
        return await forward(request.authenticate_as("doctor")) if is_admitted else response

    return Alteration(answer)


def change_error(error: object, *codes: str) -> Alteration:
    """Change the text of refusals; None removes it."""
    return alter.refusals(lambda answer: setattr(answer, "json", {"error": error}), *codes)


def token_006(certificate: str = CERTIFICATE, lifetime: int = HOUR) -> Alteration:
    """Replace the token of each join by another of version 006; times are in seconds."""

    def change(body: Json) -> None:
        now = int(datetime.now(UTC).timestamp())
        token = AccessToken(body["app_id"], certificate, body["channel_name"], str(body["uid"]))
        token.ts = now + lifetime
        for privilege, seconds in dict.fromkeys((1, 2, 3), HOUR).items():
            token.addPrivilege(privilege, now + seconds)
        body["token"] = token.build()

    return alter.bodies(change, "join")


def add_details(**more: object) -> Alteration:
    """Add fields to the patient's details of each call."""
    return alter.value("patient_details", lambda one: {**one, **more})


def reroute(method: str, path: str, instead: str, action: str = "") -> Alteration:
    """Change the method of requests to matching paths, and append an action to the path."""

    def change(request: Request) -> None:
        if request.scope["method"] == method and re.search(path, request.path):
            request.scope["method"] = instead
            request.path += action

    return alter.requests(change)


def change_event(name: str, change: Callable[[Json], list[Json]], role: str = "") -> Alteration:
    """Replace events of this type; if a role is given, only those of this participant."""

    def replace_event(event: Json, _: Request) -> list[Json]:
        is_meant = event["type"] == name and role in ("", event["data"].get("participant", {}).get("role"))
        return change(event) if is_meant else [event]

    return alter.events(replace_event)


def with_data(part: str, **values: object) -> Callable[[Json], list[Json]]:
    """Return a change of the call or the participant in an event."""
    return lambda event: [event["data"][part].update(values) or event]


def shift_resumption(shift: int) -> Alteration:
    """Resume a connection after an earlier or later event than it asks for."""

    def connect(request: Request) -> None:
        if last := re.fullmatch(r"last_event_id=(\d+)", request.query):
            request.query = f"last_event_id={int(last[1]) + shift}"

    return Alteration(connect=connect)


def connect_as_doctor(check: Callable[[Request], object]) -> Alteration:
    """Use the doctor's token for each connection that matches."""

    def connect(request: Request) -> None:
        if check(request):
            request.authenticate_as("doctor").scope["subprotocols"] = []

    return Alteration(connect=connect)


def change_messages(kind: str, **values: object) -> Alteration:
    """Change values in WebSocket messages of one kind, `accept` or `close`."""
    return Alteration(
        send=lambda message, _: [{**message, **values} if message["type"] == f"websocket.{kind}" else message]
    )


def oldest_first() -> Alteration:
    """Sort lists by time."""
    return alter.bodies(lambda body: body["results"].sort(key=lambda call: call["scheduled_time"]), "list")


def any_media_type() -> Alteration:
    """Read the body of a new call as JSON, whatever its media type."""
    return alter.requests(lambda one: one.set_header("content-type", "application/json"), "create")


def empty_page(answer: Answer) -> None:
    answer.status, answer.json = 200, {"count": 0, "next": None, "previous": None, "results": []}


async def first_answer_for_key(request: Request, forward: Forward) -> Answer:
    """Answer a repeated Idempotency-Key with the first call, whatever the body."""
    key = request.header("idempotency-key")
    if not key:
        return await forward(request)
    first = request.server.memory.get(key) or await forward(request)
    request.server.memory[key] = first
    return Answer(first.status, dict(first.headers), first.body)


def swap_joins(event: Json, request: Request) -> list[Json]:
    """Send the doctor's `participant.joined` after the patient's."""
    held_back = request.server.memory.setdefault(id(request), [])
    if event["type"] != "participant.joined":
        return [event]
    held_back.append(event)
    return held_back[::-1] if len(held_back) == len(("doctor", "patient")) else []


GENUINE = "auth.valid-token"
UNSIGNED = "eyJhbGciOiJub25l"  # the beginning of {"alg":"none", in base64

ALTERED: dict[str, dict[str, Alteration]] = {
    "auth.required": {
        f"{name} needs no token": admit("auth.required", lambda one, name=name: one.operation == name)
        for name in ("list", "create", "get", "join", "end", "cancel")
    },
    "auth.expired-token": {
        "expired token reads a call": admit("auth.expired-token", lambda one: one.operation == "get")
    },
    GENUINE: {
        "token of `alg: none` is accepted": admit(GENUINE, lambda one: one.token.startswith(UNSIGNED)),
        "token without a signature is accepted": admit(GENUINE, lambda one: one.token[-1:] == "."),
        "token with any signature is accepted": admit(GENUINE, lambda one: one.token[-1:] != "."),
        "forged token joins": admit(GENUINE, lambda one: one.operation == "join"),
    },
    "auth.active-user": {"inactive user is served": admit("auth.active-user", lambda _: True)},
    "auth.challenge": {"401 has no challenge": alter.remove_header("www-authenticate")},
    "auth.bearer end.completes": {
        "patient's token ends no call": alter.requests(
            lambda one: str(one.user).endswith("patient") and one.set_header("authorization", "Bearer x"),
            "end",
        )
    },
    "list.envelope": {
        "`count` is one too many": alter.bodies(lambda body: body.update(count=body["count"] + 1), "list")
    },
    "list.newest-first": {"list is oldest first": oldest_first()},
    "list.page-out-of-range": {"unknown page is empty": alter.refusals(empty_page, "list.page-out-of-range")},
    "list.page-size errors.no-server-error": {"page size 0 is 500": alter.status(500, "list.page-size")},
    "create.no-overlap": {"overlap is 409": alter.status(409, "create.no-overlap")},
    "create.valid-body": {"invalid body is 422": alter.status(422, "create.valid-body")},
    "create.idempotency-key": {"Idempotency-Key ignores the body": Alteration(first_answer_for_key)},
    "get.returns-call": {
        "get returns the call as created": alter.bodies(lambda body: body.update(status="scheduled"), "get")
    },
    "end.not-found": {"end of an unknown call is 400": alter.status(400, "end.not-found")},
    "join.token-signature": {"006 token has another certificate": token_006(certificate="0" * 32)},
    "join.token-timestamp": {"006 token is valid a day": token_006(lifetime=DAY)},
    "join.token-format": {
        "token is garbage": alter.bodies(lambda body: body.update(token="006" + "0af" * 50), "join")
    },
    "join.app-id": {"`app_id` is another": alter.bodies(lambda body: body.update(app_id="0" * 32), "join")},
    "join.expiration-time": {"`expiration_time` is a minute late": alter.move_expiration(minutes=1)},
    "model.created-at": {
        "`created_at` is an hour late": alter.value("created_at", lambda at: alter.move_time(at, hours=1))
    },
    "model.scheduled-time": {
        "join changes `scheduled_time`": alter.calls(
            lambda call: call.update(scheduled_time=call["started_at"] or call["scheduled_time"])
        )
    },
    "model.details": {
        "doctor has the user of the patient": alter.calls(
            lambda call: call["doctor_details"].update(user=call["patient_details"]["user"])
        ),
        "details have the id of the user": alter.calls(lambda call: call["doctor_details"].update(id=101)),
    },
    "model.schema": {
        "time has no offset": alter.value("created_at", lambda at: at.rstrip("Z")),
        "`started_at` has no offset": alter.value("started_at", lambda at: at and at[:19]),
        "response has no media type": alter.remove_header("content-type"),
    },
    "model.integer-ids": {"id is a text": alter.value("id", str)},
    "model.utc": {"time ends in +00:00": alter.value("created_at", lambda at: at.replace("Z", "+00:00"))},
    "model.channel-constant": {
        "started call has another channel": alter.calls(
            lambda call: call.update(channel_name=call["channel_name"] + "_live" * bool(call["started_at"]))
        )
    },
    "model.status-values": {
        "`ongoing` is called `live`": alter.value("status", lambda one: one.replace("ongoing", "live"))
    },
    "errors.body": {
        f"{code} has no `error`": change_error(None, code)
        for code in ("auth.required", "get.participants-only", "get.not-found", "join.window")
    },
    "errors.body-everywhere": {
        "unknown path returns HTML": alter.refusals(
            lambda answer: setattr(answer, "body", b"<h1>Not Found</h1>"), "errors.unknown-path"
        )
    },
    "errors.unknown-path": {"unknown path is 400": alter.status(400, "errors.unknown-path")},
    "errors.malformed-json": {"malformed JSON is 422": alter.status(422, "errors.malformed-json")},
    "join.participants-only": {"outsider's join is 401": alter.status(401, "join.participants-only")},
    "errors.body-size": {
        "body of 10 KiB is refused": alter.answers(
            lambda one, answer: len(one.body) > 9_000 and setattr(answer, "status", 413), "create"
        )
    },
    "errors.trailing-slash": {"POST works without the slash": reroute("POST", "[^/]$", "POST", "/")},
    "errors.media-type": {"any media type is JSON": any_media_type()},
    "errors.allow-header": {"405 has no `Allow`": alter.remove_header("allow")},
    "errors.method-not-allowed": {
        "DELETE cancels a call": reroute("DELETE", r"/video-calls/\d+/$", "POST", "cancel/"),
        "PATCH of a call is 200 without effect": reroute("PATCH", r"/video-calls/\d+/$", "GET"),
        "GET of an action acts": reroute("GET", "/(join|end|cancel)/$", "POST"),
    },
    "privacy.details": {
        "details have a social security number": add_details(reference="219-09-9999"),
        "details have a medical history": add_details(medicalHistory=["asthma"]),
        "join returns the app certificate": alter.bodies(lambda body: body.update(agora=CERTIFICATE), "join"),
    },
    "privacy.errors": {
        "error has a query": change_error("SELECT id, status FROM calls WHERE id = 5"),
        "outsider sees the doctor's address": change_error("Ask doctor@example.com"),
    },
    "limits.rate": {
        "429 has no Retry-After": replace(
            alter.remove_header("retry-after"), settings={"rate_limit": "2/second"}
        )
    },
    "tracing.request-id": {
        "refusal has no request id": alter.refusals(lambda answer: answer.headers.pop("x-request-id", None))
    },
    "events.call-started": {
        "start has no event": change_event("call.started", lambda _: []),
        "patient gets no event": alter.events(lambda event, to: [event] if to.user != "patient" else []),
        "event has the old call": change_event("call.started", with_data("call", status="scheduled")),
        "id of an event is a number": alter.events(lambda event, _: [{**event, "id": int(event["id"])}]),
    },
    "events.call-ended events.changes-only": {
        "end has two events": change_event("call.ended", lambda event: [event, {**event, "id": "more"}])
    },
    "events.call-cancelled": {"cancellation has no event": change_event("call.cancelled", lambda _: [])},
    "events.participant-joined": {
        "patient's join has no event": change_event("participant.joined", lambda _: [], "patient"),
        "participant has another uid": change_event("participant.joined", with_data("participant", uid=4711)),
    },
    "events.participant-left": {
        "only the doctor leaves an ended call": change_event("participant.left", lambda _: [], "patient")
    },
    "events.own-calls": {
        "others get events": connect_as_doctor(lambda one: one.user in ("outsider", "other_patient"))
    },
    "events.order": {"later join comes first": alter.events(swap_joins)},
    "events.order events.resume": {
        "two events share an id": alter.events(lambda event, _: [{**event, "id": str(int(event["id"]) // 2)}])
    },
    "events.resume": {
        "last event is sent again": shift_resumption(-1),
        "event after the last is missing": shift_resumption(+1),
        "`last_event_id` is ignored": Alteration(connect=lambda request: setattr(request, "query", "")),
    },
    "events.authentication": {
        "caller without a token is the doctor": connect_as_doctor(
            lambda one: not one.token and not one.scope["subprotocols"]
        ),
        "forged token is the doctor's": connect_as_doctor(lambda one: one.token and not one.user),
        "token in the URL is accepted": connect_as_doctor(lambda one: "token=" in one.query),
        "invalid token is closed with 4403": change_messages("close", code=4403),
        "`bearer` is not selected": change_messages("accept", subprotocol=None),
    },
    "events.token-expiry": {
        "connection outlives its token": connect_as_doctor(lambda one: one.token and not one.user),
        "expired connection is closed with 1000": change_messages("close", code=1000),
    },
}

# -- All violations----------------------------------------------------------------------------------

NEIGHBOURS = {
    "create.no-overlap": "create.adjacent",
    "create.no-race": "create.no-overlap",
    "join.token-signature": "join.token-format join.token-channel join.token-uid",
    "join.token-timestamp": "join.token-lifetime join.expiration-time",
    "model.updated-at": "join.starts-call end.completes cancel.cancels",
    "errors.detailed": "errors.body",
    "errors.body-everywhere": "errors.unknown-path",
}
"""Rules that the suite also checks and must not name, by the broken rule."""


@dataclass(frozen=True)
class Violation:
    """A backend that breaks a rule: the rules that the suite must name, and how the backend breaks them."""

    name: str
    rules: frozenset[str]
    how: str | Json | Alteration

    @property
    def checked_rules(self) -> frozenset[str]:
        """The rules that the run of the suite checks."""
        return self.rules.union(
            *(NEIGHBOURS.get(rule, "get.participants-only").split() for rule in self.rules)
        )


VIOLATIONS = [
    Violation(name, frozenset(rules.split()), how)
    for table in (SMALL, ALTERED)
    for rules, group in table.items()
    for name, how in group.items()
]
