"""Requests that Schemathesis generates from `openapi.yaml`, sent and judged as every other of a run.

Schemathesis says what to send: its coverage cases (each boundary and wrong type of each parameter and field),
random data that keeps the schema and data that breaks it, and chains along the links. It is sent through
`Person`, so that it is recorded, watched and tidied up. What would miss is aimed: ids that a call or a person
may have become those of this module's own calls and of the run's people, and times become free slots. So
requests get as far as the rules, and no call is touched that somebody else made, other tests included.

The names of the checks are Schemathesis's; what they hold is what the document promises, and no more:

* `not_a_server_error`: as there, and an answer must come.
* `status_code_conformance`: replaced. Success has its one documented status, and so has a refusal where the
  request keeps the schema. Of ids and queries that frameworks refuse in their own ways, any 4xx will do.
* `response_schema_conformance`, `content_type_conformance`: of success, the schema as `schema` relaxes it; of
  a refusal by an operation, that it is a JSON object with an `error` text.
* `negative_data_rejection`: replaced. It blames where no usual leniency explains that a request was accepted:
  a field is missing or null, a list or an object stands for a scalar, a text without a digit for an id, an id
  that nobody has, what is no date in any reading, a body that is no object. Such a body is refused with 400
  (or with 403, which may come first; a stranger also with 404). Coerced texts, booleans and fractions,
  lenient spellings of times, unix times, more fields and parameters are accepted as a backend likes.
* `positive_data_acceptance`: replaced, for a 400 of a rule is no fault. It holds what is certain: the list,
  and end, cancel and a repeated join in the state that the call is known to be in.
* `use_after_free`, `ensure_resource_availability`: replaced, for calls are not deleted. A call that has ended
  or was cancelled is not joined, ended or cancelled; and one that was made is there for its participants.
* `ignored_auth`: some requests go without a token; they must not succeed.
* `answer_to_request` is an addition: the call of the answer is the one that was asked for.

Left out: `missing_required_header` (there is none), `response_headers_conformance` (no header is promised),
`unsupported_method` and media types (rules of their own), generated header names and values (backends ignore
them), but for `Idempotency-Key`. Control characters are sent in a long run only.
"""

import json
import re
import time
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeAlias, cast
from urllib.parse import quote, unquote, urlencode
from uuid import uuid4

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.errors import HypothesisException
from schemathesis.config import SchemathesisConfig
from schemathesis.core.transport import Response
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.schemas import OpenApiSchema

from video_calls_contract.backend import Missing, Person, Unreachable
from video_calls_contract.checks import FORBIDDEN, Blocked, Violation
from video_calls_contract.exchange import NO_ANSWER, Exchange, instant
from video_calls_contract.run import Run
from video_calls_contract.scheduling import NO_CALL, PARTICIPANTS, Calls
from video_calls_contract.schema import complaints, contract

__all__ = ["Fuzzer", "Knowledge", "Request", "body_flaws", "fuzz_links", "fuzz_operation", "judge"]

INT32, INT64 = 2**31, 2**63
ACTIONS = {"joinVideoCall": "join", "endVideoCall": "end", "cancelVideoCall": "cancel"}
_WHOLE = re.compile(r"-?[0-9]+", re.ASCII)
_KEY = re.compile(r"[!-~]{1,200}", re.ASCII)
_EXAMPLES = (("page", "1"), ("page_size", "20"))
_UNHURRIED = (
    HealthCheck.too_slow,
    HealthCheck.filter_too_much,
    HealthCheck.data_too_large,
    HealthCheck.large_base_example,
)
_SLOTS = 80  # a run has a block of days to itself, and no more
_AMOUNT = 1000  # characters of a generated text
_REPEATED, _UNAIMED, _UNSIGNED = 5, 10, 16
"""One in so many requests repeats an idempotency key, keeps its generated time, or goes without a token."""

Case: TypeAlias = schemathesis.Case[Any]
State = Literal["scheduled", "ongoing", "closed"]
_LETS = {"join": ("scheduled", "ongoing"), "end": ("ongoing",), "cancel": ("scheduled",)}
_SURELY = {("join", "ongoing"), ("end", "ongoing"), ("cancel", "scheduled")}
_NEAR: dict[str, State] = {
    "joinVideoCall": "scheduled",
    "endVideoCall": "ongoing",
    "cancelVideoCall": "ongoing",
}
_BECOMES: dict[str, State] = {"join": "ongoing", "end": "closed", "cancel": "closed"}

NO_TIMES = ("", "not a time", "----", "2099-13-45T10:00:00Z", "2099-01-01T25:61:61Z")
"""Texts in which no parser, however lenient, sees a time."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be sent.

    Attributes:
        operation: what the path and the method are of.
        valid: whether the request keeps the schema, so that the operation itself answers.
        flaws: why no backend may accept it.
        target: the path's id where it is a whole number.
    """

    operation: str
    method: str
    path: str
    valid: bool
    flaws: tuple[str, ...] = ()
    target: int | None = None
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    body: object = None
    content: bytes | None = None

    @property
    def changes(self) -> bool:
        """Whether its success changes a call."""
        return self.operation in ACTIONS


@dataclass(slots=True)
class Knowledge:
    """What is known of the calls that generated requests are about, and what has told it."""

    states: dict[object, State | None] = field(default_factory=dict[object, "State | None"])
    told: defaultdict[object, list[Exchange]] = field(default_factory=lambda: defaultdict(list))
    unheld: int = NO_CALL

    def created(self, call_id: object, exchange: Exchange, state: State = "scheduled") -> None:
        """A call of ours."""
        self.states[call_id] = state
        self.told[call_id].append(exchange)
        self._there_is(call_id)

    def _there_is(self, call_id: object) -> None:
        """An id of a call, which may be as large as those that are taken for nobody's elsewhere."""
        self.unheld = _unheld(self.unheld, call_id)

    def saw(self, request: Request, person: Person, exchange: Exchange) -> None:
        """Learn from an answer to this person."""
        for call in replace(exchange, operation=request.operation).calls:
            self._there_is(call.get("id"))
        if request.operation == "createVideoCall" and exchange.succeeded:
            call_id = exchange.object.get("id")
            new = isinstance(call_id, int | str) and call_id not in self.states
            # A replayed answer tells of a call as it was, and some backends let anybody schedule for others.
            if new and _is_in(person, exchange.object):
                self.created(call_id, exchange)
        elif request.changes and request.target in self.states:
            if exchange.succeeded:
                self.states[request.target] = _BECOMES[ACTIONS[request.operation]]
                self.told[request.target].append(exchange)
            elif exchange.status == NO_ANSWER or exchange.status >= 500:  # noqa: PLR2004 (HTTP)
                self.states[request.target] = None  # it may have happened all the same

    def participant(self, people: list[Person], call_id: object) -> Person:
        """The first of these people who is in the call; of a call that is not known, the first."""
        call = self.told[call_id][0].object if call_id in self.states else None
        return next((person for person in people if call is None or _is_in(person, call)), people[0])


def _unheld(so_far: int, held: object) -> int:
    """From where on nothing has an id; `held` is one that something has."""
    return INT64 if isinstance(held, int) and held >= so_far else so_far


def _is_in(person: Person, call: Mapping[str, object]) -> bool:
    roles = (("doctor", person.doctor), ("patient", person.patient))
    return any(own is not None and call.get(role) == own for role, own in roles)


# -- Judging ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fault:
    """What a check has against an answer."""

    check: str
    expected: str


def judge(request: Request, person: Person, exchange: Exchange, known: Knowledge) -> Fault | None:
    """What is wrong with an answer; None where nothing is. `known` is what was known before it."""
    status = exchange.status
    if status == NO_ANSWER:
        return Fault("not_a_server_error", f"an answer; {exchange.text}")
    if status >= 500:  # noqa: PLR2004 (HTTP)
        return Fault("not_a_server_error", f"no server error; got {status}")
    if exchange.succeeded:
        return _judge_success(request, person, replace(exchange, operation=request.operation), known)
    return _judge_refusal(request, person, exchange, known)


def _judge_success(request: Request, person: Person, exchange: Exchange, known: Knowledge) -> Fault | None:
    if request.flaws:
        return Fault(
            "negative_data_rejection", f"a refusal of {', '.join(request.flaws)}; got {exchange.status}"
        )
    if person.authorization is None:
        return Fault("ignored_auth", f"a refusal of a request without a token; got {exchange.status}")
    if (fault := _out_of_turn(request, exchange, known)) is not None:
        return fault
    expected = 201 if request.operation == "createVideoCall" else 200
    if exchange.status != expected:
        return Fault("status_code_conformance", f"{expected} on success; got {exchange.status}")
    for complaint in complaints(exchange):
        kind = "content_type" if complaint.startswith("Content-Type") else "response_schema"
        return Fault(f"{kind}_conformance", complaint)
    return _other_than_asked(request, exchange)


def _out_of_turn(request: Request, exchange: Exchange, known: Knowledge) -> Fault | None:
    state = known.states.get(request.target) if request.changes else None
    action = ACTIONS.get(request.operation, "")
    if state is None or state in _LETS[action]:
        return None
    check = "use_after_free" if state == "closed" else "status_code_conformance"
    happened = "was ended or cancelled" if state == "closed" else f"is {state}"
    return Fault(check, f"a refusal to {action} a call that {happened}; got {exchange.status}")


def _other_than_asked(request: Request, exchange: Exchange) -> Fault | None:
    body = exchange.object
    if request.target is not None and "status" in body and body.get("id") != request.target:
        return Fault("answer_to_request", f"the call of id {request.target}; got that of {body.get('id')!r}")
    if request.operation != "createVideoCall" or not isinstance(request.body, dict):
        return None
    asked = cast("dict[str, object]", request.body)
    for name in ("doctor", "patient"):
        wanted, got = asked.get(name), body.get(name)
        if type(wanted) is int and got != wanted:
            return Fault("answer_to_request", f"a call whose `{name}` is {wanted}; got {got!r}")
    wanted, got = asked.get("scheduled_time"), body.get("scheduled_time")
    sent, kept = instant(wanted), instant(got)
    if sent and kept and abs(sent - kept) >= timedelta(seconds=1):
        return Fault("answer_to_request", f"a call at {wanted}; got {got}")
    return None


def _judge_refusal(request: Request, person: Person, exchange: Exchange, known: Knowledge) -> Fault | None:
    status = exchange.status
    allowed = _refusals(request, person, known)
    if allowed is None:
        # What frameworks do with what is no path or query of the contract: a redirect is no success either.
        at_home = request.target is not None or request.operation in {"listVideoCalls", "createVideoCall"}
        if status < 300 or (status < 400 and at_home):  # noqa: PLR2004 (HTTP)
            return Fault("status_code_conformance", f"success or a 4xx; got {status}")
        return None
    if status not in allowed:
        check, what = _what_was_asked(request, person, known)
        wanted = " or ".join(str(one) for one in allowed) or "success"
        return Fault(check, f"{wanted}, for {what}; got {status}")
    return _badly_told(exchange)


def _refusals(request: Request, person: Person, known: Knowledge) -> tuple[int, ...] | None:
    """The statuses with which a request may be refused; None where any refusal will do."""
    ours = request.target in known.states
    if request.operation == "createVideoCall" and person.authorization is not None:
        return (*_refusals_of_new(request, person), *((409, 422) if request.headers else ()))
    if not request.valid or (request.target or 0) >= INT32:
        return None
    if person.authorization is None:
        return (401,) if ours or request.target is None else None
    if request.operation == "listVideoCalls":
        return () if request.query in ((), (("page", "1"),)) else None
    return _refusals_of_ours(request, known) if ours else FORBIDDEN


def _refusals_of_new(request: Request, person: Person) -> tuple[int, ...]:
    named = isinstance(request.body, dict) and _is_in(person, cast("dict[str, object]", request.body))
    return (400, 403) if named else (400, *FORBIDDEN)


def _refusals_of_ours(request: Request, known: Knowledge) -> tuple[int, ...]:
    certain = not request.changes or (ACTIONS[request.operation], known.states[request.target]) in _SURELY
    return () if certain else (400,)


def _what_was_asked(request: Request, person: Person, known: Knowledge) -> tuple[str, str]:
    """The check that an unexpected refusal fails, and what was refused."""
    state = known.states.get(request.target)
    if person.authorization is None:
        return "ignored_auth", "a request without a token"
    if request.flaws:
        return "negative_data_rejection", ", ".join(request.flaws)
    if (ACTIONS.get(request.operation), state) in _SURELY:
        return "positive_data_acceptance", f"a call that is {state}"
    if request.target is not None:
        return "ensure_resource_availability", f"the {person.name}'s own call"
    if request.operation == "listVideoCalls":
        return "positive_data_acceptance", "the first page"
    return "status_code_conformance", "a new call"


def _badly_told(exchange: Exchange) -> Fault | None:
    media_type = exchange.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not media_type.endswith("json"):
        return Fault("content_type_conformance", f"an error in application/json; got {media_type!r}")
    text = exchange.object.get("error")
    if not isinstance(text, str) or not text.strip():
        expected = f"a JSON object with a text in `error`, with {exchange.status}"
        return Fault("response_schema_conformance", expected)
    return None


# -- What no backend may accept ---------------------------------------------------------------------


def body_flaws(body: object, unheld: int = NO_CALL) -> tuple[str, ...]:
    """Why no backend may make a call of this JSON, however lenient it is; empty where one might.

    From `unheld` on nobody has an id.
    """
    if not isinstance(body, dict):
        return ("a body that is no JSON object",)
    fields = cast("dict[str, object]", body)
    found = [
        f"`{name}`: {why}" for name in ("doctor", "patient") if (why := _no_id(fields.get(name), unheld))
    ]
    if why := _no_time(fields.get("scheduled_time")):
        found.append(f"`scheduled_time`: {why}")
    return tuple(found)


def _no_id(value: object, unheld: int) -> str:
    if value is None:
        return "missing or null"
    if isinstance(value, list | dict):
        return "a list or an object in place of an id"
    if isinstance(value, int | float) and not isinstance(value, bool) and not 0 < value < unheld:
        return "an id that nobody has"
    if isinstance(value, str) and not _has_digit(value):
        return "no number in place of an id"
    return ""


def _no_time(value: object) -> str:
    match value:
        case None:
            return "missing or null"
        case bool() | list() | dict():
            return "another type in place of a time"
        case str() if value in NO_TIMES or not re.search(r"\w", value):
            return "no date"
        case _:
            return ""


def _has_digit(text: str) -> bool:
    return any(character.isnumeric() for character in text)


def _keeps_schema(body: object) -> bool:
    if not isinstance(body, dict):
        return False
    fields = cast("dict[str, object]", body)
    ids = (fields.get("doctor"), fields.get("patient"))
    return all(type(one) is int and 0 < one < INT64 for one in ids) and (
        instant(fields.get("scheduled_time")) is not None
    )


# -- Aiming -----------------------------------------------------------------------------------------


class Fuzzer:
    """Turns cases into requests that hit what may be hit, sends them, and raises what it finds."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.calls: Calls = run.calls
        self.known = Knowledge()
        self.found: Violation | None = None
        self.stopped: Exception | None = None
        self.long = run.options.fuzz == "long"
        self._sent = 0
        self._most = 20_000 if self.long else 150
        self._until = time.monotonic() + (120 if self.long else 15)
        self._check = ""
        self._prefix = uuid4().hex
        self._slots: list[datetime] = []
        self._refused = False

    # -- Calls to work on ---------------------------------------------------------------------------

    @contextmanager
    def calls_to_work_on(self, near: State | None) -> Generator[None]:
        """Have a far call, and one within its join window in this state where one can be had."""
        with ExitStack() as stack:
            with suppress(Blocked):  # other tests tell why; generated requests can do without
                if near is not None:
                    lent = self.calls.ongoing() if near == "ongoing" else self.calls.soon()
                    call = stack.enter_context(lent)
                    self.known.created(call.id, call.created, near)
                self._make_call()
            yield

    def _make_call(self) -> None:
        call = self.calls.scheduled()
        self.known.created(call.id, call.created)

    def _own(self, number: int, operation: str) -> int:
        """The id of a call of this fuzzer's own, or one that no call has where there is none."""
        spent = operation == "cancelVideoCall" and "scheduled" not in self.known.states.values()
        if spent and not self._refused and len(self.known.states) < (100 if self.long else 6):
            try:
                self._make_call()
            except Blocked:
                self._refused = True
        ids = [call_id for call_id in self.known.states if isinstance(call_id, int)]
        if number in ids:
            return number
        return ids[-1 - number % len(ids)] if ids else NO_CALL

    # -- Cases into requests ------------------------------------------------------------------------

    def request(self, case: Case, dice: int) -> Request:
        """What is sent for a case; `dice` decides what the case leaves open."""
        described = cast("Any", case).operation.definition.raw  # generic over what it is made from
        operation = str(described["operationId"])
        if operation == "listVideoCalls":
            return self._list(case.query)
        if operation == "createVideoCall":
            return self._create(case.body, cast("Any", case).headers, dice)
        path: Mapping[str, Any] = cast("Any", case).path_parameters
        return self._about_call(operation, case.method, path["id"])

    def _list(self, query: Mapping[str, Any]) -> Request:
        each = ((name, one) for name, value in query.items() for one in _listed(value))
        pairs = [(self._text(name), self._text(one)) for name, one in each][:6]
        numbers = dict(pairs)
        valid = len(numbers) == len(pairs) and all(
            name in ("page", "page_size")
            and _WHOLE.fullmatch(value)
            and 0 < int(value) < (101 if name == "page_size" else INT64)
            for name, value in pairs
        )
        encoded = f"?{urlencode(pairs)}" if pairs else ""
        return Request("listVideoCalls", "GET", f"/video-calls/{encoded}", valid, query=tuple(pairs))

    def _about_call(self, operation: str, method: str, given_id: object) -> Request:
        text = self._text(unquote(_told(given_id)))
        if _WHOLE.fullmatch(text):
            number = int(text)
            if 0 < number < self.known.unheld:
                number = self._own(number, operation)
            valid = 0 < number < INT64
            flaws = () if number in self.known.states else ("an id that no call has",)
            return self._on(operation, method, str(number), valid=valid, flaws=flaws, target=number)
        # Nothing that is resolved as a path, and to change calls no text that may be read as another's id.
        text = re.sub(r"[/\\]", "", text)
        if operation in ACTIONS:
            text = "".join(character for character in text if not character.isnumeric())
        if not text.strip(" ."):
            text = "x"
        flaws = () if _has_digit(text) else ("an id that is no number",)
        return self._on(operation, method, text, valid=False, flaws=flaws, target=None)

    def _on(
        self,
        operation: str,
        method: str,
        text: str,
        *,
        valid: bool,
        flaws: tuple[str, ...],
        target: int | None,
    ) -> Request:
        path = f"/video-calls/{quote(text, safe='')}/"
        if operation in ACTIONS:
            path += f"{ACTIONS[operation]}/"
        return Request(operation, method, path, valid, flaws, target)

    def _create(self, body: object, headers: Mapping[str, Any], dice: int) -> Request:
        if isinstance(body, dict):
            body = self._aimed(cast("dict[str, Any]", body), dice)
        try:
            content, flaws = json.dumps(body).encode(), body_flaws(body, self._unheld_people)
        except TypeError:
            content, flaws = b"", ("a request without a body",)
        key = headers.get("Idempotency-Key")
        sent: tuple[tuple[str, str], ...] = ()
        if isinstance(key, str) and _KEY.fullmatch(key) and not flaws:
            # Another run must not have used it, and this one mostly not either.
            number = 0 if dice % _REPEATED == 0 else self._sent
            sent = (("Idempotency-Key", f"{self._prefix}-{number}-{key}"),)
        valid = _keeps_schema(body)
        return Request(
            "createVideoCall", "POST", "/video-calls/", valid, flaws, None, (), sent, body, content
        )

    def _aimed(self, body: dict[str, Any], dice: int) -> dict[str, Any]:
        aimed = dict(body)
        for name in ("doctor", "patient"):
            if name in aimed:
                aimed[name] = self._person_id(name, aimed[name])
        if isinstance(aimed.get("patient"), bool):
            # Never a call of two strangers, which none of ours could cancel.
            aimed["patient"] = self._ids("patient")[0]
        at = instant(aimed.get("scheduled_time"))
        if at is not None and (dice % _UNAIMED or at > datetime.now(UTC)):
            aimed["scheduled_time"] = self._slot(aimed["scheduled_time"])
        return aimed

    def _person_id(self, name: str, value: object) -> object:
        ids = self._ids(name)
        if isinstance(value, str) and _has_digit(value):
            return str(ids[len(value) % len(ids)])
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and 1 <= value < self._unheld_people
        ):
            return ids[int(value) % len(ids)] + (value % 1 if isinstance(value, float) else 0)
        return value

    def _ids(self, role: str) -> list[int]:
        """Mostly the doctor's or the patient's, now and then another's of the run's people."""
        people = self.run.people.present(*PARTICIPANTS)
        found = [one for person in people if (one := person.doctor if role == "doctor" else person.patient)]
        return [found[0]] * 6 + found[1:]

    @property
    def _unheld_people(self) -> int:
        return _unheld(NO_CALL, max(*self._ids("doctor"), *self._ids("patient")))

    def _slot(self, like: str) -> str:
        """A time in the spelling of another: a free one, and after many one that was free."""
        parsed = datetime.fromisoformat(like)
        if len(self._slots) < _SLOTS:
            self._slots.append(self.calls.slots.take())
            free = self._slots[-1]
        else:
            free = self._slots[self._sent % _SLOTS]
        at = free.astimezone(parsed.tzinfo).replace(tzinfo=None)
        spelling = re.fullmatch(r".{10}(.).{8}(\.\d+)?(.*)", like, re.DOTALL)
        if spelling is None:
            return at.isoformat(timespec="seconds") + "Z"
        separator, fraction, zone = spelling.groups(default="")
        return at.isoformat(separator, timespec="seconds") + fraction + zone

    def _text(self, value: str) -> str:
        """The text as far as it can be sent."""
        text = value[:_AMOUNT].encode("utf-8", "replace").decode()
        if self.long:
            return text
        return "".join(character for character in text if character >= " " and character != "\x7f")

    # -- Sending ------------------------------------------------------------------------------------

    def try_case(self, case: Case, dice: int) -> Exchange | None:
        """Send what a case says and judge the answer; None once enough was sent.

        Raises:
            Violation: the answer is not what the contract says.
        """
        if self.stopped is not None or self._sent >= self._most or time.monotonic() > self._until:
            return None
        try:
            request = self.request(case, dice)
            return self._try(request, self._somebody(dice, request))
        except (Missing, Unreachable, Blocked) as error:
            self.stopped = error
            return None

    def _somebody(self, dice: int, request: Request) -> Person:
        people = self.run.people
        if dice % _UNSIGNED == _UNSIGNED - 1:
            return people.nobody
        both = [people.patient, people.doctor] if dice % 3 == 1 else [people.doctor, people.patient]
        # The call within its join window may be of another pair, which had room for one.
        return self.known.participant(both + people.present("other_doctor", "other_patient"), request.target)

    def _try(self, request: Request, person: Person) -> Exchange:
        self._sent += 1
        # What a framework refuses is no operation's refusal.
        of = request.operation if request.valid or request.operation == "createVideoCall" else None
        headers = dict(request.headers)
        if request.operation == "createVideoCall":
            headers["Content-Type"] = "application/json"
        exchange = person.send(
            request.method, request.path, operation=of, headers=headers, content=request.content
        )
        fault = judge(request, person, exchange, self.known)
        evidence = self.known.told.get(request.target, [])[-3:]
        self.known.saw(request, person, exchange)
        if fault is not None and self._check in ("", fault.check):
            if not self._check:
                self._most = self._sent + (400 if self.long else 60)  # so much to find a smaller one
            self._check = fault.check
            expected = f"{fault.expected} ({request.operation}, {fault.check})"
            self.found = Violation(expected, *evidence, exchange)
            raise self.found
        return exchange


def _told(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _listed(value: object) -> list[str]:
    """The values of a parameter, each as text."""
    return [_told(one) for one in cast("list[object]", value)] if isinstance(value, list) else [_told(value)]


# -- Generating -------------------------------------------------------------------------------------


def fuzz_operation(run: Run, operation: str) -> None:
    """Send an operation everything that its schema describes, and what it forbids.

    Raises:
        Violation: an answer is not what the contract says; the request is the smallest that was found.
    """
    fuzzer = Fuzzer(run)
    described = _schema(long=fuzzer.long)
    target = _operation(described, operation)
    near = _NEAR.get(operation)
    with fuzzer.calls_to_work_on(near), _told_of(fuzzer):
        for number, case in enumerate(_boundaries(described, target)):
            unsigned = "Authorization" not in case.headers
            fuzzer.try_case(case, _UNSIGNED - 1 if unsigned else 1 + number % 2)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @seed(run.options.seed)
            @_settings(1000 if fuzzer.long else 7)
            @given(target.as_strategy(generation_mode=mode), st.integers(1, 239))
            def answered(case: Case, dice: int) -> None:
                fuzzer.try_case(case, dice)

            answered()


def fuzz_links(run: Run) -> None:
    """Walk along the contract's links: create or list, then get, join, end and cancel what came back.

    Raises:
        Violation: an answer is not what the contract says.
    """
    fuzzer = Fuzzer(run)
    machine_of_links = _schema(long=fuzzer.long).as_state_machine()

    def call(machine: Any, case: Case, **_: object) -> Response:  # noqa: ANN401 (made at run time)
        machine.steps = getattr(machine, "steps", 0) + 1
        exchange = fuzzer.try_case(case, machine.steps)
        return _response(exchange)

    def judged_already(*_: object, **__: object) -> None:
        """`call` has judged the answer."""

    chains = type(
        "Chains",
        (machine_of_links,),
        {
            "call": call,
            "validate_response": judged_already,
            "_hypothesis_internal_use_seed": run.options.seed,
        },
    )
    with fuzzer.calls_to_work_on("scheduled"), _told_of(fuzzer):
        cast("Any", chains).run(settings=_settings(400 if fuzzer.long else 8, stateful_step_count=6))


@contextmanager
def _told_of(fuzzer: Fuzzer) -> Generator[None]:
    """Raise what a fuzzer found, the last being the smallest, and what kept it from going on."""
    # Hypothesis would leave a directory where the run was started.
    with TemporaryDirectory(prefix="video-calls-contract-") as directory:
        set_hypothesis_home_dir(directory)
        try:
            # A backend whose answers differ from time to time cannot be reduced to one request; it is judged
            # by those that were sent.
            with suppress(Violation, HypothesisException):
                yield
        finally:
            set_hypothesis_home_dir(None)
    if fuzzer.found is not None:
        raise fuzzer.found from None
    if fuzzer.stopped is not None:
        raise fuzzer.stopped from None


def _settings(examples: int, **options: Any) -> settings:  # noqa: ANN401 (passed on)
    return settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=_UNHURRIED,
        print_blob=False,
        **options,
    )


def _schema(*, long: bool) -> OpenApiSchema:
    valid_only: dict[str, Any] = {"generation": {"mode": "positive"}, "inference": {"algorithms": []}}
    return schemathesis.openapi.from_dict(
        contract(),
        config=SchemathesisConfig.from_dict(
            {
                "base-url": "http://backend.invalid",
                "generation": {"database": "none", "allow-x00": long, "codec": "utf-8"},
                "phases": {"coverage": {"unexpected-methods": []}, "stateful": valid_only},
            }
        ),
    )


def _operation(described: Any, operation: str) -> Any:  # noqa: ANN401 (generic over what it is made from)
    return described.find_operation_by_id(operation)


def _boundaries(described: Any, operation: Any) -> Iterator[Case]:  # noqa: ANN401 (generic)
    """Schemathesis' coverage cases, each once, but for those that are about media types alone."""
    seen: set[str] = set()
    cases: Iterator[Case] = described.iter_coverage_cases(
        operation,
        generation_modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE],
        generation_config=described.config.generation_for(operation=operation, phase="coverage"),
    )
    for case in cases:
        signed = "Authorization" in case.headers
        # The other parameter's example changes nothing.
        query = {name: value for name, value in case.query.items() if (name, value) not in _EXAMPLES}
        told = repr((case.path_parameters, query, case.body, signed))
        if (
            case.method == operation.method.upper()
            and "Content-Type" not in case.headers
            and told not in seen
        ):
            seen.add(told)
            yield case


def _response(exchange: Exchange | None) -> Response:
    """An answer as Schemathesis reads it, to follow its links; nothing was found where there is none."""
    asked = requests.Request("GET", "http://backend.invalid").prepare()
    if exchange is None:
        return Response(404, {}, b"", asked, elapsed=0, verify=True)
    headers = {name: [value] for name, value in exchange.headers.items()}
    return Response(exchange.status, headers, exchange.content, asked, elapsed=0, verify=True)
