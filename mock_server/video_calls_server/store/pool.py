"""How a server uses the connections to its database, and how long it waits for it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pool:
    """Connections of one process, and seconds."""

    size: int = 10
    """How many connections there are at most."""
    wait: float = 5.0
    """How long a request waits for one of them, and for a new one to be made."""
    statement: float = 5.0
    """How long one statement may take."""
    lock: float = 2.0
    """How long a statement waits for what another transaction holds."""
