"""The clients in tasks, threads, processes and event loops."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain, repeat
from types import coroutine
from typing import Any

import httpx
import pytest
import trio
from video_calls_sdk import AsyncVideoCallsClient, ConfigurationError, Retries, VideoCallsClient

from support.fault_proxy import Fault, FaultProxy

API = "/api/v1/video"
BASE = f"https://api.example.com{API}"
ONE_CONNECTION = httpx.Limits(max_connections=1)
QUICKLY = Retries(attempts=6, first_wait=0.001)
EMPTY = {"count": 0, "next": None, "previous": None, "results": []}


def token(process: Any) -> str:
    value: str = process.headers()["Authorization"].removeprefix("Bearer ")
    return value


# -- Cancellation -----------------------------------------------------------------------------------


@coroutine
def cancelled_at(step: int, work: Any) -> Generator[Any, Any, Any]:
    """Run a coroutine, and cancel its task when it waits for the nth time."""
    go, steps = partial(work.send, None), 0
    while True:
        try:
            awaited = go()
        except StopIteration as stop:
            return stop.value
        steps += 1
        if steps == step:
            task = asyncio.current_task()
            assert task
            task.cancel()
        try:
            yield awaited
            go = partial(work.send, None)
        except BaseException as error:  # noqa: BLE001 (goes into the coroutine)
            go = partial(work.throw, error)


def test_operation_cancelled_at_any_wait_releases_its_connection(fresh_server: Any) -> None:
    """Cancel a create at each of its waits: for a token, a response, a retry, the search for its call."""
    faults = [Fault.RESET_BEFORE, Fault.UNAVAILABLE_BEFORE, Fault.CLOSE_AFTER]

    async def cancel(step: int) -> bool:
        tokens = iter(["not.a.jwt"])

        async def slow_token() -> str:
            await asyncio.sleep(0)
            return next(tokens, token(fresh_server))

        with FaultProxy(
            fresh_server.url, chain(faults, repeat(None)), without_header=b"idempotency-key"
        ) as proxy:
            async with httpx.AsyncClient(limits=ONE_CONNECTION) as http:
                client = AsyncVideoCallsClient(
                    f"{proxy.url}{API}", slow_token, http_client=http, timeout=10, retries=QUICKLY
                )
                when = datetime.now(UTC) + timedelta(minutes=60 + 31 * step)
                create = client.calls.create(doctor=1, patient=1, scheduled_time=when)
                task = asyncio.create_task(cancelled_at(step, create))
                other = asyncio.create_task(client.calls.with_response.list())
                await asyncio.wait([task, other])
                assert other.result().status == 200
                assert (await client.calls.list()).count >= 0
                pool = http._transport._pool  # type: ignore[attr-defined]
                assert pool._requests == []
                assert all(connection.is_idle() for connection in pool.connections)
        assert task.cancelled() or task.result().scheduled_time == when
        return task.cancelled()

    step = 1
    while asyncio.run(cancel(step)):
        step += 1
    assert step > 20


def test_httpcore_loses_connection_of_cancelled_request(fresh_server: Any) -> None:
    async def is_lost(step: int) -> bool:
        async with httpx.AsyncClient(limits=ONE_CONNECTION) as http:
            await asyncio.wait([asyncio.create_task(cancelled_at(step, http.get(fresh_server.url)))])
            connections = http._transport._pool.connections  # type: ignore[attr-defined]
            return not all(each.is_idle() or each.is_closed() for each in connections)

    lost = [step for step in range(1, 10) if asyncio.run(is_lost(step))]
    assert lost, "httpcore returns each connection now: remove _release_connection from _transport.py"


def test_next_task_requests_token_after_cancellation() -> None:
    async def main() -> None:
        token_called = asyncio.Event()

        async def slow_token() -> str:
            if not token_called.is_set():
                token_called.set()
                await asyncio.Event().wait()
            return "fresh"

        transport = httpx.MockTransport(lambda _: httpx.Response(200, json=EMPTY))
        async with AsyncVideoCallsClient(BASE, slow_token, transport=transport) as client:
            first = asyncio.create_task(client.calls.with_response.list())
            second = asyncio.create_task(client.calls.with_response.list())
            await token_called.wait()
            first.cancel()
            assert (await second).status == 200
            assert first.cancelled()

    asyncio.run(main())


# -- Threads, tasks and one token -------------------------------------------------------------------


def test_threads_share_a_client(fresh_server: Any) -> None:
    began = datetime.now(UTC) + timedelta(hours=1)
    with (
        VideoCallsClient(f"{fresh_server.url}{API}", token(fresh_server)) as client,
        ThreadPoolExecutor(8) as threads,
    ):

        def work(number: int) -> tuple[int, str]:
            when = began + timedelta(minutes=31 * number)
            call = client.calls.create(doctor=1, patient=1, scheduled_time=when)
            assert client.calls.get(call.id).scheduled_time == when
            return call.id, str(client.calls.cancel(call.id).status)

        results = dict(threads.map(work, range(80)))
        assert results == {call.id: "cancelled" for call in client.calls.list()}
        assert len(results) == 80


class TokenEndpoint:
    """Returns "stale" first, then "fresh"; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        return "stale" if self.calls == 1 else "fresh"

    async def slowly(self) -> str:
        token = self()
        await asyncio.sleep(0)
        return token


def answer(request: httpx.Request) -> httpx.Response:
    good = request.headers["authorization"] == "Bearer fresh"
    return httpx.Response(200, json=EMPTY) if good else httpx.Response(401, json={"error": "expired"})


def test_threads_refresh_the_token_once() -> None:
    together = threading.Barrier(8)
    endpoint = TokenEndpoint()

    def answer_together(request: httpx.Request) -> httpx.Response:
        if request.headers["authorization"] == "Bearer stale":
            together.wait(30)
        return answer(request)

    with (
        VideoCallsClient(BASE, endpoint, transport=httpx.MockTransport(answer_together)) as client,
        ThreadPoolExecutor(8) as threads,
    ):
        assert [page.count for page in threads.map(lambda _: client.calls.list(), range(8))] == [0] * 8
    assert endpoint.calls == 2


def test_tasks_refresh_the_token_once() -> None:
    endpoint = TokenEndpoint()

    async def main() -> None:
        together = asyncio.Barrier(100)

        async def answer_together(request: httpx.Request) -> httpx.Response:
            if request.headers["authorization"] == "Bearer stale":
                await together.wait()
            return answer(request)

        transport = httpx.MockTransport(answer_together)
        async with AsyncVideoCallsClient(BASE, endpoint.slowly, transport=transport) as client:
            pages = await asyncio.gather(*(client.calls.with_response.list() for _ in range(100)))
            assert [page.data.count for page in pages] == [0] * 100

    asyncio.run(main())
    assert endpoint.calls == 2


# -- Event loops and processes ----------------------------------------------------------------------


def script(body: str, *arguments: str) -> str:
    """Run a program in a process without other threads, and return its output."""
    process = subprocess.run(
        [sys.executable, "-c", body, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
        check=True,
    )
    return process.stdout.strip()


def test_async_client_belongs_to_its_first_loop() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=EMPTY))
    client = AsyncVideoCallsClient(BASE, lambda: "token", transport=transport)

    async def use() -> None:
        assert (await client.calls.list()).count == 0
        assert (await client.calls.list()).count == 0

    trio.run(use)
    with pytest.raises(ConfigurationError, match="another event loop"):
        trio.run(use)
    for operation in (use, client.aclose):
        with pytest.raises(ConfigurationError, match="another event loop"):
            asyncio.run(operation())


def test_closed_client_is_refused() -> None:
    async def main() -> None:
        async with AsyncVideoCallsClient(BASE, "token") as client:
            pass
        await client.aclose()
        with pytest.raises(ConfigurationError, match="the client is closed"):
            await client.calls.list()

    asyncio.run(main())
    with VideoCallsClient(BASE, "token") as client:
        pass
    client.close()
    with pytest.raises(ConfigurationError, match="the client is closed"):
        client.calls.list()


FORKED = """
import os, sys, httpx
from video_calls_sdk import ConfigurationError, VideoCallsClient

http = httpx.Client()
with_http = VideoCallsClient(sys.argv[1], sys.argv[2], http_client=http)
with VideoCallsClient(sys.argv[1], lambda: sys.argv[2]) as client:
    for number in range(3):
        print(client.calls.list().count, flush=True)
        if os.fork() == 0:
            print("child", client.calls.list().count, flush=True)
            client.close()
            try:
                with_http.calls.list()
            except ConfigurationError:
                print("refused", flush=True)
            os._exit(0)
        assert os.wait()[1] == 0
    print(client.calls.list().count)
"""


def test_fork_renews_own_connections_but_refuses_http_client(fresh_server: Any) -> None:
    output = script(FORKED, f"{fresh_server.url}{API}", token(fresh_server))
    assert output.splitlines() == ["0", "child 0", "refused"] * 3 + ["0"]


FORKED_WITH_THE_LOCK_HELD = """
import os, sys, threading, warnings
from video_calls_sdk import VideoCallsClient

warnings.simplefilter("ignore")  # about a fork with threads, which is the point
started, release, parent = threading.Event(), threading.Event(), os.getpid()

def token():
    if os.getpid() == parent:
        started.set()
        release.wait()
    return sys.argv[2]

with VideoCallsClient(sys.argv[1], token) as client:
    thread = threading.Thread(target=client.calls.list)
    thread.start()
    started.wait()
    if os.fork() == 0:
        print("child", client.calls.list().count, flush=True)
        os._exit(0)
    print(os.wait()[1])
    release.set()
    thread.join()
"""


def test_fork_during_token_call_does_not_block_child(fresh_server: Any) -> None:
    output = script(FORKED_WITH_THE_LOCK_HELD, f"{fresh_server.url}{API}", token(fresh_server))
    assert output.splitlines() == ["child 0", "0"]
