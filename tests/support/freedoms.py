"""Freedoms of the document: behaviour of altered reference servers that conforms.

`NOTES` has the recommendations that a freedom does not follow, `UNCHECKED` its unchecked rules.
"""

import json
import re
from collections.abc import Callable
from email.utils import formatdate
from time import time
from uuid import uuid4

from video_calls_spec import RULES

from support import alterations as alter
from support.alterations import Alteration, Answer, Forward, Json, Request
from support.violations import DAY, any_media_type, oldest_first, token_006

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
    return alter.answers(
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
    return alter.answers(lambda _, answer: answer.headers.update({name: value()}))


OTHERS = [f"{action}.participants-only" for action in ("get", "join", "end", "cancel")]
FRAMEWORK = ("errors.method-not-allowed", "errors.body-size", "errors.media-type")

SERVERS: tuple[dict[str, Alteration], ...] = (
    {
        "calls of others are 404": alter.status(404, *OTHERS),
        "more fields": alter.calls(add_fields),
        "errors in another language": alter.refusals(
            lambda answer: setattr(answer, "json", {"error": f"申し訳ありません。 {len(answer.body)}"})
        ),
        "no app_id": alter.bodies(lambda body: body.pop("app_id"), "join"),
        "no request ids": alter.remove_header("x-request-id"),
        "tokens of version 007": Alteration(settings={"agora_token_version": "007"}),
        "slash is optional": alter.requests(append_slash),
        "no Location": alter.remove_header("location"),
    },
    {
        "oldest first": oldest_first(),
        "errors have more fields": alter.refusals(
            lambda answer: setattr(answer, "json", {**answer.json, "docs": "x"})
        ),
        "charset": add_header("content-type", lambda: "application/json; charset=utf-8"),
        "20 requests a second": Alteration(settings={"rate_limit": "20/second"}),
        "times with +00:00": change_times(b"+00:00"),
        "JSON in any media type": any_media_type(),
        "no challenge": alter.remove_header("www-authenticate"),
        "inactive users are 403": alter.status(403, "auth.active-user"),
    },
    {
        "Date is 50 s ahead": add_header("date", lambda: formatdate(time() + 50, usegmt=True)),
        "unknown fields are refused": Alteration(refuse_unknown_fields),
        "no idempotency keys": alter.requests(
            lambda request: request.set_header("idempotency-key", str(uuid4())), "create"
        ),
        "no privilege to publish data": token_006(),
        "times in whole seconds": change_times(b"Z"),
        "other media types are 400": alter.status(400, "errors.media-type"),
        "other methods are 404": alter.status(404, "errors.method-not-allowed"),
        "no events": Alteration(connect=lambda request: setattr(request, "path", "/api/v1/video/none/")),
    },
    {
        "no Date": alter.remove_header("date"),
        "006 tokens are valid a day": token_006(lifetime=DAY),
        "refusals of the framework are HTML": alter.refusals(become_page, *FRAMEWORK),
        "more events": alter.events(lambda event, _: [{"type": "heartbeat"}, {**event, "version": 2}]),
        "participants from Agora": Alteration(settings={"agora_ncs_secret": "a-secret-of-notifications"}),
    },
)
"""Freedoms by name, for one altered server each."""

NOTES = {
    "oldest first": "list.newest-first",
    "006 tokens are valid a day": "join.token-timestamp",
    "times with +00:00": "model.utc",
    "JSON in any media type": "errors.media-type",
    "other methods are 404": "errors.allow-header",
    "refusals of the framework are HTML": "errors.body-everywhere",
    "no challenge": "auth.challenge",
}
UNCHECKED = {
    "no idempotency keys": "create.idempotency-key",
    "no request ids": "tracing.request-id",
    "no app_id": "join.app-id",
    "slash is optional": "errors.trailing-slash",
    "no events": " ".join(rule for rule in RULES if rule.startswith("events.")),
    "participants from Agora": "events.participant-joined events.participant-left",
}
