"""Parse untrusted input: headers, page numbers, and the body of a new call."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec
from litestar.types import Scope

from video_calls_server.api.errors import Refusal
from video_calls_server.api.ids import Ids, whole_number
from video_calls_server.domain.calls import Draft, Proposal
from video_calls_server.domain.violation import RuleViolation, error_text, field_violation

DEFAULT_PAGE_SIZE = 20
LARGEST_PAGE_SIZE = 100

_IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}", re.ASCII)
_JSON = re.compile(r"\s*application/json\s*(;.*)?", re.IGNORECASE)

_TEXT = msgspec.json.Decoder(str)
_TIME = msgspec.json.Decoder(datetime)  # built at import, because freezegun replaces `datetime` later
_RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)?",
    re.ASCII,
)
_ROLES: tuple[Literal["doctor", "patient"], ...] = ("doctor", "patient")


def header(scope: Scope, name: bytes) -> str | None:
    """Return the value of a header, or None if the request does not have it. `name` is in lower case."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def paging(query: Mapping[str, str]) -> tuple[int, int]:
    """Return the page number in a query, from 1, and the number of calls on a page.

    Raises:
        RuleViolation: if a parameter breaks `list.page-size` or `list.page-out-of-range`.
    """
    page, size = 1, DEFAULT_PAGE_SIZE
    if (text := query.get("page")) is not None:
        page = whole_number(text) or 0
        if page < 1:
            raise RuleViolation("list.page-out-of-range")
    if (text := query.get("page_size")) is not None:
        size = whole_number(text) or 0
        if not 1 <= size <= LARGEST_PAGE_SIZE:
            reason = error_text("list.page-size")
            raise RuleViolation(
                "list.page-size", error=f"page_size: {reason}", fields={"page_size": [reason]}
            )
    return page, size


def json_object(body: bytes, content_type: str | None) -> dict[str, msgspec.Raw]:
    """Return the fields of a JSON object. Their values are still JSON text.

    Raises:
        Refusal: if the media type is not JSON (`errors.media-type`).
        RuleViolation: if the body is not a JSON object (`errors.malformed-json`).
    """
    if content_type is None or not _JSON.fullmatch(content_type):
        raise Refusal("errors.media-type", {"Accept": "application/json"})
    try:
        body.decode("utf-8")
        return _OBJECT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RuleViolation("errors.malformed-json") from error


_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def proposal(body: Mapping[str, msgspec.Raw], key: str | None, ids: Ids) -> Proposal:
    """Return the proposal in a body: the draft of a call, or one violation that names all malformed fields.

    `key` is the `Idempotency-Key`. The violated rule is `create.valid-body` or `create.aware-time`.
    """
    participants: dict[str, int] = {}
    time: datetime | None = None
    violations: list[RuleViolation] = []
    for role in _ROLES:
        try:
            participants[role] = ids.decode(role, _required(body, role))
        except RuleViolation as violation:
            violations.append(violation)
        except (msgspec.DecodeError, RecursionError):
            violations.append(_invalid(role, ids.requirement))
    try:
        time = _scheduled_time(_required(body, "scheduled_time"))
    except RuleViolation as violation:
        violations.append(violation)
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        text = "Idempotency-Key: must be 1 to 255 visible ASCII characters"
        violations.append(RuleViolation("create.valid-body", error=text))
    doctor, patient = participants.get("doctor"), participants.get("patient")
    if violations or doctor is None or patient is None or time is None:
        return Proposal(doctor, patient, _merge(violations))
    return Proposal(doctor, patient, Draft(doctor, patient, time), key)


def _merge(violations: Sequence[RuleViolation]) -> RuleViolation:
    """Return one violation with the fields of all. If the first one is not about a field, return that one."""
    first = violations[0]
    if first.fields is None:
        return first
    fields = {name: texts for violation in violations for name, texts in (violation.fields or {}).items()}
    text = "; ".join(f"{name}: {texts[0]}" for name, texts in fields.items())
    return RuleViolation(first.rule.id, error=text, fields=fields)  # type: ignore[arg-type]  # its own slug


def _required(body: Mapping[str, msgspec.Raw], name: str) -> msgspec.Raw:
    if name not in body:
        raise _invalid(name, "this field is required")
    return body[name]


def _scheduled_time(value: msgspec.Raw) -> datetime:
    try:
        text = _TEXT.decode(value)
        if not _RFC_3339.fullmatch(text):
            raise _invalid("scheduled_time", error_text("create.aware-time"))
        time = _TIME.decode(value)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _invalid("scheduled_time", error_text("create.aware-time")) from error
    if time.tzinfo is None:
        raise field_violation("create.aware-time", "scheduled_time")
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise _invalid("scheduled_time", "is not a time between the years 1 and 9999") from error


def _invalid(field: str, reason: str) -> RuleViolation:
    return RuleViolation("create.valid-body", error=f"{field}: {reason}", fields={field: [reason]})
