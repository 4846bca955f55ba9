"""A world is an isolated set of calls and users: a store, an event hub, and the operations on them.

The server handles each request in one world. The API sees nothing else. What the reference server adds,
such as faults, is in `control`.
"""

from litestar.types import Scope

from video_calls_server.api.ids import ids_of
from video_calls_server.domain.clock import Clock
from video_calls_server.events.hub import Hub
from video_calls_server.operations import Operations
from video_calls_server.settings import Settings
from video_calls_server.store import Store


class World:
    """One isolated set of calls and users."""

    def __init__(self, settings: Settings, store: Store, clock: Clock) -> None:
        self.ids = ids_of(settings.ids)
        self.store = store
        self.hub = Hub()
        self.operations = Operations(settings, store, clock, self.hub)


def world_of(scope: Scope) -> World:
    """Return the world in which the server handles a request."""
    world: World = scope["state"]["world"]
    return world
