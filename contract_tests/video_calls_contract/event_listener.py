"""Connections for events: what a backend tells to whom, and with which code it closes.

A connection collects what it is told in a thread of its own. On a shared system it is told of other calls
too: whoever asks for events names the call.
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

from video_calls_contract.backend import People, Person
from video_calls_contract.config import ConfigError
from video_calls_contract.connection import certificate_problem
from video_calls_contract.exchange import NO_ANSWER, Exchange, as_object, retry_after
from video_calls_contract.jwt import claims
from video_calls_contract.outcomes import Missing, NotOffered, Unreachable, Violation

__all__ = [
    "EXPIRED",
    "NO_EVENT",
    "TYPES",
    "UNAUTHORIZED",
    "Expiry",
    "Listener",
    "Way",
    "call_in",
    "expire",
    "find_way",
    "fits_a_subprotocol",
]

UNAUTHORIZED, EXPIRED = 4401, 4402
NO_EVENT = (4400, 4410)
"""What a `last_event_id` that names no event is closed with: opaque ids may all look like forgotten ones."""

TYPES = ("call.started", "call.ended", "call.cancelled", "participant.joined", "participant.left")
"""The events that the document names; a backend may tell others."""

PATIENCE = 5.0
"""Seconds that an event, or a refusal, may take."""

SETTLING = 0.5
"""Seconds until a connection counts as open: a refusal comes after it was accepted."""

LONGEST_LIFE = 90.0
"""Seconds for which an expiring token may live, and a run may wait."""

LATEST = 10.0
"""Seconds after its token's expiry at which a connection is still taken to end with it."""

Way = Literal["header", "subprotocol"]
"""How a token is given."""

_SWITCHING, _UNAUTHORIZED, _TOO_MANY_REQUESTS = 101, 401, 429
_OWN_CODES = range(4400, 4500)
_SUBPROTOCOL = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_MOST_IN_FULL = 3  # events of a report
_MOST_OF_MESSAGE = 2**20  # bytes, decompressed
_MOST_OF_ALL = 16 * 2**20  # bytes of all messages of a connection


class Listener:
    """A connection as somebody; it is closed when the context ends.

    Args:
        way: how the token is given.
        after: the id of the last event that is known.
        query: more of the URL.

    Attributes:
        status: of the handshake: 101, or what else was answered.
        subprotocol: what the server has chosen.
        close_code: with which the server closed the connection; None while it is open.
    """

    def __init__(
        self,
        person: Person,
        way: Way = "header",
        *,
        after: str | None = None,
        query: dict[str, str] | None = None,
    ) -> None:
        self.person = person
        self._authorization = person.lasting_authorization
        self._token = (self._authorization or "").removeprefix("Bearer ")
        self.status = NO_ANSWER
        self.subprotocol: str | None = None
        self.close_code: int | None = None
        self._way = way
        asked = {**(query or {}), **({} if after is None else {"last_event_id": after})}
        root = re.sub("^(?i:http)", "ws", person.backend.base_url)
        self._url = f"{root}/events/" + (f"?{urlencode(asked)}" if asked else "")
        self._said = ""
        self._headers = httpx.Headers()
        self._frames: list[str | bytes] = []
        self._news = threading.Condition()
        self._stack = ExitStack()
        self._thread: threading.Thread | None = None
        self._sent_at = self._received_at = datetime.now(UTC)

    def __enter__(self) -> "Listener":
        """Connect."""
        for _ in range(3):
            wait = self._connect()
            if wait is None:
                return self
            time.sleep(wait)
        raise Unreachable(
            f"{self._url} allows no more connections to the {self.person.name}; run the suite later"
        )

    def __exit__(self, *_error: object) -> None:
        """Leave."""
        self._stack.close()
        if self._thread is not None:
            self._thread.join(PATIENCE)

    def _connect(self) -> float | None:
        """Try it; the seconds after which to try again, where that is what the server asks for."""
        headers, subprotocols = dict[str, str](), None
        if self._token and self._way == "subprotocol":
            subprotocols = [Subprotocol("bearer"), Subprotocol(self._token)]
        elif self._authorization is not None:
            headers["Authorization"] = self._authorization
        reached_by = self.person.backend.connection
        self._sent_at = datetime.now(UTC)
        try:
            connection = self._stack.enter_context(
                connect(
                    self._url,
                    additional_headers=headers,
                    subprotocols=subprotocols,
                    open_timeout=PATIENCE * 2,
                    close_timeout=1,
                    max_size=_MOST_OF_MESSAGE,
                    ssl=reached_by.context if self._url.startswith("wss:") else None,
                    proxy=reached_by.proxy,
                    proxy_ssl=reached_by.proxy_context,
                )
            )
        except InvalidStatus as error:
            response = error.response
            self.status, self._headers = (
                response.status_code,
                httpx.Headers(list(response.headers.raw_items())),
            )
            self._said = bytes(response.body or b"").decode("utf-8", "replace")
        except (InvalidHandshake, OSError, EOFError) as error:
            self._said = certificate_problem(error) or str(error) or type(error).__name__
        else:
            self.status, self.subprotocol = _SWITCHING, connection.subprotocol
            self._thread = threading.Thread(
                target=self._listen, args=(connection,), name="events", daemon=True
            )
            self._thread.start()
        self._received_at = datetime.now(UTC)
        if self.status != _TOO_MANY_REQUESTS:
            return None
        return min(retry_after(self._headers), LONGEST_LIFE)

    def _listen(self, connection: ClientConnection) -> None:
        code, received = None, 0
        try:
            while True:
                frame = connection.recv()
                received += len(frame)
                if received > _MOST_OF_ALL:
                    self._said = f"it sent more than {_MOST_OF_ALL // 2**20} MiB"
                    connection.close()
                    break
                with self._news:
                    self._frames.append(frame)
                    self._news.notify_all()
        except ConnectionClosed as closed:
            if closed.rcvd is not None:
                code, self._said = closed.rcvd.code, closed.rcvd.reason
            elif closed.sent is not None and closed.sent.code == CloseCode.MESSAGE_TOO_BIG:
                self._said = f"it sent a message of more than {_MOST_OF_MESSAGE // 2**20} MiB"
            else:
                self._said = "closed without a code"
        except (WebSocketException, OSError, EOFError) as error:
            self._said = str(error)
        with self._news:
            self.close_code = code or 1006
            self._news.notify_all()

    # -- What was told ----------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the connection was accepted, and has not been closed."""
        return self.status == _SWITCHING and self.close_code is None

    def stays_open(self, seconds: float = SETTLING) -> bool:
        """Whether it is open, and still is after so many seconds."""
        return self.is_open and not self.closes(seconds)

    def closes(self, seconds: float = PATIENCE) -> bool:
        """Whether it is closed by the server within so many seconds."""
        with self._news:
            closed = self._news.wait_for(lambda: self.close_code is not None, seconds if self.is_open else 0)
        self._check_lapse()
        return closed

    def _check_lapse(self) -> None:
        """A connection that ends with its token is no fault of the backend."""
        if self.close_code in (UNAUTHORIZED, EXPIRED) or self.status == _UNAUTHORIZED:
            self.person.check_lapse(self._token)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Every message that is a JSON object, in order."""
        return [found for frame in list(self._frames) if (found := _object(frame))]

    @property
    def unreadable(self) -> list[str]:
        """Messages that are no text, or no JSON object."""
        return [
            repr(frame)[:200]
            for frame in list(self._frames)
            if isinstance(frame, bytes) or not _object(frame)
        ]

    def of(self, *call_ids: object) -> list[dict[str, Any]]:
        """The events that the document names, of these calls."""
        return [
            event
            for event in self.messages
            if event.get("type") in TYPES and call_in(event).get("id") in call_ids
        ]

    def hears(
        self, told: Callable[[list[dict[str, Any]]], object], *call_ids: object, seconds: float = PATIENCE
    ) -> bool:
        """Whether the events of these calls become what is waited for."""
        with self._news:
            self._news.wait_for(
                lambda: bool(told(self.of(*call_ids))) or self.close_code is not None,
                seconds if self.is_open else 0,
            )
            heard = bool(told(self.of(*call_ids)))
        if not heard:
            self._check_lapse()
        return heard

    def evidence(self, *call_ids: object) -> Exchange:
        """The connection as reports show it: with the events of these calls, and how it was closed."""
        told = self.of(*call_ids)
        content: dict[str, Any] = {
            "told": told if len(told) <= _MOST_IN_FULL else [_short(one) for one in told]
        }
        if self.unreadable:
            content["unreadable"] = self.unreadable
        if self.close_code is not None:
            content["closed"] = {"code": self.close_code, "reason": self._said}
        headers = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
        if self._token and self._way == "subprotocol":
            headers.append(("Sec-WebSocket-Protocol", f"bearer, {self._token}"))
        elif self._authorization is not None:
            headers.append(("Authorization", self._authorization))
        shown = json.dumps(content, ensure_ascii=False) if self.status == _SWITCHING else self._said
        return Exchange(
            operation=None,
            person=self.person.name,
            method="GET",
            url=self._url,
            request_headers=tuple(headers),
            request_body=b"",
            status=self.status,
            headers=self._headers,
            content=shown.encode(),
            sent_at=self._sent_at,
            received_at=self._received_at,
            redactor=self.person.backend.redactor,
        )

    @property
    def ending(self) -> str:
        """How far the connection got, in a few words."""
        if self.status == NO_ANSWER:
            return f"no answer ({self._said})"
        if self.status != _SWITCHING:
            return f"HTTP {self.status}"
        return "still open" if self.close_code is None else f"closed with {self.close_code}"


def _object(frame: str | bytes) -> dict[str, Any]:
    if isinstance(frame, bytes):
        return {}
    try:
        return as_object(json.loads(frame))
    except (ValueError, RecursionError):
        return {}


def call_in(event: dict[str, Any]) -> dict[str, Any]:
    """The call that an event holds; empty where it holds none."""
    return as_object(as_object(event.get("data")).get("call"))


def _short(event: dict[str, Any]) -> dict[str, Any]:
    """An event among many: of its call, what tells it from others."""
    call = {name: value for name, value in call_in(event).items() if name in ("id", "status", "updated_at")}
    return {**event, "data": {**as_object(event.get("data")), "call": call}}


def fits_a_subprotocol(person: Person) -> bool:
    """Whether a token is of the characters that a subprotocol may have; every JWT is."""
    return _SUBPROTOCOL.fullmatch(person.token) is not None


def find_way(person: Person) -> Way:
    """How this person's token gets them a connection.

    Raises:
        NotOffered: in no way: there are no events here.
        Violation: there are, and the person is not let in.
    """
    tried: list[Listener] = []
    ways: Iterable[Way] = ("header", "subprotocol") if fits_a_subprotocol(person) else ("header",)
    for way in ways:
        with Listener(person, way) as listener:
            if listener.stays_open():
                return way
        tried.append(listener)
    if any(listener.close_code in _OWN_CODES for listener in tried):
        raise Violation(
            f"a connection with the {person.name}'s token to stay open; it was {tried[-1].ending}",
            *(listener.evidence() for listener in tried),
            rule="events.authentication",
        )
    raise NotOffered(f"not offered: a WebSocket at {tried[0].evidence().url} got {tried[0].ending}")


# -- A token that expires ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Expiry:
    """A connection whose token has expired, as it was then."""

    code: int | None
    exchange: Exchange


def expire(people: People, wait: Callable[[float], None]) -> Expiry:
    """Open a connection with a token that expires within seconds, and see what becomes of it.

    Raises:
        Missing: there is no such token to be had.
        NotOffered: there are no events here.
    """
    way = find_way(people.doctor)
    command = people.identity("expiring").command
    if command is None:
        raise Missing("the configuration's [identities.expiring] has no token_command")
    try:
        person = people.bearing(f"Bearer {command.token()}", "expiring")
    except ConfigError as error:
        raise Missing(str(error)) from None
    expires = claims(person.token).get("exp")
    if not isinstance(expires, int | float):
        raise Missing("the `exp` of the token of [identities.expiring] cannot be read")
    clock = person.backend.clock
    times = clock.possible_times(datetime.now(UTC))
    left = min((datetime.fromtimestamp(expires, UTC) - now).total_seconds() for now in times)
    if left > LONGEST_LIFE:
        raise Missing(
            f"the token of [identities.expiring] lives for {left:.0f} s; have it expire within seconds"
        )
    with Listener(person, way) as listener:
        if not listener.stays_open():
            raise Missing(
                f"the token of [identities.expiring] was not taken: the connection was {listener.ending}"
            )
        unsure = clock.margin - timedelta(seconds=20)
        until = time.monotonic() + max(left, 0) + LATEST + max(unsure.total_seconds(), 0)
        while time.monotonic() < until and not listener.closes(0):
            wait(0.2)
        return Expiry(listener.close_code, listener.evidence())
