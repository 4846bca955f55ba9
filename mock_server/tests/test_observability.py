"""The log, the metrics for Prometheus, and the spans of requests."""

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families
from video_calls_server import Settings, create_app
from video_calls_server.observability.logs import configure_logging
from video_calls_server.operations import Operations
from video_calls_server.settings import SettingsError

from support.api import CALLS, Api

EVENTS = "/api/v1/video/events/"
LIST, DETAIL = "/api/v1/video/video-calls", "/api/v1/video/video-calls/{id}"


# -- The log -----------------------------------------------------------------------------------------


@pytest.fixture
def log(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Yield a function. With options, it configures the log. Without, it returns what was logged since."""
    root = logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in ("", "uvicorn.error", "httpx", "httpcore")}

    def configure_or_read(**options: Any) -> str:
        if options:
            monkeypatch.setattr(root, "handlers", [])  # pytest adds its handlers before each test
            configure_logging(Settings(**options))
        for handler in root.handlers:
            handler.flush()
        return capfd.readouterr().err

    yield configure_or_read
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def lines(text: str, logger: str) -> list[dict[str, Any]]:
    entries = map(json.loads, text.splitlines())
    return [line for line in entries if line["logger"] == f"video_calls_server{logger}"]


def test_request_is_logged_as_json(api: Api, log: Callable[..., str]) -> None:
    log(log_format="json")
    api.client.get("/healthz")
    api.post("doctor", f"{CALLS}7/join/", headers={"X-Request-ID": "trace-1"})
    anonymous, line = lines(log(), ".requests")
    assert anonymous.keys() & {"user", "rule"} == set()
    assert anonymous["message"].endswith(f"user=- rule=- request_id={anonymous['request_id']}")
    time, duration = line.pop("time"), line.pop("duration_ms")
    assert datetime.fromisoformat(time).utcoffset() == timedelta(0)
    assert duration > 0
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
        monkeypatch.setattr("video_calls_server.observability.logs.QUEUE_SIZE", 3)
        monkeypatch.setattr("video_calls_server.observability.logs.FLUSH_TIMEOUT", 0.1)
        log(log_format="json")
        for number in range(10):
            logging.getLogger("video_calls_server").warning("line %d", number)
        output = reader.read(2**20)
        while b"line 0" not in output:
            output += reader.read(2**20)
        logging.getLogger("video_calls_server").warning("the next line")
        while b"the next line" not in output:
            output += reader.read(2**20)
    *before, warning, _ = lines(output.strip(b"x").decode(), "")
    assert len(before) + warning["dropped"] == 10
    assert len(before) < 10


def test_event_is_logged_as_json(api: Api, log: Callable[..., str]) -> None:
    call = api.call()["id"]
    log(log_format="json")
    api.post("doctor", f"{CALLS}{call}/join/", headers={"X-Request-ID": "trace-2"})
    events = lines(log(), ".events")
    assert [line["event"] for line in events] == ["call.started", "participant.joined"]
    assert events[1]["message"] == f"participant.joined call={call} doctor uid=101 request_id=trace-2"
    assert {(line["call"], line["request_id"]) for line in events} == {(call, "trace-2")}
    assert [(line.get("role"), line.get("uid")) for line in events] == [(None, None), ("doctor", 101)]


def test_traceback_is_logged_in_one_line(
    api: Api, log: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise LookupError("by chance")

    monkeypatch.setattr(Operations, "authenticate", fail)
    log(log_format="json")
    api.client.get(CALLS, headers=api.headers("doctor") | {"X-Request-ID": "trace-3"})
    (line,) = lines(log(), "")
    assert (line["level"], line["request_id"]) == ("error", "trace-3")
    assert line["exception"].endswith("LookupError: by chance")


def test_text_is_default_log_format(api: Api, log: Callable[..., str]) -> None:
    log(log_level="info")
    api.get("doctor")
    (line,) = log().splitlines()
    assert f" INFO    GET {CALLS} 200 " in line


@pytest.mark.parametrize("form", ["text", "json"])
def test_log_contains_no_token(api: Api, log: Callable[..., str], form: str) -> None:
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
def metrics_api(make_api: Callable[..., Api]) -> Api:
    return make_api(metrics=True)


Key = tuple[str, str, str, str]
"""The name of a metric, and its labels `method`, `path` and `status_code`."""


def samples(text: str) -> dict[Key, float]:
    return {
        (each.name, *(each.labels.get(label, "") for label in ("method", "path", "status_code"))): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


def changes_of(api: Api, before: dict[Key, float], name: str) -> dict[tuple[str, str, str], float]:
    """Return the change of a metric since `before`, because the servers of this process share metrics."""
    now = samples(api.client.get("/metrics").text)
    changes = {key[1:]: value - before.get(key, 0) for key, value in now.items() if key[0] == name}
    return {key: step for key, step in changes.items() if step and key[1] != "/metrics"}


def test_requests_are_counted_by_path_template_and_status(
    metrics_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise LookupError

    call = metrics_api.call()["id"]
    before = samples(metrics_api.client.get("/metrics").text)
    for path in (f"{CALLS}{call}/", f"{CALLS}{call}/", f"{CALLS}77/", CALLS):
        metrics_api.get("doctor", path)
    metrics_api.client.get(CALLS)
    metrics_api.act("doctor", call, "join")
    monkeypatch.setattr(Operations, "authenticate", fail)
    metrics_api.get("doctor")
    assert changes_of(metrics_api, before, "video_calls_requests_total") == {
        ("GET", DETAIL, "200"): 2,
        ("GET", DETAIL, "404"): 1,
        ("GET", LIST, "200"): 1,
        ("GET", LIST, "401"): 1,
        ("GET", LIST, "500"): 1,
        ("POST", f"{DETAIL}/join", "200"): 1,
    }
    seconds = changes_of(metrics_api, before, "video_calls_request_duration_seconds_sum")
    assert seconds["GET", DETAIL, "200"] > 0


def test_open_event_connection_counts_as_in_progress(metrics_api: Api) -> None:
    before = samples(metrics_api.client.get("/metrics").text)
    with metrics_api.client.websocket_connect(EVENTS, headers=metrics_api.headers("doctor")):
        in_progress = changes_of(metrics_api, before, "video_calls_requests_in_progress")
        assert in_progress["websocket", EVENTS.rstrip("/"), "200"] == 1
    assert changes_of(metrics_api, before, "video_calls_requests_in_progress") == {}


def test_metrics_are_off_by_default(metrics_api: Api, api: Api) -> None:
    assert metrics_api.client.get("/metrics").headers["content-type"].startswith("text/plain")
    assert api.client.get("/metrics").status_code == 404


# -- Spans -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """Return an exporter of the tracer provider; a process can have only one provider."""
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
def spans_api(make_api: Callable[..., Api], spans: object) -> Api:  # noqa: ARG001 (installs the exporter first)
    return make_api(otel=True)


def test_span_is_named_by_operation(spans_api: Api, spans: Callable[[], list[ReadableSpan]]) -> None:
    spans_api.post("doctor", f"{CALLS}7/join/", headers={"X-Request-ID": "trace-4"})
    spans_api.client.get("/healthz")
    join, health = spans()
    assert (join.name, health.name) == ("joinVideoCall", "GET /healthz")
    assert join.kind == trace.SpanKind.SERVER
    attributes = dict(join.attributes or {})
    assert (attributes["http.route"], attributes["http.status_code"]) == (f"{DETAIL}/join", 404)
    assert attributes["video_calls.request_id"] == "trace-4"


def test_span_continues_trace_of_caller(
    spans_api: Api, spans: Callable[[], list[ReadableSpan]], log: Callable[..., str]
) -> None:
    log(log_format="json", otel=True)
    parent = f"00-{'ab' * 16}-{'cd' * 8}-01"
    spans_api.client.get(CALLS, headers=spans_api.headers("doctor") | {"traceparent": parent})
    (span,) = spans()
    (line,) = lines(log(), ".requests")
    assert span.context and span.parent  # noqa: PT018 (both are optional in its types)
    assert trace.format_span_id(span.parent.span_id) == "cd" * 8
    assert (line["trace_id"], line["span_id"]) == ("ab" * 16, trace.format_span_id(span.context.span_id))


def test_span_contains_no_token(
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
    text = str([dict(span.attributes or {}) for span in spans()])
    assert "seen" in text
    assert token not in text
    assert "key-of-the-control-api" not in text


# -- Extras and the environment ----------------------------------------------------------------------


@pytest.mark.parametrize(("setting", "module"), [("metrics", "metrics"), ("otel", "spans")])
def test_missing_extra_is_reported(monkeypatch: pytest.MonkeyPatch, setting: str, module: str) -> None:
    options: dict[str, Any] = {setting: True}
    monkeypatch.setitem(sys.modules, f"video_calls_server.observability.{module}", None)
    with pytest.raises(SettingsError, match=rf"^{setting}: .* install video-calls\[{setting}\]"):
        create_app(Settings(database=":memory:", **options))


def test_workers_need_directory_for_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(database="postgresql://localhost/none", workers=2, metrics=True)
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    with pytest.raises(SettingsError, match=r"metrics: 2 workers .* set PROMETHEUS_MULTIPROC_DIR"):
        create_app(settings)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="is not a directory"):
        create_app(settings)


def test_spans_are_sent_to_configured_endpoint() -> None:
    requests: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

    program = """
from litestar.testing import TestClient
from video_calls_server import Settings, create_app
with TestClient(create_app(Settings(database=":memory:", otel=True))) as client:
    client.get("/api/v1/video/video-calls/")
"""
    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = threading.Thread(target=collector.handle_request)
        thread.start()
        endpoint = f"http://127.0.0.1:{collector.server_port}"
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_RESOURCE_ATTRIBUTES": "version=seven"}
        subprocess.run([sys.executable, "-c", program], env=os.environ | variables, check=True, timeout=50)
        thread.join(30)
    ((path, body),) = requests
    assert path == "/v1/traces"
    for text in (b"listVideoCalls", b"video-calls-server", b"seven"):
        assert text in body
