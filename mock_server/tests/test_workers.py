"""Several workers on one PostgreSQL, as people run them: they start, stop and are replaced as one server."""

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

from support.api import CALLS, USERS
from support.command import assert_told, run
from support.deployments import PATIENCE, Server, headers, soon
from support.postgres import on_postgres

SOMEWHERE = "postgresql://127.0.0.1/calls"


@pytest.fixture
def start(launch: Callable[..., Server], postgres_url: str) -> Callable[..., Server]:
    """Starts the real command with two workers."""
    return partial(launch, "--database", postgres_url, "--workers", "2")


DOCTOR = headers(USERS["doctor"])


# -- settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--workers", "0"], ["workers: 0", "1 to 64"]),
        (["--workers", "65", "--database", SOMEWHERE], ["workers: 65", "1 to 64"]),
        (["--workers", "2"], ["workers", "PostgreSQL", "--database postgresql://"]),
        (
            ["--workers", "2", "--database", SOMEWHERE, "--clock", "2030-01-05T10:00:00Z"],
            ["clock", "one worker"],
        ),
        (["--workers", "2", "--database", SOMEWHERE, "--fault", "status=503"], ["fault", "one worker"]),
        (["--workers", "2", "--database", SOMEWHERE, "--seed-calls", "5"], ["seed_calls", "one worker"]),
        (["--workers", "2", "--database", SOMEWHERE, "--snapshot", "state.json"], ["snapshot", "one worker"]),
        (["--pool-size", "0"], ["pool_size: 0"]),
        (["--pool-wait", "0"], ["pool_wait: 0", "0.001 to 3600 seconds"]),
        (["--lock-timeout", "nan"], ["lock_timeout: nan"]),
    ],
)
def test_what_workers_and_pools_cannot_be_is_told_in_a_line(
    tmp_path: Path, options: list[str], words: list[str]
) -> None:
    assert_told(run("serve", *options, cwd=tmp_path), *words)


# -- workers ----------------------------------------------------------------------------------------


def test_each_worker_serves_and_the_banner_is_printed_once(start: Callable[..., Server]) -> None:
    server = start()
    assert "Workers           2, without the control API and the console" in "".join(server.lines)
    assert "Console  " not in "".join(server.lines)
    assert httpx.get(f"{server.url}/_control/server").status_code == 404
    first, second = server.workers()
    for one, other in [(first, second), (second, first)]:
        os.kill(one, signal.SIGSTOP)  # which leaves all there is to do to the other one
        try:
            assert httpx.get(server.url + CALLS, headers=DOCTOR).status_code == 200, other
        finally:
            os.kill(one, signal.SIGCONT)
    assert server.stop()[0] == 0
    assert "".join(server.lines).count("A first request") == 1


@pytest.mark.long
def test_workers_do_not_outlive_a_server_that_is_killed(start: Callable[..., Server]) -> None:
    server = start()
    url, workers = server.url, server.workers()
    server.popen.kill()
    server.reader.join(PATIENCE)  # as it does when both have ended, for they write to the same pipe
    assert not server.reader.is_alive(), workers
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz")


@pytest.mark.long
def test_a_worker_that_dies_while_the_database_is_away_is_started_until_it_serves(
    start: Callable[..., Server], postgres_url: str, postgres: str
) -> None:
    server = start()
    worker, _ = server.workers()
    with away(postgres_url, postgres):
        os.kill(worker, signal.SIGKILL)
        server.says("a worker cannot start: cannot open the database", 2)
    assert len(server.workers(ever=3)) == 2
    assert server.stop()[0] == 0


@contextlib.contextmanager
def away(postgres_url: str, postgres: str) -> Iterator[None]:
    """A database that takes no connections, and ends those that there are."""
    name = make_url(postgres_url).database
    ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"  # noqa: S608
    asyncio.run(on_postgres(postgres, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false", ended))
    try:
        yield
    finally:
        asyncio.run(on_postgres(postgres, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))


@pytest.mark.long
def test_readyz_says_whether_the_database_answers_and_healthz_whether_the_server_does(
    start: Callable[..., Server], postgres_url: str, postgres: str
) -> None:
    server = start()
    ready = httpx.get(f"{server.url}/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    with away(postgres_url, postgres):
        not_ready = httpx.get(f"{server.url}/readyz", timeout=PATIENCE)
        assert (not_ready.status_code, not_ready.json()["code"]) == (503, "unavailable")
        assert int(not_ready.headers["retry-after"]) >= 1
        assert httpx.get(f"{server.url}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{server.url}/readyz", timeout=PATIENCE).json() == {"status": "ready"}


@pytest.mark.long
def test_metrics_are_of_all_workers_and_forget_a_killed_one(
    start: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "metrics").mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "metrics"))
    server = start("--metrics")
    with contextlib.ExitStack() as stack:
        for client in [stack.enter_context(httpx.Client()) for _ in range(40)]:
            client.get(server.url + CALLS, headers=DOCTOR).raise_for_status()
        assert all(server.connections().values())  # both workers have had some

    async def open_until_killed() -> None:
        events = server.url.replace("http", "ws", 1) + "/api/v1/video/events/"
        async with contextlib.AsyncExitStack() as stack:
            sockets = [
                await stack.enter_async_context(connect(events, additional_headers=DOCTOR)) for _ in range(20)
            ]
            assert metric(server, "video_calls_requests_in_progress", "websocket") == 20
            os.kill(server.workers()[0], signal.SIGKILL)
            await asyncio.to_thread(server.workers, 3)
            left = 0
            for each in sockets:
                with contextlib.suppress(ConnectionClosed):
                    await (await each.ping())
                    left += 1
            assert 0 < left < 20
            assert metric(server, "video_calls_requests_in_progress", "websocket") == left

    asyncio.run(open_until_killed())
    assert metric(server, "video_calls_requests_total", "GET") == 40
    assert server.stop()[0] == 0


def metric(server: Server, name: str, method: str) -> float:
    """Return a metric of the requests to the API with this method, summed over the other labels."""
    lines = httpx.get(f"{server.url}/metrics").raise_for_status().text.splitlines()
    found = [line for line in lines if line.startswith(f"{name}{{") and f'method="{method}"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in found if "/api/" in line)


@pytest.mark.long
def test_an_interrupt_from_a_terminal_which_all_processes_get_stops_them_in_order(
    start: Callable[..., Server],
) -> None:
    server = start()
    server.workers()
    for _ in range(2):  # as somebody impatient does
        os.killpg(server.popen.pid, signal.SIGINT)
    assert server.popen.wait(PATIENCE) == 0
    server.reader.join(PATIENCE)
    server.assert_no_traceback()
    assert "another one starts" not in "".join(server.lines)


@pytest.mark.long
def test_a_request_in_flight_finishes_when_the_server_stops(
    start: Callable[..., Server], postgres_url: str
) -> None:
    server = start("--lock-timeout", str(PATIENCE), "--statement-timeout", str(PATIENCE))
    body = {"doctor": 1, "patient": 1, "scheduled_time": soon(10)}
    made = httpx.post(server.url + CALLS, json=body, headers=DOCTOR).raise_for_status().json()
    path = f"{CALLS}{made['id']}/"

    async def in_flight() -> tuple[httpx.Response, tuple[int, float]]:
        other = await asyncpg.connect(postgres_url)
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            async with other.transaction():
                await other.execute("SELECT * FROM calls FOR UPDATE")
                joining = asyncio.create_task(client.post(f"{path}join/", headers=DOCTOR))
                locked = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                while not await on_postgres(postgres_url, locked):  # noqa: ASYNC110 (nothing tells)
                    await asyncio.sleep(0.01)
                stopping = asyncio.create_task(asyncio.to_thread(server.stop))
                while await listens(server):  # noqa: ASYNC110 (nothing tells)
                    await asyncio.sleep(0.01)
                assert not joining.done()
            answer = await joining
        await other.close()
        return answer, await stopping

    answer, (status, seconds) = asyncio.run(in_flight())
    assert (answer.status_code, status) == (200, 0)
    assert seconds < 8  # which is less than the longest that it would wait
    assert asyncio.run(on_postgres(postgres_url, "SELECT status FROM calls"))[0]["status"] == "ongoing"


async def listens(server: Server) -> bool:
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.close()
        return True
    return False
