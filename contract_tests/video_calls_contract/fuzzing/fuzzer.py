"""Cases of Schemathesis, turned into requests that hit what may be hit, and sent."""

import json
import re
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, TypeAlias, cast
from urllib.parse import quote, unquote, urlencode
from uuid import uuid4

import schemathesis

from video_calls_contract.backend import Person
from video_calls_contract.call_record import PARTICIPANTS
from video_calls_contract.exchange import Exchange, instant
from video_calls_contract.fuzzing.flaws import body_flaws, has_digit, keeps_schema
from video_calls_contract.fuzzing.judgement import judge
from video_calls_contract.fuzzing.knowledge import (
    ACTIONS,
    INT64,
    Knowledge,
    Request,
    State,
    first_unheld,
)
from video_calls_contract.ids import NO_CALL, TEXT_ID, Id, is_id
from video_calls_contract.outcomes import Blocked, Missing, Unreachable, Violation
from video_calls_contract.run import Run
from video_calls_contract.scheduling import Calls

_WHOLE = re.compile(r"-?[0-9]+", re.ASCII)
_KEY = re.compile(r"[!-~]{1,200}", re.ASCII)
_SLOTS = 80  # a run has a block of days to itself, and no more
_AMOUNT = 1000  # characters of a generated text
_REPEATED, _UNAIMED, UNSIGNED = 5, 10, 16
"""One in so many requests repeats an idempotency key, keeps its generated time, or goes without a token."""

Case: TypeAlias = schemathesis.Case[Any]


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
        self._most_slots = self.calls.slots.at_most(_SLOTS)
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

    def _own(self, number: int, operation: str) -> Id:
        """The id of a call of this fuzzer's own, or one that no call has where there is none."""
        spent = operation == "cancelVideoCall" and "scheduled" not in self.known.states.values()
        if spent and not self._refused and len(self.known.states) < (100 if self.long else 6):
            try:
                self._make_call()
            except Blocked:
                self._refused = True
        ids = [call_id for call_id in self.known.states if isinstance(call_id, int | str)]
        if number in ids:
            return number
        return ids[-1 - number % len(ids)] if ids else self.run.backend.no_call

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
        text_ids = isinstance(self.run.backend.no_call, str)
        target: Id | None = None
        if text_ids and TEXT_ID.fullmatch(text):
            target = self._own(sum(map(ord, text)), operation)
        elif not text_ids and _WHOLE.fullmatch(text):
            number = int(text)
            target = self._own(number, operation) if 0 < number < self.known.unheld else number
        if target is not None:
            flaws = () if target in self.known.states else ("an id that no call has",)
            return self._on(operation, method, str(target), valid=is_id(target), flaws=flaws, target=target)
        # Nothing that is resolved as a path, and to change calls no text that may be read as another's id.
        text = re.sub(r"[/\\]", "", text)
        if operation in ACTIONS:
            text = "".join(character for character in text if not character.isnumeric())
        if not text.strip(" ."):
            text = "x"
        flaws = () if text_ids or has_digit(text) else ("an id that is no number",)
        return self._on(operation, method, text, valid=False, flaws=flaws, target=None)

    def _on(
        self,
        operation: str,
        method: str,
        text: str,
        *,
        valid: bool,
        flaws: tuple[str, ...],
        target: Id | None,
    ) -> Request:
        path = f"/video-calls/{quote(text, safe='')}/"
        if operation in ACTIONS:
            path += f"{ACTIONS[operation].name}/"
        return Request(operation, method, path, valid, flaws, target)

    def _create(self, body: object, headers: Mapping[str, Any], dice: int) -> Request:
        if isinstance(body, dict):
            body = self._aimed(cast("dict[str, Any]", body), dice)
        try:
            content, flaws = json.dumps(body).encode(), self._flaws(body)
        except TypeError:
            content, flaws = b"", ("a request without a body",)
        key = headers.get("Idempotency-Key")
        sent: tuple[tuple[str, str], ...] = ()
        if isinstance(key, str) and _KEY.fullmatch(key) and not flaws:
            # Another run must not have used it, and this one mostly not either.
            number = 0 if dice % _REPEATED == 0 else self._sent
            sent = (("Idempotency-Key", f"{self._prefix}-{number}-{key}"),)
        valid = keeps_schema(body)
        return Request(
            "createVideoCall", "POST", "/video-calls/", valid, flaws, None, (), sent, body, content
        )

    def _flaws(self, body: object) -> tuple[str, ...]:
        text_ids = any(isinstance(one, str) for role in ("doctor", "patient") for one in self._ids(role))
        return body_flaws(body, self._unheld_people, text_ids=text_ids)

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
        if isinstance(ids[0], str) and is_id(value):
            return ids[len(str(value)) % len(ids)]
        if isinstance(value, str) and has_digit(value):
            return str(ids[len(value) % len(ids)])
        if isinstance(ids[0], int) and (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and 1 <= value < self._unheld_people
        ):
            aimed = ids[int(value) % len(ids)]
            return aimed + value % 1 if isinstance(value, float) and isinstance(aimed, int) else aimed
        return value

    def _ids(self, role: str) -> list[Id]:
        """Mostly the doctor's or the patient's, now and then another's of the run's people."""
        people = self.run.people.present(*PARTICIPANTS)
        found = [one for person in people if (one := person.doctor if role == "doctor" else person.patient)]
        return [found[0]] * 6 + found[1:]

    @property
    def _unheld_people(self) -> int:
        held = (one for role in ("doctor", "patient") for one in self._ids(role) if isinstance(one, int))
        return first_unheld(NO_CALL, max(held, default=0))

    def _slot(self, like: str) -> str:
        """A time in the spelling of another: a free one, and after many one that was free."""
        parsed = datetime.fromisoformat(like)
        if len(self._slots) < self._most_slots:
            self._slots.append(self.calls.slots.take())
            free = self._slots[-1]
        else:
            free = self._slots[self._sent % self._most_slots]
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
        if dice % UNSIGNED == UNSIGNED - 1:
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
