"""Tests of the proxy and the command `watch`."""

import asyncio
import json
import signal
import socket
import subprocess
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import websockets
from click.testing import CliRunner
from video_calls_contract.command import main
from video_calls_contract.config import Config, Tls
from video_calls_contract.watch.proxy import Proxy
from websockets.asyncio.server import ServerConnection, serve

from support.certificates import server_context
from support.fake_backend import TOKENS, fake_backend, scheduling
from support.suite_runs import suite_command

# -- The proxy ----------------------------------------------------------------------------------------

NOT_GZIP = b"\x1f\x8b is not gzip"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Respond with the request, byte for byte, and with headers that a proxy might change."""
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    if scope["path"] == "/hangs/":
        await receive()
    target = scope["raw_path"] + b"?" + scope["query_string"]
    headers = [(b"x-target", target), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    headers += [(b"x-got-" + name, value) for name, value in scope["headers"]]
    headers += [(b"content-encoding", b"gzip")]
    await send({"type": "http.response.start", "status": 418, "headers": headers})
    await send({"type": "http.response.body", "body": NOT_GZIP + body})


@asynccontextmanager
async def serving(application: Any) -> AsyncIterator[int]:
    config = uvicorn.Config(application, http="h11", ws="websockets-sansio", lifespan="auto", log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


@asynccontextmanager
async def proxy_to(port: int, tls: Tls | None = None) -> AsyncIterator[tuple[int, asyncio.Queue[Any]]]:
    """Run a proxy for a local port; yield its own port and its captures."""
    captures: asyncio.Queue[Any] = asyncio.Queue()
    config = Config(f"http{'s' if tls else ''}://127.0.0.1:{port}", {}, tls=tls or Tls())
    async with serving(Proxy(config, "", captures.put_nowait)) as own:
        yield own, captures


def test_request_and_response_pass_unchanged() -> None:
    async def main() -> None:
        async with (
            serving(echo) as target,
            proxy_to(target) as (port, captures),
            httpx.AsyncClient() as client,
        ):
            url = f"http://127.0.0.1:{port}/video-calls/a%2Fb/../c?q=%5B1%5D"
            body = b"x" * 100_000
            headers = {b"X-Name": b"\xe9", b"Accept-Encoding": b"br, gzip;q=1"}
            async with client.stream("PUT", url, content=body, headers=headers) as answer:
                content = b"".join([part async for part in answer.aiter_raw()])
            assert (answer.status_code, content) == (418, NOT_GZIP + body)
            assert answer.headers["x-target"].encode() == answer.request.url.raw_path
            assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
            assert answer.headers["x-got-x-name"] == "\xe9"
            assert answer.headers["x-got-accept-encoding"] == "gzip"
            assert answer.headers["x-got-host"] == f"127.0.0.1:{port}"
            capture = await captures.get()
            assert "long" in capture.skip_reason
            assert capture.body == content

    asyncio.run(main())


def test_client_disconnect_cancels_request() -> None:
    async def main() -> None:
        async with (
            serving(echo) as target,
            proxy_to(target) as (port, captures),
            httpx.AsyncClient() as client,
        ):
            with pytest.raises(httpx.ReadTimeout):
                await client.get(f"http://127.0.0.1:{port}/hangs/", timeout=0.2)
            assert "cancelled" in (await captures.get()).skip_reason

    asyncio.run(main())


def test_unreachable_target_is_answered_with_502() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            target = unused.getsockname()[1]
        async with proxy_to(target) as (port, captures), httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{port}/")).status_code == 502
            assert "without a response" in (await captures.get()).skip_reason

    asyncio.run(main())


async def echo_messages(connection: ServerConnection) -> None:
    """Send each message back; on "end", close with a code of the API."""
    with suppress(websockets.ConnectionClosed):
        async for message in connection:
            if message == "end":
                await connection.close(4402, "over")
            await connection.send(message)


def refuse(connection: ServerConnection, request: Any) -> Any:
    return connection.respond(403, "no") if request.path == "/refused/" else None


def test_websocket_passes_with_subprotocol_and_close_code() -> None:
    async def main() -> None:
        names: Any = ["bearer"]
        async with (
            serve(echo_messages, "127.0.0.1", 0, subprotocols=names, process_request=refuse) as target,
            proxy_to(target.sockets[0].getsockname()[1]) as (port, captures),
        ):
            url = f"ws://127.0.0.1:{port}/events/"
            async with websockets.connect(url, subprotocols=["other", *names]) as client:
                assert client.subprotocol == "bearer"
                await client.send(b"\x00")
                assert await client.recv() == b"\x00"
                await client.close(4000)
            async with websockets.connect(url, subprotocols=names) as client:
                await client.send("end")
                with pytest.raises(websockets.ConnectionClosed) as error:
                    await client.recv()
                assert error.value.rcvd
                assert (error.value.rcvd.code, error.value.rcvd.reason) == (4402, "over")
            with pytest.raises(websockets.InvalidStatus) as refusal:
                await websockets.connect(f"ws://127.0.0.1:{port}/refused/", subprotocols=names)
            assert (refusal.value.response.status_code, refusal.value.response.body) == (403, b"no")
            messages = [captures.get_nowait() for _ in range(captures.qsize())]
            assert [one.close_code for one in messages if one.is_end] == [None, 4402]

    asyncio.run(main())


def test_websocket_over_tls_passes(pems: Path) -> None:
    async def main() -> None:
        context, tls = server_context(pems, client=True), client_tls(pems)
        async with (
            serve(echo_messages, "127.0.0.1", 0, ssl=context) as target,
            proxy_to(target.sockets[0].getsockname()[1], tls) as (port, _),
            websockets.connect(f"ws://127.0.0.1:{port}/events/") as client,
        ):
            await client.send("message")
            assert await client.recv() == "message"

    asyncio.run(main())


# -- The command --------------------------------------------------------------------------------------


def client_tls(pems: Path) -> Tls:
    return Tls(pems / "ca.pem", pems / "client.pem", pems / "client.key")


@contextmanager
def watching(url: str, *options: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Run the command for a target; yield the address of the API at the proxy, and the process."""
    words = suite_command("watch", "--target", url, "--listen", "127.0.0.1:0", *options)
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().split()[-4].rstrip(";"), process
        finally:
            process.terminate()


BROKEN_RULES = {
    "`app_id` is another": "join.app-id",
    "Idempotency-Key ignores the body": "create.idempotency-key",
    "details have a medical history": "privacy.details",
}


def send_traffic(url: str, config: dict[str, Any]) -> None:
    """Create calls with one key, join a call and read it."""
    doctor, patient = (config["identities"][name] for name in ("doctor", "patient"))
    at = datetime.now(UTC) + timedelta(minutes=10)
    key = {"Idempotency-Key": "key-1"}
    with httpx.Client(headers={"Authorization": f"Bearer {doctor['token']}"}) as client:
        for minutes in (0, 0, 60):
            body = {"doctor": doctor["id"], "patient": patient["id"]}
            body["scheduled_time"] = (at + timedelta(minutes=minutes)).isoformat()
            response = client.post(f"{url}/video-calls/", json=body, headers=key)
        call = f"{url}/video-calls/{response.json()['id']}/"
        client.post(f"{call}join/").raise_for_status()
        for read in (call, f"{url}/video-calls/?page_size=1"):
            client.get(read).raise_for_status()


def test_watch_reports_each_violation_until_sigterm(altered: Callable[..., str], tmp_path: Path) -> None:
    config, report = tomllib.loads(altered(*BROKEN_RULES)), tmp_path / "report.json"
    with watching(config["base_url"], "--json", str(report)) as (url, process):
        send_traffic(url, config)
        assert process.stdout
        first_lines = [process.stdout.readline() for _ in BROKEN_RULES]
        process.send_signal(signal.SIGTERM)
        assert "breaks 3 rules" in process.stdout.read()
    assert process.returncode == 1
    rules = json.loads(report.read_text())["rules"]
    assert {one["id"] for one in rules if one["fails"]} == {*BROKEN_RULES.values()}
    assert {line.split()[1].rstrip(":") for line in first_lines} == {*BROKEN_RULES.values()}


def test_watch_needs_ca_option_for_private_authority(pems: Path) -> None:
    names = ("ca", "cert", "key")
    files = dict(zip(names, astuple(client_tls(pems)), strict=True))
    with fake_backend(scheduling, server_context(pems, client=True)) as target:
        options = [word for name, file in files.items() for word in (f"--{name}", str(file))]
        with watching(target.url, *options) as (url, process):
            response = httpx.get(
                f"{url}/video-calls/", headers={"Authorization": f"Bearer {TOKENS['doctor']}"}
            )
            process.send_signal(signal.SIGTERM)
            process.communicate()
        assert (response.status_code, process.returncode) == (200, 0)
        options[1] = str(pems / "other.pem")
        result = CliRunner().invoke(main, ["watch", "--target", target.url, *options])
    assert (result.exit_code, "cannot be reached" in result.output, "--ca" in result.output) == (
        2,
        True,
        True,
    )


@pytest.mark.parametrize("answer", [(404, {"detail": "Not found"}), (200, []), (302, {})])
def test_watch_refuses_target_without_the_api(answer: tuple[int, Any]) -> None:
    with fake_backend(lambda _: answer) as target:
        result = CliRunner().invoke(main, ["watch", "--target", target.url, "--listen", "127.0.0.1:0"])
        assert (result.exit_code, "no Video Calls API" in result.output) == (2, True)
    result = CliRunner().invoke(main, ["watch", "--target", target.url, "--listen", "127.0.0.1:0"])
    assert (result.exit_code, "cannot be reached" in result.output) == (2, True)
