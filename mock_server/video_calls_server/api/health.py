"""The health checks, for the programs that start and supervise the server."""

from typing import Any

import anyio
from litestar import Request, get
from sqlalchemy import text

from video_calls_server.store import UnavailableError
from video_calls_server.store.statement import Statement
from video_calls_server.world import world_of

_DATABASE_TIMEOUT = 2.0  # seconds; a readiness probe itself times out after a few

_SELECT_1 = Statement(text("SELECT 1"))


@get("/healthz", sync_to_thread=False)
def healthz() -> dict[str, str]:
    """Report that the server runs."""
    return {"status": "ok"}


@get("/readyz")
async def readyz(request: Request[Any, Any, Any]) -> dict[str, str]:
    """Report that the server can serve requests.

    Raises:
        UnavailableError: if the database does not respond in time.
    """
    try:
        with anyio.fail_after(_DATABASE_TIMEOUT):
            await world_of(request.scope).store.read(_SELECT_1.row)
    except TimeoutError as error:
        raise UnavailableError(f"the database did not answer within {_DATABASE_TIMEOUT:g} seconds") from error
    return {"status": "ready"}
