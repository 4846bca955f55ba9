"""The fuzzer: turns Schemathesis's cases into requests, sends them and checks the responses.

The requests change only the fuzzer's own calls: those that the suite or the requests created.
"""

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

from video_calls_contract.created_calls import PARTICIPANTS
from video_calls_contract.exceptions import Blocked, Missing, Unreachable, Violation
from video_calls_contract.exchange import Exchange, instant
from video_calls_contract.fuzzing.flaws import body_flaws, has_digit, keeps_schema
from video_calls_contract.fuzzing.judgement import judge
from video_calls_contract.fuzzing.knowledge import (
    ACTIONS,
    INT64,
    Knowledge,
    Request,
    State,
    raise_unused,
)
from video_calls_contract.ids import NO_CALL, TEXT_ID, Id, is_id
from video_calls_contract.run import Run
from video_calls_contract.scheduling import Calls
from video_calls_contract.users import User

_WHOLE = re.compile(r"-?[0-9]+", re.ASCII)
_KEY = re.compile(r"[!-~]{1,200}", re.ASCII)
_SLOTS = 80  # free times of one fuzzer, because a run's block has only some
_MAX_TEXT_LENGTH = 1000
_SAME_KEY, _SAME_TIME, NO_TOKEN = 5, 10, 16
"""One in so many requests repeats an idempotency key, keeps its generated time, or has no token."""

Case: TypeAlias = schemathesis.Case[Any]


class Fuzzer:
    """Turns cases into requests to its own calls, sends them, and raises violations.

    Attributes:
        violation: the last violation.
        stopped: the error after which the fuzzer sends no more requests.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.calls: Calls = run.calls
        self.knowledge = Knowledge()
        self.violation: Violation | None = None
        self.stopped: Exception | None = None
        self.long = run.options.fuzz == "long"
        self._sent = 0
        self._max_requests = 20_000 if self.long else 150
        self._deadline = time.monotonic() + (120 if self.long else 15)
        self._check = ""
        self._prefix = uuid4().hex
        self._slots: list[datetime] = []
        self._max_slots = self.calls.free_times.at_most(_SLOTS)
        self._can_create = True

    # -- Calls of the fuzzer ------------------------------------------------------------------------

    @contextmanager
    def prepared_calls(self, state: State | None) -> Generator[None]:
        """Create a call in the future; with a `state`, also a call within its join window in this state."""
        with ExitStack() as stack:
            with suppress(Blocked):  # other tests report the refusal; most generated requests need no call
                if state is not None:
                    context = self.calls.ongoing() if state == "ongoing" else self.calls.soon()
                    call = stack.enter_context(context)
                    self.knowledge.created(call.id, call.creation, state)
                self._create_call()
            yield

    def _create_call(self) -> None:
        call = self.calls.scheduled()
        self.knowledge.created(call.id, call.creation)

    def _own_call(self, number: int, operation: str) -> Id:
        """Return the id of a call of the fuzzer, or an unused id if it has none."""
        needs_call = operation == "cancelVideoCall" and "scheduled" not in self.knowledge.states.values()
        if needs_call and self._can_create and len(self.knowledge.states) < (100 if self.long else 6):
            try:
                self._create_call()
            except Blocked:
                self._can_create = False
        ids = [call_id for call_id in self.knowledge.states if isinstance(call_id, int | str)]
        if number in ids:
            return number
        return ids[-1 - number % len(ids)] if ids else self.run.backend.no_call

    # -- Requests from cases ------------------------------------------------------------------------

    def request(self, case: Case, choice: int) -> Request:
        """Return the request of a case; the random number `choice` decides what the case does not."""
        definition = cast("Any", case).operation.definition.raw  # the types of a `Case` are generic
        operation = str(definition["operationId"])
        if operation == "listVideoCalls":
            return self._list(case.query)
        if operation == "createVideoCall":
            return self._create(case.body, cast("Any", case).headers, choice)
        path: Mapping[str, Any] = cast("Any", case).path_parameters
        return self._on_call(operation, case.method, path["id"])

    def _list(self, query: Mapping[str, Any]) -> Request:
        each = ((name, one) for name, value in query.items() for one in _texts(value))
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

    def _on_call(self, operation: str, method: str, case_id: object) -> Request:
        text = self._text(unquote(_as_text(case_id)))
        text_ids = isinstance(self.run.backend.no_call, str)
        target: Id | None = None
        if text_ids and TEXT_ID.fullmatch(text):
            target = self._own_call(sum(map(ord, text)), operation)
        elif not text_ids and _WHOLE.fullmatch(text):
            number = int(text)
            target = self._own_call(number, operation) if 0 < number < self.knowledge.unused_from else number
        if target is not None:
            text = str(target)
            flaws = () if target in self.knowledge.states else ("an id that no call has",)
        else:
            # Remove what changes the path, and what a lenient backend may read as another call's id.
            text = re.sub(r"[/\\]", "", text)
            if operation in ACTIONS:
                text = "".join(character for character in text if not character.isnumeric())
            if not text.strip(" ."):
                text = "x"
            flaws = () if text_ids or has_digit(text) else ("an id that is no number",)
        path = f"/video-calls/{quote(text, safe='')}/"
        if operation in ACTIONS:
            path += f"{ACTIONS[operation].name}/"
        return Request(operation, method, path, is_id(target), flaws, target)

    def _create(self, body: object, headers: Mapping[str, Any], choice: int) -> Request:
        if isinstance(body, dict):
            body = self._own_body(cast("dict[str, Any]", body), choice)
        try:
            content, flaws = json.dumps(body).encode(), self._flaws(body)
        except TypeError:
            content, flaws = b"", ("a request without a body",)
        key = headers.get("Idempotency-Key")
        key_headers: tuple[tuple[str, str], ...] = ()
        if isinstance(key, str) and _KEY.fullmatch(key) and not flaws:
            # The prefix makes the key new to the backend. Only number 0 repeats a key, which is intended.
            number = 0 if choice % _SAME_KEY == 0 else self._sent
            key_headers = (("Idempotency-Key", f"{self._prefix}-{number}-{key}"),)
        return Request(
            "createVideoCall", "POST", "/video-calls/", keeps_schema(body), flaws,
            headers=key_headers, body=body, content=content,
        )  # fmt: skip

    def _flaws(self, body: object) -> tuple[str, ...]:
        text_ids = any(isinstance(one, str) for role in ("doctor", "patient") for one in self._ids(role))
        return body_flaws(body, self._unused_profile_from, text_ids=text_ids)

    def _own_body(self, body: dict[str, Any], choice: int) -> dict[str, Any]:
        """Return a body with ids of the run's users and a free time in place of valid ids and times."""
        own = dict(body)
        for role in ("doctor", "patient"):
            if role in own:
                own[role] = self._own_id(role, own[role])
        if isinstance(own.get("patient"), bool):
            # Keep one id of this run's users: a lenient backend may read booleans as ids, and then only a
            # participant can cancel the call.
            own["patient"] = self._ids("patient")[0]
        at = instant(own.get("scheduled_time"))
        if at is not None and (choice % _SAME_TIME or at > datetime.now(UTC)):
            own["scheduled_time"] = self._slot(own["scheduled_time"])
        return own

    def _own_id(self, role: str, value: object) -> object:
        ids = self._ids(role)
        if isinstance(ids[0], str) and is_id(value):
            return ids[len(str(value)) % len(ids)]
        if isinstance(value, str) and has_digit(value):
            return str(ids[len(value) % len(ids)])
        if isinstance(ids[0], int) and (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and 1 <= value < self._unused_profile_from
        ):
            own = ids[int(value) % len(ids)]
            return own + value % 1 if isinstance(value, float) and isinstance(own, int) else own
        return value

    def _ids(self, role: str) -> list[Id]:
        """Return ids of the run's users, six times that of the first, so that most requests use it."""
        users = self.run.users.present(*PARTICIPANTS)
        ids = [one for user in users if (one := user.doctor if role == "doctor" else user.patient)]
        return [ids[0]] * 6 + ids[1:]

    @property
    def _unused_profile_from(self) -> int:
        ids = (one for role in ("doctor", "patient") for one in self._ids(role) if isinstance(one, int))
        return raise_unused(NO_CALL, max(ids, default=0))

    def _slot(self, text: str) -> str:
        """Return a free time in the format of a text; after `_max_slots`, a time that may be taken."""
        parsed = datetime.fromisoformat(text)
        if len(self._slots) < self._max_slots:
            self._slots.append(self.calls.free_times.take())
            slot = self._slots[-1]
        else:
            slot = self._slots[self._sent % self._max_slots]
        at = slot.astimezone(parsed.tzinfo).replace(tzinfo=None)
        spelling = re.fullmatch(r".{10}(.).{8}(\.\d+)?(.*)", text, re.DOTALL)
        if spelling is None:
            return at.isoformat(timespec="seconds") + "Z"
        separator, fraction, zone = spelling.groups(default="")
        return at.isoformat(separator, timespec="seconds") + fraction + zone

    def _text(self, value: str) -> str:
        """Return the beginning of a text, without characters that cannot be sent in a request."""
        text = value[:_MAX_TEXT_LENGTH].encode("utf-8", "replace").decode()
        if self.long:
            return text
        return "".join(character for character in text if character >= " " and character != "\x7f")

    # -- Sending ------------------------------------------------------------------------------------

    def send_case(self, case: Case, choice: int) -> Exchange | None:
        """Send the request of a case and check the response; None if the fuzzer has sent its last request.

        Raises:
            Violation: if the response breaks the contract.
        """
        is_over = self._sent >= self._max_requests or time.monotonic() > self._deadline
        if self.stopped is not None or is_over:
            return None
        try:
            request = self.request(case, choice)
            return self._send(request, self._sender(choice, request))
        except (Missing, Unreachable, Blocked) as error:
            self.stopped = error
            return None

    def _sender(self, choice: int, request: Request) -> User:
        users = self.run.users
        if choice % NO_TOKEN == NO_TOKEN - 1:
            return users.nobody
        both = [users.patient, users.doctor] if choice % 3 == 1 else [users.doctor, users.patient]
        # The call within its join window may belong to another pair.
        return self.knowledge.participant(
            both + users.present("other_doctor", "other_patient"), request.target
        )

    def _send(self, request: Request, user: User) -> Exchange:
        self._sent += 1
        # If the path or the query is invalid, the framework may respond instead of the operation.
        operation = request.operation if request.valid or request.operation == "createVideoCall" else None
        headers = dict(request.headers)
        if request.operation == "createVideoCall":
            headers["Content-Type"] = "application/json"
        exchange = user.send(
            request.method, request.path, operation=operation, headers=headers, content=request.content
        )
        finding = judge(request, user, exchange, self.knowledge)
        evidence = self.knowledge.evidence.get(request.target, [])[-3:]
        self.knowledge.learn(request, user, exchange)
        if finding is not None and self._check in ("", finding.check):
            if not self._check:
                # Hypothesis uses these requests to find a smaller one that fails.
                self._max_requests = self._sent + (400 if self.long else 60)
            self._check = finding.check
            expected = f"{finding.expected} ({request.operation}, {finding.check})"
            self.violation = Violation(expected, *evidence, exchange)
            raise self.violation
        return exchange


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _texts(value: object) -> list[str]:
    """Return the values of a parameter, each as text."""
    return (
        [_as_text(one) for one in cast("list[object]", value)]
        if isinstance(value, list)
        else [_as_text(value)]
    )
