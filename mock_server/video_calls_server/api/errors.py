"""Every refusal becomes `{"error": …}` here, whatever refused it ("Error Responses")."""

import logging
from collections.abc import Mapping

import msgspec
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException
from video_calls_spec import RuleId

from video_calls_server._structs import Error
from video_calls_server.domain.violation import RuleViolation
from video_calls_server.observability import request_id
from video_calls_server.store import UnavailableError

logger = logging.getLogger("video_calls_server")

BODY_LIMIT = 64 * 1024
"""The largest request body, in bytes."""

RETRY_AFTER_UNAVAILABLE = 1  # seconds

AnyRequest = Request[object, object, object]  # type: ignore[type-var]  # Litestar's own bound is its State


class Refused(Exception):
    """A rule about HTTP itself refuses the request, with headers that say more."""

    def __init__(self, violation: RuleViolation, headers: Mapping[str, str]) -> None:
        self.violation = violation
        self.headers = headers
        super().__init__(str(violation))


def refused(rule: RuleId, headers: Mapping[str, str], *, error: str | None = None) -> Refused:
    """The violation of a rule, with headers."""
    return Refused(RuleViolation(rule, error=error), headers)


def on_exception(request: AnyRequest, exception: Exception) -> Response[bytes]:
    """The answer to a request that could not be served."""
    if isinstance(exception, RuleViolation):
        return _violation(request, exception, {})
    if isinstance(exception, Refused):
        return _violation(request, exception.violation, exception.headers)
    if isinstance(exception, HTTPException):
        return _http(request, exception)
    if isinstance(exception, UnavailableError):
        logger.warning("unavailable: %s request_id=%s", exception, request_id.request_id.get())
        return error_response(
            503,
            Error(error="The service is unavailable for the moment", code="unavailable"),
            {"Retry-After": str(RETRY_AFTER_UNAVAILABLE)},
        )
    return _failed(request, exception)


def _failed(request: AnyRequest, exception: Exception) -> Response[bytes]:
    logger.error(
        "request failed: %s %s request_id=%s",
        request.method,
        request_id.sent_path(request.scope),
        request_id.request_id.get(),
        exc_info=exception,
    )
    return error_response(500, Error(error="Internal server error", code="internal_error"), {})


def _violation(request: AnyRequest, violation: RuleViolation, headers: Mapping[str, str]) -> Response[bytes]:
    request.scope["state"]["rule"] = violation.rule.id
    body = Error(error=violation.error, code=violation.rule.id)
    if violation.fields:
        body.fields = violation.fields
    return error_response(violation.rule.status, body, headers)


def _http(request: AnyRequest, exception: HTTPException) -> Response[bytes]:
    match exception.status_code:
        case 404:
            return _violation(request, RuleViolation("errors.unknown-path"), {})
        case 405:
            methods = (exception.headers or {}).get("allow", "").split(", ")
            allowed = ", ".join(sorted(set(methods) - {"OPTIONS"}))  # which is for CORS alone
            text = f"Method not allowed; this path takes {allowed}"
            return _violation(
                request, RuleViolation("errors.method-not-allowed", error=text), {"Allow": allowed}
            )
        case 413:
            return _violation(request, RuleViolation("errors.body-size"), {})
        case status if 400 <= status < 500:  # noqa: PLR2004 (the client errors)
            body = Error(error=exception.detail or "Bad request", code="bad_request")
            return error_response(status, body, {})
        case 500 if "disconnected" in str(exception.detail):  # the client is gone; nobody reads the answer
            return error_response(400, Error(error="The request body did not arrive", code="bad_request"), {})
        case _:
            return _failed(request, exception)


def error_response(status: int, body: Error, headers: Mapping[str, str]) -> Response[bytes]:
    """An error body as an answer."""
    return Response(
        msgspec.json.encode(body), status_code=status, media_type=MediaType.JSON, headers=dict(headers)
    )
