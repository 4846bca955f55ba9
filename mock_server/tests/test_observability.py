"""What an operator sees: the log's lines, the metrics that Prometheus reads, and spans of requests."""

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from conftest import CALLS, Api
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families
from video_calls_server import Settings, create_app
from video_calls_server.observability.logs import configure_logging
from video_calls_server.pool import Pool
from video_calls_server.seed import DEFAULT_SEED, load_seed
from video_calls_server.service import CallService
from video_calls_server.settings import SettingsError
from video_calls_server.store.database import database_url
from video_calls_server.store.postgres import PostgresStore
from video_calls_server.unavailable import UnavailableError

EVENTS = "/api/v1/video/events/"
LIST, DETAIL = "/api/v1/video/video-calls", "/api/v1/video/video-calls/{id}"


# -- The log -----------------------------------------------------------------------------------------


@pytest.fixture
def log(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Has the log written as settings say; called again, what was written meanwhile."""
    root = logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in ("", "uvicorn.error", "httpx", "httpcore")}

    def written(**options: Any) -> str:
        if options:
            monkeypatch.setattr(root, "handlers", [])  # pytest's own are put there when the test is called
            configure_logging(Settings(**options))
        for handler in root.handlers:
            handler.flush()
        return capfd.readouterr().err

    yield written
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def lines(text: str, logger: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    return [line for line in found if line["logger"] == f"video_calls_server{logger}"]


def test_a_request_is_a_line_of_json_with_its_fields(api: Api, log: Callable[..., str]) -> None:
    log(log_format="json")
    api.post("doctor", f"{CALLS}7/join/", headers={"X-Request-ID": "trace-1"})
    (line,) = lines(log(), ".requests")
    time, duration = line.pop("time"), line.pop("duration_ms")
    assert time.startswith("20")
    assert time.endswith("+00:00")
    assert 0 < duration < 60_000
    assert line == {
        "level": "info",
        "logger": "video_calls_server.requests",
        "message": f"POST {CALLS}7/join/ 404 {duration:.1f}ms user=101"
        " rule=join.not-found request_id=trace-1",
        "method": "POST",
        "path": f"{CALLS}7/join/",
        "status": 404,
        "user": 101,
        "rule": "join.not-found",
        "request_id": "trace-1",
    }


def test_unread_lines_are_dropped_and_counted(
    log: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unread, full = os.pipe()
    os.set_blocking(full, False)
    with os.fdopen(unread, "rb", buffering=0) as reader, os.fdopen(full, "w") as stream:
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(full, b"x" * 4096)
        monkeypatch.setattr(sys, "__stderr__", stream)
        monkeypatch.setattr("video_calls_server.observability.logs.WAITING", 3)
        monkeypatch.setattr("video_calls_server.observability.logs.LAST_WORDS", 0.1)
        log(log_format="json")
        for number in range(10):
            logging.getLogger("video_calls_server").warning("line %d", number)
        received = reader.read(2**20)
        while b"line 0" not in received:
            received += reader.read(2**20)
        logging.getLogger("video_calls_server").warning("the next line")
        while b"the next line" not in received:
            received += reader.read(2**20)
    *kept, lost, _ = lines(received.strip(b"x").decode(), "")
    assert len(kept) + lost["dropped"] == 10
    assert len(kept) < 10


def test_a_field_without_a_value_is_absent(api: Api, log: Callable[..., str]) -> None:
    log(log_format="json")
    assert api.client.get("/healthz").status_code == 200
    (line,) = lines(log(), ".requests")
    assert line.keys() & {"user", "rule"} == set()
    assert line["message"].endswith(f"user=- rule=- request_id={line['request_id']}")


def test_an_event_is_a_line_with_its_fields(api: Api, log: Callable[..., str]) -> None:
    call = api.call()["id"]
    log(log_format="json")
    api.post("doctor", f"{CALLS}{call}/join/", headers={"X-Request-ID": "trace-2"})
    told = lines(log(), ".events")
    assert [line["event"] for line in told] == ["call.started", "participant.joined"]
    assert [line["message"] for line in told] == [
        f"call.started call={call} request_id=trace-2",
        f"participant.joined call={call} doctor uid=101 request_id=trace-2",
    ]
    assert {(line["call"], line["request_id"]) for line in told} == {(call, "trace-2")}
    assert [(line.get("role"), line.get("uid")) for line in told] == [(None, None), ("doctor", 101)]


def test_an_error_keeps_its_traceback_and_its_request_in_one_line(
    api: Api, log: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise LookupError("by chance")

    monkeypatch.setattr(CallService, "authenticate", fail)
    log(log_format="json")
    api.client.get(CALLS, headers=api.headers("doctor") | {"X-Request-ID": "trace-3"})
    (line,) = lines(log(), "")
    assert (line["level"], line["request_id"]) == ("error", "trace-3")
    assert line["exception"].endswith("LookupError: by chance")


def test_text_is_the_default(api: Api, log: Callable[..., str]) -> None:
    log(log_level="info")
    api.get("doctor")
    (line,) = log().splitlines()
    assert f" INFO    GET {CALLS} 200 " in line


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_token_comes_into_the_log(api: Api, log: Callable[..., str], form: str) -> None:
    call = api.call()["id"]
    log(log_format=form, log_level="debug")
    headers = api.headers("doctor")
    agora = api.client.post(f"{CALLS}{call}/join/", headers=headers).json()["token"]
    bearer = headers["Authorization"].partition(" ")[2]
    with api.client.websocket_connect(EVENTS, subprotocols=["bearer", bearer]):
        pass
    api.client.get(CALLS, headers={"Authorization": f"Bearer {bearer}x"})
    text = log()
    assert "participant.joined" in text
    assert bearer not in text
    assert agora not in text


# -- Metrics -----------------------------------------------------------------------------------------


@pytest.fixture
def measured(make_api: Callable[..., Api]) -> Api:
    return make_api(metrics=True)


def samples(text: str) -> dict[tuple[str, str, str, str], float]:
    """The values by name, method, path and status."""
    return {
        (each.name, *(each.labels.get(label, "") for label in ("method", "path", "status_code"))): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


class Counted:
    """How far the metrics of this process have gone since it was made, for they are of all its servers."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._before = self._now()

    def _now(self) -> dict[tuple[str, str, str, str], float]:
        answer = self._api.client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain")
        return samples(answer.text)

    def requests(self) -> dict[tuple[str, str, str], float]:
        own = ("GET", "/metrics", "200")
        return {key[1:]: by for key, by in self._of("video_calls_requests_total").items() if key[1:] != own}

    def by(self, name: str) -> float:
        return sum(self._of(name).values())

    def _of(self, name: str) -> dict[tuple[str, str, str, str], float]:
        now = self._now().items()
        steps = {key: value - self._before.get(key, 0) for key, value in now if key[0] == name}
        return {key: step for key, step in steps.items() if step}


def test_requests_are_counted_by_the_template_of_their_path_and_their_status(measured: Api) -> None:
    call = measured.call()["id"]
    counted = Counted(measured)
    for path in (f"{CALLS}{call}/", f"{CALLS}{call}/", f"{CALLS}77/", CALLS):
        measured.get("doctor", path)
    measured.client.get(CALLS)
    measured.act("doctor", call, "join")
    assert counted.requests() == {
        ("GET", DETAIL, "200"): 2,
        ("GET", DETAIL, "404"): 1,
        ("GET", LIST, "200"): 1,
        ("GET", LIST, "401"): 1,
        ("POST", f"{DETAIL}/join", "200"): 1,
    }


def test_what_no_route_takes_is_counted_without_a_series_for_each(measured: Api) -> None:
    counted = Counted(measured)
    measured.client.get("/wp-admin/1")
    measured.client.get("/wp-admin/2")
    measured.client.request("BREW", "/coffee")
    measured.client.delete(f"{CALLS}7/")
    assert counted.requests() == {
        ("GET", "unmatched", "404"): 2,
        ("OTHER", "unmatched", "404"): 1,
        ("DELETE", "unmatched", "405"): 1,
    }


def test_the_time_of_requests_is_observed(measured: Api) -> None:
    counted = Counted(measured)
    measured.get("doctor")
    assert (
        counted._of("video_calls_request_duration_seconds_count")[
            "video_calls_request_duration_seconds_count", "GET", LIST, "200"
        ]
        == 1
    )
    assert 0 < counted.by("video_calls_request_duration_seconds_sum") < 60


def test_a_request_that_fails_is_counted(measured: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise LookupError

    monkeypatch.setattr(CallService, "authenticate", fail)
    counted = Counted(measured)
    measured.get("doctor")
    assert counted.requests() == {("GET", LIST, "500"): 1}


def test_events_and_their_connections_are_counted(measured: Api) -> None:
    call = measured.call()["id"]
    counted = Counted(measured)
    with measured.client.websocket_connect(EVENTS, headers=measured.headers("doctor")) as session:
        assert counted.by("video_calls_event_connections") == 1
        measured.act("doctor", call, "join")
        session.receive_json(timeout=5)
        session.receive_json(timeout=5)
        assert counted.by("video_calls_events_told_total") == 2
    assert counted.by("video_calls_event_connections") == 0


def test_connections_of_the_pool_that_are_in_use_are_counted(measured: Api, postgres_url: str) -> None:
    counted, in_use = Counted(measured), "video_calls_database_connections_in_use"

    cut = "SELECT pg_terminate_backend(pg_backend_pid())"

    async def use() -> None:
        store = PostgresStore(database_url(postgres_url), load_seed(DEFAULT_SEED), Pool())
        await store.open()
        assert counted.by(in_use) == 0
        assert await store.read(lambda _: counted.by(in_use)) == 1
        with pytest.raises(ZeroDivisionError):
            await store.write(lambda _: 1 / 0)
        assert counted.by(in_use) == 0
        with pytest.raises(UnavailableError):  # and of those that are lost and made anew
            await store.read(lambda connection: connection.exec_driver_sql(cut))
        assert len((await store.people()).people) == 8
        assert counted.by(in_use) == 0
        await store.close()

    anyio.run(use)


def test_metrics_need_no_token_and_are_beside_the_api(measured: Api) -> None:
    assert measured.client.get("/metrics").status_code == 200
    assert measured.client.post("/metrics").status_code == 405
    assert measured.get("doctor", "/api/v1/video/metrics").status_code == 404


def test_there_are_none_by_default(api: Api) -> None:
    assert api.client.get("/metrics").status_code == 404


# -- Spans -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """What takes the spans of this process, which can have but one provider."""
    exporter, provider = InMemorySpanExporter(), trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Callable[[], list[ReadableSpan]]:
    exporter.clear()
    return lambda: list(exporter.get_finished_spans())


@pytest.fixture
def traced(make_api: Callable[..., Api], spans: object) -> Api:  # noqa: ARG001 (before it, none could see them)
    return make_api(otel=True)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_request_is_one_span_named_by_its_operation(
    traced: Api, spans: Callable[[], list[ReadableSpan]]
) -> None:
    traced.post("doctor", f"{CALLS}7/join/", headers={"X-Request-ID": "trace-4"})
    (span,) = spans()
    assert (span.name, span.kind) == ("joinVideoCall", trace.SpanKind.SERVER)
    found = attributes(span)
    assert found["http.route"] == f"{DETAIL}/join"
    assert found["http.status_code"] == 404
    assert found["video_calls.rule"] == "join.not-found"
    assert found["video_calls.request_id"] == "trace-4"


def test_no_name_of_a_span_holds_what_a_client_made_up(
    traced: Api, spans: Callable[[], list[ReadableSpan]]
) -> None:
    traced.client.get("/healthz")
    traced.client.get("/wp-admin/1")
    traced.client.request("BREW", "/coffee")
    assert [span.name for span in spans()] == ["GET /healthz", "GET", "HTTP"]


def test_a_span_continues_the_trace_of_the_caller_and_the_log_names_it(
    traced: Api, spans: Callable[[], list[ReadableSpan]], log: Callable[..., str]
) -> None:
    log(log_format="json", otel=True)
    parent = f"00-{'ab' * 16}-{'cd' * 8}-01"
    traced.client.get(CALLS, headers=traced.headers("doctor") | {"traceparent": parent})
    (span,) = spans()
    (line,) = lines(log(), ".requests")
    assert span.context and span.parent  # noqa: PT018 (both are optional in its types)
    assert trace.format_span_id(span.parent.span_id) == "cd" * 8
    assert (line["trace_id"], line["span_id"]) == ("ab" * 16, trace.format_span_id(span.context.span_id))


def test_no_token_comes_into_a_span(
    make_api: Callable[..., Api], spans: Callable[[], list[ReadableSpan]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for of in ("REQUEST", "RESPONSE"):
        monkeypatch.setenv(f"OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_{of}", ".*")
    api = make_api(otel=True)
    headers = api.headers("doctor") | {"X-Mark": "seen", "Video-Calls-Control-Key": "key-of-the-control-api"}
    token = headers["Authorization"].partition(" ")[2]
    api.client.get(CALLS, headers=headers)
    with api.client.websocket_connect(EVENTS, subprotocols=["bearer", token]):
        pass
    text = str([attributes(span) for span in spans()])
    assert "seen" in text
    assert token not in text
    assert "key-of-the-control-api" not in text


# -- What is installed, and what the environment says ------------------------------------------------

SERVED = """
import sys
{before}
from litestar.testing import TestClient
from video_calls_server import Settings, SettingsError, create_app
from video_calls_server.api.tokens import make_token
settings = Settings(database=":memory:", {options})
try:
    app = create_app(settings)
except SettingsError as error:
    sys.exit(str(error))
with TestClient(app) as client:
    headers = {{"Authorization": "Bearer " + make_token(settings, 101, expires_in=60)}}
    for _ in range({times}):
        client.get("/api/v1/video/video-calls/", headers=headers)
    {after}
"""


def python(
    options: str = "", *, before: str = "", after: str = "", times: int = 1, **env: str
) -> "subprocess.CompletedProcess[str]":
    """A server in a process of its own."""
    code = SERVED.format(options=options, before=before, after=after, times=times)
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


@pytest.mark.parametrize(
    ("setting", "package", "extra"),
    [
        ("metrics", "prometheus_client", "metrics"),
        ("otel", "opentelemetry.sdk", "otel"),
    ],
)
def test_an_extra_that_is_not_installed_is_named(setting: str, package: str, extra: str) -> None:
    done = python(f"{setting}=True", before=f"sys.modules[{package!r}] = None")
    assert done.stderr.strip() == (
        f"{setting}: a package for it is not installed; install video-calls[{extra}]"
    )


def test_what_is_off_is_not_imported() -> None:
    modules = {"prometheus_client", "opentelemetry", "video_calls_server.observability.spans"}
    assert python(after=f"print({modules} & set(sys.modules))").stdout.strip() == "set()"


def test_workers_need_a_directory_for_what_they_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(database="postgresql://localhost/none", workers=2, metrics=True)
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    with pytest.raises(SettingsError, match=r"metrics: each of 2 workers .* set PROMETHEUS_MULTIPROC_DIR"):
        create_app(settings)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="is not a directory"):
        create_app(settings)


def test_the_metrics_of_all_processes_are_told_by_each(tmp_path: Path) -> None:
    shared = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    assert python("metrics=True", times=3, **shared).returncode == 0
    text = python("metrics=True", times=2, after="print(client.get('/metrics').text)", **shared).stdout
    assert samples(text)["video_calls_requests_total", "GET", LIST, "200"] == 5


def test_the_environment_says_where_spans_go() -> None:
    done = python("otel=True", OTEL_TRACES_EXPORTER="console", OTEL_RESOURCE_ATTRIBUTES="service.version=7")
    for value in ('"listVideoCalls"', '"video-calls-server"', '"7"'):
        assert value in done.stdout


def test_an_exporter_that_is_not_installed_is_named() -> None:
    done = python("otel=True", OTEL_TRACES_EXPORTER="smoke-signals")
    assert done.stderr.startswith("otel: ")
    assert "smoke-signals" in done.stderr
