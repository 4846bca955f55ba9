"""The pytest plugin: a server for each test, a router with the contract's examples, and its imports."""

import asyncio
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import pytest
import respx
import time_machine
import trio
import yaml
from freezegun import freeze_time
from video_calls_sdk import (
    AsyncVideoCallsClient,
    AuthenticationError,
    CallStatus,
    Id,
    JoinWindowError,
    NotParticipantError,
    RateLimitedError,
    VideoCallsClient,
    VideoCallsError,
)
from video_calls_sdk.testing import VideoCallsServer, example_response
from video_calls_spec import openapi_path

pytest_plugins = ["pytester"]

DOCS = Path(__file__).resolve().parents[2] / "docs" / "testing.md"
BASE_URL = "https://api.example.com/api/v1/video"
NINE = datetime(2030, 1, 5, 9, tzinfo=UTC)

Run = Callable[..., object]
RunPytest = Callable[..., pytest.RunResult]


@pytest.fixture
def run_pytest(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> RunPytest:
    """Return a function that runs pytest in a new process, with this plugin and those in its options."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(*options: str) -> pytest.RunResult:
        return pytester.runpytest_subprocess("-W", "error", *options, "-p", "video_calls_pytest")

    return run


def in_an_hour(server: VideoCallsServer) -> datetime:
    return server.clock.now() + timedelta(hours=1)


# -- The page and the plugin --------------------------------------------------------------------------


def test_examples_of_testing_page_pass(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    files = re.findall(r"```python\n# (test_\w+\.py)\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    for name, source in files:
        (pytester.path / name).write_text(source, encoding="utf-8")
    outcome = run_pytest("-p", "anyio")
    outcome.assert_outcomes(passed=8)
    assert len(files) == DOCS.read_text(encoding="utf-8").count("```python") == 7


def test_plugin_loads_beside_a_video_calls_package(pytester: pytest.Pytester) -> None:
    pytester.mkpydir("video_calls")
    pytester.makepyfile(
        """
        import sys

        def test_modules():
            assert "video_calls_pytest" in sys.modules
            assert not {"httpx", "pydantic", "video_calls_sdk", "litestar", "yaml"} & sys.modules.keys()
            import video_calls, video_calls_sdk
        """
    )
    others = {plugin.name for plugin in entry_points(group="pytest11") if plugin.dist.name != "video-calls"}
    without = (option for name in sorted(others) for option in ("-p", f"no:{name}"))
    outcome = subprocess.run([sys.executable, "-m", "pytest", *without], cwd=pytester.path, check=False)
    assert outcome.returncode == 0


# -- The server ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("time", ["first", "second"])
def test_each_test_starts_with_an_empty_server(video_calls_server: VideoCallsServer, time: str) -> None:
    assert video_calls_server.doctor.calls.list().count == 0
    assert abs(video_calls_server.clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
    call = video_calls_server.doctor.calls.create(
        doctor=1, patient=1, scheduled_time=in_an_hour(video_calls_server), idempotency_key="the-same"
    )
    assert call.id == 1, time
    video_calls_server.clock.advance(days=1)


@pytest.mark.parametrize("run", [asyncio.run, lambda main: trio.run(lambda: main)], ids=["asyncio", "trio"])
def test_async_clients_work_in_the_tests_loop(video_calls_server: VideoCallsServer, run: Run) -> None:
    async def cancelled() -> CallStatus | str:
        time = in_an_hour(video_calls_server)
        call = await video_calls_server.async_doctor.calls.create(doctor=1, patient=1, scheduled_time=time)
        return (await video_calls_server.async_patient.calls.cancel(call.id)).status

    assert run(cancelled()) == CallStatus.CANCELLED


def test_server_answers_simultaneous_requests(video_calls_server: VideoCallsServer) -> None:
    async def create(calls_ahead: int) -> Id:
        time = video_calls_server.clock.now() + timedelta(hours=1 + calls_ahead)
        calls = video_calls_server.async_doctor.calls
        return (await calls.create(doctor=1, patient=1, scheduled_time=time)).id

    async def create_many() -> list[Id]:
        return await asyncio.gather(*(create(number) for number in range(60)))

    assert set(asyncio.run(create_many())) == set(range(1, 61))


def test_each_user_has_client_and_token(video_calls_server: VideoCallsServer) -> None:
    server = video_calls_server
    call = server.doctor.calls.create(doctor=1, patient=1, scheduled_time=in_an_hour(server))
    with pytest.raises(NotParticipantError):
        server.client("outsider@example.com").calls.get(call.id)
    with pytest.raises(AuthenticationError):
        server.client("inactive.doctor@example.com").calls.list()
    with httpx.Client(transport=server.transport) as raw:
        token = {"Authorization": f"Bearer {server.token('patient@example.com')}"}
        assert raw.get(f"{server.base_url}/video-calls/", headers=token).json()["count"] == 1


def test_unknown_user_error_lists_known_users(
    video_calls_server: VideoCallsServer,
) -> None:
    with pytest.raises(ValueError, match=r"no user 'jane@example.com'.*doctor@example.com, patient@"):
        video_calls_server.token("jane@example.com")


def test_client_of_earlier_test_is_refused(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytester.makepyfile(
        """
        import asyncio, pytest

        left = []

        def test_one(video_calls_server):
            left.extend([video_calls_server.doctor, video_calls_server.async_doctor])

        def test_another(video_calls_server):
            doctor, async_doctor = left
            with pytest.raises(RuntimeError, match="the test is over"):
                doctor.calls.list()
            with pytest.raises(RuntimeError, match="the test is over"):
                asyncio.run(async_doctor.calls.get(1))
        """
    )
    run_pytest().assert_outcomes(passed=2)


def test_session_leaves_no_threads_or_sockets(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytester.makeconftest(
        """
        import gc, threading

        def pytest_unconfigure():
            gc.collect()
            print("threads:", threading.active_count())
        """
    )
    pytester.makepyfile(
        """
        import asyncio

        def test_it(video_calls_server):
            assert video_calls_server.doctor.calls.list().count == 0
            async def count():
                return (await video_calls_server.async_doctor.calls.list()).count
            assert asyncio.run(count()) == 0
        """
    )
    outcome = run_pytest("-s")
    outcome.assert_outcomes(passed=1)
    outcome.stdout.fnmatch_lines(["threads: 1"])
    assert "ResourceWarning" not in outcome.stdout.str() + outcome.stderr.str()


# -- The router ---------------------------------------------------------------------------------------


def examples() -> list[tuple[str, int]]:
    contract = yaml.safe_load(openapi_path().read_text(encoding="utf-8"))
    return [
        (operation["operationId"], int(status))
        for methods in contract["paths"].values()
        for operation in methods.values()
        if "operationId" in operation
        for status in operation["responses"]
    ]


VALUES = {Id: 1, datetime: NINE}


def send(client: VideoCallsClient, operation_id: str) -> object:
    """Call the client's method for an operation, with a value for each required parameter."""
    method = getattr(client.calls, re.sub("VideoCalls?$", "", operation_id))
    parameters, types = inspect.signature(method).parameters.values(), get_type_hints(method)
    return method(
        **{each.name: VALUES[types[each.name]] for each in parameters if each.default is each.empty}
    )


@pytest.mark.parametrize(("operation_id", "status"), examples())
def test_router_gives_every_response_of_contract(
    video_calls_router: respx.MockRouter, operation_id: str, status: int
) -> None:
    video_calls_router[operation_id].return_value = example_response(operation_id, status)
    with VideoCallsClient(BASE_URL, "any", retries=0) as client:
        if status < 300:
            send(client, operation_id)
        else:
            with pytest.raises(VideoCallsError) as caught:
                send(client, operation_id)
            assert getattr(caught.value, "status", None) == status
    assert [route.name for route in video_calls_router.routes if route.called] == [operation_id]


def test_router_answers_async_clients(video_calls_router: respx.MockRouter) -> None:
    throttled = example_response("getVideoCall", 429)
    throttled.headers["Retry-After"] = "7"
    video_calls_router["getVideoCall"].return_value = throttled

    async def get() -> None:
        async with AsyncVideoCallsClient(BASE_URL, "any", retries=0) as client:
            await client.calls.get(1)

    with pytest.raises(RateLimitedError) as caught:
        asyncio.run(get())
    assert caught.value.retry_after == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("startVideoCall",), r"no operation 'startVideoCall'; it has listVideoCalls, createVideoCall"),
        (("joinVideoCall", 418), r"no status of joinVideoCall 418; it has 200, 400, 401"),
        (("joinVideoCall", 400, "late"), r"no example of joinVideoCall with 400 'late'; it has early, canc"),
    ],
)
def test_unknown_example_error_lists_known_examples(arguments: tuple[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        example_response(*arguments)


# -- Mocked time ------------------------------------------------------------------------------------

LIBRARIES = pytest.mark.parametrize("set_time", [freeze_time, time_machine.travel])


@LIBRARIES
def test_server_clock_follows_mocked_time(video_calls_server: VideoCallsServer, set_time: Any) -> None:
    server = video_calls_server
    began = server.clock.now()
    with set_time(NINE):
        call = server.doctor.calls.create(doctor=1, patient=1, scheduled_time=NINE + timedelta(hours=1))
        with pytest.raises(JoinWindowError):
            server.patient.calls.join(call.id)
    with set_time(NINE + timedelta(minutes=50)):
        credentials = server.patient.calls.join(call.id)
        assert credentials.expiration_time > datetime.now(UTC)
    with set_time(NINE + timedelta(days=40)):
        assert server.doctor.calls.get(call.id).status == CallStatus.ONGOING
        server.clock.advance(hours=2)
        assert server.clock.now() >= NINE + timedelta(days=40, hours=2)
    assert began <= server.clock.now() == server.clock.now() < began + timedelta(minutes=1)


@LIBRARIES
def test_control_client_works_at_mocked_time(video_calls_server: VideoCallsServer, set_time: Any) -> None:
    server, control = video_calls_server, video_calls_server.control
    with set_time(NINE):
        control.faults.add(delay=0.001, times=1)
        call = server.doctor.calls.create(doctor=1, patient=1, scheduled_time=NINE + timedelta(minutes=5))
        control.clock.freeze(datetime.now(UTC))
        control.snapshots.save("now")
        control.state.load(control.state.dump())
        control.snapshots.restore("now")
        assert control.token("doctor@example.com")
        assert [each.id for each in control.calls.list()] == [call.id]
        assert control.requests.list()[0].at - NINE < timedelta(minutes=1)


def test_server_timers_run_at_frozen_time(video_calls_server: VideoCallsServer) -> None:
    video_calls_server.control.faults.add(delay=0.05, times=1)
    with freeze_time(NINE):
        assert video_calls_server.doctor.calls.list().count == 0
