"""Reading what a client sent: ids, pages, and the body of a new call. Nothing here trusts it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from video_calls_server._structs import VideoCallCreate
from video_calls_server.api.errors import refused
from video_calls_server.api.tokens import LARGEST_ID
from video_calls_server.domain.calls import Draft
from video_calls_server.domain.violation import RuleViolation, error_text, refused_field

DEFAULT_PAGE_SIZE = 20
LARGEST_PAGE_SIZE = 100

_WHOLE = re.compile(r"[0-9]{1,19}", re.ASCII)
_IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}", re.ASCII)
_JSON = re.compile(r"\s*application/json\s*(;.*)?", re.IGNORECASE)

_TEXT = msgspec.json.Decoder(str)
_FRACTIONAL = re.compile(rb"[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?")
_RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)?",
    re.ASCII,
)
_EXPECTED = {
    "doctor": "must be a positive whole number",
    "patient": "must be a positive whole number",
    "scheduled_time": error_text("create.aware-time"),
}


def whole_number(text: str) -> int | None:
    """A number of ASCII digits that fits 64 bits; None for any other text."""
    if not _WHOLE.fullmatch(text):
        return None
    number = int(text)
    return number if number <= LARGEST_ID else None


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


def idempotency_key(header: str | None) -> str | None:
    """The `Idempotency-Key` of a request, if it has one.

    Raises:
        RuleViolation: it is no key.
    """
    if header is None:
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(header):
        text = "Idempotency-Key: must be 1 to 255 visible ASCII characters"
        raise RuleViolation("create.valid-body", error=text)
    return header


def json_object(body: bytes, content_type: str | None) -> dict[str, msgspec.Raw]:
    """The fields of a JSON object, each still as it was sent.

    Raises:
        Refused: `errors.media-type`.
        RuleViolation: `errors.malformed-json`.
    """
    if content_type is None or not _JSON.fullmatch(content_type):
        raise refused("errors.media-type", {"Accept": "application/json"})
    try:
        body.decode("utf-8")
        return _OBJECT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RuleViolation("errors.malformed-json") from error


_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_FIELDS: dict[str, msgspec.json.Decoder[int | datetime]] = {
    field.encode_name: msgspec.json.Decoder(field.type) for field in msgspec.structs.fields(VideoCallCreate)
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the body of a new call says: the fields that are well-formed, and why the others are not."""

    doctor: int | None
    patient: int | None
    scheduled_time: datetime | None
    violations: tuple[RuleViolation, ...]

    def draft(self) -> Draft:
        """The call that is asked for.

        Raises:
            RuleViolation: `create.valid-body` or `create.aware-time`, with every field that is wrong.
        """
        if self.doctor is not None and self.patient is not None and self.scheduled_time is not None:
            return Draft(self.doctor, self.patient, self.scheduled_time)
        first = self.violations[0]
        fields = {
            name: texts for violation in self.violations for name, texts in (violation.fields or {}).items()
        }
        text = "; ".join(f"{name}: {texts[0]}" for name, texts in fields.items())
        raise RuleViolation(first.rule.id, error=text, fields=fields)  # type: ignore[arg-type]  # its own slug


def new_call(sent: Mapping[str, msgspec.Raw]) -> Asked:
    """Read the fields of a new call, each by itself, so that every wrong one can be named."""
    values: dict[str, object] = {}
    violations: list[RuleViolation] = []
    for name, decoder in _FIELDS.items():
        try:
            values[name] = _value(sent, name, decoder)
        except RuleViolation as violation:
            violations.append(violation)
    return Asked(
        doctor=values.get("doctor"),  # type: ignore[arg-type]  # the decoder of each field checked its type
        patient=values.get("patient"),  # type: ignore[arg-type]
        scheduled_time=values.get("scheduled_time"),  # type: ignore[arg-type]
        violations=tuple(violations),
    )


def _value(
    sent: Mapping[str, msgspec.Raw], name: str, decoder: msgspec.json.Decoder[int | datetime]
) -> int | datetime:
    if name not in sent:
        raise _invalid(name, "this field is required")
    try:
        if name == "scheduled_time":
            return _instant(name, _TEXT.decode(sent[name]))
        return decoder.decode(_as_integer(sent[name]))
    except (msgspec.DecodeError, RecursionError) as error:
        raise _invalid(name, _EXPECTED[name]) from error


def _as_integer(sent: msgspec.Raw) -> msgspec.Raw | bytes:
    """A number as it was sent, but 1.0 as 1: JSON knows no difference."""
    text = bytes(sent)
    if not _FRACTIONAL.fullmatch(text):
        return sent
    number = Decimal(text.decode())
    return b"%d" % number if number <= LARGEST_ID and number == number.to_integral_value() else sent


def _instant(name: str, text: str) -> datetime:
    if not _RFC_3339.fullmatch(text):
        raise _invalid(name, _EXPECTED[name])
    time = msgspec.convert(text, datetime)
    if time.tzinfo is None:
        raise refused_field("create.aware-time", name)
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise _invalid(name, "is not a time between the years 1 and 9999") from error


def _invalid(field: str, reason: str) -> RuleViolation:
    return RuleViolation("create.valid-body", error=f"{field}: {reason}", fields={field: [reason]})
