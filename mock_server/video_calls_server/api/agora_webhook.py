"""The webhook for Agora's channel notifications. It is not part of the API, because Agora is not a user."""

import logging
from typing import Any

import msgspec
from litestar import Request, post
from litestar.handlers import HTTPRouteHandler

from video_calls_server._structs import Error
from video_calls_server.agora.notifications import UnknownShapeError, is_signed, read_notice
from video_calls_server.api.json_response import JsonResponse
from video_calls_server.api.parsing import header
from video_calls_server.domain.violation import RuleViolation
from video_calls_server.world import world_of

logger = logging.getLogger("video_calls_server.agora")


class _Receipt(msgspec.Struct):
    status: str = "received"


def agora_webhook(secret: str) -> HTTPRouteHandler:
    """Return the handler for notifications that are signed with this secret.

    It answers each signed notification with 200, because Agora repeats a notification after any other status.
    Agora's console also sends a notification as its health check; the channel in it belongs to no call.
    """

    @post("/agora/notifications/")
    async def notifications(request: Request[Any, Any, Any]) -> JsonResponse:
        """Process a notification."""
        body = await request.body()
        if not is_signed(body, header(request.scope, b"agora-signature-v2"), secret):
            return JsonResponse(
                Error(error="Agora-Signature-V2 does not sign this body", code="bad_signature"),
                status=401,
                headers=[(b"www-authenticate", b"Agora-Signature-V2")],
            )
        try:
            notice = read_notice(body)
        except ValueError as error:
            raise RuleViolation("errors.malformed-json") from error
        except UnknownShapeError as error:
            logger.warning("ignored a notification of an unknown shape: %s", error)
            return JsonResponse(_Receipt())
        if notice is not None:
            await world_of(request.scope).operations.apply_notice(notice)
        return JsonResponse(_Receipt())

    return notifications
