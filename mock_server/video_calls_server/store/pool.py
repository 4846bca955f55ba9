"""The limits of a server's connections to PostgreSQL."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """The size of a process's pool of connections, and timeouts in seconds."""

    size: int = 10
    connect_timeout: float = 5.0
    """The timeout for opening a connection, and for waiting until a connection of the pool is free."""
    statement_timeout: float = 5.0
    lock_timeout: float = 2.0
    """The timeout for waiting for a lock that another transaction holds."""
