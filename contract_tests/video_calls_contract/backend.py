"""The backend under test, reached over HTTP: every exchange is recorded and observed.

A 429 is waited out as its `Retry-After` asks. Nothing else is repeated but a GET to which nothing came back.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from video_calls_contract.bodies import ACCEPTED_CODING, UnreadBodyError, read_body
from video_calls_contract.clock import BackendClock
from video_calls_contract.config import Config, Identity
from video_calls_contract.connection import Connection, certificate_problem
from video_calls_contract.exchange import NO_ANSWER, Exchange, Redactor, instant, retry_after
from video_calls_contract.interrupts import held_back

__all__ = ["Backend", "Missing", "People", "Person", "Unreachable"]

LONGEST_WAIT = 90.0  # seconds that a Retry-After may ask for
PATIENCE = 300.0  # seconds of a request and all its repetitions
_TOO_MANY_REQUESTS = 429

UNSET: Any = object()
"""Distinguishes "no body" from a body of `null`."""


class Unreachable(Exception):
    """The backend does not answer any more, or not before long: the suite cannot do its work."""


class NotTheBackend(Unreachable):
    """What is reached is not the backend, or does not let the suite in; the message says what helps."""


class Missing(Exception):
    """An identity, or something else that a test needs, is not in the configuration."""


class Backend:
    """Sends requests and remembers the exchanges.

    Args:
        base_url: the root of the API, as in `https://staging.example.com/api/v1/video`.
        timeout: seconds that a request may take.
        connection: how to get there.
        transport: in place of a connection, for tests of the suite; its responses are streamed.
    """

    def __init__(
        self,
        base_url: str,
        redactor: Redactor,
        *,
        timeout: float = 10.0,
        connection: Connection = Connection(),  # noqa: B008 (frozen)
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.base_url = base_url
        self.connection = connection
        self.redactor = redactor
        self.clock = BackendClock()
        self.watchers: list[Callable[[Exchange], None]] = []
        self.count = 0
        self._timeout = timeout
        self._lock = threading.Lock()
        self._resume_at = 0.0
        self._client = httpx.Client(
            timeout=timeout,
            transport=transport,
            # The environment was read by `connection`.
            trust_env=False,
            verify=connection.context or False,
            proxy=connection.httpx_proxy,
            follow_redirects=False,
            # Servers close idle connections after 5 s or more: ours end before.
            limits=httpx.Limits(max_connections=32, max_keepalive_connections=16, keepalive_expiry=2.0),
            headers={
                "User-Agent": "video-calls-contract",
                "Accept": "application/json",
                "Accept-Encoding": ACCEPTED_CODING,
            },
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def url(self, path: str) -> str:
        """The URL of a path of the contract, or of an absolute or relative link that the backend gave."""
        if urlsplit(path).scheme:
            return path
        return f"{self.base_url}{path}" if path.startswith("/") else urljoin(f"{self.base_url}/", path)

    def leads_here(self, url: str) -> bool:
        """Whether a URL is of this backend's origin, however its host and a usual port are written."""
        try:
            own, other = httpx.URL(self.base_url), httpx.URL(url)
        except httpx.InvalidURL:
            return False
        return (own.scheme, own.host, own.port) == (other.scheme, other.host, other.port)

    def send(
        self,
        method: str,
        path: str,
        *,
        operation: str | None = None,
        person: str = "nobody",
        headers: Mapping[str, str] | None = None,
        json_body: Any = UNSET,  # noqa: ANN401 (any JSON, the wrong kinds too)
        content: bytes | None = None,
    ) -> Exchange:
        """Send one request and wait out a 429.

        Raises:
            Unreachable: there is no answer to anything any more.
        """
        sent_headers = dict(headers or {})
        body = content or b""
        if json_body is not UNSET:
            body = json.dumps(json_body).encode()
            sent_headers.setdefault("Content-Type", "application/json")
        until = time.monotonic() + PATIENCE
        again = method == "GET"
        while True:
            self._hold_back()
            with nullcontext() if method == "GET" else held_back():
                exchange = self._exchange(
                    method, self.url(path), sent_headers, body, operation=operation, person=person
                )
                self._record(exchange)
            if exchange.status == NO_ANSWER:
                if not self._alive():
                    through = f" through {self.connection.through}" if self.connection.through else ""
                    raise Unreachable(f"{self.base_url} does not answer{through}: {exchange.text}")
                if not again:
                    return exchange
                again = False
                continue
            if exchange.status != _TOO_MANY_REQUESTS:
                return exchange
            wait = retry_after(exchange.headers)
            if wait > LONGEST_WAIT or time.monotonic() + wait > until:
                raise Unreachable(
                    f"{self.base_url} allows no more requests to the {exchange.person} for {wait:.0f} s; "
                    "run the suite later, or raise the limit for these users"
                )
            with self._lock:
                self._resume_at = max(self._resume_at, time.monotonic() + wait)

    def _hold_back(self) -> None:
        while (wait := self._resume_at - time.monotonic()) > 0:
            time.sleep(wait)

    def _exchange(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: bytes,
        *,
        operation: str | None,
        person: str,
    ) -> Exchange:
        sent_at = datetime.now(UTC)
        status, answer_headers, content, unread = NO_ANSWER, httpx.Headers(), b"", ""
        until = time.monotonic() + self._timeout
        try:
            with self._client.stream(method, url, headers=headers, content=body or None) as response:
                try:
                    content = read_body(response, until=until)
                except UnreadBodyError as error:
                    unread = str(error)
                status, answer_headers = response.status_code, response.headers
        except httpx.TimeoutException:
            content = f"no whole answer came within {self._timeout:g} s".encode()
        except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError) as error:
            if problem := certificate_problem(error):
                raise NotTheBackend(f"{self.base_url} cannot be reached over TLS: {problem}") from None
            content = (str(error) or type(error).__name__).encode()
        return Exchange(
            operation=operation,
            person=person,
            method=method,
            url=url,
            request_headers=tuple(headers.items()),
            request_body=body,
            status=status,
            headers=answer_headers,
            content=content,
            sent_at=sent_at,
            received_at=datetime.now(UTC),
            redactor=self.redactor,
            unread=unread,
        )

    def _record(self, exchange: Exchange) -> None:
        if date := exchange.headers.get("date"):
            self.clock.saw_date(date, exchange.sent_at, exchange.received_at)
        if exchange.operation == "createVideoCall" and exchange.succeeded:
            created = instant(exchange.object.get("created_at"))
            if created is not None:
                self.clock.saw_creation(created, exchange.sent_at, exchange.received_at)
        with self._lock:
            self.count += 1
            for watcher in self.watchers:
                watcher(exchange)

    def _alive(self) -> bool:
        try:
            with self._client.stream("GET", f"{self.base_url}/video-calls/"):
                return True
        except httpx.HTTPError:
            return False


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody as a client of the API. `authorization` is the header's value, None to send none."""

    name: str
    authorization: str | None = field(repr=False)
    backend: Backend = field(repr=False)
    doctor: int | None = None
    patient: int | None = None

    @property
    def token(self) -> str:
        """The token of the header; empty where there is none."""
        return (self.authorization or "").removeprefix("Bearer ")

    def send(
        self,
        method: str,
        path: str,
        *,
        operation: str | None = None,
        headers: Mapping[str, str] | None = None,
        json_body: Any = UNSET,  # noqa: ANN401 (any JSON, the wrong kinds too)
        content: bytes | None = None,
    ) -> Exchange:
        """Send any request as this person."""
        own = {} if self.authorization is None else {"Authorization": self.authorization}
        return self.backend.send(
            method,
            path,
            operation=operation,
            person=self.name,
            headers={**own, **(headers or {})},
            json_body=json_body,
            content=content,
        )

    def list(self, query: str = "") -> Exchange:
        """The first page of the calls, or that of a query such as `page_size=2`."""
        path = f"/video-calls/?{query}" if query else "/video-calls/"
        return self.send("GET", path, operation="listVideoCalls")

    def follow(self, link: str) -> Exchange:
        """The page that a `next` or a `previous` leads to."""
        return self.send("GET", link, operation="listVideoCalls")

    def create(
        self,
        doctor: object,
        patient: object,
        scheduled_time: object,
        *,
        headers: Mapping[str, str] | None = None,
        **fields: object,
    ) -> Exchange:
        """Ask for a call at this time: a datetime, or whatever else is to be sent."""
        body = {"doctor": doctor, "patient": patient, "scheduled_time": wire_time(scheduled_time), **fields}
        return self.post_call(body, headers=headers)

    def post_call(self, body: object, *, headers: Mapping[str, str] | None = None) -> Exchange:
        """Ask for a call with this JSON body."""
        return self.send(
            "POST", "/video-calls/", operation="createVideoCall", headers=headers, json_body=body
        )

    def get(self, call_id: object) -> Exchange:
        """Read a call."""
        return self.send("GET", f"/video-calls/{call_id}/", operation="getVideoCall")

    def join(self, call_id: object) -> Exchange:
        """Join a call."""
        return self.send("POST", f"/video-calls/{call_id}/join/", operation="joinVideoCall")

    def end(self, call_id: object) -> Exchange:
        """End a call."""
        return self.send("POST", f"/video-calls/{call_id}/end/", operation="endVideoCall")

    def cancel(self, call_id: object) -> Exchange:
        """Cancel a call."""
        return self.send("POST", f"/video-calls/{call_id}/cancel/", operation="cancelVideoCall")

    def act(self, action: str, call_id: object) -> Exchange:
        """Do what `action` names: get, join, end or cancel."""
        by_name: dict[str, Callable[[object], Exchange]] = {
            "get": self.get,
            "join": self.join,
            "end": self.end,
            "cancel": self.cancel,
        }
        return by_name[action](call_id)


def wire_time(value: object) -> object:
    """A datetime as the document writes it; anything else as it is."""
    if not isinstance(value, datetime):
        return value
    if value.utcoffset() == timedelta(0):
        return value.replace(tzinfo=None).isoformat() + "Z"
    return value.isoformat()


class People:
    """Those of the configuration, and nobody.

    Raises:
        Missing: on reading one that the configuration lacks.
    """

    def __init__(self, config: Config, backend: Backend) -> None:
        self._config = config
        self._backend = backend
        for identity in config.identities.values():
            if identity.token:
                backend.redactor.learn(identity.token, identity.variable)
        if config.agora.app_certificate:
            backend.redactor.learn(config.agora.app_certificate, "AGORA_APP_CERTIFICATE")

    def __getitem__(self, name: str) -> Person:
        identity = self.identity(name)
        if identity.token is None:
            raise Missing(f"[identities.{name}] of the configuration has no token")
        return Person(name, f"Bearer {identity.token}", self._backend, identity.doctor, identity.patient)

    def identity(self, name: str) -> Identity:
        """The configuration's entry, with or without a token.

        Raises:
            Missing: there is none.
        """
        try:
            return self._config.identities[name]
        except KeyError:
            raise Missing(f"the configuration has no [identities.{name}]") from None

    def has(self, name: str) -> bool:
        """Whether somebody of this name can be."""
        identity = self._config.identities.get(name)
        return identity is not None and identity.token is not None

    def present(self, *names: str) -> list[Person]:
        """Those of these names who can be."""
        return [self[name] for name in names if self.has(name)]

    @property
    def doctor(self) -> Person:
        """The doctor."""
        return self["doctor"]

    @property
    def patient(self) -> Person:
        """The patient."""
        return self["patient"]

    @property
    def nobody(self) -> Person:
        """Somebody who sends no token."""
        return Person("nobody", None, self._backend)

    def bearing(self, authorization: str, name: str) -> Person:
        """Somebody with this `Authorization` header; reports show it under the name."""
        self._backend.redactor.learn(authorization.removeprefix("Bearer "), f"{name.upper()}_TOKEN")
        return Person(name, authorization, self._backend)
