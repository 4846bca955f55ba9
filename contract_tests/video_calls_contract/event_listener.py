"""Connections for events: collects the messages that a user receives, and the close code of the server.

A thread collects the messages of each connection. The caller names the calls whose events it needs, because a
shared system also sends events of other calls.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlencode

import httpx
from websockets import CloseCode
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from video_calls_contract.config import ConfigError
from video_calls_contract.connection_settings import certificate_problem
from video_calls_contract.exceptions import Missing, NotOffered, Unreachable, Violation
from video_calls_contract.exchange import NO_RESPONSE, Exchange, as_object, retry_after
from video_calls_contract.jwt import expiry
from video_calls_contract.users import User, Users

UNAUTHORIZED, EXPIRED = 4401, 4402
NO_EVENT = (4400, 4410)
"""Close codes for an unknown `last_event_id`. A backend may take an unknown id for an expired one (4410)."""

TYPES = ("call.started", "call.ended", "call.cancelled", "participant.joined", "participant.left")
"""The events of the document; a backend may send others."""

CLOSE_DEADLINE = 10.0
"""Seconds after the expiry of its token within which the server has to close a connection."""

TokenLocation = Literal["header", "subprotocol"]
"""Where a client sends its token."""

_EVENT_DEADLINE = 5.0  # seconds to wait for an event or a close frame
_SETTLING = 0.5  # seconds before a connection counts as open: a server may accept it, then refuse the token
_MOST_LIFETIME = 90.0  # seconds that the suite waits, at most, until a token expires

_SWITCHING, _UNAUTHORIZED, _TOO_MANY_REQUESTS = 101, 401, 429
_OWN_CODES = range(4400, 4500)
_SUBPROTOCOL = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_MOST_WHOLE_EVENTS = 3  # if there are more, a report shows each in a short form
_MOST_OF_MESSAGE = 2**20  # bytes, decompressed
_MOST_OF_CONNECTION = 16 * 2**20  # bytes of all messages of a connection


class Listener:
    """A user's connection; the end of the `with` block closes it.

    Args:
        location: where the token is sent.
        after: the `last_event_id` from which to resume.
        query: more parameters of the URL.

    Attributes:
        status: the status of the handshake's response: 101 if it succeeded.
        subprotocol: the subprotocol that the server selected.
        close_code: the code with which the server closed the connection; None while it is open.
    """

    def __init__(
        self,
        user: User,
        location: TokenLocation = "header",
        *,
        after: str | None = None,
        query: dict[str, str] | None = None,
    ) -> None:
        self.user = user
        self._authorization = user.authorization
        self._token = (self._authorization or "").removeprefix("Bearer ")
        self.status = NO_RESPONSE
        self.subprotocol: str | None = None
        self.close_code: int | None = None
        self._location = location
        parameters = {**(query or {}), **({} if after is None else {"last_event_id": after})}
        root = re.sub("^(?i:http)", "ws", user.backend.base_url)
        self._url = f"{root}/events/" + (f"?{urlencode(parameters)}" if parameters else "")
        self._reason = ""
        self._headers = httpx.Headers()
        self._frames: list[str | bytes] = []
        self._changed = threading.Condition()
        self._stack = ExitStack()
        self._thread: threading.Thread | None = None
        self._sent_at = self._received_at = datetime.now(UTC)
        self._opened_at = 0.0

    def __enter__(self) -> "Listener":
        """Connect; if the server answers 429, wait and retry: three attempts at most."""
        for _ in range(3):
            wait = self._connect()
            if wait is None:
                return self
            time.sleep(wait)
        raise Unreachable(
            f"{self._url} allows no more connections to the {self.user.name}; run the suite later"
        )

    def __exit__(self, *_error: object) -> None:
        """Disconnect."""
        self._stack.close()
        if self._thread is not None:
            self._thread.join(_EVENT_DEADLINE)

    def _connect(self) -> float | None:
        """Connect; return None, or the seconds before the next attempt if the server answers 429."""
        headers, subprotocols = dict[str, str](), None
        if self._token and self._location == "subprotocol":
            subprotocols = [Subprotocol("bearer"), Subprotocol(self._token)]
        elif self._authorization is not None:
            headers["Authorization"] = self._authorization
        settings = self.user.backend.connection
        self._sent_at = datetime.now(UTC)
        try:
            connection = self._stack.enter_context(
                connect(
                    self._url,
                    additional_headers=headers,
                    subprotocols=subprotocols,
                    open_timeout=_EVENT_DEADLINE * 2,
                    close_timeout=1,
                    max_size=_MOST_OF_MESSAGE,
                    ssl=settings.context if self._url.startswith("wss:") else None,
                    proxy=settings.proxy,
                    proxy_ssl=settings.proxy_context,
                )
            )
        except InvalidStatus as error:
            response = error.response
            self.status, self._headers = (
                response.status_code,
                httpx.Headers(list(response.headers.raw_items())),
            )
            self._reason = bytes(response.body or b"").decode("utf-8", "replace")
        except (InvalidHandshake, OSError, EOFError) as error:
            self._reason = certificate_problem(error) or str(error) or type(error).__name__
        else:
            self.status, self.subprotocol = _SWITCHING, connection.subprotocol
            self._opened_at = time.monotonic()
            self._thread = threading.Thread(
                target=self._listen, args=(connection,), name="events", daemon=True
            )
            self._thread.start()
        self._received_at = datetime.now(UTC)
        if self.status != _TOO_MANY_REQUESTS:
            return None
        return min(retry_after(self._headers), _MOST_LIFETIME)

    def _listen(self, connection: ClientConnection) -> None:
        code, received = None, 0
        try:
            while True:
                frame = connection.recv()
                received += len(frame)
                if received > _MOST_OF_CONNECTION:
                    self._reason = f"it sent more than {_MOST_OF_CONNECTION // 2**20} MiB"
                    connection.close()
                    break
                with self._changed:
                    self._frames.append(frame)
                    self._changed.notify_all()
        except ConnectionClosed as closed:
            if closed.rcvd is not None:
                code, self._reason = closed.rcvd.code, closed.rcvd.reason
            elif closed.sent is not None and closed.sent.code == CloseCode.MESSAGE_TOO_BIG:
                self._reason = f"it sent a message of more than {_MOST_OF_MESSAGE // 2**20} MiB"
            else:
                self._reason = "closed without a code"
        except (WebSocketException, OSError, EOFError) as error:
            self._reason = str(error)
        with self._changed:
            self.close_code = code or 1006
            self._changed.notify_all()

    # -- Messages -------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the connection is open."""
        return self.status == _SWITCHING and self.close_code is None

    def stays_open(self, seconds: float = _SETTLING) -> bool:
        """Return whether the connection stays open for so many seconds after it was opened."""
        return self.is_open and not self.closes(self._opened_at + seconds - time.monotonic())

    def closes(self, seconds: float = _EVENT_DEADLINE) -> bool:
        """Return whether the server closes the connection within so many seconds."""
        with self._changed:
            is_closed = self._changed.wait_for(
                lambda: self.close_code is not None, seconds if self.is_open else 0
            )
        self._check_expiry()
        return is_closed

    def _check_expiry(self) -> None:
        # A server may close a connection after its token expires.
        if self.close_code in (UNAUTHORIZED, EXPIRED) or self.status == _UNAUTHORIZED:
            self.user.check_expiry(self._token)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Every message that is a JSON object, in order."""
        return [message for frame in list(self._frames) if (message := _object(frame))]

    @property
    def unreadable(self) -> list[str]:
        """Messages that are not text, or not a JSON object."""
        return [
            repr(frame)[:200]
            for frame in list(self._frames)
            if isinstance(frame, bytes) or not _object(frame)
        ]

    def of(self, *call_ids: object) -> list[dict[str, Any]]:
        """Return the events of these calls, without types of events that the document does not have."""
        return [
            event
            for event in self.messages
            if event.get("type") in TYPES and call_in(event).get("id") in call_ids
        ]

    def wait_until(
        self,
        condition: Callable[[list[dict[str, Any]]], object],
        *call_ids: object,
        seconds: float = _EVENT_DEADLINE,
    ) -> bool:
        """Wait until the events of these calls meet a condition; return whether they do."""
        with self._changed:
            self._changed.wait_for(
                lambda: bool(condition(self.of(*call_ids))) or self.close_code is not None,
                seconds if self.is_open else 0,
            )
            is_met = bool(condition(self.of(*call_ids)))
        if not is_met:
            self._check_expiry()
        return is_met

    def evidence(self, *call_ids: object) -> Exchange:
        """Return the connection as an exchange for reports, with the events of these calls."""
        events = self.of(*call_ids)
        content: dict[str, Any] = {
            "events": events if len(events) <= _MOST_WHOLE_EVENTS else [_short(event) for event in events]
        }
        if self.unreadable:
            content["unreadable"] = self.unreadable
        if self.close_code is not None:
            content["closed"] = {"code": self.close_code, "reason": self._reason}
        headers = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
        if self._token and self._location == "subprotocol":
            headers.append(("Sec-WebSocket-Protocol", f"bearer, {self._token}"))
        elif self._authorization is not None:
            headers.append(("Authorization", self._authorization))
        text = json.dumps(content, ensure_ascii=False) if self.status == _SWITCHING else self._reason
        return Exchange(
            operation=None,
            user=self.user.name,
            method="GET",
            url=self._url,
            request_headers=tuple(headers),
            request_body=b"",
            status=self.status,
            headers=self._headers,
            content=text.encode(),
            sent_at=self._sent_at,
            received_at=self._received_at,
            redactor=self.user.backend.redactor,
        )

    @property
    def ending(self) -> str:
        """The state of the connection in a few words."""
        if self.status == NO_RESPONSE:
            return f"no response ({self._reason})"
        if self.status != _SWITCHING:
            return f"HTTP {self.status}"
        return _ending(self.close_code)


def _ending(code: int | None) -> str:
    return "still open" if code is None else f"closed with {code}"


def _object(frame: str | bytes) -> dict[str, Any]:
    if isinstance(frame, bytes):
        return {}
    try:
        return as_object(json.loads(frame))
    except (ValueError, RecursionError):
        return {}


def call_in(event: dict[str, Any]) -> dict[str, Any]:
    """Return the call in an event; empty if there is none."""
    return as_object(as_object(event.get("data")).get("call"))


def _short(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event with only the id, status and `updated_at` of its call."""
    call = {name: value for name, value in call_in(event).items() if name in ("id", "status", "updated_at")}
    return {**event, "data": {**as_object(event.get("data")), "call": call}}


def fits_a_subprotocol(user: User) -> bool:
    """Return whether a subprotocol may have the characters of a user's token; those of a JWT are allowed."""
    return _SUBPROTOCOL.fullmatch(user.token) is not None


def find_token_location(user: User) -> TokenLocation:
    """Return where the backend accepts a user's token.

    Raises:
        NotOffered: if the backend has no WebSocket for events.
        Violation: if it has one, but accepts the token nowhere.
    """
    attempts: list[Listener] = []
    locations: Iterable[TokenLocation] = (
        ("header", "subprotocol") if fits_a_subprotocol(user) else ("header",)
    )
    for location in locations:
        with Listener(user, location) as listener:
            if listener.stays_open():
                return location
        attempts.append(listener)
    if any(listener.close_code in _OWN_CODES for listener in attempts):
        raise Violation(
            f"a connection with the {user.name}'s token to stay open; it is {attempts[-1].ending}",
            *(listener.evidence() for listener in attempts),
            rule="events.authentication",
        )
    raise NotOffered(f"not offered: a WebSocket at {attempts[0].evidence().url} got {attempts[0].ending}")


# -- A token that expires ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Expiry:
    """A connection whose token has expired. `code` is the close code; None if it is still open."""

    code: int | None
    exchange: Exchange

    @property
    def ending(self) -> str:
        """The state of the connection in a few words."""
        return _ending(self.code)


def expire(users: Users, wait: Callable[[float], None]) -> Expiry:
    """Open a connection with a token that expires within seconds, and wait for the server to close it.

    Raises:
        Missing: if the configuration provides no such token.
        NotOffered: if the backend has no WebSocket for events.
    """
    token_location = find_token_location(users.doctor)
    command = users.identity("expiring").command
    if command is None:
        raise Missing("the configuration's [identities.expiring] has no token_command")
    try:
        user = users.with_header(f"Bearer {command.token()}", "expiring")
    except ConfigError as error:
        raise Missing(str(error)) from None
    expires = expiry(user.token)
    if expires is None:
        raise Missing("the `exp` of the token of [identities.expiring] cannot be read")
    clock = user.backend.clock
    times = clock.possible_times(datetime.now(UTC))
    left = min((expires - now).total_seconds() for now in times)
    if left > _MOST_LIFETIME:
        raise Missing(
            f"the token of [identities.expiring] lasts {left:.0f} s; it should expire within seconds"
        )
    with Listener(user, token_location) as listener:
        if not listener.stays_open():
            raise Missing(
                f"the backend refused the token of [identities.expiring]: the connection is {listener.ending}"
            )
        unsure = clock.margin - timedelta(seconds=20)
        until = time.monotonic() + max(left, 0) + CLOSE_DEADLINE + max(unsure.total_seconds(), 0)
        while time.monotonic() < until and not listener.closes(0):
            wait(0.2)
        return Expiry(listener.close_code, listener.evidence())
