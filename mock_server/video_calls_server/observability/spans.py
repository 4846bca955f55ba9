"""Spans of requests for OpenTelemetry: Litestar's plugin, named by the operations of the contract.

Where they go, how many of them, and as whose is what the standard OTEL_ variables say. An application that
runs this one within its own, and has set a tracer provider, keeps that.
"""

import os
from importlib.metadata import entry_points
from typing import Any

from litestar.enums import HttpMethod, ScopeType
from litestar.plugins.opentelemetry import OpenTelemetryConfig
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.semconv.attributes.http_attributes import HTTP_ROUTE

from video_calls_server import tracing
from video_calls_server.settings import SettingsError

_OTLP = "otlp_proto_http"
_SECRETS = ["authorization", "cookie", "set-cookie", "sec-websocket-protocol", "video-calls-control-key"]
"""Headers that hold tokens; OTEL_ variables may ask for any to be recorded."""

_BEGINNINGS = {"http.response.start", "websocket.accept", "websocket.close"}
_METHODS = {*HttpMethod, "OPTIONS"}


def traced(app: ASGIApp) -> ASGIApp:
    """An application of whose requests there are spans.

    Raises:
        SettingsError: the variables ask for what is not installed.
    """
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):  # nobody has set one
        _configure()
    config = OpenTelemetryConfig(
        scope_span_details_extractor=_first_details,
        exclude_spans=["receive", "send"],  # one span a request says enough, at a third of the cost
        http_capture_headers_sanitize_fields=_SECRETS,
    )
    return config.middleware(app=_named(app))


def current_ids() -> dict[str, str]:
    """The ids of the span that is being recorded, for the log."""
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(span.trace_id), "span_id": trace.format_span_id(span.span_id)}


def _configure() -> None:
    """Have spans go where the environment says; the SDK itself reads the rest of it."""
    if "service.name" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        os.environ.setdefault("OTEL_SERVICE_NAME", "video-calls-server")
    provider = TracerProvider()
    for name in os.environ.get("OTEL_TRACES_EXPORTER", "otlp").split(","):
        if name.strip() not in {"", "none"}:
            provider.add_span_processor(BatchSpanProcessor(_exporter(name.strip())))
    trace.set_tracer_provider(provider)


def _exporter(name: str) -> SpanExporter:
    # OTLP is spoken over HTTP: its exporter for that comes with the extra.
    found = entry_points(group="opentelemetry_traces_exporter", name=_OTLP if name == "otlp" else name)
    if not found:
        raise SettingsError(f"otel: OTEL_TRACES_EXPORTER: there is no exporter {name}; install its package")
    exporter: SpanExporter = next(iter(found)).load()()
    return exporter


def _first_details(scope: Scope) -> tuple[str, dict[str, Any]]:
    """What is known before a route is found; a path would make a name of each call's id."""
    if scope["type"] != ScopeType.HTTP:
        return "WEBSOCKET", {}
    return (scope["method"] if scope["method"] in _METHODS else "HTTP"), {}


def _named(app: ASGIApp) -> ASGIApp:
    """Name the span when the answer begins: by then the route is known, and with its end the span ends."""

    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        span = trace.get_current_span()

        async def send_named(message: Message) -> None:
            if message["type"] in _BEGINNINGS:
                _describe(span, scope)
            await send(message)

        await app(scope, receive, send_named if span.is_recording() else send)

    return named


def _describe(span: trace.Span, scope: Scope) -> None:
    if "path_template" in scope:
        path, handler = scope["path_template"], scope["route_handler"]
        operation: object = getattr(handler, "operation_id", None) or handler.name
        span.update_name(operation if isinstance(operation, str) else f"{scope.get('method')} {path}")
        span.set_attribute(HTTP_ROUTE, path)
    rule: str | None = scope["state"].get("rule")
    if rule is not None:
        span.set_attribute("video_calls.rule", rule)
    if scope["type"] == ScopeType.HTTP:
        span.set_attribute("video_calls.request_id", tracing.request_id.get())
