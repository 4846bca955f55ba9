"""The routes of the console: its pages, and the files that they load."""

from pathlib import Path

from litestar import MediaType, get
from litestar.handlers import HTTPRouteHandler
from litestar.static_files import create_static_files_router  # pyright: ignore[reportUnknownVariableType]
from litestar.types import ControllerRouterHandler

from video_calls_server.api.pages import UNCACHED, check_path, forbid_framing

CONSOLE = "/_console"

_FILES = Path(__file__).parents[1] / "console"
_CONSOLE_POLICY = (
    "default-src 'self'; connect-src 'self' ws: wss:; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
# The meeting page loads Agora's SDK from a file of the developer and connects to Agora's servers.
_MEETING_POLICY = (
    "default-src 'self'; script-src 'self' blob: 'wasm-unsafe-eval'; connect-src *; media-src * blob:; "
    "worker-src blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)


def console_handlers() -> list[ControllerRouterHandler]:
    """Return the handlers of the console's pages and files."""
    files = create_static_files_router(
        CONSOLE,
        [_FILES],
        name="console",
        before_request=check_path,
        cache_control=UNCACHED,
        middleware=[forbid_framing],
    )
    return [
        _page("/", "index.html", _CONSOLE_POLICY),
        _page(f"{CONSOLE}/meeting.html", "meeting.html", _MEETING_POLICY),
        files,
    ]


def _page(path: str, name: str, policy: str) -> HTTPRouteHandler:
    headers = {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }

    @get(path, media_type=MediaType.HTML, sync_to_thread=False, response_headers=headers)
    def console_page() -> bytes:
        """Return a page of the console."""
        return (_FILES / name).read_bytes()

    return console_page
