"""Checks a response. The checks have the names of Schemathesis's checks."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import cast

from video_calls_contract.checks import FORBIDDEN
from video_calls_contract.exchange import NO_RESPONSE, Exchange, instant
from video_calls_contract.fuzzing.knowledge import ACTIONS, INT32, Knowledge, Request, is_participant
from video_calls_contract.ids import is_id
from video_calls_contract.schema import problems
from video_calls_contract.users import User


@dataclass(frozen=True, slots=True)
class Finding:
    """The name of the check that a response fails, and what the check expects."""

    check: str
    expected: str


def judge(request: Request, user: User, exchange: Exchange, knowledge: Knowledge) -> Finding | None:
    """Return what is wrong with a response, or None; `knowledge` is the state before the request."""
    status = exchange.status
    if status == NO_RESPONSE:
        return Finding("not_a_server_error", f"a response; {exchange.text}")
    if status >= 500:  # noqa: PLR2004 (HTTP)
        return Finding("not_a_server_error", f"no server error; got {status}")
    if exchange.succeeded:
        return _judge_success(request, user, replace(exchange, operation=request.operation), knowledge)
    return _judge_refusal(request, user, exchange, knowledge)


def _judge_success(request: Request, user: User, exchange: Exchange, knowledge: Knowledge) -> Finding | None:
    if request.flaws:
        return Finding(
            "negative_data_rejection", f"a refusal of {', '.join(request.flaws)}; got {exchange.status}"
        )
    if user.authorization is None:
        return Finding("ignored_auth", f"a refusal of a request without a token; got {exchange.status}")
    if (finding := _judge_state(request, exchange, knowledge)) is not None:
        return finding
    expected = 201 if request.operation == "createVideoCall" else 200
    if exchange.status != expected:
        return Finding("status_code_conformance", f"{expected} on success; got {exchange.status}")
    for problem in problems(exchange):
        kind = "content_type" if problem.startswith("Content-Type") else "response_schema"
        return Finding(f"{kind}_conformance", problem)
    return _judge_call(request, exchange)


def _judge_state(request: Request, exchange: Exchange, knowledge: Knowledge) -> Finding | None:
    state = knowledge.states.get(request.target) if request.changes else None
    if state is None:
        return None
    action = ACTIONS[request.operation]
    if state in action.allowed_in:
        return None
    check = "use_after_free" if state == "closed" else "status_code_conformance"
    description = "was ended or cancelled" if state == "closed" else f"is {state}"
    return Finding(check, f"a refusal to {action.name} a call that {description}; got {exchange.status}")


def _judge_call(request: Request, exchange: Exchange) -> Finding | None:
    call = exchange.object
    if request.target is not None and "status" in call and call.get("id") != request.target:
        return Finding(
            "answer_to_request", f"the call of id {request.target}; got that of {call.get('id')!r}"
        )
    if request.operation != "createVideoCall" or not isinstance(request.body, dict):
        return None
    body = cast("dict[str, object]", request.body)
    for name in ("doctor", "patient"):
        expected, actual = body.get(name), call.get(name)
        if (type(expected) is int or (is_id(expected) and type(actual) is str)) and actual != expected:
            return Finding("answer_to_request", f"a call whose `{name}` is {expected}; got {actual!r}")
    expected, actual = body.get("scheduled_time"), call.get("scheduled_time")
    start, actual_start = instant(expected), instant(actual)
    if start and actual_start and abs(start - actual_start) >= timedelta(seconds=1):
        return Finding("answer_to_request", f"a call at {expected}; got {actual}")
    return None


def _judge_refusal(request: Request, user: User, exchange: Exchange, knowledge: Knowledge) -> Finding | None:
    status = exchange.status
    allowed = _refusals(request, user, knowledge)
    if allowed is None:
        # A framework may redirect a path that is not in the contract.
        is_path = request.target is not None or request.operation in {"listVideoCalls", "createVideoCall"}
        if status < 300 or (status < 400 and is_path):  # noqa: PLR2004 (HTTP)
            return Finding("status_code_conformance", f"success or a 4xx; got {status}")
        return None
    if status not in allowed:
        check, description = _describe(request, user, knowledge)
        expected = " or ".join(str(one) for one in allowed) or "success"
        return Finding(check, f"{expected}, for {description}; got {status}")
    return _judge_error_body(exchange)


def _refusals(request: Request, user: User, knowledge: Knowledge) -> tuple[int, ...] | None:
    """Return the statuses with which a backend may refuse a request; None if any refusal is allowed."""
    is_own = request.target in knowledge.states
    if request.operation == "createVideoCall" and user.authorization is not None:
        return (*_refusals_of_create(request, user), *((409, 422) if request.headers else ()))
    if not request.valid or (isinstance(request.target, int) and request.target >= INT32):
        return None
    if user.authorization is None:
        return (401,) if is_own or request.target is None else None
    if request.operation == "listVideoCalls":
        return () if request.query in ((), (("page", "1"),)) else None
    if not is_own:
        return FORBIDDEN
    return () if not request.changes or _is_certain(request, knowledge) else (400,)


def _refusals_of_create(request: Request, user: User) -> tuple[int, ...]:
    body = cast("dict[str, object]", request.body) if isinstance(request.body, dict) else {}
    return (400, 403) if is_participant(user, body) else (400, *FORBIDDEN)


def _is_certain(request: Request, knowledge: Knowledge) -> bool:
    """Return whether the contract always allows this action, because of the call's state."""
    return knowledge.states.get(request.target) == ACTIONS[request.operation].certain_in


def _describe(request: Request, user: User, knowledge: Knowledge) -> tuple[str, str]:
    """Return the name of the check that an unexpected refusal fails, and a description of the request."""
    state = knowledge.states.get(request.target)
    if user.authorization is None:
        return "ignored_auth", "a request without a token"
    if request.flaws:
        return "negative_data_rejection", ", ".join(request.flaws)
    if request.changes and _is_certain(request, knowledge):
        return "positive_data_acceptance", f"a call that is {state}"
    if request.target is not None:
        return "ensure_resource_availability", f"the {user.name}'s own call"
    if request.operation == "listVideoCalls":
        return "positive_data_acceptance", "the first page"
    return "status_code_conformance", "a new call"


def _judge_error_body(exchange: Exchange) -> Finding | None:
    media_type = exchange.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not media_type.endswith("json"):
        return Finding("content_type_conformance", f"an error in application/json; got {media_type!r}")
    text = exchange.object.get("error")
    if not isinstance(text, str) or not text.strip():
        expected = f"a JSON object with a text in `error`, with {exchange.status}"
        return Finding("response_schema_conformance", expected)
    return None
