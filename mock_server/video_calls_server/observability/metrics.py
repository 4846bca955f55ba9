"""Metrics for Prometheus: Litestar's plugin, by the templates of paths and over everything that is served.

The plugin's own middleware counts what a route takes and labels it before; a wrong path would not be counted.
This one stands around the application, and labels a request once its answer is known.
"""

import time
from weakref import WeakSet

from litestar.enums import HttpMethod, ScopeType
from litestar.plugins.prometheus import PrometheusConfig, PrometheusController, PrometheusMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import Counter, Gauge, Histogram
from sqlalchemy import event
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

UNMATCHED = "unmatched"
"""The path of requests that no route takes."""

OTHER = "OTHER"
"""The method of requests whose method is none that a route can have, for each would be a series."""

_METHODS = {*HttpMethod, "OPTIONS"}
_BUCKETS: list[str | float] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]

_CONNECTIONS = Gauge(
    "video_calls_event_connections", "Event connections that are open", multiprocess_mode="livesum"
)
_TOLD = Counter("video_calls_events_told", "Events that were sent to connections")
_POOL = Gauge(
    "video_calls_database_connections_in_use",
    "Connections of the pool to PostgreSQL that are in use",
    multiprocess_mode="livesum",
)


class Metrics(PrometheusController):
    """The page that Prometheus reads."""

    include_in_schema = False


class Measured(PrometheusMiddleware):
    """Counts requests and their time, and what event connections are told."""

    _of: dict[tuple[str, str, int], tuple[Counter, Histogram]]

    def __init__(self, app: ASGIApp, config: PrometheusConfig) -> None:
        super().__init__(app, config)
        self._of = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what is asked, counted."""
        if scope["type"] == ScopeType.WEBSOCKET:
            await self._follow(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def send_measured(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_measured)
        finally:
            path: str = scope.get("path_template", UNMATCHED)
            method = scope["method"]
            key = (method if method in _METHODS else OTHER, path, status)
            count, seconds = self._of.get(key) or self._made(*key)
            count.inc()
            seconds.observe(time.perf_counter() - started)

    def _made(self, method: str, path: str, status: int) -> tuple[Counter, Histogram]:
        labels: dict[str, str | int | float] = {
            "method": method,
            "path": path,
            "status_code": status,
            "app_name": self._config.app_name,
        }
        values = labels.values()
        made = self.request_count(labels).labels(*values), self.request_time(labels).labels(*values)
        self._of[method, path, status] = made
        return made

    async def _follow(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_open = False

        async def send_measured(message: Message) -> None:
            nonlocal is_open
            if message["type"] == "websocket.accept":
                is_open = True
                _CONNECTIONS.inc()
            await send(message)
            if message["type"] == "websocket.send":
                _TOLD.inc()

        try:
            await self.app(scope, receive, send_measured)
        finally:
            if is_open:
                _CONNECTIONS.dec()


def measured(app: ASGIApp) -> ASGIApp:
    """An application that is measured."""
    config = PrometheusConfig(
        app_name="video-calls-server", prefix="video_calls", buckets=_BUCKETS, middleware_class=Measured
    )
    return config.middleware(app=app)


_in_use: WeakSet[ConnectionPoolEntry] = WeakSet()


# The class of which the pools of asynchronous engines are; SQLite has no pool of the kind. A connection that
# was lost and is made anew is told of twice when taken, and one that could not be had when returned.
@event.listens_for(QueuePool, "checkout")
def _taken(_connection: object, record: ConnectionPoolEntry, _proxy: object) -> None:
    if record not in _in_use:
        _in_use.add(record)
        _POOL.inc()


@event.listens_for(QueuePool, "checkin")
def _returned(_connection: object, record: ConnectionPoolEntry) -> None:
    if record in _in_use:
        _in_use.discard(record)
        _POOL.dec()
