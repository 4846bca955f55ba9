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
TIME = re.compile(rb'(?<=")(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:(\.\d{3})\d*)?Z(?=")')


def add_fields(body: Json) -> None:
    """Add fields to a body, and to each call in it."""
    for call in body.get("results", [body] if "status" in body else []):
        call |= {"title": "Consultation", "duration_minutes": 30, "notes": None, "participants": []}
        call["doctor_details"] |= {"phone": "+1 202 555 0143", "slug": "dr-john-doe-4f1c0a9be0d24e5c"}
        call["doctor_details"]["bio"] = (
            "Author of “No more secrets about skin”, on the board since 2011-04-01."
        )
        call["patient_details"]["user"] |= {"id": 7, "password_changed": True, "last_login": None}
    body |= {"role": None, "links": {"self": "/x"}, "facets": [], "server_time": "2026-01-01T00:00:00Z"}


def change_times(form: bytes) -> Alteration:
    """Write times in this form; group 1 is the time in whole seconds, and group 2 its milliseconds."""
    return alter.answers(lambda _, answer: setattr(answer, "body", TIME.sub(form, answer.body)))


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


async def redirect_to_slash(request: Request, forward: Forward) -> Answer:
    """Redirect to the path with a slash."""
    if "/video-calls" not in request.path or request.path.endswith("/"):
        return await forward(request)
    query = f"?{request.query}" if request.query else ""
    location = f"{request.scope['root_path']}{request.path}/{query}"
    return Answer(308, {"location": location, "content-type": "text/plain"}, b"")


def read_texts(request: Request) -> None:
    """Read a new call as Django REST framework does: digits are numbers, and a time without offset is UTC."""
    request.body = re.sub(rb'(: *)"(\d+)"', rb"\1\2", request.body)
    request.body = re.sub(rb'(T\d\d:\d\d:\d\d(\.\d+)?)"', rb'\1Z"', request.body)


def use_page_size_100(request: Request) -> None:
    if "page_size" not in request.query:
        request.query += "&page_size=100"


def bound_page_size(request: Request) -> None:
    """Take 100 in place of a page size that the server would refuse."""
    request.query = re.sub(r"(?<=page_size=)(?!([1-9]\d?|100)(&|$))[^&]*", "100", request.query)


def become_page(answer: Answer) -> None:
    answer.headers["content-type"], answer.body = "text/html", b"<p>Oops</p>"


def add_header(name: str, value: Callable[[], str]) -> Alteration:
    return alter.answers(lambda _, answer: answer.headers.update({name: value()}))


def add_realm(answer: Answer) -> None:
    if answer.status == 401:
        answer.headers["www-authenticate"] = 'Bearer realm="api", error="invalid_token"'


def write_retry_after_as_date(answer: Answer) -> None:
    if seconds := answer.headers.get("retry-after"):
        answer.headers["retry-after"] = formatdate(time() + int(seconds), usegmt=True)


def refuse_text_as_id(request: Request, answer: Answer) -> None:
    if answer.status == 404 and re.search(r"/video-calls/(?!\d+/)[^/]+/", request.path):
        answer.status = 422


def name_events_by_texts() -> Alteration:
    """Write `evt_` before the hexadecimal id of each event."""

    def connect(request: Request) -> None:
        if last := re.search(r"(?<==evt_)[0-9a-f]+", request.query):
            request.query = f"last_event_id={int(last[0], 16)}"

    in_events = alter.events(lambda event, _: [{**event, "id": f"evt_{int(event['id']):x}"}])
    return Alteration(connect=connect, send=in_events.send)


OTHERS = [f"{action}.participants-only" for action in ("get", "join", "end", "cancel")]
FRAMEWORK = ("errors.method-not-allowed", "errors.body-size", "errors.media-type")

SERVERS: tuple[dict[str, Alteration], ...] = (
    {
        "calls of others are 404": alter.status(404, *OTHERS),
        "more fields": alter.bodies(add_fields),
        "errors in another language": alter.refusals(
            lambda answer: setattr(answer, "json", {"error": f"申し訳ありません。 {len(answer.body)}"})
        ),
        "no app_id": alter.bodies(lambda body: body.pop("app_id"), "join"),
        "no request ids": alter.remove_header("x-request-id"),
        "tokens of version 007": Alteration(settings={"agora_token_version": "007"}),
        "slash is optional": alter.requests(append_slash),
        "no Location": alter.remove_header("location"),
        "a hundred calls a page": alter.requests(use_page_size_100, "list"),
    },
    {
        "oldest first": oldest_first(),
        "errors have more fields": alter.refusals(
            lambda answer: setattr(answer, "json", {**answer.json, "docs": "x"})
        ),
        "charset": add_header("content-type", lambda: "application/json; charset=utf-8"),
        "20 requests a second": Alteration(settings={"rate_limit": "20/second"}),
        "Retry-After is a date": alter.refusals(write_retry_after_as_date),
        "times with +00:00": change_times(rb"\1+00:00"),
        "JSON in any media type": any_media_type(),
        "no challenge": alter.remove_header("www-authenticate"),
        "inactive users are 403": alter.status(403, "auth.active-user"),
        "page size is bounded": alter.requests(bound_page_size, "list"),
        "request ids of another form": add_header("x-request-id", lambda: f"req-{uuid4().hex}"),
        "event ids are texts": name_events_by_texts(),
    },
    {
        "Date is 50 s ahead": add_header("date", lambda: formatdate(time() + 50, usegmt=True)),
        "unknown fields are refused": Alteration(refuse_unknown_fields),
        "no idempotency keys": alter.requests(
            lambda request: request.set_header("idempotency-key", str(uuid4())), "create"
        ),
        "no privilege to publish data": token_006(),
        "times in whole seconds": change_times(rb"\1Z"),
        "other media types are 400": alter.status(400, "errors.media-type"),
        "other methods are 404": alter.status(404, "errors.method-not-allowed"),
        "no events": Alteration(connect=lambda request: setattr(request, "path", "/api/v1/video/none/")),
        "id in another form is 422": alter.answers(refuse_text_as_id),
    },
    {
        "no Date": alter.remove_header("date"),
        "006 tokens are valid a day": token_006(lifetime=DAY),
        "refusals of the framework are HTML": alter.refusals(become_page, *FRAMEWORK),
        "more events": alter.events(lambda event, _: [{"type": "heartbeat"}, {**event, "version": 2}]),
        "participants from Agora": Alteration(settings={"agora_ncs_secret": "a-secret-of-notifications"}),
        "times in milliseconds": change_times(rb"\1\2Z"),
        "missing slash is redirected": Alteration(redirect_to_slash),
        "texts are read": alter.requests(read_texts, "create"),
    },
    {
        "clock is ahead": Alteration(clock_ahead=50),
        "Date is ahead": add_header("date", lambda: formatdate(time() + 50, usegmt=True)),
        "responses are late": Alteration(settings={"fault": ("delay=0.15",)}),
        "challenge has a realm": alter.refusals(add_realm),
    },
    {
        "clock is behind": Alteration(clock_ahead=-50),
        "calls exist": Alteration(settings={"seed_calls": 40}),
        "expiration_time has a fraction": alter.move_expiration(milliseconds=250),
        "update is after creation": alter.value(
            "updated_at", lambda at: alter.move_time(at, microseconds=17)
        ),
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
    "texts are read": "create.aware-time",
}
UNCHECKED = {
    "no idempotency keys": "create.idempotency-key",
    "no request ids": "tracing.request-id",
    "request ids of another form": "tracing.request-id",
    "no app_id": "join.app-id",
    "slash is optional": "errors.trailing-slash",
    "no events": " ".join(rule for rule in RULES if rule.startswith("events.")),
    "participants from Agora": "events.participant-joined events.participant-left",
}
