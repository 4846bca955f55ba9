"""Read a response into a model or an error. No I/O.

The body of an error may have the contract's form, `{"error": …}`, a form of Django REST framework,
`{"detail": …}` or `{"field": ["…"]}`, or FastAPI's list of problems. It may also be plain text.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
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
"""How the client reads responses that depart from the contract."""

_LONGEST_TEXT = 500  # characters of a plain text that becomes the message of an error
_LARGEST_PARSED = 2**18  # bytes of a body that an error shows as parsed JSON
_LONGEST_READ = 16_384  # bytes of a body that an error shows as text
_QUOTED = re.compile(r"'([^']+)'|\"([^\"]+)\"")
_GENERAL = frozenset({"", "__all__", "body", "error", "errors", "detail", "non_field_errors"})
_DEEPEST = 20
REFUSALS = frozenset({400, 409, 422})  # for the same refusal, backends choose different ones
_MOST_PROBLEMS = 10


class Exchange(NamedTuple):
    """A request and its response.

    Attributes:
        problem: why `content` is not the whole body; None if it is.
        token: the token of the request, which the server may send back.
    """

    status: int
    headers: httpx.Headers
    content: bytes
    problem: str | None
    method: str
    url: str
    operation: str
    token: str | None = None

    @property
    def request_id(self) -> str | None:
        """Return the server's `X-Request-ID`, safe to show."""
        return _request_id(self.headers, self.token)


@dataclass(slots=True, eq=False, repr=False)
class APIResponse(Generic[Model]):
    """A successful response.

    Attributes:
        data: the model.
        status: the HTTP status.
        headers: of the response; the case of names does not matter.
        departures: where the response departs from the contract, such as `doctor_details.user: missing`;
            empty unless the client has `answers="lenient"`.
    """

    data: Model
    _: KW_ONLY
    status: int
    headers: httpx.Headers
    departures: tuple[str, ...] = ()

    @property
    def request_id(self) -> str | None:
        """Return the server's `X-Request-ID`, safe to show; None if there is none."""
        return _request_id(self.headers)

    def __repr__(self) -> str:
        return f"<APIResponse {self.status} request_id={self.request_id} data={self.data!r}>"


def _request_id(headers: Mapping[str, str], token: str | None = None) -> str | None:
    value = headers.get("x-request-id")
    return None if value is None else sanitize(value, token)


def success(exchange: Exchange, model: type[Model], answers: Answers = "strict") -> APIResponse[Model]:
    """Return a successful response with its model.

    Raises:
        InvalidResponseError: if the body departs from the contract; with `answers="lenient"`, only if it is
            not a JSON object.
    """
    if exchange.problem is not None:
        raise _departure(exchange, [exchange.problem])
    try:
        data = model.model_validate_json(exchange.content)
    except ValidationError as error:
        if answers == "lenient" and (body := _object(exchange.content)) is not None:
            data, departures = read(model, body, exchange.operation)
            return APIResponse(data, status=exchange.status, headers=exchange.headers, departures=departures)
        # The error shows no values and has no cause, because both may hold tokens.
        details = error.errors(include_url=False, include_context=False, include_input=False)
        problems = [
            f"{'.'.join(map(str, detail['loc'])) or 'body'}: {detail['msg']}"
            for detail in details[:_MOST_PROBLEMS]
        ]
        raise _departure(exchange, problems) from None
    return APIResponse(data, status=exchange.status, headers=exchange.headers)


def _object(content: bytes) -> dict[str, Any] | None:
    """Return a JSON object; None if the content is not one."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if is_object(value) else None


def _departure(exchange: Exchange, problems: list[str]) -> InvalidResponseError:
    problems = [sanitize(problem, exchange.token) for problem in problems]
    message = f"the response departs from the contract: {'; '.join(problems)}"
    return InvalidResponseError(message, problems=problems, **_error_fields(exchange, _body(exchange)))


def departure(response: APIResponse[Any], url: str, problem: str) -> InvalidResponseError:
    """Return the error for a response that has the right form, but a value that the client cannot use."""
    content = response.data.model_dump_json().encode()
    return _departure(Exchange(response.status, response.headers, content, None, "GET", url, ""), [problem])


def failure(exchange: Exchange) -> StatusError:
    """Return the error of a response that is not a success."""
    body = _body(exchange)
    general, fields = _messages_by_field(body)
    code = _as_object(body).get("code")
    code = code if isinstance(code, str) else None
    rule = _rule(exchange.operation, exchange.status, code, [*general, *chain.from_iterable(fields.values())])
    lines = [f"{name}: {' '.join(texts)}" for name, texts in fields.items()]
    is_summary = isinstance(_as_object(body).get("error"), str)  # the contract's `error` sums up the fields
    if not general or not is_summary:
        general += lines
    return class_for(exchange.status, rule)(
        _redirection(exchange) or "; ".join(general) or _phrase(exchange.status),
        code=code,
        rule=rule,
        fields=fields,
        retry_after=retry_after(exchange.headers),
        **_error_fields(exchange, body),
    )


def _error_fields(exchange: Exchange, body: object) -> dict[str, Any]:
    return {
        "status": exchange.status,
        "method": exchange.method,
        "url": exchange.url,
        "request_id": exchange.request_id,
        "headers": sanitize_mapping(exchange.headers, exchange.token),
        "body": body,
    }


def _body(exchange: Exchange) -> Any:  # noqa: ANN401 (JSON of any shape)
    """Return the body, safe to show in an error: JSON, or a text in one line with single spaces."""
    if not exchange.content:
        return None
    if exchange.operation == "joinVideoCall" and exchange.status < 300:  # noqa: PLR2004 (credentials)
        return REDACTED
    try:
        if len(exchange.content) <= _LARGEST_PARSED:
            return sanitize(json.loads(exchange.content), exchange.token)
    except (ValueError, RecursionError):
        pass
    text = exchange.content[:_LONGEST_READ].decode("utf-8", "replace")
    return sanitize(" ".join(text.split()), exchange.token)


def _as_object(value: object) -> dict[str, Any]:
    """Return a JSON object; an empty one if the value is something else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _messages_by_field(body: object) -> tuple[list[str], dict[str, list[str]]]:
    """Return the messages about the whole request, and the messages by field. An HTML page has no messages.

    `error`, `detail` and similar members may be a text, a list or an object by field, at any depth.
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
    """Return the texts in a part of a body, each with its field; the field is empty for the whole request."""
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


def _redirection(exchange: Exchange) -> str | None:
    location = exchange.headers.get("location")
    if not (location and 300 <= exchange.status < 400):  # noqa: PLR2004 (the redirections)
        return None
    place = sanitize(_without_credentials(location), exchange.token)
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
    """Return the rule of a refusal: by the slug in the response, else by the contract's error text.

    A rule with another status than `status` does not count. 400, 409 and 422 count as one status, because
    backends choose different ones for the same refusal.
    """
    statuses = REFUSALS if status in REFUSALS else {status}
    if code is not None and code in RULES:
        return code if RULES[code].status in statuses else None
    # Some backends send an exception of Django REST framework as text, with its messages in quotes.
    quotes = [one or other for text in texts for one, other in _QUOTED.findall(text)]
    wordings = [wording for text in (*texts, *quotes) for wording in (text, text.rstrip("."))]
    for of_operation in (operation, "*"):
        for possible in statuses:
            for wording in wordings:
                if (slug := _RULE_BY_TEXT.get((of_operation, possible, wording))) is not None:
                    return slug
    return None
