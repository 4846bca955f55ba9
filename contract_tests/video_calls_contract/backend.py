"""Sends requests to the backend under test, as its users; the watchers see every exchange.

A request that was answered 429 is sent again after `Retry-After`, and a GET without a response once more.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from urllib.parse import urljoin, urlsplit

import httpx
from video_calls_spec import RuleId
from video_calls_spec.bodies import ACCEPTED_CODING

from video_calls_contract.bodies import UnreadBodyError, read_body
from video_calls_contract.clock import BackendClock
from video_calls_contract.config import Config, ConfigError, Identity
from video_calls_contract.connection_settings import Connection, certificate_problem
from video_calls_contract.exceptions import Missing, NotTheBackend, Unreachable
from video_calls_contract.exchange import NO_ANSWER, Exchange, Redactor, instant, retry_after
from video_calls_contract.gateway import NOWHERE, gateway_in, is_unlike_the_api
from video_calls_contract.identity_tokens import Token
from video_calls_contract.ids import Id, absent, is_id
from video_calls_contract.interrupts import delayed_interrupts

__all__ = ["UNSET", "Backend", "People", "Person", "wire_time"]

_MOST_RETRY_AFTER = 90.0  # seconds
_DEADLINE = 300.0  # seconds for a request with its repetitions
_UNAUTHORIZED, _TOO_MANY_REQUESTS = 401, 429
_PUBLIC_PREFIX = 35  # characters of an Agora token that may be shown: its version and the app id
_MOST_TIMEOUTS = 2  # of a kind of requests, after which the timeout of the kind is shorter
_SHORT_TIMEOUT = 1.0  # seconds; more if a response of that kind once took longer
_ORIGIN_CHECK_INTERVAL = 5.0  # seconds between two checks after responses of the same kind

_Kind: TypeAlias = tuple[str | None, str]
"""Operation and method of a request."""

UNSET: Any = object()
"""Stands for no body, because None is the body `null`."""


class Backend:
    """Sends requests. Several threads may use it at once.

    Args:
        base_url: the root of the API, as in `https://staging.example.com/api/v1/video`.
        timeout: seconds that a request may take.
        connection: the certificates and the proxy.
        transport: replaces the connection in tests of the suite; it streams its responses.

    Attributes:
        watchers: functions that get every exchange, one at a time.
        count: how many requests were sent.
        public_hosts: hosts in links of the backend other than its own.
        findings: what tests saw of rules other than their own: rule, expectation and evidence.
        cut_off: the last exchanges whose connection broke.
        is_gone: whether the backend stopped answering.
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
        self.public_hosts: set[str] = set()
        self.findings: list[tuple[RuleId, str, tuple[Exchange, ...]]] = []
        self._call_id: object = None
        self.cut_off: list[Exchange] = []
        self.is_gone = False
        self._timeout = timeout
        self._timeouts: Counter[_Kind] = Counter()
        self._slowest: dict[_Kind, float] = {}
        self._lock = threading.Lock()
        self._resume_at = 0.0
        self._authorization: Callable[[], str | None] | None = None
        self._next_origin_check: dict[tuple[object, ...], float] = {}
        self._client = httpx.Client(
            timeout=timeout,
            transport=transport,
            # `connection` has read the environment.
            trust_env=False,
            verify=connection.context or False,
            proxy=connection.httpx_proxy,
            follow_redirects=False,
            # Shorter than the 5 s or more after which servers close idle connections.
            limits=httpx.Limits(max_connections=32, max_keepalive_connections=16, keepalive_expiry=2.0),
            headers={
                "User-Agent": "video-calls-contract",
                "Accept": "application/json",
                "Accept-Encoding": ACCEPTED_CODING,
            },
        )

    @property
    def no_call(self) -> Id:
        """An id that no call has, in the form of the backend's ids."""
        return absent(self._call_id)

    def expect_ids(self, like: object) -> None:
        """Assume that ids of calls have the form of this id, until a call is created."""
        self._call_id = like

    def add_finding(self, rule: RuleId, expected: str, *exchanges: Exchange) -> None:
        """Record a violation of a rule other than the test's, for the end of the run."""
        self.findings.append((rule, expected, exchanges))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def expect_api(self, authorization: Callable[[], str | None]) -> None:
        """Check from now on whether unusual responses come from a gateway instead of the API.

        Args:
            authorization: returns the `Authorization` of a user who may list calls.
        """
        self._authorization = authorization

    def check_origin(self, exchange: Exchange) -> None:
        """Send three requests that the API answers differently.

        Raises:
            NotTheBackend: if all three responses are like this exchange.
        """
        authorization = self._authorization() if self._authorization else None
        authorized = {"Authorization": authorization} if authorization else {}
        page, unauthorized, nowhere = (
            self._exchange("GET", self.url(path), headers, b"", operation=None, person="nobody")
            for path, headers in (("/video-calls/", authorized), ("/video-calls/", {}), (NOWHERE, authorized))
        )
        if gateway := gateway_in(exchange, page, (unauthorized, nowhere)):
            raise NotTheBackend(f"{self.base_url} {gateway}")

    def _check_gateway(self, exchange: Exchange) -> None:
        kind = (exchange.operation, exchange.method, exchange.status)
        if (
            self._authorization
            and is_unlike_the_api(exchange)
            and self._next_origin_check.get(kind, 0.0) < time.monotonic()
        ):
            self.check_origin(exchange)
            self._next_origin_check[kind] = time.monotonic() + _ORIGIN_CHECK_INTERVAL

    def url(self, path: str) -> str:
        """Return the URL of a path of the contract, or of a link of the backend."""
        if urlsplit(path).scheme:
            return path
        return f"{self.base_url}{path}" if path.startswith("/") else urljoin(f"{self.base_url}/", path)

    def local_url(self, link: str) -> str | None:
        """Return the URL at which to follow a `next` or `previous`; None if it does not lead to the list.

        A link may name a public host, though the suite reaches the backend at another address. Requests, with
        their tokens, go only to the origin of `base_url`.
        """
        try:
            own, other = httpx.URL(f"{self.base_url}/video-calls/"), httpx.URL(link)
        except httpx.InvalidURL:
            return None
        if (own.scheme, own.host, own.port) == (other.scheme, other.host, other.port):
            return link
        if other.scheme not in ("http", "https") or not other.path.endswith("/video-calls/"):
            return None
        self.public_hosts.add(other.netloc.decode())
        return str(own.copy_with(query=other.query or None))

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
        """Send a request, and return the exchange with its last response.

        Raises:
            Unreachable: if the backend does not answer any more, or something else answers.
        """
        sent_headers = dict(headers or {})
        body = content or b""
        if json_body is not UNSET:
            body = json.dumps(json_body).encode()
            sent_headers.setdefault("Content-Type", "application/json")
        until = time.monotonic() + _DEADLINE
        may_repeat = method == "GET"
        while True:
            while (pause := self._resume_at - time.monotonic()) > 0:
                time.sleep(pause)
            with nullcontext() if method == "GET" else delayed_interrupts():
                exchange = self._exchange(
                    method, self.url(path), sent_headers, body, operation=operation, person=person
                )
                self._check_gateway(exchange)
                self._record(exchange)
            if exchange.status == NO_ANSWER:
                if not self._alive():
                    self.is_gone = True
                    through = f" through {self.connection.through}" if self.connection.through else ""
                    raise Unreachable(f"{self.base_url} does not answer{through}: {exchange.text}")
                if not may_repeat:
                    return exchange
                may_repeat = False
                continue
            if exchange.status != _TOO_MANY_REQUESTS:
                return exchange
            wait = retry_after(exchange.headers)
            if wait > _MOST_RETRY_AFTER or time.monotonic() + wait > until:
                raise Unreachable(
                    f"{self.base_url} allows no more requests to the {exchange.person} for {wait:.0f} s; "
                    "run the suite later, or raise the limit for these users"
                )
            with self._lock:
                self._resume_at = max(self._resume_at, time.monotonic() + wait)

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
        status, response_headers, content, unread = NO_ANSWER, httpx.Headers(), b"", ""
        kind, is_cut_off, started = (operation, method), False, time.monotonic()
        timeout = self._timeout_of(kind)
        try:
            with self._client.stream(
                method, url, headers=headers, content=body or None, timeout=timeout
            ) as response:
                try:
                    content = read_body(response, until=started + timeout)
                except UnreadBodyError as error:
                    unread = str(error)
                status, response_headers = response.status_code, response.headers
            seconds = time.monotonic() - started
            with self._lock:
                self._slowest[kind] = max(seconds, self._slowest.get(kind, 0.0))
        except httpx.TimeoutException:
            with self._lock:
                self._timeouts[kind] += 1
            content = f"no complete response within {timeout:g} s".encode()
        except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError) as error:
            if problem := certificate_problem(error):
                raise NotTheBackend(f"{self.base_url} cannot be reached over TLS: {problem}") from None
            content = (str(error) or type(error).__name__).encode()
            is_cut_off = not isinstance(error, httpx.ConnectError)
        exchange = Exchange(
            operation=operation,
            person=person,
            method=method,
            url=url,
            request_headers=tuple(headers.items()),
            request_body=body,
            status=status,
            headers=response_headers,
            content=content,
            sent_at=sent_at,
            received_at=datetime.now(UTC),
            redactor=self.redactor,
            unread=unread,
        )
        with self._lock:
            if is_cut_off:
                self.cut_off.append(exchange)
            elif status != NO_ANSWER:
                self.cut_off = [one for one in self.cut_off if one.received_at > sent_at]
        return exchange

    def _timeout_of(self, kind: _Kind) -> float:
        """Return the timeout of a request in seconds: shorter if others of its kind got no response."""
        if self._timeouts[kind] < _MOST_TIMEOUTS:
            return self._timeout
        return min(self._timeout, max(_SHORT_TIMEOUT, 4 * self._slowest.get(kind, 0.0)))

    def _record(self, exchange: Exchange) -> None:
        if date := exchange.headers.get("date"):
            self.clock.observe_date(date, exchange.sent_at, exchange.received_at)
        if exchange.operation == "createVideoCall" and exchange.succeeded:
            if is_id(exchange.object.get("id")):
                self._call_id = exchange.object["id"]
            created = instant(exchange.object.get("created_at"))
            if created is not None:
                self.clock.observe_creation(created, exchange.sent_at, exchange.received_at)
        if exchange.operation == "joinVideoCall" and isinstance(token := exchange.object.get("token"), str):
            self.redactor.learn_traces(token[_PUBLIC_PREFIX:])
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
    """A user of the API, who sends requests.

    Attributes:
        name: the name of the identity in the configuration, for reports.
        credential: a token, or the value of the header; None to send no header.
        doctor: the id of the user's doctor profile, if there is one.
        patient: the id of the user's patient profile, if there is one.
    """

    name: str
    credential: Token | str | None = field(repr=False)
    backend: Backend = field(repr=False)
    doctor: Id | None = None
    patient: Id | None = None

    @property
    def authorization(self) -> str | None:
        """The `Authorization` header; None if the user sends none.

        Raises:
            Unreachable: if the command that prints the token fails.
        """
        return self._header()

    @property
    def token(self) -> str:
        """The token of the header; empty if there is none."""
        return (self.authorization or "").removeprefix("Bearer ")

    def _header(self, *, fresh: bool = False) -> str | None:
        if not isinstance(self.credential, Token):
            return self.credential
        try:
            return f"Bearer {self.credential.value(fresh=fresh)}"
        except ConfigError as error:
            raise Unreachable(str(error)) from None

    @property
    def lasting_authorization(self) -> str | None:
        """The header, with a new token if the current one expires within seconds."""
        return self._header(fresh=True)

    def check_expiry(self, token: str) -> None:
        """Raise an exception if a token that the backend refused has expired, so that this was right.

        Raises:
            Missing: if it has expired, and a command prints new ones.
            Unreachable: if it has expired, and there is no other.
        """
        own = self.credential
        if not isinstance(own, Token) or not own.has_expired(token):
            return
        if own.has_command:
            raise Missing(f"the token of [identities.{self.name}] expired before the test ended")
        raise Unreachable(own.refusal_reason)

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
        """Send any request as this user."""

        def attempt(authorization: str | None) -> Exchange:
            header = {} if authorization is None else {"Authorization": authorization}
            return self.backend.send(
                method,
                path,
                operation=operation,
                person=self.name,
                headers={**header, **(headers or {})},
                json_body=json_body,
                content=content,
            )

        sent = self.authorization
        exchange = attempt(sent)
        if isinstance(self.credential, Token) and "Authorization" not in (headers or {}):
            if exchange.status == _UNAUTHORIZED and self.credential.worked:
                return self._retry_with_new_token(self.credential, sent, exchange, attempt)
            self.credential.worked |= exchange.succeeded
        return exchange

    def _retry_with_new_token(
        self, token: Token, sent: str | None, refusal: Exchange, attempt: Callable[[str | None], Exchange]
    ) -> Exchange:
        """Repeat a request that was refused with 401, if there is another token.

        Raises:
            Unreachable: if the backend refuses every token now, at other operations, too.
        """
        try:
            is_replaced = token.replace((sent or "").removeprefix("Bearer "))
        except ConfigError as error:
            raise Unreachable(str(error)) from None
        if is_replaced:
            refusal = attempt(self.authorization)
            if refusal.status != _UNAUTHORIZED:
                return refusal
            token.note_refusal()
        # If only one operation refuses a valid token, that is a violation.
        authorization = self.authorization or ""
        if all(
            self.backend.send("GET", path, headers={"Authorization": authorization}).status == _UNAUTHORIZED
            for path in ("/video-calls/", f"/video-calls/{self.backend.no_call}/")
        ):
            raise Unreachable(token.refusal_reason)
        return refusal

    def list(self, query: str = "") -> Exchange:
        """Read the first page of the list, or the page of a query such as `page_size=2`."""
        path = f"/video-calls/?{query}" if query else "/video-calls/"
        return self.send("GET", path, operation="listVideoCalls")

    def follow(self, link: str) -> Exchange:
        """Read the page of a `next` or `previous` link, at the origin of `base_url`."""
        return self.send("GET", self.backend.local_url(link) or "/video-calls/", operation="listVideoCalls")

    def create(
        self,
        doctor: object,
        patient: object,
        scheduled_time: object,
        *,
        headers: Mapping[str, str] | None = None,
        **fields: object,
    ) -> Exchange:
        """Send a request that creates a call at this time: a datetime, or any other value."""
        body = {"doctor": doctor, "patient": patient, "scheduled_time": wire_time(scheduled_time), **fields}
        return self.post_call(body, headers=headers)

    def post_call(
        self,
        body: object = UNSET,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Exchange:
        """Send a request that creates a call, with a JSON body or with any content."""
        return self.send(
            "POST",
            "/video-calls/",
            operation="createVideoCall",
            headers=headers,
            json_body=body,
            content=content,
        )

    def get(self, call_id: object) -> Exchange:
        """Read a call."""
        return self.send("GET", f"/video-calls/{call_id}/", operation="getVideoCall")

    def join(self, call_id: object) -> Exchange:
        """Join a call."""
        return self.act("join", call_id)

    def end(self, call_id: object) -> Exchange:
        """End a call."""
        return self.act("end", call_id)

    def cancel(self, call_id: object) -> Exchange:
        """Cancel a call."""
        return self.act("cancel", call_id)

    def act(self, action: str, call_id: object) -> Exchange:
        """Read a call (`get`), or send an action such as `join`."""
        if action == "get":
            return self.get(call_id)
        return self.send("POST", f"/video-calls/{call_id}/{action}/", operation=f"{action}VideoCall")


def wire_time(value: object) -> object:
    """Return a datetime as the document writes it, and any other value unchanged."""
    if not isinstance(value, datetime):
        return value
    if value.utcoffset() == timedelta(0):
        return value.replace(tzinfo=None).isoformat() + "Z"
    return value.isoformat()


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"  # noqa: PLR2004


class People:
    """The users of the configuration, by the names of their identities.

    Raises:
        Missing: if the configuration lacks the user that is read.
    """

    def __init__(self, config: Config, backend: Backend) -> None:
        self._config = config
        self._backend = backend
        self._credentials: dict[str, Token | str] = {}
        backend.expect_ids(config.identities["doctor"].doctor)
        for identity in config.identities.values():
            if identity.token and identity.name == "expired":
                backend.redactor.learn(identity.token, identity.variable)
                self._credentials[identity.name] = f"Bearer {identity.token}"
            elif identity.token:
                self._credentials[identity.name] = Token(identity, backend.redactor, backend.clock.now)
        if config.agora.app_certificate:
            backend.redactor.learn(config.agora.app_certificate, "AGORA_APP_CERTIFICATE")

    def __getitem__(self, name: str) -> Person:
        identity = self.identity(name)
        if name not in self._credentials:
            raise Missing(f"[identities.{name}] of the configuration has no token")
        return Person(name, self._credentials[name], self._backend, identity.doctor, identity.patient)

    def expiring_soon(self, seconds: float) -> list[str]:
        """Return a note for each token that expires within so many seconds, and has no command."""
        return [
            f"the token of [identities.{name}] expires in {_duration(left)}, perhaps before the run ends; "
            "use token_command instead of token to get new ones"
            for name, token in self._credentials.items()
            if isinstance(token, Token)
            and not token.has_command
            and (left := token.seconds_left) is not None
            and 0 < left < seconds
        ]

    def identity(self, name: str) -> Identity:
        """Return an identity of the configuration, with or without a token.

        Raises:
            Missing: if there is none.
        """
        try:
            return self._config.identities[name]
        except KeyError:
            raise Missing(f"the configuration has no [identities.{name}]") from None

    def has(self, name: str) -> bool:
        """Return whether the configuration has this user, with a token."""
        identity = self._config.identities.get(name)
        return identity is not None and identity.token is not None

    def present(self, *names: str) -> list[Person]:
        """Return the users of these names that the configuration has."""
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
        """A client without a token."""
        return Person("nobody", None, self._backend)

    def with_header(self, authorization: str, name: str) -> Person:
        """Return a user with this `Authorization` header and this name in reports."""
        self._backend.redactor.learn(authorization.removeprefix("Bearer "), f"{name.upper()}_TOKEN")
        return Person(name, authorization, self._backend)
