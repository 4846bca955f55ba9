"""Metrics for Prometheus: Litestar's plugin, by the templates of paths."""

from litestar.plugins.prometheus import PrometheusConfig, PrometheusController
from litestar.types import ASGIApp

_BUCKETS: list[str | float] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]
_CONFIG = PrometheusConfig(
    app_name="video-calls-server", prefix="video_calls", group_path=True, buckets=_BUCKETS
)


class Metrics(PrometheusController):
    """The page that Prometheus reads."""

    include_in_schema = False


def measured(app: ASGIApp) -> ASGIApp:
    """Count the requests to an application, and observe their time."""
    return _CONFIG.middleware(app=app)
