"""Faults: what goes wrong on purpose, for which requests, and how often. Pure: nothing here does I/O.

A fault matches requests by operation, identity and call, or every one; it acts on all that match, on the
first so many, or by chance. What it does is one of: answer a status, drop the connection, spoil the body of
a success; before it, or alone, it may delay. `faulty` does to requests what is decided here.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from random import Random
from typing import Annotated, Any, Literal, NamedTuple, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

Operation = Literal[
    "listVideoCalls",
    "createVideoCall",
    "getVideoCall",
    "joinVideoCall",
    "endVideoCall",
    "cancelVideoCall",
    "events",
]
"""What a fault can be for: the operations of the contract, and the WebSocket of the events."""

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
        Annotated[int, Meta(description="The id of the call that it is for.", ge=1, le=2**63 - 1)] | None
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
    "call": "must be the id of a call, a positive whole number",
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


class Asked(NamedTuple):
    """What faults match of a request. `identities` are those that faults are for and that are its user's."""

    operation: str
    call: int | None
    identities: frozenset[str]


class _Counted:
    """A fault, how often it has acted, and its own chance."""

    __slots__ = ("acted", "fault", "random")

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.acted = 0
        self.random = Random(fault.random_seed)  # noqa: S311 (no secret; it is meant to be predictable)

    @property
    def left(self) -> int | None:
        return None if self.fault.times is None else self.fault.times - self.acted

    def acts(self, asked: Asked) -> bool:
        """Whether it acts on this request."""
        if not _concerns(self.fault, asked.operation, asked.call):
            return False
        if self.fault.identity is not None and self.fault.identity not in asked.identities:
            return False
        return self.fault.probability is None or self.random.random() < self.fault.probability


class Acting:
    """The faults that act on one request, in order."""

    __slots__ = ("_counted", "_faults", "answer", "seconds_after", "seconds_before")

    def __init__(self, faults: "Faults") -> None:
        self._faults = faults
        self._counted: list[_Counted] = []
        self.answer: Fault | None = None
        """The one that answers, drops or spoils the body, if any."""
        self.seconds_before = 0.0
        """The delay before the request is acted on."""
        self.seconds_after = 0.0
        """The delay before it is answered."""

    def __bool__(self) -> bool:
        return bool(self._counted)

    @property
    def names(self) -> str:
        """Their names, as the header of the answer has them."""
        return ", ".join(counted.fault.label for counted in self._counted)

    def add(self, counted: _Counted) -> None:
        """Let one more act."""
        counted.acted += 1
        self._counted.append(counted)
        fault = counted.fault
        seconds = fault.seconds(counted.random)
        if fault.after:
            self.seconds_after += seconds
        else:
            self.seconds_before += seconds
        if fault.answers:
            self.answer = fault

    def spare(self) -> None:
        """Do not count the last one, which found no body of a success to spoil."""
        self._counted.pop().acted -= 1
        self.answer = None
        self._faults.count()


class Faults:
    """The faults of one namespace, which is true while any may still act.

    `at_start` are those that it begins with, and has again after `reset`.
    """

    def __init__(self, at_start: Iterable[Fault] = ()) -> None:
        self._at_start = tuple(at_start)
        self._kept: dict[int, _Counted] = {}
        self._able: list[_Counted] = []
        self._last_id = 0
        self.reset()

    def reset(self) -> None:
        """Be as at the start."""
        self._last_id = 0
        self.replace(self._at_start)

    def __bool__(self) -> bool:
        return bool(self._able)

    def __iter__(self) -> Iterator[KeptFault]:
        """In the order in which they were added, those that are done with too."""
        return (_kept(fault_id, counted) for fault_id, counted in self._kept.items())

    def add(self, fault: Fault) -> KeptFault:
        """Have one more, after those that are there."""
        self._last_id += 1
        counted = self._kept[self._last_id] = _Counted(fault)
        self.count()
        return _kept(self._last_id, counted)

    def remove(self, fault_id: int) -> bool:
        """Have this one no more; whether it was there."""
        found = self._kept.pop(fault_id, None)
        self.count()
        return found is not None

    def clear(self) -> None:
        """Have none."""
        self._kept = {}
        self.count()

    def replace(self, faults: Iterable[Fault]) -> None:
        """Have these alone."""
        self.clear()
        for fault in faults:
            self.add(fault)

    def remaining(self) -> tuple[Fault, ...]:
        """Those that may still act, as faults that would act as often."""
        return tuple(msgspec.structs.replace(counted.fault, times=counted.left) for counted in self._able)

    def count(self) -> None:
        """Find out which may still act."""
        self._able = [counted for counted in self._kept.values() if counted.left != 0]

    def identities(self, operation: str, call: int | None, also: Iterable[Fault] = ()) -> frozenset[str]:
        """Whose a request would have to be for some fault to act on it."""
        faults = [*also, *(counted.fault for counted in self._able)]
        return frozenset(
            fault.identity
            for fault in faults
            if fault.identity is not None and _concerns(fault, operation, call)
        )

    def act(self, asked: Asked, also: Iterable[Fault] = ()) -> Acting:
        """Which act on this request, counted as having done so: those that came with it, then those kept."""
        acting = Acting(self)
        for counted in (*map(_Counted, also), *self._able):
            if acting.answer is None and counted.acts(asked):
                acting.add(counted)
        self.count()
        return acting


def _concerns(fault: Fault, operation: str, call: int | None) -> bool:
    if operation == EVENTS and (fault.body or fault.after):
        return False
    return (fault.operation is None or fault.operation == operation) and (
        fault.call is None or fault.call == call
    )


def _kept(fault_id: int, counted: _Counted) -> KeptFault:
    fields = msgspec.structs.asdict(counted.fault)
    fields["name"] = counted.fault.label
    return KeptFault(**fields, id=fault_id, acted=counted.acted, left=counted.left)


def spoiled(body: bytes, how: Spoiling) -> bytes:
    """The JSON body of a success, spoiled; the same for the same body. Of one that is truncated, half.

    `corrupted` is as long as the body and no JSON. The others are JSON that breaks the contract in the first
    field of a call or of credentials, which is a required one; in a page, that of its first call, or its
    `count` where it has none.
    """
    match how:
        case "truncated":
            return body[: len(body) // 2]
        case "corrupted":
            return body[:-1] + (b"}" if body.endswith(b"]") else b"]")
        case _:
            return msgspec.json.encode(_breaking(msgspec.json.decode(body, type=dict[str, Any]), how))


def _breaking(content: dict[str, Any], how: Spoiling) -> dict[str, Any]:
    results = content.get("results")
    target: dict[str, Any] = results[0] if results else content
    field = next(iter(target))
    match how:
        case "missing_field":
            del target[field]
        case "wrong_type":
            target[field] = 0 if isinstance(target[field], str) else "of another type"
        case _:
            target[field] = None
    return content
