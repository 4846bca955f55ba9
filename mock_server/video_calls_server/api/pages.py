"""What the server shows beside the API: its health, the contract, and the docs page, without internet.

Swagger UI comes from the package `swagger-ui-py`, which carries its files; no browser asks elsewhere.
"""

from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from string import Template
from typing import Any

import anyio
from litestar import MediaType, Request, Response, get
from litestar.datastructures import CacheControlHeader
from litestar.exceptions import NotFoundException
from litestar.file_system import BaseLocalFileSystem
from litestar.handlers import HTTPRouteHandler
from litestar.response import Redirect
from litestar.router import Router
from litestar.static_files import create_static_files_router  # pyright: ignore[reportUnknownVariableType]
from litestar.types import ASGIApp, ControllerRouterHandler, Message, Receive, Scope, Send
from litestar.types.file_types import FileInfo
from sqlalchemy import text
from video_calls_spec import openapi_path

from video_calls_server.namespaces import namespace_of
from video_calls_server.store import UnavailableError
from video_calls_server.store.statement import Statement

CONSOLE = "/_console"
DOCS = "/docs"
FRONTEND = "/app"
LONGEST_PATH = 1000  # characters
LONGEST_ANSWER = 2.0  # seconds: what asks whether a server is ready waits no longer than a few

_UNFRAMED = (b"content-security-policy", b"frame-ancestors 'none'")
_UNCACHED = CacheControlHeader(no_cache=True)

_DOCS_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="$assets/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="$assets/swagger-ui-bundle.js"></script>
<script>
SwaggerUIBundle({
  url: "$description", dom_id: "#docs", deepLinking: true, persistAuthorization: true, validatorUrl: null
});
</script>
</body>
</html>
""")


@get("/healthz", sync_to_thread=False)
def healthz() -> dict[str, str]:
    """Whether the server is up."""
    return {"status": "ok"}


def unframed(app: ASGIApp) -> ASGIApp:
    """Return a middleware that forbids other pages to show this one in a frame."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_unframed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], _UNFRAMED]
            await send(message)

        await app(scope, receive, send_unframed)

    return middleware


_ANSWERS = Statement(text("SELECT 1"))


@get("/readyz")
async def readyz(request: Request[Any, Any, Any]) -> dict[str, str]:
    """Whether the server can serve: its database answers, and soon enough."""
    try:
        with anyio.fail_after(LONGEST_ANSWER):
            await namespace_of(request.scope).store.read(_ANSWERS.row)
    except TimeoutError as error:
        raise UnavailableError(f"the database did not answer within {LONGEST_ANSWER:g} seconds") from error
    return {"status": "ready"}


@get("/openapi.yaml", sync_to_thread=False, cache_control=_UNCACHED)
def openapi_yaml() -> Response[bytes]:
    """The contract, the very file."""
    return Response(openapi_path().read_bytes(), media_type="application/yaml")


@get("/", sync_to_thread=False)
def root() -> Redirect:
    """Lead a person who opens the server in a browser to the docs."""
    return Redirect(DOCS.lstrip("/") + "/", status_code=307)


_CONSOLE = Path(__file__).parents[1] / "console"
_CONSOLE_POLICY = (
    "default-src 'self'; connect-src 'self' ws: wss:; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
# The page that connects with Agora takes their SDK from a file of the developer's and talks to their servers.
_MEETING_POLICY = (
    "default-src 'self'; script-src 'self' blob: 'wasm-unsafe-eval'; connect-src *; media-src * blob:; "
    "worker-src blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)


def console_handlers() -> list[ControllerRouterHandler]:
    """The console: its page at the root, and what that page loads."""

    def page(path: str, name: str, policy: str) -> HTTPRouteHandler:
        @get(path, media_type=MediaType.HTML, sync_to_thread=False, response_headers=_page_headers(policy))
        def console_page() -> bytes:
            """A page of the console."""
            return (_CONSOLE / name).read_bytes()

        return console_page

    files = create_static_files_router(
        CONSOLE,
        [_CONSOLE],
        name="console",
        before_request=ordinary_path,
        cache_control=_UNCACHED,
        middleware=[unframed],
    )
    return [
        page("/", "index.html", _CONSOLE_POLICY),
        page(f"{CONSOLE}/meeting.html", "meeting.html", _MEETING_POLICY),
        files,
    ]


def _page_headers(policy: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }


def ordinary_path(request: Request[Any, Any, Any]) -> Redirect | None:
    """Lead from `/docs` to `/docs/`, for a page's relative links start from its last slash.

    What cannot be the name of a file, or is hidden, is not found.
    """
    asked = request.scope["path"]
    if "\0" in asked or "/." in asked or len(asked) > LONGEST_PATH:
        raise NotFoundException
    path = (request.scope.get("raw_path") or b"").partition(b"?")[0].decode("latin-1")
    name = path.rpartition("/")[2]
    return Redirect(f"{name}/", status_code=307) if f"/{name}" in {DOCS, FRONTEND} else None


@get(
    DOCS, media_type=MediaType.HTML, sync_to_thread=False, before_request=ordinary_path, middleware=[unframed]
)
def docs() -> str:
    """The API's documentation, to read and to try."""
    return docs_page("Video Calls API", description="../openapi.yaml", assets="assets")


def docs_page(title: str, *, description: str, assets: str) -> str:
    """Swagger UI for the description at this URL; `assets` is where its files are."""
    return _DOCS_PAGE.substitute(title=title, description=description, assets=assets)


class _Within(BaseLocalFileSystem):
    """The files of a directory; a symbolic link out of it leads to none."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()

    async def info(self, path: str | PathLike[str], **options: Any) -> FileInfo:  # noqa: ANN401 (as Litestar)
        """Return what is known about a file.

        Raises:
            FileNotFoundError: if it lies outside the directory.
        """
        resolved = await anyio.Path(path).resolve()
        if not resolved.is_relative_to(self._directory):
            raise FileNotFoundError(path)
        return await super().info(resolved, **options)


def static_routers(frontend: Path | None) -> list[Router]:
    """The files of Swagger UI and, where one is configured, a frontend of the developer's own."""
    routers = [
        create_static_files_router(
            f"{DOCS}/assets",
            [_swagger_ui()],
            name="docs-assets",
            before_request=ordinary_path,
            middleware=[unframed],
        )
    ]
    if frontend is not None:
        routers.append(
            create_static_files_router(
                FRONTEND,
                [frontend],
                file_system=_Within(frontend),
                html_mode=True,
                name="frontend",
                before_request=ordinary_path,
            )
        )
    return routers


def _swagger_ui() -> Path:
    spec = find_spec("swagger_ui")  # found, not imported: only its files are wanted
    if spec is None or spec.origin is None:
        raise RuntimeError("swagger-ui-py is not installed; install video-calls[server]")
    return Path(spec.origin).with_name("static")
