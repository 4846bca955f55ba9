"""Spans of requests for OpenTelemetry: Litestar's plugin, named by the operations of the contract.

OpenTelemetry's SDK and its exporter read the OTEL_ variables themselves. If the process has a tracer provider
already, such as that of `opentelemetry-instrument`, spans go there.
"""

import os
from contextvars import ContextVar
from typing import Any

from litestar.plugins.opentelemetry import OpenTelemetryConfig
from litestar.types import ASGIApp, Scope
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from video_calls_server.observability import request_id

_SECRETS = ["authorization", "cookie", "set-cookie", "sec-websocket-protocol", "video-calls-control-key"]
"""Headers that hold tokens; OTEL_ variables may ask for any to be recorded."""

_ids: ContextVar[dict[str, str]] = ContextVar("ids_of_span", default={})  # noqa: B039 (it is never changed)


def traced(app: ASGIApp) -> ASGIApp:
    """Record a span of each request to an application."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):  # the process has set none
        service = os.environ.get("OTEL_SERVICE_NAME", "video-calls-server")
        provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
    config = OpenTelemetryConfig(
        scope_span_details_extractor=_details,
        server_request_hook_handler=_note_ids,
        exclude_spans=["receive", "send"],  # one span a request says enough, at a third of the cost
        http_capture_headers_sanitize_fields=_SECRETS,
    )
    return config.middleware(app=app)


def current_ids() -> dict[str, str]:
    """Return the ids of the request's span, for the log; a request's own line comes after its span."""
    return _ids.get()


def _note_ids(span: trace.Span, _scope: dict[str, Any]) -> None:
    found = span.get_span_context()
    if found.is_valid:
        trace_id, span_id = trace.format_trace_id(found.trace_id), trace.format_span_id(found.span_id)
        _ids.set({"trace_id": trace_id, "span_id": span_id})


def _details(scope: Scope) -> tuple[str, dict[str, Any]]:
    """Return a span's name, which holds nothing that a client chooses, and attributes."""
    path, handler = scope["path_template"], scope["route_handler"]
    name = getattr(handler, "operation_id", None) or handler.name or f"{scope.get('method')} {path}"
    return name, {"http.route": path, "video_calls.request_id": request_id.request_id.get()}
