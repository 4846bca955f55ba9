"""Read an answer into a model, or into the error that says why not.

No I/O. Django REST framework's `{"detail": …}` and `{"field": ["…"]}`, FastAPI's lists and plain texts are
read as well as the contract's `{"error": …}`.
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
from video_calls_sdk._redaction import shown, shown_mapping

Model = TypeVar("Model", bound=BaseModel)

Answers: TypeAlias = Literal["strict", "lenient"]
"""How answers that depart from the contract are read."""

_LONGEST_TEXT = 500
_LARGEST_PARSED = 2**18  # bytes of an answer that is shown in an error
_LONGEST_READ = 16_384  # bytes of a text that is shown in an error
_QUOTED = re.compile(r"'([^']+)'|\"([^\"]+)\"")
_GENERAL = frozenset({"", "__all__", "body", "error", "errors", "detail", "non_field_errors"})
_DEEPEST = 20
_REFUSALS = frozenset({400, 409, 422})  # which backends choose among
_MOST_PROBLEMS = 10


class Answer(NamedTuple):
    """What came back: status, headers and the whole body, and what it is the answer to."""

    status: int
    headers: httpx.Headers
    content: bytes
    method: str
    url: str
    operation: str
    token: str | None = None
    """The token that was sent; a server may reflect it."""
    problem: str | None = None
    """Why `content` is not the whole body."""

    @property
    def request_id(self) -> str | None:
        """The server's name for this exchange, safe to show."""
        return _request_id(self.headers, self.token)


class APIResponse(Generic[Model]):
    """A successful answer: the model, and what came with it.

    Attributes:
        data: the model.
        status: the HTTP status.
        headers: of the answer; names are compared without regard to case.
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
        """The server's `X-Request-ID`, safe to show; None if it gave none."""
        return _request_id(self.headers)

    def __repr__(self) -> str:
        return f"<APIResponse {self.status} request_id={self.request_id} data={self.data!r}>"


def _request_id(headers: Mapping[str, str], token: str | None = None) -> str | None:
    value = headers.get("x-request-id")
    return None if value is None else shown(value, token)


def success(answer: Answer, model: type[Model], answers: Answers = "strict") -> APIResponse[Model]:
    """Return the model in a successful answer.

    Raises:
        InvalidResponseError: if the body is not what the contract says; of a lenient reader, if it is not a
            JSON object.
    """
    if answer.problem is not None:
        raise _departure(answer, [answer.problem])
    try:
        data = model.model_validate_json(answer.content)
    except ValidationError as error:
        if answers == "lenient" and (body := _object(answer.content)) is not None:
            data, departures = read(model, body, answer.operation)
            return APIResponse(data, status=answer.status, headers=answer.headers, departures=departures)
        # The values are left out: they may be tokens. For the same reason there is no cause to show.
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
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if is_object(found) else None


def _departure(answer: Answer, problems: list[str]) -> InvalidResponseError:
    problems = [shown(problem, answer.token) for problem in problems]
    words = f"the answer departs from the contract: {'; '.join(problems)}"
    return InvalidResponseError(words, problems=problems, **_seen(answer, _body(answer)))


def departure(answer: APIResponse[Any], url: str, problem: str) -> InvalidResponseError:
    """The error for a model that cannot be acted on."""
    content = answer.data.model_dump_json().encode()
    return _departure(Answer(answer.status, answer.headers, content, "GET", url, ""), [problem])


def failure(answer: Answer) -> StatusError:
    """The error that an answer stands for."""
    body = _body(answer)
    words, fields = _words(body)
    code = _mapping(body).get("code")
    code = code if isinstance(code, str) else None
    rule = _rule(answer.operation, answer.status, code, [*words, *chain.from_iterable(fields.values())])
    lines = [f"{name}: {' '.join(texts)}" for name, texts in fields.items()]
    if not words or not isinstance(_mapping(body).get("error"), str):  # the contract's `error` is a summary
        words += lines
    return class_for(answer.status, rule)(
        _redirection(answer) or "; ".join(words) or _phrase(answer.status),
        code=code,
        rule=rule,
        fields=fields,
        retry_after=retry_after(answer.headers),
        **_seen(answer, body),
    )


def _seen(answer: Answer, body: object) -> dict[str, Any]:
    return {
        "status": answer.status,
        "method": answer.method,
        "url": answer.url,
        "request_id": answer.request_id,
        "headers": shown_mapping(answer.headers, answer.token),
        "body": body,
    }


def _body(answer: Answer) -> Any:  # noqa: ANN401 (JSON of any shape)
    """Return what was answered as an error may show it; the white space of a text is collapsed."""
    if not answer.content:
        return None
    if answer.operation == "joinVideoCall" and answer.status < 300:  # noqa: PLR2004 (credentials)
        return REDACTED
    try:
        if len(answer.content) <= _LARGEST_PARSED:
            return shown(json.loads(answer.content), answer.token)
    except (ValueError, RecursionError):
        pass
    text = answer.content[:_LONGEST_READ].decode("utf-8", "replace")
    return shown(" ".join(text.split()), answer.token)


def _mapping(value: object) -> dict[str, Any]:
    """A JSON object, or an empty one where the value is something else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _words(body: object) -> tuple[list[str], dict[str, list[str]]]:
    """Return what a body says of the request as a whole, and of which fields. A page of HTML says nothing.

    What `error`, `detail` and the like hold may be a text, a list, an object by field, or nested.
    """
    if isinstance(body, str):
        return [body[:_LONGEST_TEXT]] if body and not body.startswith("<") else [], {}
    said = _mapping(body)
    if isinstance(error := said.get("error"), str):
        found = [("", error)] if error else []
        for key in ("fields", "details", "errors"):
            found += _messages(said.get(key))
    else:
        keys = ("error", "errors", "detail", "message", "title")
        found = next(filter(None, (_messages(said.get(key)) for key in keys)), _messages(body))
    words = [text for field, text in found if field in _GENERAL]
    fields: dict[str, list[str]] = {}
    for field, text in found:
        if field not in _GENERAL:
            fields.setdefault(field, []).append(text)
    return words, fields


def _messages(value: object, field: str = "", depth: int = 0) -> list[tuple[str, str]]:
    """The texts in a part of a body, each with the field that it is about, or an empty text."""
    if isinstance(value, str):
        return [(field, value)]
    if depth >= _DEEPEST:
        return []
    if isinstance(value, list):
        items = cast("list[object]", value)
        return [message for item in items for message in _messages(item, field, depth + 1)]
    said = _mapping(value)
    for key in ("message", "msg", "detail", "string"):
        if isinstance(text := said.get(key), str):
            place = said.get("attr") or said.get("field") or said.get("loc") or field
            return [(str(cast("list[object]", place)[-1] if isinstance(place, list) else place), text)]
    return [
        message
        for name, item in said.items()
        for message in _messages(item, field if name in _GENERAL else name, depth + 1)
    ]


def _redirection(answer: Answer) -> str | None:
    location = answer.headers.get("location")
    if not (location and 300 <= answer.status < 400):  # noqa: PLR2004 (the redirections)
        return None
    place = shown(_without_credentials(location), answer.token)
    return f"redirected to {place}; is base_url right?"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


_TEXT_OF_RULE: dict[tuple[str, int, str], RuleId] = {
    (rule.operation, rule.status, rule.error): slug for slug, rule in reversed(RULES.items()) if rule.error
}


def _without_credentials(url: str) -> str:
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return "no URL"


def _rule(operation: str, status: int, code: str | None, said: list[str]) -> RuleId | None:
    """The rule that refused: by the slug in the answer, else by the text that the contract has for it.

    It has to be one that refuses with this status, or a backend's own choice among 400, 409 and 422.
    """
    statuses = _REFUSALS if status in _REFUSALS else {status}
    if code is not None and code in RULES:
        return code if RULES[code].status in statuses else None
    # Django REST framework's exceptions, turned into a text, have their messages in quotes.
    quoted = [one or other for text in said for one, other in _QUOTED.findall(text)]
    wordings = [wording for text in (*said, *quoted) for wording in (text, text.rstrip("."))]
    for of_operation in (operation, "*"):
        for possible in statuses:
            for wording in wordings:
                if (found := _TEXT_OF_RULE.get((of_operation, possible, wording))) is not None:
                    return found
    return None
