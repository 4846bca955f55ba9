"""The application: the API, the pages beside it and what they share, put together from the settings."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.types import ASGIApp

from video_calls_server import pages
from video_calls_server.api.errors import BODY_LIMIT, on_exception
from video_calls_server.api.events import events_router
from video_calls_server.api.gate import Gate
from video_calls_server.api.middleware import Tracing
from video_calls_server.api.notifications import notifications_router
from video_calls_server.api.routes import API_ROOT, api_router
from video_calls_server.api.tokens import TokenVerifier, key_source
from video_calls_server.application import Application
from video_calls_server.clock import Clock, SystemClock
from video_calls_server.control.access import LOOPBACK_ORIGINS, Access
from video_calls_server.control.faulty import HEADER as FAULT_HEADER
from video_calls_server.control.faulty import faulty
from video_calls_server.control.layer import ControlLayer
from video_calls_server.namespaces import Namespaces
from video_calls_server.observability import observation
from video_calls_server.settings import Settings

_EXPOSED = ["X-Request-ID", "Location", "Retry-After", "Idempotency-Replayed", FAULT_HEADER]


def _nothing(app: ASGIApp) -> ASGIApp:
    return app


def create_app(settings: Settings, *, clock: Clock | None = None) -> Litestar:
    """The reference server as an ASGI application.

    Runs under uvicorn, in a test without a socket, or mounted in another ASGI application. `clock` is
    what the domain rules read, by default the machine's; tokens and JWTs follow real time in any case.

    Raises:
        SeedError: the seed file cannot be used.
        SettingsError: a key cannot be read, or an extra that is asked for is not installed.
        StoreError: the database is none that this server can use. (It is opened at start-up, or with
            the first request where another application has mounted this one.)
    """
    namespaces = Namespaces(settings, clock or SystemClock())

    @asynccontextmanager
    async def running(_app: Litestar) -> AsyncGenerator[None]:
        async with namespaces.running():
            yield

    observed = observation(settings)
    has_control = settings.has_control
    access = Access(settings.control_key)
    outside = faulty(access) if has_control else _nothing
    cors = CORSConfig(
        allow_origins=list(settings.cors_origin),
        allow_origin_regex=LOOPBACK_ORIGINS,
        allow_credentials=True,  # browsers need it for `credentials: 'include'`; the API reads no cookies
        allow_headers=["*"],  # frontends bring their own, for tracing and the like
        expose_headers=_EXPOSED,
        max_age=600,
    )
    app = Application(
        route_handlers=[
            api_router(outside),
            events_router(API_ROOT, outside),
            *([notifications_router(settings.agora_ncs_secret)] if settings.agora_ncs_secret else []),
            pages.healthz,
            pages.readyz,
            pages.openapi_yaml,
            pages.docs,
            *(pages.console_handlers() if has_control else [pages.root]),
            *observed.pages,
            *pages.static_routers(settings.static),
        ],
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
    behind_cors = app.asgi_handler
    traced = Tracing(
        allows_origin=cors.is_origin_allowed,
        cross_origin=behind_cors,
        same_origin=getattr(behind_cors, "app", behind_cors),
        default=namespaces.default,
    )
    app.asgi_handler = observed.around(traced)
    if has_control:
        # `--cors-origin` opens the API to a page, and nothing of control.
        control_cors = replace(cors, allow_origins=[])

        @cache
        def control() -> Litestar:  # made when it is first used, for making it takes as long as starting does
            from video_calls_server.control.app import control_app

            return control_app(settings, namespaces, access, control_cors)

        app.asgi_handler = ControlLayer(app.asgi_handler, control, namespaces, access, cors)
    app.asgi_handler = Gate(app.asgi_handler, loopback_only=settings.uses_development_secrets)
    return app
