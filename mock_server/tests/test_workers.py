"""Several workers on one PostgreSQL: they start, stop and are replaced as one server."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import asyncpg
import httpx
import pytest
from sqlalchemy import make_url
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from support.api import CALLS, USERS, auth_headers, time_ahead
from support.postgres import on_postgres
from support.server_command import assert_one_line_error, run
from support.server_process import TIMEOUT, ServerProcess

SOMEWHERE = "postgresql://127.0.0.1/calls"


@pytest.fixture
def start(serve: Callable[..., ServerProcess], postgres_url: str) -> Callable[..., ServerProcess]:
    """Return a function that starts the command with two workers."""
    return partial(serve, "--database", postgres_url, "--workers", "2")


DOCTOR = auth_headers(USERS["doctor"])


# -- settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--workers", "65", "--database", SOMEWHERE], ["workers: 65", "1 to 64"]),
        (["--workers", "2"], ["workers", "PostgreSQL", "--database postgresql://"]),
        (["--workers", "2", "--database", SOMEWHERE, "--fault", "status=503"], ["fault", "one worker"]),
        (["--pool-wait", "0"], ["pool_wait: 0", "0.001 to 3600"]),
        (["--lock-timeout", "nan"], ["lock_timeout: nan"]),
    ],
)
def test_invalid_worker_or_pool_settings_are_refused(
    tmp_path: Path, options: list[str], words: list[str]
) -> None:
    assert_one_line_error(run("serve", *options, cwd=tmp_path), *words)


# -- workers ----------------------------------------------------------------------------------------


def test_each_worker_serves_requests(start: Callable[..., ServerProcess]) -> None:
    server = start()
    assert "Workers           2, without the control API and the console" in server.output
    assert "Console  " not in server.output
    assert httpx.get(f"{server.url}/_control/server").status_code == 404
    first, second = server.workers()
    for one, other in [(first, second), (second, first)]:
        os.kill(one, signal.SIGSTOP)  # so that only the other worker serves
        try:
            assert httpx.get(server.url + CALLS, headers=DOCTOR).status_code == 200, other
        finally:
            os.kill(one, signal.SIGCONT)
    assert server.stop()[0] == 0
    assert server.output.count("A first request") == 1


@pytest.mark.long
def test_workers_end_when_server_is_killed(start: Callable[..., ServerProcess]) -> None:
    server = start()
    url, workers = server.url, server.workers()
    server.popen.kill()
    server.reader.join(TIMEOUT)  # ends when both workers have ended, because they hold its pipe
    assert not server.reader.is_alive(), workers
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz")


@pytest.mark.long
def test_worker_restarts_until_database_returns(
    start: Callable[..., ServerProcess], postgres_url: str, postgres: str
) -> None:
    server = start()
    worker, _ = server.workers()
    with database_offline(postgres_url, postgres):
        os.kill(worker, signal.SIGKILL)
        server.wait_for_output("a worker cannot start: cannot open the database", 2)
    assert len(server.workers(ever=3)) == 2
    assert server.stop()[0] == 0


@contextlib.contextmanager
def database_offline(postgres_url: str, postgres: str) -> Iterator[None]:
    """Refuse connections to the database, and end the existing ones, until the context ends."""
    name = make_url(postgres_url).database
    ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"  # noqa: S608
    asyncio.run(on_postgres(postgres, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false", ended))
    try:
        yield
    finally:
        asyncio.run(on_postgres(postgres, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))


@pytest.mark.long
def test_readyz_needs_database_and_healthz_does_not(
    start: Callable[..., ServerProcess], postgres_url: str, postgres: str
) -> None:
    server = start()
    ready = httpx.get(f"{server.url}/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    with database_offline(postgres_url, postgres):
        not_ready = httpx.get(f"{server.url}/readyz", timeout=TIMEOUT)
        assert (not_ready.status_code, not_ready.json()["code"]) == (503, "unavailable")
        assert int(not_ready.headers["retry-after"]) >= 1
        assert httpx.get(f"{server.url}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{server.url}/readyz", timeout=TIMEOUT).json() == {"status": "ready"}


@pytest.mark.long
def test_metrics_cover_all_running_workers(
    start: Callable[..., ServerProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "metrics").mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "metrics"))
    server = start("--metrics")
    for _ in range(40):
        httpx.get(server.url + CALLS, headers=DOCTOR).raise_for_status()

    async def open_until_killed() -> None:
        events = server.url.replace("http", "ws", 1) + "/api/v1/video/events/"
        async with contextlib.AsyncExitStack() as stack:
            sockets = [
                await stack.enter_async_context(connect(events, additional_headers=DOCTOR)) for _ in range(20)
            ]
            assert metric(server, "video_calls_requests_in_progress", "websocket") == 20
            os.kill(server.workers()[0], signal.SIGKILL)
            await asyncio.to_thread(server.workers, 3)
            remaining = 0
            for each in sockets:
                with contextlib.suppress(ConnectionClosed):
                    await (await each.ping())
                    remaining += 1
            assert 0 < remaining < 20
            assert metric(server, "video_calls_requests_in_progress", "websocket") == remaining

    asyncio.run(open_until_killed())
    assert metric(server, "video_calls_requests_total", "GET") == 40
    assert server.stop()[0] == 0


def metric(server: ServerProcess, name: str, method: str) -> float:
    """Return a metric of the requests to the API with this method, summed over the other labels."""
    lines = httpx.get(f"{server.url}/metrics").raise_for_status().text.splitlines()
    samples = [line for line in lines if line.startswith(f"{name}{{") and f'method="{method}"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in samples if "/api/" in line)


@pytest.mark.long
def test_ctrl_c_stops_all_workers(
    start: Callable[..., ServerProcess],
) -> None:
    server = start()
    server.workers()
    for _ in range(2):  # Ctrl+C pressed twice
        os.killpg(server.popen.pid, signal.SIGINT)
    assert server.popen.wait(TIMEOUT) == 0
    server.reader.join(TIMEOUT)
    server.assert_no_traceback()
    assert "another one starts" not in server.output


@pytest.mark.long
def test_request_in_flight_finishes_at_stop(start: Callable[..., ServerProcess], postgres_url: str) -> None:
    server = start("--lock-timeout", str(TIMEOUT), "--statement-timeout", str(TIMEOUT))
    body = {"doctor": 1, "patient": 1, "scheduled_time": time_ahead(10)}
    call = httpx.post(server.url + CALLS, json=body, headers=DOCTOR).raise_for_status().json()
    path = f"{CALLS}{call['id']}/"

    async def in_flight() -> tuple[httpx.Response, tuple[int, float]]:
        other = await asyncpg.connect(postgres_url)
        async with httpx.AsyncClient(base_url=server.url, timeout=TIMEOUT) as client:
            async with other.transaction():
                await other.execute("SELECT * FROM calls FOR UPDATE")
                joining = asyncio.create_task(client.post(f"{path}join/", headers=DOCTOR))
                locked = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                while not await on_postgres(postgres_url, locked):  # noqa: ASYNC110 (there is no event)
                    await asyncio.sleep(0.01)
                stopping = asyncio.create_task(asyncio.to_thread(server.stop))
                while await listens(server):  # noqa: ASYNC110 (there is no event)
                    await asyncio.sleep(0.01)
                assert not joining.done()
            answer = await joining
        await other.close()
        return answer, await stopping

    answer, (status, seconds) = asyncio.run(in_flight())
    assert (answer.status_code, status) == (200, 0)
    assert seconds < 8  # less than the shutdown timeout
    assert asyncio.run(on_postgres(postgres_url, "SELECT status FROM calls"))[0]["status"] == "ongoing"


async def listens(server: ServerProcess) -> bool:
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.close()
        return True
    return False
