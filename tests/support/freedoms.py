"""Freedoms of the document: conforming behaviour of the reference server, altered from outside.

`NOTES` are the recommendations that a freedom leaves, `UNCHECKED` the rules that cannot be looked at there.
"""

import json
import re
from collections.abc import Callable
from email.utils import formatdate
from time import time
from uuid import uuid4

from video_calls_spec import RULES

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
    change_refusals,
    change_requests,
    change_status,
    remove_header,
)
from support.violations import DAY, token_006

FIELDS = {"doctor", "patient", "scheduled_time"}
TIME = re.compile(rb'"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?Z"')


def add_fields(call: Json) -> None:
    call |= {"title": "Consultation", "duration_minutes": 30, "notes": None, "participants": []}
    call["doctor_details"] |= {"phone": "+1 202 555 0143", "slug": "dr-john-doe-4f1c0a9be0d24e5c"}
    call["doctor_details"]["bio"] = (
        "Author of “No more secrets about skin”, member of the board since 2011-04-01."
    )
    call["patient_details"]["user"] |= {"id": 7, "password_changed": True, "last_login": None, "groups": []}


def change_times(ending: bytes) -> Alteration:
    """Write times in whole seconds, with another ending."""
    return change_answers(
        lambda _, answer: setattr(answer, "body", TIME.sub(rb'"\1' + ending + b'"', answer.body))
    )


async def refuse_unknown_fields(request: Request, forward: Forward) -> Answer:
    """Refuse a new call with fields that no client sets."""
    response = await forward(request)
    if request.operation != "create" or not response.is_success or set(json.loads(request.body)) <= FIELDS:
        return response
    request.path += f"{response.json['id']}/cancel/"
    await forward(request)
    return Answer(400, {"content-type": "application/json"}, b'{"error": "Unknown fields."}')


def append_slash(request: Request) -> None:
    request.path = request.path.rstrip("/") + "/"


def become_page(answer: Answer) -> None:
    answer.headers["content-type"], answer.body = "text/html", b"<p>Oops</p>"


def add_header(name: str, value: Callable[[], str]) -> Alteration:
    return change_answers(lambda _, answer: answer.headers.update({name: value()}))


OTHERS = [f"{action}.participants-only" for action in ("get", "join", "end", "cancel")]
FRAMEWORK = ("errors.method-not-allowed", "errors.body-size", "errors.media-type")

FREEDOMS: dict[str, Alteration] = {
    "oldest first": change_bodies(
        lambda _, body: body["results"].sort(key=lambda call: call["scheduled_time"]), "list"
    ),
    "calls of others are 404": change_status(404, *OTHERS),
    "more fields": change_calls(add_fields),
    "errors have more fields": change_refusals(
        lambda answer: setattr(answer, "json", {**answer.json, "docs": "x"})
    ),
    "errors in another language": change_refusals(
        lambda answer: setattr(answer, "json", {"error": f"申し訳ありません。 {len(answer.body)}"})
    ),
    "charset": add_header("content-type", lambda: "application/json; charset=utf-8"),
    "20 requests a second": Alteration(settings={"rate_limit": "20/second"}),
    "dated 50 s ahead": add_header("date", lambda: formatdate(time() + 50, usegmt=True)),
    "no date": remove_header("date"),
    "unknown fields are refused": Alteration(refuse_unknown_fields),
    "no idempotency keys": change_requests(
        lambda request: request.set_header("idempotency-key", str(uuid4())), "create"
    ),
    "no Location": remove_header("location"),
    "no request ids": remove_header("x-request-id"),
    "no app_id": change_bodies(lambda _, body: body.pop("app_id"), "join"),
    "tokens of version 007": Alteration(settings={"agora_token_version": "007"}),
    "a token 006 lives a day": token_006(lifetime=DAY),
    "no privilege to publish data": token_006(),
    "times in whole seconds": change_times(b"Z"),
    "times with +00:00": change_times(b"+00:00"),
    "no slash is needed": change_requests(append_slash),
    "another media type is 400": change_status(400, "errors.media-type"),
    "any media type is JSON": change_requests(
        lambda one: one.set_header("content-type", "application/json"), "create"
    ),
    "methods are 404": change_status(404, "errors.method-not-allowed"),
    "refusals of the framework are pages": change_refusals(become_page, *FRAMEWORK),
    "no challenge": remove_header("www-authenticate"),
    "inactive people are forbidden": change_status(403, "auth.active-user"),
    "no events": Alteration(connect=lambda request: setattr(request, "path", "/api/v1/video/none/")),
    "more events": change_events(lambda event, _: [{"type": "heartbeat"}, {**event, "version": 2}]),
    "participants as Agora notices them": Alteration(
        settings={"agora_ncs_secret": "a-secret-of-notifications"}
    ),
}

NOTES = {
    "oldest first": "list.newest-first",
    "a token 006 lives a day": "join.token-timestamp",
    "times with +00:00": "model.utc",
    "any media type is JSON": "errors.media-type",
    "methods are 404": "errors.allow-header",
    "refusals of the framework are pages": "errors.body-everywhere",
    "no challenge": "auth.challenge",
}
UNCHECKED = {
    "no idempotency keys": "create.idempotency-key",
    "no request ids": "tracing.request-id",
    "no app_id": "join.app-id",
    "no slash is needed": "errors.trailing-slash",
    "no events": " ".join(rule for rule in RULES if rule.startswith("events.")),
    "participants as Agora notices them": "events.participant-joined events.participant-left",
}

TOGETHER = (
    "calls of others are 404, more fields, errors in another language, no app_id, no request ids,"
    " tokens of version 007, no slash is needed, no Location",
    "oldest first, errors have more fields, charset, 20 requests a second, times with +00:00,"
    " any media type is JSON, no challenge, inactive people are forbidden",
    "dated 50 s ahead, unknown fields are refused, no idempotency keys, no privilege to publish data,"
    " times in whole seconds, another media type is 400, methods are 404, no events",
    "no date, a token 006 lives a day, refusals of the framework are pages, more events,"
    " participants as Agora notices them",
)
"""The freedoms of a server each."""
