"""The reference server of the Video Calls API: the whole documented behaviour, on one machine.

from video_calls_server import Settings, create_app
app = create_app(Settings(database=":memory:"))
"""

from video_calls_server.app import create_app
from video_calls_server.seed import SeedError
from video_calls_server.settings import Settings, SettingsError
from video_calls_server.store import StoreError

__all__ = ["SeedError", "Settings", "SettingsError", "StoreError", "create_app"]
