"""Reading what a client sent: ids, pages, and the body of a new call. Nothing here trusts it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
_TIME = msgspec.json.Decoder(datetime)  # made once: under freezegun the name is another class
_RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)?",
    re.ASCII,
)
_PEOPLE: tuple[Literal["doctor", "patient"], ...] = ("doctor", "patient")


def header(scope: Scope, name: bytes) -> str | None:
    """Return the value of a header, None if the request does not have it; the name is in lower case."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


@dataclass(frozen=True, slots=True)
class Paging:
    """Which page of a list, counted from 1, of how many calls each."""

    page: int
    size: int


def paging(query: Mapping[str, str]) -> Paging:
    """The page that the query asks for.

    Raises:
        RuleViolation: `list.page-size` or `list.page-out-of-range`.
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
    return Paging(page, size)


def json_object(body: bytes, content_type: str | None) -> dict[str, msgspec.Raw]:
    """The fields of a JSON object, each still as it was sent.

    Raises:
        Refusal: `errors.media-type`.
        RuleViolation: `errors.malformed-json`.
    """
    if content_type is None or not _JSON.fullmatch(content_type):
        raise Refusal("errors.media-type", {"Accept": "application/json"})
    try:
        body.decode("utf-8")
        return _OBJECT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RuleViolation("errors.malformed-json") from error


_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def proposal(sent: Mapping[str, msgspec.Raw], key: str | None, ids: Ids) -> Proposal:
    """Read the fields of a new call, each by itself, so that its refusal names every malformed one.

    `key` is the `Idempotency-Key`, if there is one. A field is refused by `create.valid-body` or
    `create.aware-time`.
    """
    people: dict[str, int] = {}
    time: datetime | None = None
    violations: list[RuleViolation] = []
    for role in _PEOPLE:
        try:
            people[role] = ids.decode(role, _given(sent, role))
        except RuleViolation as violation:
            violations.append(violation)
        except (msgspec.DecodeError, RecursionError):
            violations.append(_invalid(role, ids.requirement))
    try:
        time = _instant("scheduled_time", _given(sent, "scheduled_time"))
    except RuleViolation as violation:
        violations.append(violation)
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        text = "Idempotency-Key: must be 1 to 255 visible ASCII characters"
        violations.append(RuleViolation("create.valid-body", error=text))
    doctor, patient = people.get("doctor"), people.get("patient")
    if violations or doctor is None or patient is None or time is None:
        return Proposal(doctor, patient, _refusal(violations))
    return Proposal(doctor, patient, Draft(doctor, patient, time), key)


def _refusal(violations: Sequence[RuleViolation]) -> RuleViolation:
    """Return one refusal that names the fields of all; the first one, if none of them is about a field."""
    first = violations[0]
    if first.fields is None:
        return first
    fields = {name: texts for each in violations for name, texts in (each.fields or {}).items()}
    text = "; ".join(f"{name}: {texts[0]}" for name, texts in fields.items())
    return RuleViolation(first.rule.id, error=text, fields=fields)  # type: ignore[arg-type]  # its own slug


def _given(sent: Mapping[str, msgspec.Raw], name: str) -> msgspec.Raw:
    if name not in sent:
        raise _invalid(name, "this field is required")
    return sent[name]


def _instant(name: str, value: msgspec.Raw) -> datetime:
    try:
        text = _TEXT.decode(value)
        if not _RFC_3339.fullmatch(text):
            raise _invalid(name, error_text("create.aware-time"))
        time = _TIME.decode(value)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _invalid(name, error_text("create.aware-time")) from error
    if time.tzinfo is None:
        raise field_violation("create.aware-time", name)
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise _invalid(name, "is not a time between the years 1 and 9999") from error


def _invalid(field: str, reason: str) -> RuleViolation:
    return RuleViolation("create.valid-body", error=f"{field}: {reason}", fields={field: [reason]})
