"""The refusals of the control API. Their bodies have the form of the API's own: `{"error": …}`."""

from collections.abc import Callable
from typing import cast

from litestar import Response
from litestar.exceptions import ValidationException

from video_calls_server._structs import Error
from video_calls_server.api.errors import AnyRequest, error_response


class ControlRefusal(Exception):
    """A refused request. The message says why, and what to send instead."""

    def __init__(
        self, error: str, *, status: int = 400, code: str = "bad_request", field: str | None = None
    ) -> None:
        super().__init__(error)
        self.error = error
        self.status = status
        self.code = code
        self.field = field


def not_found(what: str) -> ControlRefusal:
    """Return the refusal of a request for something that does not exist."""
    return ControlRefusal(f"there is no {what}", status=404, code="not_found")


def on_refusal(_request: AnyRequest, refusal: ControlRefusal) -> Response[bytes]:
    """Return the response to a refused request."""
    body = Error(error=refusal.error, code=refusal.code)
    if refusal.field is not None:
        body.fields = {refusal.field: [refusal.error]}
    return error_response(refusal.status, body, {})


def on_validation(_request: AnyRequest, error: ValidationException) -> Response[bytes]:
    """Return the response to a body or a parameter that does not fit its schema."""
    # Litestar does not type this list.
    errors = cast("list[dict[str, object]]", error.extra or [])
    fields = {str(each.get("key", "data")): [_message(each)] for each in errors}
    text = "; ".join(f"{field}: {messages[0]}" for field, messages in fields.items())
    body = Error(error=text.removeprefix("data: ") or error.detail, code="invalid")
    if fields:
        body.fields = fields
    return error_response(400, body, {})


def refuse_with(status: int, code: str, error: str) -> Callable[[AnyRequest, Exception], Response[bytes]]:
    """Return an exception handler that always returns this error."""

    def handler(_request: AnyRequest, _error: Exception) -> Response[bytes]:
        return error_response(status, Error(error=error, code=code), {})

    return handler


def _message(error: dict[str, object]) -> str:
    text = str(error.get("message", ""))
    return "a JSON body is needed" if text == "'data'" else text
