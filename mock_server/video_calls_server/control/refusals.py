"""What the control API answers to a request that it cannot do: `{"error": …}`, as the API itself does."""

from typing import cast

from litestar import Response
from litestar.exceptions import ValidationException

from video_calls_server._structs import Error
from video_calls_server.api.errors import AnyRequest, error_response


class ControlRefusal(Exception):
    """The request cannot be done; the message says why and what to give instead."""

    def __init__(
        self, error: str, *, status: int = 400, code: str = "bad_request", field: str | None = None
    ) -> None:
        super().__init__(error)
        self.error = error
        self.status = status
        self.code = code
        self.field = field


def not_found(what: str) -> ControlRefusal:
    """There is no such thing."""
    return ControlRefusal(f"there is no {what}", status=404, code="not_found")


def on_control_error(_request: AnyRequest, error: ControlRefusal) -> Response[bytes]:
    """The answer to what cannot be done."""
    body = Error(error=error.error, code=error.code)
    if error.field is not None:
        body.fields = {error.field: [error.error]}
    return error_response(error.status, body, {})


def on_validation(_request: AnyRequest, error: ValidationException) -> Response[bytes]:
    """The answer to a body or a parameter that has not the shape which the description asks for."""
    # Litestar types what it found wrong as anything; it is a list of these.
    found = cast("list[dict[str, object]]", error.extra or [])
    fields = {str(wrong.get("key", "data")): [_message(wrong)] for wrong in found}
    text = "; ".join(f"{field}: {messages[0]}" for field, messages in fields.items())
    body = Error(error=text.removeprefix("data: ") or error.detail, code="invalid")
    if fields:
        body.fields = fields
    return error_response(400, body, {})


def on_too_large(_request: AnyRequest, _error: Exception) -> Response[bytes]:
    """The answer to a body that is larger than its operation takes."""
    body = Error(error="The request body is larger than this operation takes", code="errors.body-size")
    return error_response(413, body, {})


def on_not_text(_request: AnyRequest, _error: UnicodeDecodeError) -> Response[bytes]:
    """The answer to a body that is not text."""
    return error_response(400, Error(error="The request is not valid UTF-8", code="bad_request"), {})


def on_too_deep(_request: AnyRequest, _error: RecursionError) -> Response[bytes]:
    """The answer to a body that is nested more deeply than JSON is read."""
    return error_response(400, Error(error="JSON is nested too deeply", code="bad_request"), {})


def _message(wrong: dict[str, object]) -> str:
    text = str(wrong.get("message", ""))
    return "a JSON body is needed" if text == "'data'" else text
