"""The clients with OpenTelemetry's httpx instrumentation: each attempt is a span, without the token."""

from collections.abc import Iterator

import pytest
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from video_calls_sdk import Retries, VideoCallsClient

# Nothing listens on port 9 of loopback; a refused connection is traced too.
BASE = "http://127.0.0.1:9/api/v1/video"
TOKEN = "a.secret.token"
ONCE_MORE = Retries(attempts=1, first_wait=0.0)


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = HTTPXClientInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    yield exporter
    instrumentor.uninstrument()
    provider.shutdown()


def test_each_attempt_is_a_span(spans: InMemorySpanExporter) -> None:
    with (
        VideoCallsClient(BASE, TOKEN, retries=ONCE_MORE) as client,
        pytest.raises(Exception, match="refused"),
    ):
        client.calls.get(1)
    assert [span.name for span in spans.get_finished_spans()] == ["GET", "GET"]
    assert TOKEN not in str([dict(span.attributes or {}) for span in spans.get_finished_spans()])
