"""The application: the API, the pages beside it and what they share, put together from the settings."""

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

from video_calls_server.api import pages
from video_calls_server.api.errors import BODY_LIMIT, on_exception
from video_calls_server.api.events import events_router
from video_calls_server.api.gate import Gate
from video_calls_server.api.jwt import TokenVerifier, key_source
from video_calls_server.api.middleware import Tracing
from video_calls_server.api.notifications import notifications_router
from video_calls_server.api.routes import API_ROOT, api_router
from video_calls_server.control.access import LOOPBACK_ORIGINS, Access
from video_calls_server.control.faults.middleware import HEADER as FAULT_HEADER
from video_calls_server.control.faults.middleware import faulty
from video_calls_server.control.layer import ControlLayer
from video_calls_server.domain.clock import Clock, SystemClock
from video_calls_server.namespaces import Namespaces
from video_calls_server.observability import observation
from video_calls_server.settings import Settings

_EXPOSED = ["X-Request-ID", "Location", "Retry-After", "Idempotency-Replayed", FAULT_HEADER]


class _Application(Litestar):
    """Litestar within layers that see every request, also one to a path that no route takes."""

    outermost: ASGIApp
    """The outermost layer; the innermost serves with `serve`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]
        """Serve a request through the layers; start and stop without them."""
        is_request = scope["type"] in {ScopeType.HTTP, ScopeType.WEBSOCKET}
        await (self.outermost if is_request else self.serve)(scope, receive, send)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve without the layers."""
        await super().__call__(scope, receive, send)

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        # Private in Litestar 2.25, which has no public switch: its own plugins import pydantic, which no
        # handler here uses, and which takes a seventh of the start-up.
        return plugins


def create_app(settings: Settings, *, clock: Clock | None = None) -> Litestar:
    """Return the reference server as an ASGI application.

    It runs under uvicorn, in a test without a socket, or mounted in another ASGI application. `clock` is
    what the domain rules read, by default the machine's; tokens and JWTs follow real time in any case.

    Raises:
        SeedError: if the seed file cannot be used.
        SettingsError: if a key cannot be read, or an extra is needed and not installed.
        StoreError: if this server cannot use the database. (It is opened at start-up or, if another
            application has mounted this one, with the first request.)
    """
    namespaces = Namespaces(settings, clock or SystemClock())

    @asynccontextmanager
    async def running(_app: Litestar) -> AsyncGenerator[None]:
        async with namespaces.running():
            yield

    observed = observation(settings)
    has_control = settings.has_control
    access = Access(settings.control_key)
    api_middleware = [faulty(access)] if has_control else []
    cors = CORSConfig(
        allow_origins=list(settings.cors_origin),
        allow_origin_regex=LOOPBACK_ORIGINS,
        allow_credentials=True,  # browsers need it for `credentials: 'include'`; the API reads no cookies
        allow_headers=["*"],  # frontends bring their own, for tracing and the like
        expose_headers=_EXPOSED,
        max_age=600,
    )
    app = _Application(
        route_handlers=[
            api_router(api_middleware),
            events_router(API_ROOT, api_middleware),
            *([notifications_router(settings.agora_ncs_secret)] if settings.agora_ncs_secret else []),
            pages.healthz,
            pages.readyz,
            pages.openapi_yaml,
            pages.docs,
            *(pages.console_handlers() if has_control else [pages.root]),
            *observed.pages,
            *pages.static_routers(settings.static),
        ],
        middleware=observed.middleware,
        state=State(
            {
                "namespaces": namespaces,
                "verifier": TokenVerifier(settings, key_source(settings)),
            }
        ),
        cors_config=cors,
        exception_handlers={Exception: on_exception},
        lifespan=[running],
        request_max_body_size=BODY_LIMIT,
        openapi_config=None,  # the contract is openapi.yaml, and nothing is derived from the handlers
        logging_config=None,
    )
    layered: ASGIApp = Tracing(app.serve, allows_origin=cors.is_origin_allowed, default=namespaces.default)
    if has_control:
        # `--cors-origin` opens the API to a page, and nothing of control.
        control_cors = replace(cors, allow_origins=[])

        @cache
        def control() -> Litestar:  # made when it is first used, because making it takes as long as starting
            from video_calls_server.control.app import control_app

            return control_app(settings, namespaces, access, control_cors)

        layered = ControlLayer(layered, control, namespaces, access, cors)
    app.outermost = Gate(layered, loopback_only=settings.uses_development_secrets)
    return app
