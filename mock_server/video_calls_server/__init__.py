"""The reference server of the Video Calls API: all of the documented behaviour, on one machine.

from video_calls_server import Settings, create_app
app = create_app(Settings(database=":memory:"))
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from video_calls_server.app import create_app
    from video_calls_server.settings import Settings, SettingsError
    from video_calls_server.store import StoreError
    from video_calls_server.store.seed import SeedError

__all__ = ["SeedError", "Settings", "SettingsError", "StoreError", "create_app"]

_MODULES = {
    "SeedError": "store.seed",
    "Settings": "settings",
    "SettingsError": "settings",
    "StoreError": "store",
    "create_app": "app",
}


def __getattr__(name: str) -> object:
    """Import a name at its first use, because `command` must run even without the server's packages."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
