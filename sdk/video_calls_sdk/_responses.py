"""Read an answer into a model or an error. No I/O.

Errors may have the contract's form, `{"error": …}`, a form of Django REST framework, `{"detail": …}` or
`{"field": ["…"]}`, or one of FastAPI's lists, or be plain text.
"""

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from itertools import chain
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar, cast
from urllib.parse import urlsplit, urlunsplit

import httpx
from pydantic import BaseModel, ValidationError
from video_calls_spec import RULES, RuleId
from video_calls_spec.redaction import REDACTED
from video_calls_spec.retry_after import retry_after

from video_calls_sdk._errors import InvalidResponseError, StatusError, class_for
from video_calls_sdk._lenient import is_object, read
from video_calls_sdk._redaction import sanitize, sanitize_mapping

Model = TypeVar("Model", bound=BaseModel)

Answers: TypeAlias = Literal["strict", "lenient"]
"""How the client reads answers that depart from the contract."""

_LONGEST_TEXT = 500
_LARGEST_PARSED = 2**18  # bytes of an answer that is sanitize in an error
_LONGEST_READ = 16_384  # bytes of a text that is sanitize in an error
_QUOTED = re.compile(r"'([^']+)'|\"([^\"]+)\"")
_GENERAL = frozenset({"", "__all__", "body", "error", "errors", "detail", "non_field_errors"})
_DEEPEST = 20
REFUSALS = frozenset({400, 409, 422})  # backends choose one of them
_MOST_PROBLEMS = 10


class Answer(NamedTuple):
    """A response with the request that it answers.

    Attributes:
        token: the token of the request; a server may reflect it.
        problem: why `content` is not the whole body; None if it is.
    """

    status: int
    headers: httpx.Headers
    content: bytes
    method: str
    url: str
    operation: str
    token: str | None = None
    problem: str | None = None

    @property
    def request_id(self) -> str | None:
        """Return the server's `X-Request-ID`, safe to show."""
        return _request_id(self.headers, self.token)


class APIResponse(Generic[Model]):
    """A successful response.

    Attributes:
        data: the model.
        status: the HTTP status.
        headers: of the response; the case of names does not matter.
        departures: where the answer departs from the contract, such as `doctor_details.user: missing`; empty
            unless the client reads with `answers="lenient"`.
    """

    __slots__ = ("data", "departures", "headers", "status")

    def __init__(
        self, data: Model, *, status: int, headers: httpx.Headers, departures: tuple[str, ...] = ()
    ) -> None:
        self.data = data
        self.status = status
        self.headers = headers
        self.departures = departures

    @property
    def request_id(self) -> str | None:
        """Return the server's `X-Request-ID`, safe to show; None if there is none."""
        return _request_id(self.headers)

    def __repr__(self) -> str:
        return f"<APIResponse {self.status} request_id={self.request_id} data={self.data!r}>"


def _request_id(headers: Mapping[str, str], token: str | None = None) -> str | None:
    value = headers.get("x-request-id")
    return None if value is None else sanitize(value, token)


def success(answer: Answer, model: type[Model], answers: Answers = "strict") -> APIResponse[Model]:
    """Return the response with the model of a successful answer.

    Raises:
        InvalidResponseError: if the body departs from the contract; if `answers` is "lenient", only if it is
            not a JSON object.
    """
    if answer.problem is not None:
        raise _departure(answer, [answer.problem])
    try:
        data = model.model_validate_json(answer.content)
    except ValidationError as error:
        if answers == "lenient" and (body := _object(answer.content)) is not None:
            data, departures = read(model, body, answer.operation)
            return APIResponse(data, status=answer.status, headers=answer.headers, departures=departures)
        # Values are left out because they may be tokens. So is the cause, because it has them too.
        details = error.errors(include_url=False, include_context=False, include_input=False)
        problems = [
            f"{'.'.join(map(str, detail['loc'])) or 'body'}: {detail['msg']}"
            for detail in details[:_MOST_PROBLEMS]
        ]
        raise _departure(answer, problems) from None
    return APIResponse(data, status=answer.status, headers=answer.headers)


def _object(content: bytes) -> dict[str, Any] | None:
    """Return a JSON object, None if the content is not one."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if is_object(value) else None


def _departure(answer: Answer, problems: list[str]) -> InvalidResponseError:
    problems = [sanitize(problem, answer.token) for problem in problems]
    message = f"the answer departs from the contract: {'; '.join(problems)}"
    return InvalidResponseError(message, problems=problems, **_error_fields(answer, _body(answer)))


def departure(answer: APIResponse[Any], url: str, problem: str) -> InvalidResponseError:
    """Return the error for a model that the client cannot use."""
    content = answer.data.model_dump_json().encode()
    return _departure(Answer(answer.status, answer.headers, content, "GET", url, ""), [problem])


def failure(answer: Answer) -> StatusError:
    """Return the error of an answer that is not a success."""
    body = _body(answer)
    general, fields = _messages_by_field(body)
    code = _as_object(body).get("code")
    code = code if isinstance(code, str) else None
    rule = _rule(answer.operation, answer.status, code, [*general, *chain.from_iterable(fields.values())])
    lines = [f"{name}: {' '.join(texts)}" for name, texts in fields.items()]
    if not general or not isinstance(
        _as_object(body).get("error"), str
    ):  # the contract's `error` is a summary
        general += lines
    return class_for(answer.status, rule)(
        _redirection(answer) or "; ".join(general) or _phrase(answer.status),
        code=code,
        rule=rule,
        fields=fields,
        retry_after=retry_after(answer.headers),
        **_error_fields(answer, body),
    )


def _error_fields(answer: Answer, body: object) -> dict[str, Any]:
    return {
        "status": answer.status,
        "method": answer.method,
        "url": answer.url,
        "request_id": answer.request_id,
        "headers": sanitize_mapping(answer.headers, answer.token),
        "body": body,
    }


def _body(answer: Answer) -> Any:  # noqa: ANN401 (JSON of any shape)
    """Return the body, safe to show in an error; the white space of a text is collapsed."""
    if not answer.content:
        return None
    if answer.operation == "joinVideoCall" and answer.status < 300:  # noqa: PLR2004 (credentials)
        return REDACTED
    try:
        if len(answer.content) <= _LARGEST_PARSED:
            return sanitize(json.loads(answer.content), answer.token)
    except (ValueError, RecursionError):
        pass
    text = answer.content[:_LONGEST_READ].decode("utf-8", "replace")
    return sanitize(" ".join(text.split()), answer.token)


def _as_object(value: object) -> dict[str, Any]:
    """Return a JSON object; an empty one if the value is something else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _messages_by_field(body: object) -> tuple[list[str], dict[str, list[str]]]:
    """Return the messages about the request as a whole, and those by field. A page of HTML has none.

    `error`, `detail` and the like may hold a text, a list, an object by field, or be nested.
    """
    if isinstance(body, str):
        return [body[:_LONGEST_TEXT]] if body and not body.startswith("<") else [], {}
    value = _as_object(body)
    if isinstance(error := value.get("error"), str):
        messages = [("", error)] if error else []
        for key in ("fields", "details", "errors"):
            messages += _messages(value.get(key))
    else:
        keys = ("error", "errors", "detail", "message", "title")
        messages = next(filter(None, (_messages(value.get(key)) for key in keys)), _messages(body))
    general = [text for field, text in messages if field in _GENERAL]
    fields: dict[str, list[str]] = {}
    for field, text in messages:
        if field not in _GENERAL:
            fields.setdefault(field, []).append(text)
    return general, fields


def _messages(value: object, field: str = "", depth: int = 0) -> list[tuple[str, str]]:
    """Return the texts in a part of a body, each with its field, which may be an empty text."""
    if isinstance(value, str):
        return [(field, value)]
    if depth >= _DEEPEST:
        return []
    if isinstance(value, list):
        items = cast("list[object]", value)
        return [message for item in items for message in _messages(item, field, depth + 1)]
    members = _as_object(value)
    for key in ("message", "msg", "detail", "string"):
        if isinstance(text := members.get(key), str):
            place = members.get("attr") or members.get("field") or members.get("loc") or field
            return [(str(cast("list[object]", place)[-1] if isinstance(place, list) else place), text)]
    return [
        message
        for name, item in members.items()
        for message in _messages(item, field if name in _GENERAL else name, depth + 1)
    ]


def _redirection(answer: Answer) -> str | None:
    location = answer.headers.get("location")
    if not (location and 300 <= answer.status < 400):  # noqa: PLR2004 (the redirections)
        return None
    place = sanitize(_without_credentials(location), answer.token)
    return f"redirected to {place}; is base_url right?"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


_RULE_BY_TEXT: dict[tuple[str, int, str], RuleId] = {
    (rule.operation, rule.status, rule.error): slug for slug, rule in reversed(RULES.items()) if rule.error
}


def _without_credentials(url: str) -> str:
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return "no URL"


def _rule(operation: str, status: int, code: str | None, texts: list[str]) -> RuleId | None:
    """Return the rule of a refusal: by the slug in the answer, else by the contract's error text.

    The rule must have this status. 400, 409 and 422 count as the same status, because backends choose.
    """
    statuses = REFUSALS if status in REFUSALS else {status}
    if code is not None and code in RULES:
        return code if RULES[code].status in statuses else None
    # The text of a Django REST framework exception has its messages in quotes.
    quotes = [one or other for text in texts for one, other in _QUOTED.findall(text)]
    wordings = [wording for text in (*texts, *quotes) for wording in (text, text.rstrip("."))]
    for of_operation in (operation, "*"):
        for possible in statuses:
            for wording in wordings:
                if (slug := _RULE_BY_TEXT.get((of_operation, possible, wording))) is not None:
                    return slug
    return None
