"""Sends requests to the backend under test, and shows every exchange to the watchers.

A request that got 429 is sent again after the time in `Retry-After`. A GET without a response is sent once
more.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import urljoin, urlsplit

import httpx
from video_calls_spec import RuleId
from video_calls_spec.bodies import ACCEPTED_CODING

from video_calls_contract.bodies import UnreadBodyError, read_body
from video_calls_contract.clock import BackendClock
from video_calls_contract.connection_settings import Connection, certificate_problem
from video_calls_contract.exceptions import NotTheBackend, Unreachable
from video_calls_contract.exchange import NO_RESPONSE, Exchange, instant, retry_after
from video_calls_contract.gateway import NOWHERE, gateway_in, is_unlike_the_api
from video_calls_contract.ids import Id, absent, is_id
from video_calls_contract.interrupts import delayed_interrupts
from video_calls_contract.redaction import Redactor

_MOST_RETRY_AFTER = 90.0  # seconds
_DEADLINE = 300.0  # seconds for a request, with all its retries
_TOO_MANY_REQUESTS = 429
_PUBLIC_PREFIX = 35  # characters of an Agora token that may be shown: its version and the app id
_MOST_TIMEOUTS = 2  # after so many timeouts, later requests of the same kind get a shorter timeout
_SHORT_TIMEOUT = 1.0  # seconds; longer if a response to this kind of request was slow before
_ORIGIN_CHECK_INTERVAL = 5.0  # seconds before a response of the same kind is checked again

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
        max_requests: how many requests may be sent at the same time.

    Attributes:
        watchers: functions that get every exchange, one at a time.
        count: how many requests were sent.
        public_hosts: hosts in the backend's links, if they differ from its address.
        findings: violations of rules that the test does not check: rule, expectation and evidence.
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
        max_requests: int = 6,
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
        self._permits = threading.Semaphore(max_requests)
        self._is_simultaneous = threading.local()
        self._resume_at = 0.0
        self._authorization: Callable[[], str | None] | None = None
        self._next_origin_check: dict[tuple[object, ...], float] = {}
        self._client = httpx.Client(
            timeout=timeout,
            transport=transport,
            # `connection` has already read the environment.
            trust_env=False,
            verify=connection.context or False,
            proxy=connection.httpx_proxy,
            follow_redirects=False,
            # Servers close idle connections after 5 s or more: the suite closes them earlier.
            limits=httpx.Limits(max_connections=32, max_keepalive_connections=16, keepalive_expiry=2.0),
            headers={
                "User-Agent": "video-calls-contract",
                "Accept": "application/json",
                "Accept-Encoding": ACCEPTED_CODING,
            },
        )

    @property
    def no_call(self) -> Id:
        """An id that no call has. It has the form of the backend's ids, such as a UUID."""
        return absent(self._call_id)

    def expect_ids(self, like: object) -> None:
        """Use this id as the example of a call's id, until a call is created."""
        self._call_id = like

    def add_finding(self, rule: RuleId, expected: str, *exchanges: Exchange) -> None:
        """Record a violation of a rule that the test does not check, to report it at the end of the run."""
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
        """Send three requests that the API answers differently, to recognize a gateway.

        Raises:
            NotTheBackend: if all three responses are like that of this exchange.
        """
        authorization = self._authorization() if self._authorization else None
        authorized = {"Authorization": authorization} if authorization else {}
        page, unauthorized, nowhere = (
            self._exchange("GET", self.url(path), headers, b"", operation=None, user="nobody")
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
        """Return the URL from which to read a `next` or `previous` link; None if it does not lead to a list.

        A link may name a public host, although the suite reaches the backend at another address. The suite
        sends tokens only to the origin of `base_url`.
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

    @contextmanager
    def simultaneous(self) -> Generator[None]:
        """Let this thread send meanwhile without waiting for the requests of other tests."""
        self._is_simultaneous.value = True
        try:
            yield
        finally:
            self._is_simultaneous.value = False

    def send(
        self,
        method: str,
        path: str,
        *,
        operation: str | None = None,
        user: str = "nobody",
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
            is_simultaneous = getattr(self._is_simultaneous, "value", False)
            with (
                nullcontext() if is_simultaneous else self._permits,
                nullcontext() if method == "GET" else delayed_interrupts(),
            ):
                exchange = self._exchange(
                    method, self.url(path), sent_headers, body, operation=operation, user=user
                )
                self._check_gateway(exchange)
                self._record(exchange)
            if exchange.status == NO_RESPONSE:
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
                    f"{self.base_url} allows no more requests to the {exchange.user} for {wait:.0f} s; "
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
        user: str,
    ) -> Exchange:
        sent_at = datetime.now(UTC)
        status, response_headers, content, unread = NO_RESPONSE, httpx.Headers(), b"", ""
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
            user=user,
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
            elif status != NO_RESPONSE:
                self.cut_off = [one for one in self.cut_off if one.received_at > sent_at]
        return exchange

    def _timeout_of(self, kind: _Kind) -> float:
        """Return the timeout in seconds; shorter if earlier requests of this kind got no response."""
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
