"""What a fault is, and its two forms: a JSON object, or text on a command line or in a header.

A fault matches requests by operation, identity and call, or all requests. It acts on all matching requests,
on a number of them, or with a probability. It responds with a status, drops the connection or changes the
body of a success; it can delay the request as well, or only delay it.
"""

import re
from collections.abc import Mapping
from random import Random
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType
from video_calls_spec import OperationId

from video_calls_server.api.ids import UUID_FORM

Operation = Literal[OperationId, "events"]
"""What a fault can match: an operation of the contract, or the WebSocket of the events."""

BodyFault = Literal["truncated", "corrupted", "missing_field", "wrong_type", "null"]

EVENTS: Operation = "events"
WITHOUT_CALL: tuple[Operation, ...] = ("listVideoCalls", "createVideoCall", EVENTS)
MAX_DELAY = 3600

_MAX_QUOTE = 80  # characters; an error text quotes no more of an invalid field

_FINAL = ("status", "drop", "body")
_OF_STATUS = ("error", "code", "retry_after")
_WHOLE = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", re.ASCII)
_RANGE = re.compile(rf"({_DECIMAL.pattern})\s*-\s*({_DECIMAL.pattern})", re.ASCII)
_PART = re.compile(r"""((?:"[^"]*"|[^;"])*)(?:;|\Z)""")
_FIELD = re.compile(r"[a-z_]{1,80}", re.ASCII)
_QUOTED = re.compile(r'"[^"]*"')
_AT_FIELD = re.compile(r"\$\.(?:data\.)?(\w+)")  # Litestar calls the body `data`
_UNKNOWN_FIELD = re.compile(r"unknown field `([^`]*)`")


class FaultError(ValueError):
    """An invalid fault: `field` names the invalid field, `reason` says why and what is allowed."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"{field}: {reason}")


_NAME = Meta(
    description="The name in the response's `Video-Calls-Fault`; by default what the fault does.",
    pattern=r"^[A-Za-z0-9._:=/+-]([A-Za-z0-9 ._:=/+-]{0,98}[A-Za-z0-9._:=/+-])?$(?!\n)",
)
_IDENTITY = Meta(
    description="The e-mail address of the user whose requests to act on.",
    pattern=r"^[^@\s]+@[^@\s]+(?![\s\S])",
)
_CALL_NUMBER = Meta(description="The id of the call to act on.", ge=1, le=2**63 - 1)
_CALL_UUID = Meta(
    description="The id of the call to act on, if ids are UUIDs.", pattern=f"^{UUID_FORM}(?![\\s\\S])"
)
_PROBABILITY = Meta(description="The probability of acting on a request.", ge=0, le=1)
_RANDOM_SEED = Meta(
    description="Makes the choice of requests and the delays repeatable.", ge=-(2**63), le=2**63 - 1
)
_DELAY = Meta(description="The delay in seconds, or the smallest and the largest delay.")
_ERROR = Meta(
    description="The error text; by default that of the operation with this status.",
    min_length=1,
    max_length=4096,
)
_CODE = Meta(
    description="The error code; by default that of the operation with this status.",
    min_length=1,
    max_length=100,
)
_RETRY_AFTER = Meta(
    description="Seconds in `Retry-After`; 429 and 503 always have that header.", ge=0, le=2**31 - 1
)
_AFTER = Meta(description="Let the API handle the request first, and then delay, refuse or drop.")


class Fault(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A failure that the server injects.

    Raises:
        FaultError: if its fields contradict each other.
    """

    name: Annotated[str, _NAME] | None = None
    operation: Annotated[Operation, Meta(description="The operation to act on; by default all.")] | None = (
        None
    )
    identity: Annotated[str, _IDENTITY] | None = None
    call: Annotated[int, _CALL_NUMBER] | Annotated[str, _CALL_UUID] | None = None
    times: Annotated[int, Meta(description="The number of requests to act on.", ge=1, le=2**53)] | None = None
    probability: Annotated[float, _PROBABILITY] | None = None
    random_seed: Annotated[int, _RANDOM_SEED] | None = None
    delay: Annotated[float | tuple[float, float], _DELAY] | None = None
    status: Annotated[int, Meta(description="The status of the response.", ge=400, le=599)] | None = None
    error: Annotated[str, _ERROR] | None = None
    code: Annotated[str, _CODE] | None = None
    retry_after: Annotated[int, _RETRY_AFTER] | None = None
    drop: Annotated[bool, Meta(description="Drop the connection without a response.")] = False
    after: Annotated[bool, _AFTER] = False
    # The default is not None, because Litestar would then read the text `null` as None.
    body: Annotated[BodyFault, Meta(description="How to change the body of a success.")] | UnsetType = UNSET

    def __post_init__(self) -> None:
        final = [field for field in _FINAL if getattr(self, field)]
        if not final and self.delay is None:
            raise FaultError("status", "the fault would do nothing; give status, drop, body or delay")
        if len(final) > 1:
            raise FaultError(
                final[1], f"cannot be combined with {final[0]}; a fault has one of {', '.join(_FINAL)}"
            )
        if self.status is None:
            for field in _OF_STATUS:
                if getattr(self, field) is not None:
                    raise FaultError(field, "needs a status as well")
        least, most = self._delays
        if not 0 <= least <= most <= MAX_DELAY:  # msgspec 0.22 crashes on such bounds in a union
            raise FaultError("delay", _DELAY_RANGE)
        if self.random_seed is not None and self.probability is None and not isinstance(self.delay, tuple):
            raise FaultError("random_seed", "nothing is random; give a probability or a range of delays")
        if self.after and self.body and self.delay is None:
            raise FaultError("after", "is not needed: a body changes after the request is handled")
        self._check_operation()

    def _check_operation(self) -> None:
        if self.operation in WITHOUT_CALL and self.call is not None:
            raise FaultError("call", f"{self.operation} has no single call; leave out one of the two")
        if self.operation == EVENTS:
            for field in ("body", "after"):
                if getattr(self, field):
                    raise FaultError(field, "events allow delay, drop and status only")

    @property
    def label(self) -> str:
        """The name of the fault. By default, it says what the fault does."""
        if self.name is not None:
            return self.name
        if self.status is not None:
            does = f"status={self.status}"
        elif self.drop:
            does = "drop"
        elif self.body:
            does = f"body={self.body}"
        else:
            least, most = self._delays
            does = f"delay={least:g}" if least == most else f"delay={least:g}-{most:g}"
        return f"{does} after" if self.after else does

    @property
    def is_final(self) -> bool:
        """Whether the fault does more than delay, so that no other fault acts on the request."""
        return self.status is not None or self.drop or bool(self.body)

    @property
    def _delays(self) -> tuple[float, float]:
        if self.delay is None:
            return 0.0, 0.0
        return self.delay if isinstance(self.delay, tuple) else (self.delay, self.delay)

    def draw_delay(self, random: Random) -> float:
        """Return the delay of one request, in seconds."""
        least, most = self._delays
        return least if least == most else random.uniform(least, most)


class StoredFault(Fault, kw_only=True, frozen=True):
    """A fault of a namespace, and how often it has acted."""

    id: Annotated[int, Meta(description="The id that removes the fault.", ge=1)]
    acted: Annotated[int, Meta(description="The number of requests it has acted on.", ge=0)]
    left: (
        Annotated[int, Meta(description="How many requests it can still act on; null: no limit.", ge=0)]
        | None
    )


_DELAY_RANGE = f"must be seconds from 0 to {MAX_DELAY}, or a range such as 0.1-0.5 ([0.1, 0.5] in JSON)"

_ALLOWED = {
    "name": "must be 1 to 100 letters, digits, inner spaces and any of . _ : = / + -",
    "operation": f"must be one of {', '.join(get_args(Operation))}",
    "identity": "must be the e-mail address of a user",
    "call": "must be the id of a call: a positive whole number, or a UUID as the API writes it",
    "times": "must be a whole number, 1 or more",
    "probability": "must be a number from 0 to 1",
    "random_seed": "must be a whole number of 64 bits",
    "delay": _DELAY_RANGE,
    "status": "must be a whole number from 400 to 599",
    "error": "must be a text of 1 to 4096 characters",
    "code": "must be a text of 1 to 100 characters",
    "retry_after": "must be a whole number of seconds, 0 or more",
    "drop": "must be true or false",
    "after": "must be true or false",
    "body": f"must be one of {', '.join(get_args(BodyFault))}",
}
_FLAGS = ("drop", "after")
_NUMBERS = ("probability", "delay")
_WHOLE_NUMBERS = ("call", "times", "random_seed", "status", "retry_after")


def read_fault(content: Mapping[str, object]) -> Fault:
    """Return the fault that a JSON object describes.

    Raises:
        FaultError: if the object is not a valid fault.
    """
    try:
        return msgspec.convert(content, Fault)
    except msgspec.ValidationError as error:
        raise fault_error(error) from error


def fault_error(error: msgspec.ValidationError) -> FaultError:
    """Return an error of msgspec as a `FaultError`, which says what is allowed."""
    if isinstance(error.__cause__, FaultError):
        return error.__cause__
    text = str(error)
    if (unknown := _UNKNOWN_FIELD.search(text)) is not None:
        return FaultError(
            unknown[1][:_MAX_QUOTE], f"there is no such field; the fields are {', '.join(_ALLOWED)}"
        )
    at = _AT_FIELD.search(text)
    field = "" if at is None else at[1]
    return FaultError(field or "fault", _ALLOWED.get(field, "must be a JSON object"))


def parse_fault(text: str) -> Fault:
    """Return the fault that a text describes, such as `status=503; times=1; operation=joinVideoCall`.

    The fields are those of `Fault`, with `-` or `_`. `drop` and `after` need no value. A range of delays is
    `0.1-0.5`. A value that contains a semicolon needs double quotes.

    Raises:
        FaultError: if the text is not a valid fault.
    """
    content: dict[str, object] = {}
    place = 0
    while place < len(text):
        part = _PART.match(text, place)
        if part is None:
            raise _unreadable(text[place:])
        place = part.end()
        if not part[1].strip():
            continue
        name, equals, value = (each.strip() for each in part[1].partition("="))
        field = name.lower().replace("-", "_")
        if not _FIELD.fullmatch(field) or ('"' in value and not _QUOTED.fullmatch(value)):
            raise _unreadable(part[1])
        if field in content:
            raise FaultError(field, "occurs twice")
        if not equals and field in _ALLOWED and field not in _FLAGS:
            raise FaultError(field, f"has no value; {_ALLOWED[field]}")
        content[field] = _value(field, value) if equals else True
    return read_fault(content)


def _unreadable(part: str) -> FaultError:
    return FaultError(part.strip()[:_MAX_QUOTE], "must be like status=503; times=1; operation=joinVideoCall")


def _value(field: str, text: str) -> object:
    """Return the value that the text of a field means, or the text itself if it is no value of the field."""
    if text.startswith('"'):
        return text[1:-1]
    if field in _FLAGS:
        return {"true": True, "false": False}.get(text.lower(), text)
    if field in _WHOLE_NUMBERS:
        return int(text) if _WHOLE.fullmatch(text) else text
    if field in _NUMBERS and _DECIMAL.fullmatch(text):
        return float(text)
    bounds = _RANGE.fullmatch(text) if field == "delay" else None
    return text if bounds is None else (float(bounds[1]), float(bounds[2]))
