"""What the server shows beside the API: its health, the contract, and the docs page, without internet.

Swagger UI comes from the package `swagger-ui-py`, which carries its files; no browser asks elsewhere.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from litestar import MediaType, Request, Response, get
from litestar.datastructures import CacheControlHeader
from litestar.exceptions import NotFoundException
from litestar.response import Redirect
from litestar.router import Router
from litestar.static_files import create_static_files_router  # pyright: ignore[reportUnknownVariableType]
from video_calls_spec import openapi_path

DOCS = "/docs"
FRONTEND = "/app"
LONGEST_PATH = 1000  # characters

_DOCS_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Video Calls API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="assets/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="assets/swagger-ui-bundle.js"></script>
<script>
SwaggerUIBundle({
  url: "../openapi.yaml", dom_id: "#docs", deepLinking: true, persistAuthorization: true, validatorUrl: null
});
</script>
</body>
</html>
"""


@get("/healthz", sync_to_thread=False)
def healthz() -> dict[str, str]:
    """Whether the server is up."""
    return {"status": "ok"}


@get("/openapi.yaml", sync_to_thread=False, cache_control=CacheControlHeader(no_cache=True))
def openapi_yaml() -> Response[bytes]:
    """The contract, the very file."""
    return Response(openapi_path().read_bytes(), media_type="application/yaml")


@get("/", sync_to_thread=False)
def root() -> Redirect:
    """Lead a person who opens the server in a browser to the docs."""
    return Redirect(DOCS.lstrip("/") + "/", status_code=307)


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


@get(DOCS, media_type=MediaType.HTML, sync_to_thread=False, before_request=ordinary_path)
def docs() -> str:
    """The API's documentation, to read and to try."""
    return _DOCS_PAGE


def static_routers(frontend: Path | None) -> list[Router]:
    """The files of Swagger UI and, where one is configured, a frontend of the developer's own."""
    routers = [
        create_static_files_router(
            f"{DOCS}/assets", [_swagger_ui()], name="docs-assets", before_request=ordinary_path
        )
    ]
    if frontend is not None:
        routers.append(
            create_static_files_router(
                FRONTEND, [frontend], html_mode=True, name="frontend", before_request=ordinary_path
            )
        )
    return routers


def _swagger_ui() -> Path:
    spec = find_spec("swagger_ui")  # found, not imported: only its files are wanted
    if spec is None or spec.origin is None:
        raise RuntimeError("swagger-ui-py is not installed; install video-calls[server]")
    return Path(spec.origin).with_name("static")
