"""Logs, metrics and spans, for the operators of a server.

The server always writes the log. Metrics and spans need the packages of extras, which are imported only if
the settings turn them on.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from litestar.types import ControllerRouterHandler, Middleware

from video_calls_server.settings import Settings, SettingsError

METRICS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""The variable with the directory in which the processes of a server share their metrics."""


@dataclass(frozen=True, slots=True)
class Instruments:
    """The pages and the middleware of the metrics and spans that are turned on."""

    pages: list[ControllerRouterHandler] = field(default_factory=list[ControllerRouterHandler])
    middleware: list[Middleware] = field(default_factory=list[Middleware])


def instruments_of(settings: Settings) -> Instruments:
    """Return the instruments that the settings turn on.

    Raises:
        SettingsError: if an extra is not installed, or several workers have no directory for their metrics.
    """
    instruments = Instruments()
    if settings.metrics:
        _check_metrics_directory(settings.workers)  # first, because prometheus_client reads it at import
        with _extra("metrics"):
            from video_calls_server.observability.metrics import MetricsPage, metrics_middleware
        instruments.pages.append(MetricsPage)
        instruments.middleware.append(metrics_middleware)
    if settings.otel:
        with _extra("otel"):
            from video_calls_server.observability.spans import span_middleware
        instruments.middleware.append(span_middleware)
    return instruments


def forget_worker(settings: Settings, pid: int) -> None:
    """Remove a worker that has ended from the number of requests in progress. Its counters stay."""
    if settings.metrics:
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]


@contextmanager
def _extra(name: str) -> Generator[None]:
    try:
        yield
    except ImportError as error:
        raise SettingsError(f"{name}: a package is missing; install video-calls[{name}]") from error


def _check_metrics_directory(workers: int) -> None:
    directory = os.environ.get(METRICS_DIRECTORY)
    if not directory and workers > 1:
        raise SettingsError(
            f"metrics: {workers} workers share their metrics; set {METRICS_DIRECTORY} to an empty directory"
        )
    if directory is not None and not Path(directory).is_dir():
        raise SettingsError(f"metrics: {METRICS_DIRECTORY}: {directory or 'its value'} is not a directory")
