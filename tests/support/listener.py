"""A WebSocket to an application in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from litestar.exceptions import WebSocketDisconnect

from support.api import Api

EVENTS = "/api/v1/video/events/"


class Listener:
    """A connection of a user."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def next(self) -> dict[str, Any]:
        event: dict[str, Any] = self._session.receive_json(timeout=30)
        return event

    def types(self, count: int) -> list[str]:
        return [self.next()["type"] for _ in range(count)]

    def close_code(self) -> int:
        with pytest.raises(WebSocketDisconnect) as closed:
            self._session.receive_json(timeout=30)
        return int(closed.value.code)


@contextmanager
def listening(
    api: Api,
    user: str | None,
    query: str = "",
    *,
    headers: dict[str, str] | None = None,
    place: str = "",
    **options: Any,
) -> Iterator[Listener]:
    """Open a connection as a user, or with other headers; `place` is the prefix of a namespace."""
    sent = headers if headers is not None else api.headers(user) if user else {}
    with api.client.websocket_connect(f"{place}{EVENTS}{query}", headers=sent, **options) as session:
        yield Listener(session)
