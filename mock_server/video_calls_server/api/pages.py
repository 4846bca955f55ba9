"""The pages outside the API: the contract, its docs page, and the developer's own frontend.

The package `swagger-ui-py` holds the files of Swagger UI, so that the docs page needs no internet.
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
from litestar.response import Redirect
from litestar.router import Router
from litestar.static_files import create_static_files_router  # pyright: ignore[reportUnknownVariableType]
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from litestar.types.file_types import FileInfo
from video_calls_spec import openapi_path

DOCS = "/docs"
FRONTEND = "/app"
UNCACHED = CacheControlHeader(no_cache=True)

_FRAME_POLICY = (b"content-security-policy", b"frame-ancestors 'none'")
_LONGEST_PATH = 1000  # characters

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


def forbid_framing(app: ASGIApp) -> ASGIApp:
    """Return a middleware that forbids other sites to show the page in a frame."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], _FRAME_POLICY]
            await send(message)

        await app(scope, receive, send_with_policy)

    return middleware


@get("/openapi.yaml", sync_to_thread=False, cache_control=UNCACHED)
def openapi_yaml() -> Response[bytes]:
    """Return the contract, byte for byte."""
    return Response(openapi_path().read_bytes(), media_type="application/yaml")


@get("/", sync_to_thread=False)
def root() -> Redirect:
    """Redirect a browser to the docs page."""
    return Redirect(DOCS.lstrip("/") + "/", status_code=307)


def check_path(request: Request[Any, Any, Any]) -> Redirect | None:
    """Redirect `/docs` to `/docs/`, because relative links in the page start from the last slash.

    Raises:
        NotFoundException: if the path names a hidden file, or cannot name a file.
    """
    path = request.scope["path"]
    if "\0" in path or "/." in path or len(path) > _LONGEST_PATH:
        raise NotFoundException
    raw_path = (request.scope.get("raw_path") or b"").partition(b"?")[0].decode("latin-1")
    name = raw_path.rpartition("/")[2]
    return Redirect(f"{name}/", status_code=307) if f"/{name}" in {DOCS, FRONTEND} else None


@get(
    DOCS,
    media_type=MediaType.HTML,
    sync_to_thread=False,
    before_request=check_path,
    middleware=[forbid_framing],
)
def docs() -> str:
    """Return the docs page of the API, which can also send requests."""
    return docs_page("Video Calls API", description="../openapi.yaml", assets="assets")


def docs_page(title: str, *, description: str, assets: str) -> str:
    """Return a page with Swagger UI.

    Args:
        title: the title of the page.
        description: the URL of the OpenAPI description.
        assets: the URL of the directory with Swagger UI's files.
    """
    return _DOCS_PAGE.substitute(title=title, description=description, assets=assets)


class _FilesWithin(BaseLocalFileSystem):
    """The files in a directory. A symbolic link to a file outside the directory counts as missing."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()

    async def info(self, path: str | PathLike[str], **options: Any) -> FileInfo:  # noqa: ANN401 (as Litestar)
        resolved = await anyio.Path(path).resolve()
        if not resolved.is_relative_to(self._directory):
            raise FileNotFoundError(path)
        return await super().info(resolved, **options)


def static_routers(frontend: Path | None) -> list[Router]:
    """Return the routes to Swagger UI's files and, if one is configured, to the developer's frontend."""
    routers = [
        create_static_files_router(
            f"{DOCS}/assets",
            [_swagger_ui()],
            name="docs-assets",
            before_request=check_path,
            middleware=[forbid_framing],
        )
    ]
    if frontend is not None:
        routers.append(
            create_static_files_router(
                FRONTEND,
                [frontend],
                file_system=_FilesWithin(frontend),
                html_mode=True,
                name="frontend",
                before_request=check_path,
            )
        )
    return routers


def _swagger_ui() -> Path:
    spec = find_spec("swagger_ui")
    if spec is None or spec.origin is None:
        raise RuntimeError("swagger-ui-py is not installed; install video-calls[server]")
    return Path(spec.origin).with_name("static")
