"""Help test programs that use this client: the reference server in the test process, or mocked responses.

`pip install 'video-calls[testing]'` installs the dependencies. The plugin `video_calls_pytest` defines two
fixtures:

* `video_calls_server`: a `VideoCallsServer`, new for each test, with clients of a doctor and a patient.
* `video_calls_router`: a respx router that responds to each operation with an example of the contract, for
  tests without a server. `contract_router` returns such a router, `example_response` one response.

```python
def test_join_within_window_returns_credentials(video_calls_server):
    server = video_calls_server
    in_an_hour = server.clock.now() + timedelta(hours=1)
    call = server.doctor.calls.create(doctor=1, patient=1, scheduled_time=in_an_hour)
    server.clock.advance(minutes=50)
    assert server.patient.calls.join(call.id).channel_name == call.channel_name
```

The server's packages and respx are imported on first use.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
from anyio.from_thread import start_blocking_portal
from anyio.to_thread import run_sync

from video_calls_sdk import AsyncVideoCallsClient, VideoCallsClient

if TYPE_CHECKING:
    import respx
    from anyio.from_thread import BlockingPortal
    from litestar import Litestar
    from video_calls_server.control.client import ClockControl, Control
    from video_calls_server.control.settable_clock import SettableClock

__all__ = [
    "ServerTransport",
    "VideoCallsServer",
    "contract_router",
    "example_response",
]

_Key = TypeVar("_Key", int, str)
_Value = TypeVar("_Value")

_ORIGIN = "http://localhost"
_DOCTOR = "doctor@example.com"
_PATIENT = "patient@example.com"


# -- The reference server -----------------------------------------------------------------------------


class ServerTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """An httpx transport to a server in this process, for any thread and any event loop.

    Pass it to a `VideoCallsClient` or an `httpx.Client`, or to their asynchronous forms.

    ```python
    with VideoCallsClient(server.base_url, my_tokens, transport=server.transport) as client:
        client.calls.list()
    ```
    """

    def __init__(self, app: Litestar, portal: BlockingPortal, clock: SettableClock) -> None:
        self._asgi = httpx.ASGITransport(app)  # type: ignore[arg-type]  # Litestar narrows ASGI's types
        self._portal = portal
        self._clock = clock
        self._is_time_mocked = False
        self._stopped = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return the response."""
        request.read()
        return self._portal.call(self._serve, request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return the response."""
        await request.aread()
        response = self._portal.start_task_soon(self._serve, request)
        return await run_sync(response.result, abandon_on_cancel=True)

    def stop(self) -> None:
        """Raise `RuntimeError` for further requests, because they must not reach the next test's server."""
        self._stopped = True

    async def _serve(self, request: httpx.Request) -> httpx.Response:
        if self._stopped:
            raise RuntimeError("the video_calls_server of this test has stopped: the test is over")
        from video_calls_server.control.faults.middleware import ConnectionDropped

        self._follow_mocked_time()
        try:
            response = await self._asgi.handle_async_request(request)
        except ConnectionDropped as fault:
            raise httpx.RemoteProtocolError(str(fault), request=request) from fault
        content = await response.aread()
        return httpx.Response(
            response.status_code, headers=response.headers, stream=httpx.ByteStream(content)
        )

    def _follow_mocked_time(self) -> None:
        time_machine = sys.modules.get("time_machine")
        is_travelling = time_machine is not None and time_machine.escape_hatch.is_travelling()
        is_mocked = is_travelling or dt.datetime.__module__ != "datetime"  # by freezegun
        if is_mocked == self._is_time_mocked:
            return
        self._is_time_mocked = is_mocked
        self._clock.reset()
        if not is_mocked:
            self._clock.freeze()


@dataclass(eq=False)
class VideoCallsServer:
    """A reference server in this process, without a socket. The fixture `video_calls_server` returns it.

    `video-calls-server identities` lists its users: doctor 1 is `doctor@example.com`, patient 1 is
    `patient@example.com`. The server runs on its own thread. All clients share its state.

    ```python
    def test_outsider_cannot_read_a_call(video_calls_server):
        call = video_calls_server.doctor.calls.create(doctor=1, patient=1, scheduled_time=tomorrow)
        with pytest.raises(NotParticipantError):
            video_calls_server.client("outsider@example.com").calls.get(call.id)
    ```

    Attributes:
        base_url: the API's root; only `transport` reaches it.
        transport: a transport to the server, for your own clients.
    """

    base_url: str
    transport: ServerTransport
    _make_token: Callable[[str, float], str] = field(repr=False)

    @cached_property
    def control(self) -> Control:
        """Return a client of the control API, for the clock, faults, users, the state and the request log.

        ```python
        video_calls_server.control.faults.add(status=503, times=1, operation="joinVideoCall")
        ```
        """
        from video_calls_server.control.client import Control

        return Control(_ORIGIN, transport=self.transport)

    @property
    def clock(self) -> ClockControl:
        """Return the server's clock, which decides whether a call is in the past or may be joined.

        At the start of a test it shows the machine's time and stands still; `resume` starts it. If freezegun
        or time-machine sets the time of the process, the clock shows that time. JWTs and Agora tokens expire
        by the machine's time, or by the time that freezegun or time-machine sets.

        ```python
        video_calls_server.clock.set(datetime(2030, 1, 5, 10, 0, tzinfo=timezone.utc))
        video_calls_server.clock.advance(minutes=45)
        ```
        """
        return self.control.clock

    @cached_property
    def doctor(self) -> VideoCallsClient:
        """Return the client of doctor 1, Dr. John Doe."""
        return self.client(_DOCTOR)

    @cached_property
    def patient(self) -> VideoCallsClient:
        """Return the client of patient 1, Jane Smith."""
        return self.client(_PATIENT)

    @cached_property
    def async_doctor(self) -> AsyncVideoCallsClient:
        """Return the asynchronous client of doctor 1, for one event loop; see `async_client`."""
        return self.async_client(_DOCTOR)

    @cached_property
    def async_patient(self) -> AsyncVideoCallsClient:
        """Return the asynchronous client of patient 1, for one event loop; see `async_client`."""
        return self.async_client(_PATIENT)

    def client(self, email: str) -> VideoCallsClient:
        """Return a new client of a user. It has no connections to close.

        ```python
        other_doctor = video_calls_server.client("other.doctor@example.com")
        ```

        Raises:
            ValueError: if the server has no such user; the message lists its users.
        """
        return VideoCallsClient(self.base_url, self._tokens(email), transport=self.transport)

    def async_client(self, email: str) -> AsyncVideoCallsClient:
        """Return a new asynchronous client of a user. It has no connections to close.

        Raises:
            ValueError: if the server has no such user; the message lists its users.
        """
        return AsyncVideoCallsClient(self.base_url, self._tokens(email), transport=self.transport)

    def token(self, email: str, *, expires_in: float = 3600) -> str:
        """Return a JWT of a user, for your own client or a raw request.

        ```python
        tokens = iter([server.token(email, expires_in=-1), server.token(email)])
        client = VideoCallsClient(server.base_url, lambda: next(tokens), transport=server.transport)
        ```

        Args:
            email: of the user.
            expires_in: seconds of the machine's time; negative for an expired token.

        Raises:
            ValueError: if the server has no such user; the message lists its users.
        """
        return self._make_token(email, expires_in)

    def _tokens(self, email: str) -> Callable[[], str]:
        """Return a function that makes tokens, so that a client can replace a token that has expired."""
        self.token(email)  # raises an error if the server has no such user
        return partial(self.token, email)


Serve = Callable[[], AbstractContextManager[VideoCallsServer]]
"""A function that serves one test, with a new database in memory."""


@contextmanager
def server_application() -> Generator[Serve]:
    """Start the application on its own thread, once a session, because it takes longer than most tests."""
    from video_calls_server import Settings, create_app
    from video_calls_server.api.jwt import make_token
    from video_calls_server.api.routes import API_ROOT
    from video_calls_server.store.seed import load_seed

    for name in ("video_calls_server.control.client", "video_calls_server.control.control_api"):
        import_module(name)  # now, because freezegun may replace `datetime` during a test
    settings = Settings(database=":memory:")
    ids = {user.email: user.id for user, _, _ in load_seed().people}

    def token(email: str, expires_in: float) -> str:
        if email not in ids:
            raise ValueError(f"the server has no user {email!r}; it has {', '.join(ids)}")
        return make_token(settings, ids[email], expires_in=expires_in)

    app = create_app(settings)
    clock = app.state.namespaces.default.clock
    with start_blocking_portal(backend_options={"loop_factory": _event_loop}) as portal:

        @contextmanager
        def serve() -> Generator[VideoCallsServer]:
            transport = ServerTransport(app, portal, clock)
            with portal.wrap_async_context_manager(app.lifespan()):
                portal.call(clock.freeze)
                yield VideoCallsServer(f"{_ORIGIN}{API_ROOT}", transport, token)
                transport.stop()

        yield serve


def _event_loop(monotonic: Callable[[], float] = time.monotonic) -> asyncio.AbstractEventLoop:
    """Return an event loop whose timers run while freezegun stops `time.monotonic`."""
    loop = asyncio.new_event_loop()
    setattr(loop, "time", monotonic)  # noqa: B010 (mypy refuses an assignment to a method)
    return loop


# -- Mocked responses ---------------------------------------------------------------------------------


def example_response(operation_id: str, status: int | None = None, name: str | None = None) -> httpx.Response:
    """Return a response with an example of the contract as its body, and without the contract's headers.

    ```python
    example_response("joinVideoCall")
    example_response("joinVideoCall", 400, "early")
    throttled = example_response("listVideoCalls", 429)
    throttled.headers["Retry-After"] = "1"
    ```

    Args:
        operation_id: the operation's name in `openapi.yaml`, such as `createVideoCall`.
        status: a status of the operation, by default that of its success.
        name: the name of an example of this status, by default the first one.

    Raises:
        ValueError: if the contract has no such operation, status or example; the message lists what it has.
    """
    operation = _lookup("operation", _operations(), operation_id)
    status = status or min(operation.examples)
    examples = _lookup(f"status of {operation_id}", operation.examples, status)
    example = _lookup(f"example of {operation_id} with {status}", examples, name or next(iter(examples)))
    return httpx.Response(status, json=example)


def contract_router() -> respx.MockRouter:
    """Return a respx router with a route for each operation of the contract, named by its operation id.

    Each route responds, at any base URL, with the first example of the operation's success. A test may set
    another response. Use the `respx.MockRouter` in a `with` statement.

    ```python
    with contract_router() as router:
        router["joinVideoCall"].return_value = example_response("joinVideoCall", 400, "early")
        ...
        assert router["joinVideoCall"].call_count == 1
    ```
    """
    import respx

    router = respx.MockRouter(assert_all_called=False)
    for operation_id, operation in _operations().items():
        route = router.route(method=operation.method, path__regex=f"{operation.path}$", name=operation_id)
        route.return_value = example_response(operation_id)
    return router


@dataclass(frozen=True, slots=True)
class _Operation:
    """An operation of the contract.

    Attributes:
        path: a regular expression of its path under the API's root.
        examples: the example bodies of its responses, by status and name.
    """

    method: str
    path: str
    examples: dict[int, dict[str, Any]]


@cache
def _operations() -> dict[str, _Operation]:
    """Return the operations of the contract by their ids."""
    import yaml
    from video_calls_spec import openapi_path, resolved

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    contract: dict[str, Any] = yaml.load(openapi_path().read_text(encoding="utf-8"), loader)  # noqa: S506 (safe)

    def examples(response: dict[str, Any]) -> dict[str, Any]:
        references = resolved(contract, response)["content"]["application/json"]["examples"]
        return {name: resolved(contract, example)["value"] for name, example in references.items()}

    return {
        operation["operationId"]: _Operation(
            method.upper(),
            re.sub(r"\{\w+\}", "[^/]+", path),
            {int(status): examples(response) for status, response in operation["responses"].items()},
        )
        for path, methods in contract["paths"].items()
        for method, operation in methods.items()
        if "operationId" in operation
    }


def _lookup(what: str, choices: Mapping[_Key, _Value], key: _Key) -> _Value:
    if key not in choices:
        raise ValueError(f"the contract has no {what} {key!r}; it has {', '.join(map(str, choices))}")
    return choices[key]
