"""Metrics for Prometheus, by Litestar's plugin. Requests are grouped by path template."""

from litestar.plugins.prometheus import PrometheusConfig, PrometheusController
from litestar.types import ASGIApp

_BUCKETS: list[str | float] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]
_CONFIG = PrometheusConfig(
    app_name="video-calls-server", prefix="video_calls", group_path=True, buckets=_BUCKETS
)


class MetricsPage(PrometheusController):
    """The page that Prometheus reads."""

    include_in_schema = False


def metrics_middleware(app: ASGIApp) -> ASGIApp:
    """Count the requests to an application and measure their duration."""
    return _CONFIG.middleware(app=app)
