"""What a fault is, and how it is written: as a JSON object, or as a text on a command line or in a header.

A fault matches requests by operation, identity and call, or every one; it acts on all that match, on the
first so many, or by chance. What it does is one of: answer a status, drop the connection, spoil the body of
a success; before it, or alone, it may delay.
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
"""The operations of the contract, and the WebSocket of the events: a fault can choose any of them."""

Spoiling = Literal["truncated", "corrupted", "missing_field", "wrong_type", "null"]

EVENTS: Operation = "events"
OF_NO_CALL: tuple[Operation, ...] = ("listVideoCalls", "createVideoCall", EVENTS)
LONGEST_DELAY = 3600

_LONGEST_NAME = 80  # characters of what is no field

_ANSWERS = ("status", "drop", "body")
_OF_STATUS = ("error", "code", "retry_after")
_WHOLE = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", re.ASCII)
_RANGE = re.compile(rf"({_DECIMAL.pattern})\s*-\s*({_DECIMAL.pattern})", re.ASCII)
_PART = re.compile(r"""((?:"[^"]*"|[^;"])*)(?:;|\Z)""")
_FIELD = re.compile(r"[a-z_]{1,80}", re.ASCII)
_QUOTED = re.compile(r'"[^"]*"')
_AT_FIELD = re.compile(r"\$\.(?:data\.)?(\w+)")  # the body is `data` to Litestar
_UNKNOWN_FIELD = re.compile(r"unknown field `([^`]*)`")


class FaultError(ValueError):
    """A fault that cannot be: `field` is what is wrong with it, `reason` says why and what is allowed."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"{field}: {reason}")

    def __reduce__(self) -> tuple[type["FaultError"], tuple[str, str]]:
        return type(self), (self.field, self.reason)


class Fault(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Something that goes wrong on purpose.

    Raises:
        FaultError: its fields do not go together.
    """

    name: (
        Annotated[
            str,
            Meta(
                description="Its name in the answer's `Video-Calls-Fault`; by default what it does.",
                pattern=r"^[A-Za-z0-9._:=/+-]([A-Za-z0-9 ._:=/+-]{0,98}[A-Za-z0-9._:=/+-])?$(?!\n)",
            ),
        ]
        | None
    ) = None
    operation: (
        Annotated[Operation, Meta(description="The operation that it is for; all, where there is none.")]
        | None
    ) = None
    identity: (
        Annotated[
            str,
            Meta(
                description="The e-mail address of the user whose requests it is for.",
                pattern=r"^[^@\s]+@[^@\s]+(?![\s\S])",
            ),
        ]
        | None
    ) = None
    call: (
        Annotated[int, Meta(description="The id of the call that it is for.", ge=1, le=2**63 - 1)]
        | Annotated[
            str,
            Meta(description="The id of the call, if ids are UUIDs.", pattern=f"^{UUID_FORM}(?![\\s\\S])"),
        ]
        | None
    ) = None
    times: Annotated[int, Meta(description="On how many requests it acts.", ge=1, le=2**53)] | None = None
    probability: (
        Annotated[float, Meta(description="How likely it acts on a request that matches.", ge=0, le=1)] | None
    ) = None
    random_seed: (
        Annotated[
            int,
            Meta(
                description="The same seed means the same of the requests, and the same delays.",
                ge=-(2**63),
                le=2**63 - 1,
            ),
        ]
        | None
    ) = None
    delay: (
        Annotated[
            float | tuple[float, float],
            Meta(description="Seconds that it takes, or the least and the most of them."),
        ]
        | None
    ) = None
    status: Annotated[int, Meta(description="The status that it answers.", ge=400, le=599)] | None = None
    error: (
        Annotated[
            str,
            Meta(
                description="The text of the answer; by default that of the operation with this status.",
                min_length=1,
                max_length=4096,
            ),
        ]
        | None
    ) = None
    code: (
        Annotated[
            str,
            Meta(
                description="The code of the answer; by default that of the operation with this status.",
                min_length=1,
                max_length=100,
            ),
        ]
        | None
    ) = None
    retry_after: (
        Annotated[
            int,
            Meta(
                description="Seconds in the answer's `Retry-After`, which 429 and 503 have in any case.",
                ge=0,
                le=2**31 - 1,
            ),
        ]
        | None
    ) = None
    drop: Annotated[bool, Meta(description="Whether it drops the connection without an answer.")] = False
    after: Annotated[
        bool,
        Meta(description="Whether the request is acted on first, and only then delayed, refused or dropped."),
    ] = False
    # No None here, for which Litestar would take the text `null`.
    body: Annotated[Spoiling, Meta(description="What it makes of the body of a success.")] | UnsetType = UNSET

    def __post_init__(self) -> None:
        answers = [field for field in _ANSWERS if getattr(self, field)]
        if not answers and self.delay is None:
            raise FaultError("status", "nothing would happen; give a status, drop, a body or a delay")
        if len(answers) > 1:
            raise FaultError(
                answers[1], f"does not go with {answers[0]}; a fault has one of {', '.join(_ANSWERS)}"
            )
        if self.status is None:
            for field in _OF_STATUS:
                if getattr(self, field) is not None:
                    raise FaultError(field, "is of an answer; give a status, too")
        least, most = self._delays
        if not 0 <= least <= most <= LONGEST_DELAY:  # msgspec 0.22 crashes where a union has these bounds
            raise FaultError("delay", _DELAY)
        if self.random_seed is not None and self.probability is None and not isinstance(self.delay, tuple):
            raise FaultError(
                "random_seed", "nothing is left to chance; give a probability or a range of delays"
            )
        if self.after and self.body and self.delay is None:
            raise FaultError("after", "a body is spoiled after the request is acted on in any case")
        self._check_operation()

    def _check_operation(self) -> None:
        if self.operation in OF_NO_CALL and self.call is not None:
            raise FaultError("call", f"{self.operation} is of no one call; leave out one of the two")
        if self.operation == EVENTS:
            for field in ("body", "after"):
                if getattr(self, field):
                    raise FaultError(
                        field, "events know delay, and drop and status before the handshake, alone"
                    )

    @property
    def label(self) -> str:
        """Its name, by default what it does."""
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
            does = f"delay={_number(least)}" if least == most else f"delay={_number(least)}-{_number(most)}"
        return f"{does} after" if self.after else does

    @property
    def answers(self) -> bool:
        """Whether it does more than delay, so that no other fault can act on the request."""
        return self.status is not None or self.drop or bool(self.body)

    @property
    def _delays(self) -> tuple[float, float]:
        if self.delay is None:
            return 0.0, 0.0
        return self.delay if isinstance(self.delay, tuple) else (self.delay, self.delay)

    def seconds(self, random: Random) -> float:
        """How long it takes this time."""
        least, most = self._delays
        return least if least == most else random.uniform(least, most)


class KeptFault(Fault, kw_only=True, frozen=True):
    """A fault that the server has, and what became of it."""

    id: Annotated[int, Meta(description="Names the fault, to remove it.", ge=1)]
    acted: Annotated[int, Meta(description="On how many requests it has acted.", ge=0)]
    left: Annotated[int, Meta(description="On how many it may still act; null is without end.", ge=0)] | None


_DELAY = f"must be seconds from 0 to {LONGEST_DELAY}, or the least and the most of them"

_ALLOWED = {
    "name": "must be 1 to 100 letters, digits, spaces within and any of . _ : = / + -",
    "operation": f"must be one of {', '.join(get_args(Operation))}",
    "identity": "must be the e-mail address of a user",
    "call": "must be the id of a call: a positive whole number, or a UUID as the API writes it",
    "times": "must be a whole number, 1 or more",
    "probability": "must be a number from 0 to 1",
    "random_seed": "must be a whole number of 64 bits",
    "delay": _DELAY,
    "status": "must be a whole number from 400 to 599",
    "error": "must be a text of 1 to 4096 characters",
    "code": "must be a text of 1 to 100 characters",
    "retry_after": "must be a whole number of seconds, 0 or more",
    "drop": "must be true or false",
    "after": "must be true or false",
    "body": f"must be one of {', '.join(get_args(Spoiling))}",
}
_FLAGS = ("drop", "after")
_NUMBERS = ("probability", "delay")
_WHOLE_NUMBERS = ("call", "times", "random_seed", "status", "retry_after")


def read_fault(sent: Mapping[str, object]) -> Fault:
    """The fault that a JSON object says.

    Raises:
        FaultError: it says none.
    """
    try:
        return msgspec.convert(sent, Fault)
    except msgspec.ValidationError as error:
        raise fault_error(error) from error


def fault_error(error: msgspec.ValidationError) -> FaultError:
    """What msgspec found wrong with a fault, in words that say what is allowed."""
    if isinstance(error.__cause__, FaultError):
        return error.__cause__
    text = str(error)
    if (unknown := _UNKNOWN_FIELD.search(text)) is not None:
        return FaultError(
            unknown[1][:_LONGEST_NAME], f"there is no such field; there are {', '.join(_ALLOWED)}"
        )
    at = _AT_FIELD.search(text)
    field = "" if at is None else at[1]
    return FaultError(field or "fault", _ALLOWED.get(field, "must be a JSON object"))


def parse_fault(text: str) -> Fault:
    """The fault that a text such as `status=503; times=1; operation=joinVideoCall` says.

    The fields are those of `Fault`, with `-` or `_`; `drop` and `after` need no value; a range of delays is
    `0.1-0.5`; a value may stand in double quotes, and has to where it holds a semicolon.

    Raises:
        FaultError: it says none.
    """
    sent: dict[str, object] = {}
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
        if field in sent:
            raise FaultError(field, "is given twice")
        if not equals and field in _ALLOWED and field not in _FLAGS:
            raise FaultError(field, f"has no value; {_ALLOWED[field]}")
        sent[field] = _value(field, value) if equals else True
    return read_fault(sent)


def _unreadable(part: str) -> FaultError:
    return FaultError(
        part.strip()[:_LONGEST_NAME], "must be like status=503; times=1; operation=joinVideoCall"
    )


def _value(field: str, text: str) -> object:
    """What a text stands for in JSON; the text itself where it is none of what the field may hold."""
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


def _number(seconds: float) -> str:
    return f"{seconds:g}"
