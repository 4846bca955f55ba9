"""Traffic of others: what is blamed, what is not, and that the proxy passes it on."""

import asyncio
import json
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import websockets
from click.testing import CliRunner
from video_calls_contract.command import main
from video_calls_contract.config import Agora, Config
from video_calls_contract.results import Results
from video_calls_contract.watch.capture import Record
from video_calls_contract.watch.proxy import Proxy
from video_calls_contract.watch.traffic import Judge
from websockets.asyncio.server import ServerConnection, serve

from support.fake_backend import command, fake_backend
from support.traffic import DETAILS, NOW, ONGOING, call, event, iso, jwt

ROOT = "/api/v1/video"
CALLS = f"{ROOT}/video-calls/"

COMPLETED = {"status": "completed", "started_at": iso(2), "ended_at": iso(4), "updated_at": iso(4)}
CANCELLED = {"status": "cancelled", "updated_at": iso(4)}


def exchange(
    method: str, path: str, status: int, body: Any = None, *, at: float = 0, token: str = "", **more: Any
) -> Record:
    """An exchange `at` seconds after the first, of a tenth of a second."""
    headers = [("authorization", f"Bearer {token or jwt()}"), ("content-type", "application/json")]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent_at = NOW.timestamp() + at
    record = Record(method, CALLS + path, headers, sent_at, b"", status, headers[1:], content, sent_at + 0.1)
    return replace(record, **more)


def creation(record: dict[str, Any], asked: dict[str, Any] | None = None, at: float = 0) -> Record:
    names = ("doctor", "patient", "scheduled_time")
    body = {name: record[name] for name in names} if asked is None else asked
    return exchange("POST", "", 201, record, at=at, request_body=json.dumps(body).encode())


def read(record: dict[str, Any], at: float = 9, **more: Any) -> Record:
    return exchange("GET", f"{record['id']}/", 200, record, at=at, **more)


def page(*records: dict[str, Any], **links: str | None) -> Record:
    body = {"count": len(records), "next": None, "previous": None, "results": records, **links}
    return exchange("GET", "", 200, body, at=9)


def act(action: str, record: dict[str, Any], at: float = 4) -> Record:
    return exchange("POST", f"{record['id']}/{action}/", 200, record, at=at)


def join(at: float = 2) -> Record:
    return exchange("POST", "7/join/", 200, {"channel_name": "call_7_8362910475"}, at=at)


def connection(*messages: str, lasts: float = 5, token: str = "") -> list[Record]:
    begun = NOW.timestamp()
    headers = [("authorization", f"Bearer {token}")] if token else []
    opened = Record("GET", f"{ROOT}/events/", headers, begun, status=101, socket=1)
    events = [replace(opened, body=message.encode(), received_at=begun + 3) for message in messages]
    return [*events, replace(opened, received_at=begun + lasts, is_end=True)]


def results_of(*records: Record) -> Results:
    judge = Judge(f"http://target.example{ROOT}", Agora(), "must", NOW - timedelta(seconds=1))
    for record in records:
        judge.judge(record)
    results = judge.results()
    assert not results.broken
    return results


def broken_rules(*records: Record) -> set[str]:
    return {one.rule.id for one in results_of(*records).rules if one.outcome in ("failed", "noted")}


LATE = {"scheduled_time": iso(3600)}
REOPENED = {**ONGOING, "updated_at": iso(9)}
FORM = [("authorization", f"Bearer {jwt()}"), ("content-type", "text/plain"), ("x-request-id", "one")]
ECHO = [("content-type", "application/json"), ("x-request-id", "one")]

BROKEN: list[tuple[str, list[Record]]] = [
    ("model.schema", [read({"id": 7})]),
    ("errors.no-server-error", [exchange("GET", "7/", 500, {"error": "oh"})]),
    ("privacy.details", [read(call(doctor_details={**DETAILS, "password": "hunter2"}))]),
    ("auth.required", [read(call(), request_headers=[])]),
    ("auth.expired-token", [read(call(), token=jwt(lasts=-600))]),
    ("create.schedules", [creation(call(**ONGOING))]),
    ("create.valid-body", [creation(call(), {"doctor": 1})]),
    ("create.aware-time", [creation(call(), {**call(), "scheduled_time": "2031-01-05T10:00:00"})]),
    ("errors.malformed-json", [exchange("POST", "", 201, call(), request_body=b"{")]),
    ("errors.media-type", [exchange("POST", "", 201, call(), request_headers=FORM)]),
    ("create.future", [creation(call(scheduled_time=iso(-600)))]),
    ("model.scheduled-time", [creation(call(), {**call(), "scheduled_time": iso(900)})]),
    ("model.updated-at", [creation(call()), act("cancel", call(status="cancelled"), at=60)]),
    ("get.returns-call", [exchange("GET", "7/", 200, call(8))]),
    ("get.returns-call", [creation(call()), read(call(**COMPLETED)), read(call(**REOPENED), 20)]),
    ("join.not-cancelled", [read(call(**CANCELLED), at=0), join(at=5)]),
    ("join.window", [creation(call(**LATE)), read(call(**ONGOING, **LATE))]),
    ("end.completes", [act("end", call(**ONGOING))]),
    ("cancel.scheduled-only", [read(call(**ONGOING), at=2), act("cancel", call(**CANCELLED))]),
    ("list.pages", [page(call(), call())]),
    ("list.pages", [page(call(), next="/elsewhere/")]),
    ("list.newest-first", [page(call(), call(8, **LATE))]),
    ("errors.method-not-allowed", [exchange("PATCH", "7/", 200, call())]),
    ("errors.allow-header", [exchange("PATCH", "7/", 405, {"error": "no"})]),
    (
        "tracing.request-id",
        [read(call(), request_headers=FORM, headers=ECHO), read(call(), request_headers=FORM)],
    ),
    ("events.call-started", connection(event(number=""), token=jwt())),
    ("events.changes-only", connection(event(), event(number="2"), token=jwt())),
    ("events.order", connection(event("call.ended"), event(number="2"), token=jwt())),
    ("events.authentication", connection(event())),
    ("events.token-expiry", connection(lasts=600, token=jwt(lasts=60))),
]


@pytest.mark.parametrize(("rule", "records"), BROKEN, ids=[rule for rule, _ in BROKEN])
def test_broken_rule_is_blamed(rule: str, records: list[Record]) -> None:
    assert rule in broken_rules(*records)


AHEAD = {"created_at": iso(7200), "updated_at": iso(7200), "scheduled_time": iso(7800)}
CANCELLED_AHEAD = {**AHEAD, "status": "cancelled", "updated_at": iso(7260)}
RESET = {"created_at": iso(9), "updated_at": iso(9), "channel_name": "call_7_99"}
RENAMED = {"id": 1, "user": {"email": "j@clinic.example", "full_name": "Jane"}}
REPLAYED = connection(event(), event("call.ended", "2", **COMPLETED), token=jwt())

FREE: dict[str, list[Record]] = {
    "another client joins": [creation(call()), act("end", call(**COMPLETED))],
    "an older answer comes last": [
        read(call(**COMPLETED), at=5),
        read(call(**ONGOING), at=2, received_at=NOW.timestamp() + 9),
    ],
    "a creation is sent again": [creation(call()), creation(call(), at=30)],
    "not modified": [exchange("GET", "7/", 304, b"")],
    "HEAD and OPTIONS": [exchange("OPTIONS", "", 204, b""), exchange("HEAD", "7/", 405, b"")],
    "another path": [Record("GET", "/metrics", [], 0.0, status=500, body=b"oh")],
    "a gateway answers": [exchange("GET", "7/", 503, b"<html>", headers=[("content-type", "text/html")])],
    "an unknown coding": [exchange("GET", "7/", 200, b"?", headers=[("content-encoding", "br")])],
    "the data is reset": [read(call(**COMPLETED)), read(call(**RESET), 20)],
    "a clock is set": [creation(call(**AHEAD)), act("cancel", call(**CANCELLED_AHEAD))],
    "a user is renamed": [read(call()), read(call(doctor_details=RENAMED, patient_details=RENAMED))],
    "request ids of its own": [read(call(), request_headers=FORM)],
    "an old record": [read(call(created_at=iso(-9000), started_at=iso(-9000)))],
    "a replayed event": [read(call(**COMPLETED), at=1), *REPLAYED],
}


@pytest.mark.parametrize("records", FREE.values(), ids=FREE.keys())
def test_freedom_is_not_blamed(records: list[Record]) -> None:
    assert broken_rules(*records) == set()


def test_join_of_another_call_is_not_blamed() -> None:
    assert "join.not-completed" not in broken_rules(
        read(call(**COMPLETED, channel_name="call_7_1"), at=1), join()
    )


LEAKING = exchange("GET", "7/", 200, {**call(), "status": 5, "note": jwt(2)}, token="opaque-token-1234567890")


@pytest.mark.parametrize(
    "records", [[LEAKING], connection(event(), event("call.ended"), token="opaque-token")]
)
def test_evidence_has_no_token_and_no_personal_data(records: list[Record]) -> None:
    result, *_ = results_of(*records).violations
    shown = result.reason + "".join(
        f"{one.request_text}{one.response_text}{one.curl}" for one in result.exchanges
    )
    assert '"$TOKEN"' in shown
    for private in ("opaque-token", "Jane", "clinic.example", jwt(2)):
        assert private not in shown


def test_unjudged_rules_say_why() -> None:
    results = results_of(read(call()))
    reasons = {one.rule.id: one.reason for one in results.of("not_checked")}
    judged_rules = len(results.rules) - len(reasons)
    assert f"no rule in this traffic ({judged_rules} rules judged, {len(reasons)} not)" in results.verdict
    assert "`video-calls-contract run` tests it" in reasons["create.idempotency-key"]
    assert "no exchange" in reasons["join.token-format"]


# -- The proxy ----------------------------------------------------------------------------------------

NOT_GZIP = b"\x1f\x8b is not gzip"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the request, byte for byte, under headers that a proxy might touch."""
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
async def proxy_to(port: int) -> AsyncIterator[tuple[int, asyncio.Queue[Any]]]:
    """A proxy in front of a port of this machine, and what it records."""
    records: asyncio.Queue[Any] = asyncio.Queue()
    async with serving(Proxy(Config(f"http://127.0.0.1:{port}", {}), "", records.put_nowait)) as own:
        yield own, records


def test_request_and_response_pass_unchanged() -> None:
    async def main() -> None:
        async with (
            serving(echo) as target,
            proxy_to(target) as (port, records),
            httpx.AsyncClient() as client,
        ):
            url = f"http://127.0.0.1:{port}/video-calls/a%2Fb/../c?q=%5B1%5D"
            body = b"x" * 100_000
            headers = {b"X-Name": b"\xe9", b"Accept-Encoding": b"br, gzip;q=1"}
            async with client.stream("PUT", url, content=body, headers=headers) as answer:
                got = b"".join([part async for part in answer.aiter_raw()])
            assert (answer.status_code, got) == (418, NOT_GZIP + body)
            assert answer.headers["x-target"].encode() == answer.request.url.raw_path
            assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
            assert answer.headers["x-got-x-name"] == "\xe9"
            assert answer.headers["x-got-accept-encoding"] == "gzip"
            assert answer.headers["x-got-host"] == f"127.0.0.1:{port}"
            record = await records.get()
            assert "long" in record.unjudged
            assert record.body == got

    asyncio.run(main())


def test_client_disconnect_cancels_request() -> None:
    async def main() -> None:
        async with (
            serving(echo) as target,
            proxy_to(target) as (port, records),
            httpx.AsyncClient() as client,
        ):
            with pytest.raises(httpx.ReadTimeout):
                await client.get(f"http://127.0.0.1:{port}/hangs/", timeout=0.2)
            assert "cancelled" in (await records.get()).unjudged

    asyncio.run(main())


def test_unreachable_target_is_answered_with_502() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            target = unused.getsockname()[1]
        async with proxy_to(target) as (port, records), httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{port}/")).status_code == 502
            assert "without a response" in (await records.get()).unjudged

    asyncio.run(main())


async def echo_messages(connection: ServerConnection) -> None:
    """Send messages back, and end with a code of the API's when asked to."""
    with suppress(websockets.ConnectionClosed):
        async for message in connection:
            if message == "end":
                await connection.close(4402, "over")
            await connection.send(message)


def refuse(connection: ServerConnection, request: Any) -> Any:
    return connection.respond(403, "no") if request.path == "/refused/" else None


def test_websocket_passes_with_subprotocol_and_close_codes() -> None:
    async def main() -> None:
        names: Any = ["bearer"]
        async with (
            serve(echo_messages, "127.0.0.1", 0, subprotocols=names, process_request=refuse) as target,
            proxy_to(target.sockets[0].getsockname()[1]) as (port, records),
        ):
            url = f"ws://127.0.0.1:{port}/events/"
            async with websockets.connect(url, subprotocols=["other", *names]) as client:
                assert client.subprotocol == "bearer"
                await client.send(b"\x00")
                assert await client.recv() == b"\x00"
                await client.close(4000)
            async with websockets.connect(url, subprotocols=names) as client:
                await client.send("end")
                with pytest.raises(websockets.ConnectionClosed) as closed:
                    await client.recv()
                assert closed.value.rcvd
                assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4402, "over")
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(f"ws://127.0.0.1:{port}/refused/", subprotocols=names)
            assert (refused.value.response.status_code, refused.value.response.body) == (403, b"no")
            recorded = [records.get_nowait() for _ in range(records.qsize())]
            assert [one.close_code for one in recorded if one.is_end] == [None, 4402]

    asyncio.run(main())


# -- The command --------------------------------------------------------------------------------------


def test_command_judges_until_sigterm(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with fake_backend(lambda request: (500 if request.authorization else 401, {})) as target:
        words = command("watch", "--target", target.url, "--listen", "127.0.0.1:0", "--json", str(report))
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            url = process.stdout.readline().split()[-4].rstrip(";")
            headers = {"Authorization": "Bearer x"}
            assert httpx.get(f"{url}/video-calls/", headers=headers).status_code == 500
            assert "errors.no-server-error" in process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            assert "breaks" in process.stdout.read()
    assert process.returncode == 1
    rules = json.loads(report.read_text())["rules"]
    assert [one["id"] for one in rules if one["fails"]] == ["errors.no-server-error"]


@pytest.mark.parametrize("answer", [(404, {"detail": "Not found"}), (200, []), (302, {})])
def test_target_that_is_not_the_api_is_refused(answer: tuple[int, Any]) -> None:
    with fake_backend(lambda _: answer) as target:
        done = CliRunner().invoke(main, ["watch", "--target", target.url, "--listen", "127.0.0.1:0"])
        assert (done.exit_code, "no Video Calls API" in done.output) == (2, True)
    done = CliRunner().invoke(main, ["watch", "--target", target.url, "--listen", "127.0.0.1:0"])
    assert (done.exit_code, "cannot be reached" in done.output) == (2, True)
