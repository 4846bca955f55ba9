"""Where Agora tells who is in a channel; beside the API, for Agora knows no users of it."""

import logging
from typing import Any

import msgspec
from litestar import Request, Router, post

from video_calls_server._structs import Error
from video_calls_server.agora.notifications import UnknownShapeError, is_signed, read_notice
from video_calls_server.api.answer import Answer
from video_calls_server.api.middleware import header
from video_calls_server.domain.violation import RuleViolation
from video_calls_server.namespaces import namespace_of

PATH = "/agora/notifications/"

logger = logging.getLogger("video_calls_server.agora")


class _Received(msgspec.Struct):
    status: str = "received"


def notifications_router(secret: str) -> Router:
    """The endpoint for notifications that this secret signs.

    What is Agora's is answered with 200 whatever it says, so that it is not sent again; that goes for the
    console's health check too, which is of a channel that no call has.
    """

    @post(PATH)
    async def notifications(request: Request[Any, Any, Any]) -> Answer:
        """Take in a notification."""
        body = await request.body()
        if not is_signed(body, header(request.scope, b"agora-signature-v2"), secret):
            return Answer(
                Error(error="Agora-Signature-V2 does not sign this body", code="bad_signature"),
                status=401,
                headers=[(b"www-authenticate", b"Agora-Signature-V2")],
            )
        try:
            notice = read_notice(body)
        except ValueError as error:
            raise RuleViolation("errors.malformed-json") from error
        except UnknownShapeError as error:
            logger.warning("a notification of an unknown shape was ignored: %s", error)
            return Answer(_Received())
        if notice is not None:
            await namespace_of(request.scope).operations.take_notice(notice)
        return Answer(_Received())

    return Router("/", route_handlers=[notifications])
