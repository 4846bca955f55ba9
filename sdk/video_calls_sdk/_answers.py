"""Reading what a server answered, tidy or not: into a model, or into the error that says why not.

No I/O. Django REST framework's `{"detail": …}` and `{"field": ["…"]}`, FastAPI's lists and a proxy's HTML
are read as well as the contract's `{"error": …}`.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from time import time
from typing import Any, Generic, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit, urlunsplit

import httpx
from pydantic import BaseModel, ValidationError
from video_calls_spec import RULES, RuleId

from video_calls_sdk._errors import InvalidResponseError, StatusError, class_for

Model = TypeVar("Model", bound=BaseModel)

_LONGEST_TEXT = 500
_LARGEST_PARSED = 2**18  # bytes of an answer that is shown in an error
_LONGEST_READ = 16_384  # characters of a page that are looked at
_TAG = re.compile(r"<[^<>]*>")
_SECRET = re.compile(
    r"(?<=Bearer )\S+|\beyJ[\w-]{4,}\.[\w-]*\.?[\w-]*|\b00[67][A-Za-z0-9+/]{32,}=*", re.ASCII
)
_REDACTED = "[redacted]"
_DEEPEST = 20
_LONGEST_WAIT = 1e9  # seconds
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
    problem: str | None = None
    """Why `content` is not the whole body."""

    @property
    def request_id(self) -> str | None:
        """The server's name for this exchange."""
        found: str | None = self.headers.get("x-request-id")
        return found


class APIResponse(Generic[Model]):
    """A successful answer: the model, and what came with it.

    Attributes:
        data: the model.
        status: the HTTP status.
        headers: of the answer; names are compared without regard to case.
    """

    __slots__ = ("data", "headers", "status")

    def __init__(self, data: Model, *, status: int, headers: httpx.Headers) -> None:
        self.data = data
        self.status = status
        self.headers = headers

    @property
    def request_id(self) -> str | None:
        """The server's `X-Request-ID`, None where it gave none."""
        found: str | None = self.headers.get("x-request-id")
        return found

    def __repr__(self) -> str:
        return f"<APIResponse {self.status} request_id={self.request_id} data={self.data!r}>"


def success(answer: Answer, model: type[Model]) -> APIResponse[Model]:
    """The model in a successful answer.

    Raises:
        InvalidResponseError: the body is not what the contract says.
    """
    if answer.problem is not None:
        raise _departure(answer, [answer.problem])
    try:
        data = model.model_validate_json(answer.content)
    except ValidationError as error:
        # The values are left out: they may be tokens. For the same reason there is no cause to show.
        details = error.errors(include_url=False, include_context=False, include_input=False)
        problems = [
            f"{'.'.join(map(str, detail['loc'])) or 'body'}: {detail['msg']}"
            for detail in details[:_MOST_PROBLEMS]
        ]
        raise _departure(answer, problems) from None
    return APIResponse(data, status=answer.status, headers=answer.headers)


def _departure(answer: Answer, problems: list[str]) -> InvalidResponseError:
    words = f"the answer departs from the contract: {'; '.join(problems)}"
    return InvalidResponseError(words, problems=problems, **_seen(answer))


def failure(answer: Answer) -> StatusError:
    """The error that an answer stands for."""
    body = _body(answer)
    error, fields = _words(body)
    code = _mapping(body).get("code")
    code = code if isinstance(code, str) else None
    error = error or _phrase(answer)
    said = [error, *(text for texts in fields.values() for text in texts)]
    rule = _rule(answer.operation, answer.status, code, said)
    return class_for(answer.status, rule)(
        error, code=code, rule=rule, fields=fields, retry_after=retry_after(answer.headers), **_seen(answer)
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that `Retry-After` asks to wait, given in seconds or as a date; None where it does not."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return min(float(value), _LONGEST_WAIT)
    then = _instant(value)
    return None if then is None else max(0.0, then - (server_time(headers) or time()))


def server_time(headers: Mapping[str, str]) -> float | None:
    """The server's clock when it answered, in Unix seconds, where it said so."""
    return _instant(headers.get("date", ""))


def _instant(http_date: str) -> float | None:
    """A date of HTTP, which is in GMT also where it does not say so, in Unix seconds."""
    try:
        date = parsedate_to_datetime(http_date)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _seen(answer: Answer) -> dict[str, Any]:
    return {
        "status": answer.status,
        "method": answer.method,
        "url": answer.url,
        "request_id": answer.request_id,
        "headers": answer.headers,
        "body": _body(answer),
    }


def _body(answer: Answer) -> Any:  # noqa: ANN401 (JSON of any shape)
    """What was answered, without secrets: an error travels far, and a credential must not."""
    if not answer.content:
        return None
    if answer.operation == "joinVideoCall" and answer.status < 300:  # noqa: PLR2004 (credentials)
        return _REDACTED
    try:
        if len(answer.content) <= _LARGEST_PARSED:
            return _without_secrets(json.loads(answer.content))
    except (ValueError, RecursionError):
        pass
    return _without_secrets(answer.content[:_LONGEST_READ].decode("utf-8", "replace"))


def _without_secrets(value: object) -> Any:  # noqa: ANN401
    if isinstance(value, str):
        return _SECRET.sub(_REDACTED, value)
    if isinstance(value, list):
        return [_without_secrets(item) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return {
            name: _REDACTED if name.lower().endswith("token") else _without_secrets(item)
            for name, item in _mapping(cast("object", value)).items()
        }
    return value


def _mapping(value: object) -> dict[str, Any]:
    """A JSON object, or an empty one where the value is something else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _words(body: object) -> tuple[str | None, dict[str, list[str]]]:
    """What a body says to a person, and of which fields."""
    if isinstance(body, str):
        return _text_of_page(body[:_LONGEST_READ])[:_LONGEST_TEXT] or None, {}
    if isinstance(body, list):
        return "; ".join(_texts(cast("object", body))) or None, {}
    said = _mapping(body)
    if isinstance(said.get("error"), str):
        fields = {name: _texts(value) for name, value in _mapping(said.get("fields")).items()}
        return said["error"] or None, fields
    for key in ("error", "detail", "message", "title"):
        if texts := _texts(said.get(key)):
            return "; ".join(texts), {}
    fields = {name: texts for name, value in said.items() if (texts := _texts(value))}
    general = fields.pop("non_field_errors", [])
    lines = [*general, *(f"{name}: {' '.join(texts)}" for name, texts in fields.items())]
    return "; ".join(lines) or None, fields


def _text_of_page(page: str) -> str:
    for name in ("head", "script", "style"):
        while (start := page.lower().find(f"<{name}")) >= 0:
            end = page.lower().find(f"</{name}", start)
            page = page[:start] + (page[end + 2 :].partition(">")[2] if end >= 0 else "")
    return " ".join(_TAG.sub(" ", page).split())


def _texts(value: object, depth: int = 0) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        items = cast("list[object]", value) if depth < _DEEPEST else []
        return [text for item in items for text in _texts(item, depth + 1)]
    for key in ("message", "msg", "detail", "string"):
        if isinstance(text := _mapping(value).get(key), str):
            return [text]
    return []


def _phrase(answer: Answer) -> str:
    if location := answer.headers.get("location"):
        return f"redirected to {_without_credentials(location)}; is base_url right?"
    try:
        return HTTPStatus(answer.status).phrase
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
    wordings = [wording for text in said for wording in (text, text.rstrip("."))]
    for of_operation in (operation, "*"):
        for possible in statuses:
            for wording in wordings:
                if (found := _TEXT_OF_RULE.get((of_operation, possible, wording))) is not None:
                    return found
    return None
