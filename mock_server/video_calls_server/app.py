"""The application: the API, the pages, and the layers around them, built from the settings."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.plugins import PluginProtocol
from litestar.types import ASGIApp, Receive, Scope, Send

from video_calls_server.api import health, pages
from video_calls_server.api.access_log import AccessLog
from video_calls_server.api.agora_webhook import agora_webhook
from video_calls_server.api.errors import BODY_LIMIT, on_exception
from video_calls_server.api.events import events_router
from video_calls_server.api.jwt import TokenVerifier, key_source
from video_calls_server.api.request_guard import RequestGuard
from video_calls_server.api.routes import API_ROOT, api_router
from video_calls_server.control.access import LOOPBACK_ORIGINS, Access
from video_calls_server.control.console import console_handlers
from video_calls_server.control.dispatch import NamespaceDispatcher
from video_calls_server.control.faults.middleware import HEADER as FAULT_HEADER
from video_calls_server.control.faults.middleware import fault_middleware
from video_calls_server.control.namespaces import Namespaces
from video_calls_server.domain.clock import Clock, SystemClock
from video_calls_server.observability import instruments_of
from video_calls_server.settings import Settings

_EXPOSED = ["X-Request-ID", "Location", "Retry-After", "Idempotency-Replayed", FAULT_HEADER]


class _Application(Litestar):
    """Litestar inside layers that see every request, even if no route matches its path."""

    outermost: ASGIApp
    """The outermost layer; the innermost layer calls `serve`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]
        """Pass a request to the layers, and lifespan messages to Litestar."""
        is_request = scope["type"] in {ScopeType.HTTP, ScopeType.WEBSOCKET}
        await (self.outermost if is_request else self.serve)(scope, receive, send)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to Litestar."""
        await super().__call__(scope, receive, send)

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        # This method is private in Litestar 2.25, which has no public switch for it. Its default plugins
        # import pydantic, which no handler uses and which takes a seventh of the start-up time.
        return plugins


def create_app(settings: Settings, *, clock: Clock | None = None) -> Litestar:
    """Return the reference server as an ASGI application.

    It runs under uvicorn, in a test without a socket, or mounted in another ASGI application. The domain
    rules read `clock`, by default the machine's clock; tokens and JWTs always follow real time.

    Raises:
        SeedError: if the seed file cannot be used.
        SettingsError: if a key cannot be read, or a package of an extra is not installed.
        StoreError: if this server cannot use the database. The server opens the database at start-up or, if
            another application mounts it, at the first request.
    """
    namespaces = Namespaces(settings, clock or SystemClock())

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncGenerator[None]:
        async with namespaces.running():
            yield

    instruments = instruments_of(settings)
    has_control = settings.has_control
    access = Access(settings.control_key)
    api_middleware = [fault_middleware(access)] if has_control else []
    cors = CORSConfig(
        allow_origins=list(settings.cors_origin),
        allow_origin_regex=LOOPBACK_ORIGINS,
        allow_credentials=True,  # browsers require it for `credentials: 'include'`; the API reads no cookies
        allow_headers=["*"],  # frontends add headers of their own, such as for tracing
        expose_headers=_EXPOSED,
        max_age=600,
    )
    app = _Application(
        route_handlers=[
            api_router(api_middleware),
            events_router(API_ROOT, api_middleware),
            *([agora_webhook(settings.agora_ncs_secret)] if settings.agora_ncs_secret else []),
            health.healthz,
            health.readyz,
            pages.openapi_yaml,
            pages.docs,
            *(console_handlers() if has_control else [pages.root]),
            *instruments.pages,
            *pages.static_routers(settings.static),
        ],
        middleware=instruments.middleware,
        state=State({"namespaces": namespaces, "verifier": TokenVerifier(settings, key_source(settings))}),
        cors_config=cors,
        exception_handlers={Exception: on_exception},
        lifespan=[lifespan],
        request_max_body_size=BODY_LIMIT,
        openapi_config=None,  # Litestar must not write one: the contract is openapi.yaml
        logging_config=None,
    )
    layered: ASGIApp = AccessLog(app.serve, allows_origin=cors.is_origin_allowed, default=namespaces.default)
    if has_control:
        # The origins of `--cors-origin` may use the API, but not the control API.
        control_cors = replace(cors, allow_origins=[])

        @cache
        def control() -> Litestar:  # built at its first use: it doubles the start-up time
            from video_calls_server.control.control_api import control_app

            return control_app(settings, namespaces, access, control_cors)

        layered = NamespaceDispatcher(layered, control, namespaces, access, cors)
    app.outermost = RequestGuard(layered, loopback_only=settings.uses_development_secrets)
    return app
