"""Spans of requests for OpenTelemetry, by Litestar's plugin. Their names are the contract's operations.

OpenTelemetry's SDK and its exporter read the OTEL_ variables themselves. If the process already has a tracer
provider, such as that of `opentelemetry-instrument`, it receives the spans.
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

from video_calls_server.observability.request_id import current_request_id

_SECRETS = ["authorization", "cookie", "set-cookie", "sec-websocket-protocol", "video-calls-control-key"]
"""Headers with tokens. OTEL_ variables can request that any header is recorded."""

_span_ids: ContextVar[dict[str, str]] = ContextVar("ids_of_span", default={})  # noqa: B039 (never mutated)


def span_middleware(app: ASGIApp) -> ASGIApp:
    """Record a span of each request to an application."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):  # the process has no provider yet
        service = os.environ.get("OTEL_SERVICE_NAME", "video-calls-server")
        provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
    config = OpenTelemetryConfig(
        scope_span_details_extractor=_details,
        server_request_hook_handler=_store_ids,
        exclude_spans=["receive", "send"],  # one span costs a third of three spans
        http_capture_headers_sanitize_fields=_SECRETS,
    )
    return config.middleware(app=app)


def current_ids() -> dict[str, str]:
    """Return the trace id and span id of the request. The access log needs them after the span has ended."""
    return _span_ids.get()


def _store_ids(span: trace.Span, _scope: dict[str, Any]) -> None:
    context = span.get_span_context()
    if context.is_valid:
        trace_id, span_id = trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)
        _span_ids.set({"trace_id": trace_id, "span_id": span_id})


def _details(scope: Scope) -> tuple[str, dict[str, Any]]:
    """Return the name and the attributes of a span. A client cannot influence the name."""
    path, handler = scope["path_template"], scope["route_handler"]
    name = getattr(handler, "operation_id", None) or handler.name or f"{scope.get('method')} {path}"
    return name, {"http.route": path, "video_calls.request_id": current_request_id.get()}
