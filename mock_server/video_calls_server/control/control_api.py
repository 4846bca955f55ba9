"""The control API. It is a separate application, because the API has exactly the contract's operations."""

from importlib.metadata import version
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Request, Response, Router, get
from litestar.config.cors import CORSConfig
from litestar.di import Provide
from litestar.exceptions import ValidationException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from video_calls_server._structs import Error
from video_calls_server.api.errors import BODY_LIMIT, on_exception
from video_calls_server.api.pages import DOCS, docs_page, forbid_framing
from video_calls_server.control.access import KEY_HEADER, Access, access_middleware
from video_calls_server.control.dispatch import CONTROL
from video_calls_server.control.namespaces import Namespace, Namespaces, namespace_of
from video_calls_server.control.refusals import (
    ControlRefusal,
    on_refusal,
    on_validation,
    refuse_with,
)
from video_calls_server.control.routes.calls import calls_router
from video_calls_server.control.routes.clock import clock_router
from video_calls_server.control.routes.faults import faults_router
from video_calls_server.control.routes.identities import identities_router
from video_calls_server.control.routes.requests import requests_router
from video_calls_server.control.routes.server import server_router
from video_calls_server.control.routes.state import state_router
from video_calls_server.settings import Settings

_DESCRIPTION = """Control of the reference server: users and tokens, clock, faults, state, requests.

Each operation concerns one namespace. The header `Video-Calls-Namespace` or the path's prefix `/_ns/NAME`
chooses it; otherwise it is the default namespace."""

_KEY = SecurityScheme(type="apiKey", name=KEY_HEADER, security_scheme_in="header")

_CONTROL_DOCS = f"{CONTROL}{DOCS}"
_OPENAPI_JSON = f"{CONTROL}/openapi.json"


class _DocsPage(OpenAPIRenderPlugin):
    """Renders the docs page of the control API, from the same template as the API's docs page."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        root: str = request.scope.get("root_path", "")
        title: str = openapi_schema["info"]["title"]
        page = docs_page(title, description=f"{root}{_OPENAPI_JSON}", assets=f"{root}{DOCS}/assets")
        return page.encode()


@get(_OPENAPI_JSON, include_in_schema=False, sync_to_thread=False)
def _description(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Return the description of the control API. This needs no control key."""
    # `root` is the path of the namespace. As the server's URL, it makes the docs page call that namespace.
    root: str = request.scope.get("root_path", "")
    description = _with_errors(request.app.openapi_schema.to_schema()) | {"servers": [{"url": root or "/"}]}
    return Response(msgspec.json.encode(description), media_type=MediaType.JSON)


def _with_errors(description: dict[str, Any]) -> dict[str, Any]:
    """Return the OpenAPI description, with our error responses instead of Litestar's default ones."""
    (error,), schemas = msgspec.json.schema_components([Error], ref_template="#/components/schemas/{name}")
    description["components"]["schemas"] |= schemas
    for operations in description["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("400", None)
            content = {MediaType.JSON.value: {"schema": error}}
            operation["responses"]["default"] = {"description": "The request is refused.", "content": content}
    return description


def control_app(settings: Settings, namespaces: Namespaces, access: Access, cors: CORSConfig) -> Litestar:
    """Return the control API under its prefix, with its description and its docs page."""
    router = Router(
        CONTROL,
        route_handlers=[
            server_router(settings, namespaces),
            identities_router(settings),
            clock_router(),
            faults_router(),
            state_router(),
            calls_router(),
            requests_router(),
        ],
        middleware=[access_middleware(access)],
    )
    return Litestar(
        route_handlers=[router, _description],
        dependencies={"namespace": Provide(_namespace, sync_to_thread=False)},
        exception_handlers={
            ControlRefusal: on_refusal,
            ValidationException: on_validation,
            RequestEntityTooLarge: refuse_with(
                413, "errors.body-size", "The request body is larger than this operation accepts"
            ),
            RecursionError: refuse_with(400, "bad_request", "JSON is nested too deeply"),
            UnicodeDecodeError: refuse_with(400, "bad_request", "The request is not valid UTF-8"),
            Exception: on_exception,
        },
        middleware=[forbid_framing],
        cors_config=cors,
        openapi_config=OpenAPIConfig(
            title="Video Calls: control of the reference server",
            version=version("video-calls"),
            description=_DESCRIPTION,
            components=Components(security_schemes={"control_key": _KEY}),
            security=[{"control_key": []}] if settings.control_key is not None else None,
            path=_CONTROL_DOCS,
            render_plugins=[_DocsPage(path="/")],
        ),
        request_max_body_size=BODY_LIMIT,
        logging_config=None,
    )


def _namespace(request: Request[Any, Any, Any]) -> Namespace:
    return namespace_of(request.scope)
