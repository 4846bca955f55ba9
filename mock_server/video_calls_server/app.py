"""The application: the API, the pages beside it and what they share, put together from the settings."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.plugins import PluginProtocol

from video_calls_server import pages
from video_calls_server.api.errors import BODY_LIMIT, on_exception
from video_calls_server.api.events import events_router
from video_calls_server.api.middleware import Tracing
from video_calls_server.api.notifications import notifications_router
from video_calls_server.api.routes import API_ROOT, api_router
from video_calls_server.api.tokens import TokenVerifier, key_source
from video_calls_server.clock import Clock, SystemClock
from video_calls_server.empty_calls import EmptyCalls
from video_calls_server.events.hub import Hub
from video_calls_server.seed import DEFAULT_SEED, load_seed
from video_calls_server.service import CallService
from video_calls_server.settings import Settings
from video_calls_server.store import Store

_LOOPBACK_ORIGINS = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"
_EXPOSED = ["X-Request-ID", "Location", "Retry-After", "Idempotency-Replayed"]


class _Application(Litestar):
    """Litestar without the plugins that it adds by itself, for pydantic and attrs.

    No handler here uses them, and importing them took a fifth of the start-up. (A test notices should
    Litestar come to add them elsewhere.)
    """

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        return plugins


def create_app(settings: Settings, *, clock: Clock | None = None) -> Litestar:
    """The reference server as an ASGI application.

    Runs under uvicorn, in a test without a socket, or mounted in another ASGI application. `clock` is
    what the domain rules read, by default the machine's; tokens and JWTs follow real time in any case.

    Raises:
        SeedError: the seed file cannot be used.
        SettingsError: a key cannot be read.
        StoreError: the database is none that this server can use. (It is opened at start-up, or with
            the first request where another application has mounted this one.)
    """
    hub = Hub()
    store = Store(settings.database, load_seed(settings.seed or DEFAULT_SEED))
    clock = clock or SystemClock()
    service = CallService(settings, store, clock, hub)
    empty_calls = EmptyCalls(service, clock, timedelta(minutes=settings.end_when_empty_minutes))

    @asynccontextmanager
    async def ending_empty_calls(_app: Litestar) -> AsyncGenerator[None]:
        store.open()
        async with empty_calls.watched():
            yield

    cors = CORSConfig(
        allow_origins=list(settings.cors_origin),
        allow_origin_regex=_LOOPBACK_ORIGINS,
        allow_headers=["*"],  # frontends bring their own, for tracing and the like
        expose_headers=_EXPOSED,
        max_age=600,
    )
    app = _Application(
        route_handlers=[
            api_router(),
            events_router(API_ROOT),
            *([notifications_router(settings.agora_ncs_secret)] if settings.agora_ncs_secret else []),
            pages.healthz,
            pages.openapi_yaml,
            pages.root,
            pages.docs,
            *pages.static_routers(settings.static),
        ],
        state=State(
            {
                "store": store,
                "service": service,
                "hub": hub,
                "verifier": TokenVerifier(settings, key_source(settings)),
            }
        ),
        cors_config=cors,
        exception_handlers={Exception: on_exception},
        lifespan=[ending_empty_calls] if settings.end_when_empty_minutes else [],
        on_startup=[store.open],
        on_shutdown=[store.close],
        request_max_body_size=BODY_LIMIT,
        openapi_config=None,  # the contract is openapi.yaml, and nothing is derived from the handlers
        logging_config=None,
    )
    behind_cors = app.asgi_handler
    app.asgi_handler = Tracing(
        allows_origin=cors.is_origin_allowed,
        cross_origin=behind_cors,
        same_origin=getattr(behind_cors, "app", behind_cors),
    )
    return app
