"""What an operator sees of the server: its log, its metrics, and spans of its requests.

The log is always written. Metrics and spans need the packages of extras, which are imported where the
settings ask for them, and else cost nothing: no layer, no import.
"""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from litestar.types import ASGIApp, ControllerRouterHandler

from video_calls_server.settings import Settings, SettingsError

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the directory in which the processes of one server share their metrics."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What the settings ask for: pages to serve, and layers around the application, the inner ones first."""

    pages: list[ControllerRouterHandler] = field(default_factory=list[ControllerRouterHandler])
    layers: list[Callable[[ASGIApp], ASGIApp]] = field(default_factory=list[Callable[[ASGIApp], ASGIApp]])

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application within the layers."""
        for layer in self.layers:
            app = layer(app)
        return app


def observation(settings: Settings) -> Observation:
    """How an application with these settings is observed.

    Raises:
        SettingsError: an extra is not installed, or what it needs of the environment is missing.
    """
    observed = Observation()
    if settings.metrics:
        _check_shared(settings.workers)  # first, for prometheus_client looks at it when it is imported
        with _extra("metrics"):
            from video_calls_server.observability.metrics import Metrics, measured
        observed.pages.append(Metrics)
        observed.layers.append(measured)
    if settings.otel:
        with _extra("otel"):
            from video_calls_server.observability.spans import traced
        observed.layers.append(traced)
    return observed


@contextmanager
def shared_metrics(settings: Settings) -> Generator[Callable[[int], None]]:
    """Have the workers that are started meanwhile share their metrics; what it gives is told who has ended.

    They share them in the directory that the environment names, or in one that is gone in the end.
    """
    if not settings.metrics or settings.workers == 1:
        yield lambda _: None
        return
    # An empty name, which prometheus_client would take for the working directory, names none.
    made = nullcontext() if os.environ.get(SHARED) else TemporaryDirectory(prefix="video-calls-metrics-")
    with made as directory:
        if directory is not None:
            os.environ[SHARED] = directory
        try:
            yield _forget_ended
        finally:
            if directory is not None:
                del os.environ[SHARED]


def _forget_ended(pid: int) -> None:
    from prometheus_client import multiprocess

    forget: Any = multiprocess.mark_process_dead  # pyright: ignore[reportUnknownVariableType]
    forget(pid)  # what it had open is no longer; what it had counted still counts


@contextmanager
def _extra(name: str) -> Generator[None]:
    try:
        yield
    except ImportError as error:
        raise SettingsError(
            f"{name}: a package for it is not installed; install video-calls[{name}]"
        ) from error


def _check_shared(workers: int) -> None:
    directory = os.environ.get(SHARED) or None
    if workers > 1 and directory is None:
        raise SettingsError(
            f"metrics: each of {workers} workers would tell of its own requests alone; set {SHARED} to an "
            "empty directory, in which they share theirs"
        )
    if directory is not None and not Path(directory).is_dir():
        raise SettingsError(f"metrics: {SHARED}: {directory} is not a directory")
