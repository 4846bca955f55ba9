"""For tests of what uses this client: the reference server inside the test process, or mocked answers.

`pip install 'video-calls[testing]'` brings what is needed. pytest then has two fixtures, which the plugin
`video_calls_pytest` defines:

* `video_calls_server`: a `VideoCallsServer`, new for each test, with clients of its doctor and its patient.
* `video_calls_router`: a respx router that answers each operation with an example of the contract, for tests
  that want no server; `contract_router` makes one, `example_response` makes one answer.

```python
def test_a_call_is_joined_when_its_time_has_come(video_calls_server):
    server = video_calls_server
    in_an_hour = server.clock.now() + timedelta(hours=1)
    call = server.doctor.calls.create(doctor=1, patient=1, scheduled_time=in_an_hour)
    server.clock.advance(minutes=50)
    assert server.patient.calls.join(call.id).channel_name == call.channel_name
```

What the server and the router need is imported when they are used.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

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
    """Takes requests to a server of this process, from any thread and any event loop.

    A transport for `httpx` clients, synchronous and asynchronous ones, and so for clients of your own making.

    ```python
    with VideoCallsClient(server.base_url, my_tokens, transport=server.transport) as client:
        client.calls.list()
    ```
    """

    def __init__(self, app: Litestar, portal: BlockingPortal, clock: SettableClock) -> None:
        self._asgi = httpx.ASGITransport(app)  # type: ignore[arg-type]  # Litestar narrows ASGI's types
        self._portal = portal
        self._clock = clock
        self._mocked_time = False
        self._stopped = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and wait for its answer."""
        request.read()
        return self._portal.call(self._serve, request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and await its answer."""
        from anyio.to_thread import run_sync

        await request.aread()
        answer = self._portal.start_task_soon(self._serve, request)
        return await run_sync(answer.result, abandon_on_cancel=True)

    def stop(self) -> None:
        """Refuse all further requests, so that what a test left running cannot reach the next test's server.

        A `RuntimeError` is what they are refused with.
        """
        self._stopped = True

    async def _serve(self, request: httpx.Request) -> httpx.Response:
        if self._stopped:
            raise RuntimeError("the video_calls_server of this test has stopped: the test is over")
        from video_calls_server.control.faults.middleware import ConnectionDropped

        self._follow_mocked_time()
        try:
            response = await self._asgi.handle_async_request(request)
        except ConnectionDropped as dropped:
            raise httpx.RemoteProtocolError(str(dropped), request=request) from dropped
        content = await response.aread()
        return httpx.Response(
            response.status_code, headers=response.headers, stream=httpx.ByteStream(content)
        )

    def _follow_mocked_time(self) -> None:
        mocked = _is_time_mocked()
        if mocked == self._mocked_time:
            return
        self._mocked_time = mocked
        self._clock.reset()
        if not mocked:
            self._clock.freeze()


class VideoCallsServer:
    """A reference server in this process, without a socket; what the fixture `video_calls_server` is.

    Its people are those that `video-calls-server identities` lists; doctor 1 is `doctor@example.com`, patient
    1 is `patient@example.com`. It runs on a thread of its own, and clients of all kinds see one state.

    ```python
    def test_a_stranger_cannot_read_a_call(video_calls_server):
        call = video_calls_server.doctor.calls.create(doctor=1, patient=1, scheduled_time=tomorrow)
        with pytest.raises(NotParticipantError):
            video_calls_server.client("outsider@example.com").calls.get(call.id)
    ```

    Attributes:
        base_url: the API's root; it is reached through `transport` alone.
        transport: takes requests to the server, for a client of your own making.
    """

    def __init__(
        self,
        *,
        base_url: str,
        transport: ServerTransport,
        make_token: Callable[[str, float], str],
    ) -> None:
        self.base_url = base_url
        self.transport = transport
        self._make_token = make_token

    @cached_property
    def control(self) -> Control:
        """The server's control API, with its clock, faults, people, state and request log.

        ```python
        video_calls_server.control.faults.add(status=503, times=1, operation="joinVideoCall")
        ```
        """
        from video_calls_server.control.client import Control

        return Control(_ORIGIN, transport=self.transport)

    @property
    def clock(self) -> ClockControl:
        """The server's time, by which it decides whether a call is in the past or may be joined.

        It stands still from the start of the test, at the machine's time, until the test moves it; `resume`
        lets it run. While freezegun or time-machine sets the time of the process, this clock follows it. The
        lifetimes of JWTs and of Agora tokens follow the machine's time, or the one that such a library sets.

        ```python
        video_calls_server.clock.set(datetime(2030, 1, 5, 10, 0, tzinfo=timezone.utc))
        video_calls_server.clock.advance(minutes=45)
        ```
        """
        return self.control.clock

    @cached_property
    def doctor(self) -> VideoCallsClient:
        """The client of doctor 1, Dr. John Doe."""
        return self.client(_DOCTOR)

    @cached_property
    def patient(self) -> VideoCallsClient:
        """The client of patient 1, Jane Smith."""
        return self.client(_PATIENT)

    @cached_property
    def async_doctor(self) -> AsyncVideoCallsClient:
        """The asynchronous client of doctor 1, for one event loop; `async_client` makes more."""
        return self.async_client(_DOCTOR)

    @cached_property
    def async_patient(self) -> AsyncVideoCallsClient:
        """The asynchronous client of patient 1, for one event loop; `async_client` makes more."""
        return self.async_client(_PATIENT)

    def client(self, email: str) -> VideoCallsClient:
        """A new client of one of the server's people. It holds no connection: it need not be closed.

        ```python
        other_doctor = video_calls_server.client("other.doctor@example.com")
        ```

        Raises:
            ValueError: the server knows nobody of this address; the message lists whom it knows.
        """
        return VideoCallsClient(self.base_url, self._tokens(email), transport=self.transport)

    def async_client(self, email: str) -> AsyncVideoCallsClient:
        """A new asynchronous client of one of the server's people. It holds no connection, either.

        Raises:
            ValueError: the server knows nobody of this address; the message lists whom it knows.
        """
        return AsyncVideoCallsClient(self.base_url, self._tokens(email), transport=self.transport)

    def token(self, email: str, *, expires_in: float = 3600) -> str:
        """A JWT of one of the server's people, for a client of your own making or a raw request.

        ```python
        tokens = iter([server.token(email, expires_in=-1), server.token(email)])
        client = VideoCallsClient(server.base_url, lambda: next(tokens), transport=server.transport)
        ```

        Args:
            email: whose token it is to be.
            expires_in: seconds of the machine's time; negative for one that has expired.

        Raises:
            ValueError: the server knows nobody of this address; the message lists whom it knows.
        """
        return self._make_token(email, expires_in)

    def _tokens(self, email: str) -> Callable[[], str]:
        """A function for a client's `token`: one that expires when a test moves the time is replaced."""
        self.token(email)  # raises for an unknown address
        return partial(self.token, email)


@dataclass(frozen=True, slots=True)
class ServerApplication:
    """The application of all tests: making one takes longer than most tests do."""

    app: Litestar
    portal: BlockingPortal
    clock: SettableClock
    base_url: str
    make_token: Callable[[str, float], str]

    @contextmanager
    def serve(self) -> Generator[VideoCallsServer]:
        """Serve one test: the database in memory is made at the start and gone at the end."""
        transport = ServerTransport(self.app, self.portal, self.clock)
        server = VideoCallsServer(base_url=self.base_url, transport=transport, make_token=self.make_token)
        with self.portal.wrap_async_context_manager(self.app.lifespan()):
            self.portal.call(self.clock.freeze)
            yield server
            transport.stop()


@contextmanager
def server_application() -> Generator[ServerApplication]:
    """Make the application of a test session, and the thread that it runs on."""
    from anyio.from_thread import start_blocking_portal
    from video_calls_server import Settings, create_app
    from video_calls_server.api.jwt import make_token
    from video_calls_server.api.routes import API_ROOT
    from video_calls_server.store.seed import load_seed

    for name in ("video_calls_server.control.client", "video_calls_server.control.control_api"):
        import_module(name)  # now, because later a test's freezegun may have replaced `datetime`
    settings = Settings(database=":memory:")
    ids = {user.email: user.id for user, _, _ in load_seed().people}

    def token(email: str, expires_in: float) -> str:
        if email not in ids:
            raise ValueError(f"the server knows nobody as {email!r}; it knows {', '.join(ids)}")
        return make_token(settings, ids[email], expires_in=expires_in)

    app = create_app(settings)
    clock = app.state.namespaces.default.clock
    with start_blocking_portal(backend_options={"loop_factory": _event_loop}) as portal:
        yield ServerApplication(app, portal, clock, f"{_ORIGIN}{API_ROOT}", token)


def _event_loop(monotonic: Callable[[], float] = time.monotonic) -> asyncio.AbstractEventLoop:
    """Make an event loop whose timers run also while freezegun stops `time.monotonic`."""
    loop = asyncio.new_event_loop()
    setattr(loop, "time", monotonic)  # noqa: B010 (mypy lets nobody assign to a method)
    return loop


def _is_time_mocked() -> bool:
    """Whether freezegun or time-machine sets the time of this process."""
    time_machine = sys.modules.get("time_machine")
    is_travelling = time_machine is not None and time_machine.escape_hatch.is_travelling()
    return is_travelling or dt.datetime.__module__ != "datetime"


# -- Mocked answers -----------------------------------------------------------------------------------


def example_response(operation_id: str, status: int | None = None, name: str | None = None) -> httpx.Response:
    """An answer of an operation as the contract shows it: an example of its body, and no headers of its own.

    ```python
    example_response("joinVideoCall")
    example_response("joinVideoCall", 400, "early")
    throttled = example_response("listVideoCalls", 429)
    throttled.headers["Retry-After"] = "1"
    ```

    Args:
        operation_id: the operation, as `openapi.yaml` names it, such as `createVideoCall`.
        status: one of the operation's statuses, by default that of its success.
        name: one of the examples of this status, by default the first.

    Raises:
        ValueError: the contract has no such operation, status or example; the message lists those it has.
    """
    operation = _chosen("operation", _operations(), operation_id)
    status = status or min(operation.examples)
    examples = _chosen(f"status of {operation_id}", operation.examples, status)
    example = _chosen(f"example of {operation_id} with {status}", examples, name or next(iter(examples)))
    return httpx.Response(status, json=example)


def contract_router() -> respx.MockRouter:
    """Return a respx router with a route for each operation of the contract, named by its operation id.

    Each answers, at any base URL, with the first example of the operation's success, until a test gives it
    another answer. It is a `respx.MockRouter` like any other, and mocks while it is entered.

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
    method: str
    path: str
    """A regular expression of its path, under the API's root."""
    examples: dict[int, dict[str, Any]]
    """The bodies of its answers, by status and name."""


@cache
def _operations() -> dict[str, _Operation]:
    """The operations of the contract by their ids."""
    import yaml
    from video_calls_spec import openapi_path, resolved

    # `Any` is what YAML holds; that the contract is what it should be is tested where it is kept.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    contract: dict[str, Any] = yaml.load(openapi_path().read_text(encoding="utf-8"), loader)  # noqa: S506 (safe)

    def examples(answer: dict[str, Any]) -> dict[str, Any]:
        """The bodies of an answer, by the names of its examples."""
        named = resolved(contract, answer)["content"]["application/json"]["examples"]
        return {name: resolved(contract, example)["value"] for name, example in named.items()}

    return {
        operation["operationId"]: _Operation(
            method.upper(),
            re.sub(r"\{\w+\}", "[^/]+", path),
            {int(status): examples(answer) for status, answer in operation["responses"].items()},
        )
        for path, methods in contract["paths"].items()
        for method, operation in methods.items()
        if "operationId" in operation
    }


def _chosen(what: str, choices: Mapping[_Key, _Value], key: _Key) -> _Value:
    if key not in choices:
        raise ValueError(f"the contract has no {what} {key!r}; it has {', '.join(map(str, choices))}")
    return choices[key]
