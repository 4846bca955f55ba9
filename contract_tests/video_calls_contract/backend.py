"""The backend under test, reached over HTTP: every exchange is recorded and observed.

A 429 is waited out as its `Retry-After` asks. Nothing else is repeated but a GET to which nothing came back.
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
from video_calls_contract.connection import Connection, certificate_problem
from video_calls_contract.exchange import NO_ANSWER, Exchange, Redactor, instant, retry_after
from video_calls_contract.gateway import NOWHERE, gateway_in, is_unlike_the_api
from video_calls_contract.ids import Id, absent, is_id
from video_calls_contract.interrupts import delayed_interrupts
from video_calls_contract.outcomes import Missing, NotTheBackend, Unreachable
from video_calls_contract.tokens import Token

__all__ = ["UNSET", "Backend", "People", "Person", "wire_time"]

LONGEST_WAIT = 90.0  # seconds that a Retry-After may ask for
PATIENCE = 300.0  # seconds of a request and all its repetitions
_UNAUTHORIZED, _TOO_MANY_REQUESTS = 401, 429
_OF_APP_ID = 35  # characters of an Agora token, which may be shown: its version and the app id
_HUNG = 2  # requests of a kind without an answer, after which others of the kind may take less time
_SHORT_TIMEOUT = 1.0  # seconds; more if an answer of that kind once took longer
_BETWEEN_LOOKS = 5.0  # seconds until a gateway is looked for again after the same kind of answer

_Kind: TypeAlias = tuple[str | None, str]
"""Operation and method of a request."""

UNSET: Any = object()
"""Distinguishes "no body" from a body of `null`."""


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
        self.public_hosts: set[str] = set()
        self.findings: list[tuple[RuleId, str, tuple[Exchange, ...]]] = []
        self._call_id: object = None
        self._timeout = timeout
        self._hung: Counter[_Kind] = Counter()
        self._slowest: dict[_Kind, float] = {}
        self.cut_off: list[Exchange] = []
        self.gone = False
        self._lock = threading.Lock()
        self._resume_at = 0.0
        self._authorization: Callable[[], str | None] | None = None
        self._look_again: dict[tuple[object, ...], float] = {}
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

    @property
    def no_call(self) -> Id:
        """An id that no call has, in the shape of those that this backend's calls have."""
        return absent(self._call_id)

    def expect_ids(self, like: object) -> None:
        """Take the ids of calls to have this shape, until a call is seen."""
        self._call_id = like

    def add_finding(self, rule: RuleId, expected: str, *exchanges: Exchange) -> None:
        """Keep what a test saw of a rule that it does not hold, for the judgement at the end of the run."""
        self.findings.append((rule, expected, exchanges))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def expect_api(self, authorization: Callable[[], str | None]) -> None:
        """Look from now on whether something else answers in place of the API.

        Args:
            authorization: gives the `Authorization` of somebody whose calls can be listed.
        """
        self._authorization = authorization

    def check_origin(self, exchange: Exchange) -> None:
        """Ask for three things that the API answers differently, and compare.

        Raises:
            NotTheBackend: if all of it is answered like this exchange.
        """
        own = self._authorization() if self._authorization else None
        signed = {"Authorization": own} if own else {}
        page, unsigned, nowhere = (
            self._exchange("GET", self.url(path), headers, b"", operation=None, person="nobody")
            for path, headers in (("/video-calls/", signed), ("/video-calls/", {}), (NOWHERE, signed))
        )
        if gateway := gateway_in(exchange, page, (unsigned, nowhere)):
            raise NotTheBackend(f"{self.base_url} {gateway}")

    def _check_form(self, exchange: Exchange) -> None:
        kind = (exchange.operation, exchange.method, exchange.status)
        if (
            self._authorization
            and is_unlike_the_api(exchange)
            and self._look_again.get(kind, 0.0) < time.monotonic()
        ):
            self.check_origin(exchange)
            self._look_again[kind] = time.monotonic() + _BETWEEN_LOOKS

    def url(self, path: str) -> str:
        """The URL of a path of the contract, or of an absolute or relative link that the backend gave."""
        if urlsplit(path).scheme:
            return path
        return f"{self.base_url}{path}" if path.startswith("/") else urljoin(f"{self.base_url}/", path)

    def inner(self, link: str) -> str | None:
        """Return where to follow a `next` or a `previous`; None if it does not lead to the list of calls.

        It may name the host that the public uses, while the suite reaches the backend at another address. The
        request, with its token, goes to the origin of `base_url` in any case.
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
        """Send one request and wait out a 429.

        Raises:
            Unreachable: there is no answer to anything any more, or not from the backend.
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
            with nullcontext() if method == "GET" else delayed_interrupts():
                exchange = self._exchange(
                    method, self.url(path), sent_headers, body, operation=operation, person=person
                )
                self._check_form(exchange)
                self._record(exchange)
            if exchange.status == NO_ANSWER:
                if not self._alive():
                    self.gone = True
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
        kind, cut_off, begun = (operation, method), False, time.monotonic()
        timeout = self._timeout_of(kind)
        until = begun + timeout
        try:
            with self._client.stream(
                method, url, headers=headers, content=body or None, timeout=timeout
            ) as response:
                try:
                    content = read_body(response, until=until)
                except UnreadBodyError as error:
                    unread = str(error)
                status, answer_headers = response.status_code, response.headers
                self._slowest[kind] = max(time.monotonic() - begun, self._slowest.get(kind, 0.0))
        except httpx.TimeoutException:
            self._hung[kind] += 1
            content = f"no whole answer came within {timeout:g} s".encode()
        except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError) as error:
            if problem := certificate_problem(error):
                raise NotTheBackend(f"{self.base_url} cannot be reached over TLS: {problem}") from None
            content = (str(error) or type(error).__name__).encode()
            cut_off = not isinstance(error, httpx.ConnectError)
        exchange = Exchange(
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
        with self._lock:
            if cut_off:
                self.cut_off.append(exchange)
            elif status != NO_ANSWER:
                self.cut_off = [one for one in self.cut_off if one.received_at > sent_at]
        return exchange

    def _timeout_of(self, kind: _Kind) -> float:
        """Seconds that a request may take. If requests of its kind hang, the others wait less."""
        if self._hung[kind] < _HUNG:
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
            self.redactor.learn_traces(token[_OF_APP_ID:])
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
    """Somebody as a client of the API. `credential` is a token, or a header's value; None to send none."""

    name: str
    credential: Token | str | None = field(repr=False)
    backend: Backend = field(repr=False)
    doctor: Id | None = None
    patient: Id | None = None

    @property
    def authorization(self) -> str | None:
        """The `Authorization` header of now; None where there is none.

        Raises:
            Unreachable: the command that makes the token fails.
        """
        return self._header()

    @property
    def token(self) -> str:
        """The token of the header; empty where there is none."""
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
        """The header with a token that lasts for some seconds, if one can be made."""
        return self._header(fresh=True)

    def check_lapse(self, token: str) -> None:
        """Tell a refusal of a token that has lapsed meanwhile from one that is the backend's fault.

        Raises:
            Missing: it has lapsed, and another can be made.
            Unreachable: it has lapsed, and none can.
        """
        own = self.credential
        left = own.seconds_left(token) if isinstance(own, Token) else None
        if not isinstance(own, Token) or left is None or left > 0:
            return
        if own.is_made:
            raise Missing(f"the token of [identities.{self.name}] expired before this was seen")
        raise Unreachable(own.ending)

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

        def attempt(authorization: str | None) -> Exchange:
            own = {} if authorization is None else {"Authorization": authorization}
            return self.backend.send(
                method,
                path,
                operation=operation,
                person=self.name,
                headers={**own, **(headers or {})},
                json_body=json_body,
                content=content,
            )

        sent = self.authorization
        exchange = attempt(sent)
        if isinstance(self.credential, Token) and "Authorization" not in (headers or {}):
            if exchange.status == _UNAUTHORIZED and self.credential.worked:
                return self._with_another_token(self.credential, sent, exchange, attempt)
            self.credential.worked |= exchange.succeeded
        return exchange

    def _with_another_token(
        self, token: Token, sent: str | None, refusal: Exchange, attempt: Callable[[str | None], Exchange]
    ) -> Exchange:
        """Send again what was refused with 401, if another token can be had.

        Raises:
            Unreachable: no token works any more, for nothing.
        """
        try:
            replaced = token.replaced((sent or "").removeprefix("Bearer "))
        except ConfigError as error:
            raise Unreachable(str(error)) from None
        if replaced:
            refusal = attempt(self.authorization)
            if refusal.status != _UNAUTHORIZED:
                return refusal
            token.was_replaced_in_vain()
        # One operation alone that refuses a good token is the backend's fault.
        authorization = self.authorization or ""
        if all(
            self.backend.send("GET", path, headers={"Authorization": authorization}).status == _UNAUTHORIZED
            for path in ("/video-calls/", f"/video-calls/{self.backend.no_call}/")
        ):
            raise Unreachable(token.ending)
        return refusal

    def list(self, query: str = "") -> Exchange:
        """The first page of the calls, or that of a query such as `page_size=2`."""
        path = f"/video-calls/?{query}" if query else "/video-calls/"
        return self.send("GET", path, operation="listVideoCalls")

    def follow(self, link: str) -> Exchange:
        """The page that a `next` or a `previous` leads to, read at the origin of `base_url`."""
        return self.send("GET", self.backend.inner(link) or "/video-calls/", operation="listVideoCalls")

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
        return self.act("join", call_id)

    def end(self, call_id: object) -> Exchange:
        """End a call."""
        return self.act("end", call_id)

    def cancel(self, call_id: object) -> Exchange:
        """Cancel a call."""
        return self.act("cancel", call_id)

    def act(self, action: str, call_id: object) -> Exchange:
        """Get a call, or send an action of the contract on it, such as `join`."""
        if action == "get":
            return self.get(call_id)
        return self.send("POST", f"/video-calls/{call_id}/{action}/", operation=f"{action}VideoCall")


def wire_time(value: object) -> object:
    """A datetime as the document writes it; anything else as it is."""
    if not isinstance(value, datetime):
        return value
    if value.utcoffset() == timedelta(0):
        return value.replace(tzinfo=None).isoformat() + "Z"
    return value.isoformat()


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"  # noqa: PLR2004


class People:
    """Those of the configuration, and nobody.

    Raises:
        Missing: on reading one that the configuration lacks.
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

    def lapsing(self, seconds: float) -> list[str]:
        """Return what to say of tokens that end within so many seconds, and that no command makes again."""
        return [
            f"the token of [identities.{name}] expires in {_duration(left)}, perhaps before the run ends; "
            "token_command in place of token makes fresh ones"
            for name, token in self._credentials.items()
            if isinstance(token, Token)
            and not token.is_made
            and (left := token.left) is not None
            and 0 < left < seconds
        ]

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
