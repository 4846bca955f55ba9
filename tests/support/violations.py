"""Backends with one violation each: the small backend with a policy, or the altered reference server."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from agora_token_builder.AccessToken import AccessToken

from support.alterations import (
    Alteration,
    Answer,
    Forward,
    Json,
    Request,
    change_answers,
    change_bodies,
    change_calls,
    change_events,
    change_field,
    change_refusals,
    change_requests,
    change_status,
    move_time,
    remove_header,
)

ANY = ("any doctor", "any patient")
NO_LIMIT = 10**9
CERTIFICATE = "de7e109c0dede7e109c0dede7e109c0d"  # of the reference server, as is known to everybody
HOUR, DAY = 3600, 86400

SMALL: dict[str, dict[str, str | Json]] = {
    "auth.scheme": {"the scheme before the token does not matter": "any-scheme"},
    "list.own-calls": {
        "a doctor sees calls of others": {"may": {"list": "any doctor"}},
        "a patient sees calls of others": {"may": {"list": "any patient"}},
        "an outsider sees calls of others": {"may": {"list": "outsiders"}},
        "a patient sees calls of the doctor with that number": {"may": {"list": "equal numbers"}},
        "a user who is both sees the doctor's side alone": {"may": {"list": "one side"}},
        "completed calls are hidden": {"hidden": ["completed"]},
        "every page but the first has a call of others": "foreign-page-2",
        "a list is cached, so that joins and ends do not show": "list-from-cache",
        "a list without calls is answered 404": "empty-list-404",
    },
    "list.pages": {
        "a call is on two pages": {"step": 1},
        "a call between two pages is missed": {"step": -1},
        "`next` is null a page too early": {"early": 7},
        "`previous` is always null": {"no_previous": True},
    },
    "create.no-overlap": {
        "overlap for the doctor alone": {"sharing": ["doctor"]},
        "overlap for the patient alone": {"sharing": ["patient"]},
        "overlap with earlier calls alone": {"minutes": {"after": -0.01}},
        "overlap with later calls alone": {"minutes": {"before": -0.01}},
        "calls must be 29 minutes apart": {"minutes": {"before": 29, "after": 29}},
        "ongoing calls block nothing": {"blocking": ["scheduled"]},
        "only the calls that were made last block": "overlap-latest",
        "only calls of the same day block": "overlap-one-day",
    },
    "create.adjacent": {"calls must be 35 minutes apart": {"minutes": {"before": 35, "after": 35}}},
    "create.frees-slot": {
        f"{status} calls block": {"blocking": ["scheduled", "ongoing", status]}
        for status in ("cancelled", "completed")
    },
    "create.no-race": {
        "requests for one doctor race": {"unguarded": ["doctor"]},
        "requests for one patient race": {"unguarded": ["patient"]},
    },
    "create.time-offset create.aware-time": {"the offset of a time means nothing": {"ignores_offset": True}},
    "create.future": {"five minutes ago is accepted": {"earliest": -5}},
    "create.different-users": {
        "doctor and patient may be one user": {"same_user": "allowed"},
        "equal numbers are taken for one user": {"same_user": "number"},
    },
    "create.doctor-valid": {"an unknown doctor is taken": {"taken": ["unknown doctor"]}},
    "create.patient-valid": {"an unknown patient is taken": {"taken": ["unknown patient"]}},
    "create.doctor-active": {"an inactive doctor is taken": {"taken": ["inactive doctor"]}},
    "create.patient-active": {"an inactive patient is taken": {"taken": ["inactive patient"]}},
    "create.read-only-fields": {
        "`created_at` is taken from the request": "body-sets-created-at",
        "`status` is taken from the request": {"honoured": "status"},
    },
    "create.valid-body": {
        "digits at the beginning of a text are an id": "loose-body-id",
        "no time is one that the backend takes": {"assumed": {"scheduled_time": "2031-01-05T10:00:00Z"}},
        "a number is a time": "number-as-time",
        "a day that does not exist is one of the next month": "rolling-days",
    },
    "create.random-channel": {
        "channels are numbered": {"channel": "counter"},
        "channels are the hash of a number": {"channel": "hash"},
    },
    "create.unique-channel": {
        "channels are those of two participants": {"channel": "participants"},
        "channels are those of cancelled calls": {"channel": "freed"},
    },
    "create.participants-only": {"anybody schedules for anybody": {"may": {"create": "anyone"}}},
    "create.schedules": {"patients may not schedule": {"may": {"create": "the doctor"}}},
    "get.participants-only": {f"{kind} reads": {"may": {"get": kind}} for kind in ANY},
    "get.returns-call": {
        "the patient may not read": {"may": {"get": "the doctor"}},
        "an end is not kept": {"forgotten": "end"},
    },
    "get.not-found join.not-found end.not-found cancel.not-found": {
        "digits that begin a path's part are the id": "loose-path-id"
    },
    "join.window": {
        "the window opens 10 minutes before the start": {"opens": {"doctor": 10, "patient": 10}},
        "the window opens 20 minutes before the start": {"opens": {"doctor": 20, "patient": 20}},
        "patients need no window": {"opens": {"patient": NO_LIMIT}},
        "too early is refused and starts the call": {"though_refused": {"join": "done"}},
    },
    "join.participants-only": {
        "any doctor joins": {"may": {"join": "any doctor"}},
        "any patient joins": {"may": {"join": "any patient"}},
        "a stranger is refused and starts the call": {"though_refused": {"join": "done"}},
    },
    "join.again": {"nobody joins an ongoing call after its start": {"closes_at_start": True}},
    "join.credentials join.again": {"the patient may not join": {"may": {"join": "the doctor"}}},
    "join.not-cancelled": {"a cancelled call is joined": {"also_from": {"join": "cancelled"}}},
    "join.not-completed": {"a completed call is joined": {"also_from": {"join": "completed"}}},
    "join.started-once": {
        "a later join moves `started_at`": {"restarts": True},
        "first joins race": "two-first-joins",
    },
    "join.starts-call": {
        "`started_at` is `scheduled_time`": {"sets": {"join": {"started_at": "scheduled_time"}}},
        "a joined call stays scheduled": {"to": {"join": "scheduled"}},
        "a join is not kept": {"forgotten": "join"},
    },
    "join.starts-call model.started-at": {"`started_at` is not set": {"sets": {"join": {}}}},
    "join.uid-differs": {"the uid is the number of the profile": "profile-uid"},
    "join.uid-stable": {"each join has another uid": {"random_uid": True}},
    "join.token-channel": {"the token is for another channel": {"token": {"channel": "another"}}},
    "join.token-uid": {"the token is for another uid": {"token": {"uid": 4711}}},
    "join.token-signature": {
        "the token is signed with another certificate": {"token": {"certificate": "0" * 32}}
    },
    "join.token-format join.app-id": {"the token is of another app id": {"token": {"app_id": "0" * 32}}},
    "join.token-privileges": {
        "the token does not let its holder publish audio": {"token": {"privileges": [1, 3, 4]}}
    },
    "join.token-lifetime join.token-timestamp": {
        "the token lives a minute too long": {"token": {"lifetime": 3660}}
    },
    "join.token-lifetime join.expiration-time": {
        "the privileges live half an hour": {"token": {"each": 1800}}
    },
    "join.same-channel": {"each participant has a channel": {"channel_each": True}},
    "end.participants-only": {**{f"{kind} ends": {"may": {"end": kind}} for kind in ANY}},
    "cancel.participants-only": {**{f"{kind} cancels": {"may": {"cancel": kind}} for kind in ANY}},
    "end.ongoing-only": {
        **{
            f"a {status} call is completed": {"also_from": {"end": status}}
            for status in ("scheduled", "completed", "cancelled")
        },
        "a scheduled call is refused and completed": {"though_refused": {"end": "done"}},
        "ends race": "two-ends",
    },
    "cancel.scheduled-only": {
        **{
            f"a {status} call is cancelled": {"also_from": {"cancel": status}}
            for status in ("ongoing", "completed", "cancelled")
        }
    },
    "end.completes": {"the patient may not end": {"may": {"end": "the doctor"}}},
    "end.completes model.ended-at": {"`ended_at` is not set": {"sets": {"end": {}}}},
    "end.completes model.started-at": {
        "an end loses `started_at`": {"sets": {"end": {"ended_at": "now", "started_at": None}}}
    },
    "end.completes model.status-values": {"an ended call is `ended`": {"to": {"end": "ended"}}},
    "model.ended-at": {"`ended_at` is `scheduled_time`": {"sets": {"end": {"ended_at": "scheduled_time"}}}},
    "model.started-at": {
        "an end moves `started_at`": {"sets": {"end": {"ended_at": "now", "started_at": "now"}}}
    },
    "cancel.cancels get.returns-call": {"a cancellation is not kept": {"forgotten": "cancel"}},
    "cancel.cancels model.ended-at": {
        "a cancellation sets `ended_at`": {"sets": {"cancel": {"ended_at": "now"}}}
    },
    "model.updated-at": {
        "a first join leaves `updated_at`": "join-keeps-updated-at",
        "an end leaves `updated_at`": "end-keeps-updated-at",
        "a cancellation leaves `updated_at`": "cancel-keeps-updated-at",
        "reading a call moves `updated_at`": "touched-by-get",
    },
    "join.window model.updated-at": {
        "a refused join moves `updated_at`": {"though_refused": {"join": "touched"}}
    },
    "errors.order": {
        "a state is told before who may know": {"state_first": True},
        "a body is validated before the token": "body-before-token",
    },
    "errors.detailed": {"every refusal has the same text": "one-error-text"},
    "privacy.errors": {"a refusal ends in a traceback": "traceback"},
}

# -- Kinds of alterations ---------------------------------------------------------------------------


def admit(rule: str, only: Callable[[Request], object]) -> Alteration:
    """Serve requests that this rule refuses as if the doctor had sent them."""

    async def answer(request: Request, forward: Forward) -> Answer:
        response = await forward(request)
        return (
            await forward(request.authenticate_as("doctor"))
            if response.code == rule and only(request)
            else response
        )

    return Alteration(answer)


def change_error(error: object, *codes: str) -> Alteration:
    """Change the text of refusals; None removes it."""
    return change_refusals(lambda answer: setattr(answer, "json", {"error": error}), *codes)


def change_joins(change: Callable[[Json], object]) -> Alteration:
    """Change the response to each join."""
    return change_bodies(lambda _, body: change(body), "join")


def token_006(certificate: str = CERTIFICATE, lifetime: int = HOUR) -> Alteration:
    """Replace the token of each join by another of version 006; times are in seconds."""

    def change(body: Json) -> None:
        now = int(datetime.now(UTC).timestamp())
        token = AccessToken(body["app_id"], certificate, body["channel_name"], str(body["uid"]))
        token.ts = now + lifetime
        for privilege, seconds in dict.fromkeys((1, 2, 3), HOUR).items():
            token.addPrivilege(privilege, now + seconds)
        body["token"] = token.build()

    return change_joins(change)


def add_details(**more: object) -> Alteration:
    """Add fields to the patient's details of each call."""
    return change_field("patient_details", lambda one: {**one, **more})


def reroute(method: str, path: str, instead: str, action: str = "") -> Alteration:
    """Serve a method of the paths that match as another method, and as an action."""

    def change(request: Request) -> None:
        if request.scope["method"] == method and re.search(path, request.path):
            request.scope["method"] = instead
            request.path += action

    return change_requests(change)


def change_event(name: str, change: Callable[[Json], list[Json]], role: str = "") -> Alteration:
    """Replace events of a type, or those of a type and a participant's role."""

    def replace_event(event: Json, _: Request) -> list[Json]:
        is_meant = event["type"] == name and role in ("", event["data"].get("participant", {}).get("role"))
        return change(event) if is_meant else [event]

    return change_events(replace_event)


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
    """Authenticate connections that match as the doctor."""

    def connect(request: Request) -> None:
        if check(request):
            request.authenticate_as("doctor").scope["subprotocols"] = []

    return Alteration(connect=connect)


def change_messages(kind: str, **values: object) -> Alteration:
    """Change values of WebSocket messages of this kind: `accept` or `close`."""
    return Alteration(
        send=lambda message, _: [{**message, **values} if message["type"] == f"websocket.{kind}" else message]
    )


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
    """Send the doctor's joining after the patient's."""
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
        "an expired token reads a call": admit("auth.expired-token", lambda one: one.operation == "get")
    },
    GENUINE: {
        "a token of `alg: none` is accepted": admit(GENUINE, lambda one: one.token.startswith(UNSIGNED)),
        "a token without its signature is accepted": admit(GENUINE, lambda one: one.token[-1:] == "."),
        "a token with any signature is accepted": admit(GENUINE, lambda one: one.token[-1:] != "."),
        "a forged token joins": admit(GENUINE, lambda one: one.operation == "join"),
    },
    "auth.active-user": {"inactive people are served": admit("auth.active-user", lambda _: True)},
    "auth.challenge": {"a 401 has no challenge": remove_header("www-authenticate")},
    "auth.bearer end.completes": {
        "a patient's token ends no call": change_requests(
            lambda one: one.user == "patient" and one.set_header("authorization", "Bearer x"), "end"
        )
    },
    "list.envelope": {
        "`count` is one too many": change_bodies(lambda _, body: body.update(count=body["count"] + 1), "list")
    },
    "list.newest-first": {
        "lists are oldest first": change_bodies(
            lambda _, body: body["results"].sort(key=lambda call: call["scheduled_time"]), "list"
        )
    },
    "list.page-out-of-range": {
        "an unknown page is empty": change_refusals(empty_page, "list.page-out-of-range")
    },
    "list.page-size errors.no-server-error": {
        "page size 0 is answered 500": change_status(500, "list.page-size")
    },
    "create.no-overlap": {"an overlap is answered 409": change_status(409, "create.no-overlap")},
    "create.valid-body": {"a wrong body is answered 422": change_status(422, "create.valid-body")},
    "create.idempotency-key": {
        "an Idempotency-Key gets the first call for any body": Alteration(first_answer_for_key)
    },
    "get.returns-call": {
        "a call is read as it was created": change_bodies(
            lambda _, body: body.update(status="scheduled"), "get"
        )
    },
    "end.not-found": {"the end of no call is answered 400": change_status(400, "end.not-found")},
    "join.token-signature": {"a 006 token has another certificate": token_006(certificate="0" * 32)},
    "join.token-timestamp": {"a token lives a day, and its privileges an hour": token_006(lifetime=DAY)},
    "join.token-format": {
        "the token is garbage": change_joins(lambda body: body.update(token="006" + "0af" * 50))
    },
    "join.app-id": {"`app_id` is another": change_joins(lambda body: body.update(app_id="0" * 32))},
    "join.expiration-time": {
        "`expiration_time` is a minute late": change_joins(
            lambda body: body.update(expiration_time=move_time(body["expiration_time"], minutes=1))
        )
    },
    "model.created-at": {
        "`created_at` is an hour late": change_field("created_at", lambda at: move_time(at, hours=1))
    },
    "model.scheduled-time": {
        "a join moves `scheduled_time`": change_calls(
            lambda call: call.update(scheduled_time=call["started_at"] or call["scheduled_time"])
        )
    },
    "model.details": {
        "doctors are described as their patients": change_calls(
            lambda call: call["doctor_details"].update(user=call["patient_details"]["user"])
        ),
        "details have the id of the user": change_calls(lambda call: call["doctor_details"].update(id=101)),
    },
    "model.schema": {
        "times have no offset": change_field("created_at", lambda at: at.rstrip("Z")),
        "`started_at` has no offset": change_field("started_at", lambda at: at and at[:19]),
        "an answer has no media type": remove_header("content-type"),
    },
    "model.integer-ids": {"ids are texts": change_field("id", str)},
    "model.utc": {"times end in +00:00": change_field("created_at", lambda at: at.replace("Z", "+00:00"))},
    "model.channel-constant": {
        "a started call has another channel": change_calls(
            lambda call: call.update(channel_name=call["channel_name"] + "_live" * bool(call["started_at"]))
        )
    },
    "model.status-values": {
        "`ongoing` is called `live`": change_field("status", lambda one: one.replace("ongoing", "live"))
    },
    "errors.body": {
        f"{code} has no `error`": change_error(None, code)
        for code in ("auth.required", "get.participants-only", "get.not-found", "join.window")
    },
    "errors.body-everywhere": {
        "an unknown path is answered with a page": change_refusals(
            lambda answer: setattr(answer, "body", b"<h1>Not Found</h1>"), "errors.unknown-path"
        )
    },
    "errors.unknown-path": {"an unknown path is answered 400": change_status(400, "errors.unknown-path")},
    "errors.malformed-json": {"malformed JSON is answered 422": change_status(422, "errors.malformed-json")},
    "join.participants-only": {"forbidden is answered 401": change_status(401, "join.participants-only")},
    "errors.body-size": {
        "a body of 10 KiB is refused": change_answers(
            lambda one, answer: len(one.body) > 9_000 and setattr(answer, "status", 413), "create"
        )
    },
    "errors.trailing-slash": {"POST to a path without its slash acts": reroute("POST", "[^/]$", "POST", "/")},
    "errors.media-type": {
        "any media type is read as JSON": change_requests(
            lambda request: request.set_header("content-type", "application/json"), "create"
        )
    },
    "errors.allow-header": {"a 405 has no `Allow`": remove_header("allow")},
    "errors.method-not-allowed": {
        "DELETE cancels a call": reroute("DELETE", r"/video-calls/\d+/$", "POST", "cancel/"),
        "PATCH of a call answers 200 and does nothing": reroute("PATCH", r"/video-calls/\d+/$", "GET"),
        "GET of an action acts": reroute("GET", "/(join|end|cancel)/$", "POST"),
    },
    "privacy.details": {
        "details have a social security number": add_details(reference="219-09-9999"),
        "details have a medical history": add_details(medicalHistory=["asthma"]),
        "a join tells the app certificate": change_joins(lambda body: body.update(agora=CERTIFICATE)),
    },
    "privacy.errors": {
        "errors tell a query": change_error("SELECT id, status FROM calls WHERE id = 5"),
        "a stranger learns whose a call is": change_error("Ask doctor@example.com"),
    },
    "limits.rate": {
        "a 429 does not say when to come again": replace(
            remove_header("retry-after"), settings={"rate_limit": "2/second"}
        )
    },
    "tracing.request-id": {
        "refusals have no id of the request": change_refusals(
            lambda answer: answer.headers.pop("x-request-id", None)
        )
    },
    "events.call-started": {
        "a start is not told": change_event("call.started", lambda _: []),
        "the patient is told nothing": change_events(
            lambda event, to: [event] if to.user != "patient" else []
        ),
        "a call is told as it was before": change_event(
            "call.started", with_data("call", status="scheduled")
        ),
        "ids of events are numbers": change_events(lambda event, _: [{**event, "id": int(event["id"])}]),
    },
    "events.call-ended events.changes-only": {
        "an end is told twice": change_event("call.ended", lambda event: [event, {**event, "id": "more"}])
    },
    "events.call-cancelled": {"a cancellation is not told": change_event("call.cancelled", lambda _: [])},
    "events.participant-joined": {
        "the patient's joining is not told": change_event("participant.joined", lambda _: [], "patient"),
        "a participant has another uid": change_event(
            "participant.joined", with_data("participant", uid=4711)
        ),
    },
    "events.participant-left": {
        "one alone leaves a call that ends": change_event("participant.left", lambda _: [], "patient")
    },
    "events.own-calls": {
        "others are told, too": connect_as_doctor(lambda one: one.user in ("outsider", "other_patient"))
    },
    "events.order": {"a later joining is told first": change_events(swap_joins)},
    "events.order events.resume": {
        "two events share an id": change_events(
            lambda event, _: [{**event, "id": str(int(event["id"]) // 2)}]
        )
    },
    "events.resume": {
        "the last event is replayed, too": shift_resumption(-1),
        "the event after the last is left out": shift_resumption(+1),
        "`last_event_id` means nothing": Alteration(connect=lambda request: setattr(request, "query", "")),
    },
    "events.authentication": {
        "somebody without a token is the doctor": connect_as_doctor(
            lambda one: not one.token and not one.scope["subprotocols"]
        ),
        "a forged token is the doctor's": connect_as_doctor(lambda one: one.token and not one.user),
        "a token in the URL is good": connect_as_doctor(lambda one: "token=" in one.query),
        "a bad token is closed with 4403": change_messages("close", code=4403),
        "`bearer` is not chosen": change_messages("accept", subprotocol=None),
    },
    "events.token-expiry": {
        "a connection outlives its token": connect_as_doctor(lambda one: one.token and not one.user),
        "an expired connection is closed with 1000": change_messages("close", code=1000),
    },
}

# -- What is run ------------------------------------------------------------------------------------

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

NEIGHBOUR = "get.participants-only"
"""The same for a rule that `NEIGHBOURS` does not have."""


@dataclass(frozen=True)
class Violation:
    """A backend that breaks a rule: the rules that the suite must name, and how the backend breaks them."""

    name: str
    rules: frozenset[str]
    how: str | Json | Alteration

    @property
    def checked_rules(self) -> frozenset[str]:
        """The rules that the run of the suite checks."""
        return self.rules.union(*(NEIGHBOURS.get(rule, NEIGHBOUR).split() for rule in self.rules))


VIOLATIONS = [
    Violation(name, frozenset(rules.split()), how)
    for table in (SMALL, ALTERED)
    for rules, group in table.items()
    for name, how in group.items()
]
