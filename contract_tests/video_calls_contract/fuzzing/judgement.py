"""What is wrong with an answer, by Schemathesis's names of the checks."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import cast

from video_calls_contract.backend import Person
from video_calls_contract.checks import FORBIDDEN
from video_calls_contract.exchange import NO_ANSWER, Exchange, instant
from video_calls_contract.fuzzing.knowledge import ACTIONS, INT32, Knowledge, Request, is_in
from video_calls_contract.ids import is_id
from video_calls_contract.schema import problems


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
    for complaint in problems(exchange):
        kind = "content_type" if complaint.startswith("Content-Type") else "response_schema"
        return Fault(f"{kind}_conformance", complaint)
    return _other_than_asked(request, exchange)


def _out_of_turn(request: Request, exchange: Exchange, known: Knowledge) -> Fault | None:
    state = known.states.get(request.target) if request.changes else None
    if state is None:
        return None
    action = ACTIONS[request.operation]
    if state in action.allowed_in:
        return None
    check = "use_after_free" if state == "closed" else "status_code_conformance"
    happened = "was ended or cancelled" if state == "closed" else f"is {state}"
    return Fault(check, f"a refusal to {action.name} a call that {happened}; got {exchange.status}")


def _other_than_asked(request: Request, exchange: Exchange) -> Fault | None:
    body = exchange.object
    if request.target is not None and "status" in body and body.get("id") != request.target:
        return Fault("answer_to_request", f"the call of id {request.target}; got that of {body.get('id')!r}")
    if request.operation != "createVideoCall" or not isinstance(request.body, dict):
        return None
    asked = cast("dict[str, object]", request.body)
    for name in ("doctor", "patient"):
        wanted, got = asked.get(name), body.get(name)
        if (type(wanted) is int or (is_id(wanted) and type(got) is str)) and got != wanted:
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
    if not request.valid or (isinstance(request.target, int) and request.target >= INT32):
        return None
    if person.authorization is None:
        return (401,) if ours or request.target is None else None
    if request.operation == "listVideoCalls":
        return () if request.query in ((), (("page", "1"),)) else None
    return _refusals_of_ours(request, known) if ours else FORBIDDEN


def _refusals_of_new(request: Request, person: Person) -> tuple[int, ...]:
    named = isinstance(request.body, dict) and is_in(person, cast("dict[str, object]", request.body))
    return (400, 403) if named else (400, *FORBIDDEN)


def _is_certain(request: Request, known: Knowledge) -> bool:
    """Whether the contract always allows this change of a call in its state."""
    return known.states.get(request.target) == ACTIONS[request.operation].certain_in


def _refusals_of_ours(request: Request, known: Knowledge) -> tuple[int, ...]:
    certain = not request.changes or _is_certain(request, known)
    return () if certain else (400,)


def _what_was_asked(request: Request, person: Person, known: Knowledge) -> tuple[str, str]:
    """The check that an unexpected refusal fails, and what was refused."""
    state = known.states.get(request.target)
    if person.authorization is None:
        return "ignored_auth", "a request without a token"
    if request.flaws:
        return "negative_data_rejection", ", ".join(request.flaws)
    if request.changes and _is_certain(request, known):
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
