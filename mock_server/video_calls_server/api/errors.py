"""Error responses: each exception becomes a status and `{"error": …}` ("Error Responses")."""

import logging
from collections.abc import Mapping

import msgspec
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException
from video_calls_spec import RuleId

from video_calls_server._structs import Error
from video_calls_server.domain.violation import RuleViolation
from video_calls_server.observability.request_id import current_request_id, sent_path
from video_calls_server.store import UnavailableError

logger = logging.getLogger("video_calls_server")

BODY_LIMIT = 64 * 1024
"""The largest request body, in bytes."""

RETRY_AFTER_UNAVAILABLE = 1  # seconds

AnyRequest = Request[object, object, object]  # type: ignore[type-var]  # Litestar's own bound is its State


class Refusal(RuleViolation):
    """A violation of a rule about HTTP itself, with the headers that the rule requires."""

    def __init__(self, rule: RuleId, headers: Mapping[str, str], *, error: str | None = None) -> None:
        super().__init__(rule, error=error)
        self.headers = headers


def on_exception(request: AnyRequest, exception: Exception) -> Response[bytes]:
    """Return the response to a request that raised an exception."""
    if isinstance(exception, RuleViolation):
        return _violation(request, exception)
    if isinstance(exception, HTTPException):
        return _http_error(request, exception)
    if isinstance(exception, UnavailableError):
        logger.warning("unavailable: %s request_id=%s", exception, current_request_id.get())
        return error_response(
            503,
            Error(error="The service is unavailable for the moment", code="unavailable"),
            {"Retry-After": str(RETRY_AFTER_UNAVAILABLE)},
        )
    return _server_error(request, exception)


def _server_error(request: AnyRequest, exception: Exception) -> Response[bytes]:
    logger.error(
        "request failed: %s %s request_id=%s",
        request.method,
        sent_path(request.scope),
        current_request_id.get(),
        exc_info=exception,
    )
    return error_response(500, Error(error="Internal server error", code="internal_error"), {})


def _violation(request: AnyRequest, violation: RuleViolation) -> Response[bytes]:
    request.scope["state"]["rule"] = violation.rule.id
    body = Error(error=violation.error, code=violation.rule.id)
    if violation.fields:
        body.fields = violation.fields
    headers: Mapping[str, str] = violation.headers if isinstance(violation, Refusal) else {}
    return error_response(violation.rule.status, body, headers)


def _http_error(request: AnyRequest, exception: HTTPException) -> Response[bytes]:
    match exception.status_code:
        case 404:
            return _violation(request, RuleViolation("errors.unknown-path"))
        case 405:
            methods = (exception.headers or {}).get("allow", "").split(", ")
            allowed = ", ".join(sorted(set(methods) - {"OPTIONS"}))  # OPTIONS is only for preflights
            text = f"Method not allowed; this path takes {allowed}"
            return _violation(request, Refusal("errors.method-not-allowed", {"Allow": allowed}, error=text))
        case 413:
            return _violation(request, RuleViolation("errors.body-size"))
        case status if 400 <= status < 500:  # noqa: PLR2004 (the client errors)
            body = Error(error=exception.detail or "Bad request", code="bad_request")
            return error_response(status, body, {})
        # The client has disconnected, which is not an error of the server.
        case 500 if "disconnected" in str(exception.detail):
            return error_response(400, Error(error="The request body did not arrive", code="bad_request"), {})
        case _:
            return _server_error(request, exception)


def error_response(status: int, body: Error, headers: Mapping[str, str]) -> Response[bytes]:
    """Return a response with an error as its JSON body."""
    return Response(
        msgspec.json.encode(body), status_code=status, media_type=MediaType.JSON, headers=dict(headers)
    )
