"""What an operator sees of the server: its log, its metrics, and spans of its requests.

The server always writes the log. Metrics and spans need the packages of extras, which are imported only if
the settings ask for them.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from litestar.types import ControllerRouterHandler, Middleware

from video_calls_server.settings import Settings, SettingsError

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the directory in which the processes of one server share their metrics."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What the settings ask for: pages to serve, and middleware of the application."""

    pages: list[ControllerRouterHandler] = field(default_factory=list[ControllerRouterHandler])
    middleware: list[Middleware] = field(default_factory=list[Middleware])


def observation(settings: Settings) -> Observation:
    """Return how an application with these settings is observed.

    Raises:
        SettingsError: if an extra is not installed, or several workers have no directory for their metrics.
    """
    observed = Observation()
    if settings.metrics:
        _check_shared(settings.workers)  # first, because prometheus_client reads it when it is imported
        with _extra("metrics"):
            from video_calls_server.observability.metrics import Metrics, measured
        observed.pages.append(Metrics)
        observed.middleware.append(measured)
    if settings.otel:
        with _extra("otel"):
            from video_calls_server.observability.spans import traced
        observed.middleware.append(traced)
    return observed


def forget_worker(settings: Settings, pid: int) -> None:
    """Remove from the metrics what a worker that has ended had in progress; what it has counted stays."""
    if settings.metrics:
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]


@contextmanager
def _extra(name: str) -> Generator[None]:
    try:
        yield
    except ImportError as error:
        raise SettingsError(
            f"{name}: a package for it is not installed; install video-calls[{name}]"
        ) from error


def _check_shared(workers: int) -> None:
    directory = os.environ.get(SHARED)
    if not directory and workers > 1:
        raise SettingsError(
            f"metrics: each of {workers} workers would count its own requests only; set {SHARED} to an empty "
            "directory, in which they share theirs"
        )
    if directory is not None and not Path(directory).is_dir():
        raise SettingsError(f"metrics: {SHARED}: {directory or 'its value'} is not a directory")
