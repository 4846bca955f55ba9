"""Wakes the event connections of users. A connection then reads the new events from the outbox.

A wake-up carries no data, so a lost or repeated one does no harm, and a slow reader needs no memory.
"""

from collections import defaultdict
from collections.abc import Generator, Iterable
from contextlib import contextmanager

import anyio


class Subscription:
    """A registered connection. If `closing` is set, the connection closes with this code and reason."""

    def __init__(self) -> None:
        self.closing: tuple[int, str] | None = None
        self._wake_up = anyio.Event()

    def wake(self) -> None:
        """Wake the connection, because there may be new events."""
        self._wake_up.set()

    async def wait(self) -> None:
        """Wait for a wake-up. Return at once if one has come since the last call returned."""
        await self._wake_up.wait()
        self._wake_up = anyio.Event()


class Hub:
    """The open event connections of each user."""

    def __init__(self) -> None:
        self._subscriptions: defaultdict[int, set[Subscription]] = defaultdict(set)

    @property
    def is_quiet(self) -> bool:
        """Whether there is no connection."""
        return not self._subscriptions

    def wake(self, user_ids: Iterable[int]) -> None:
        """Wake the connections of these users."""
        for user_id in user_ids:
            for subscription in self._subscriptions.get(user_id, ()):
                subscription.wake()

    def wake_all(self) -> None:
        """Wake every connection."""
        self.wake(list(self._subscriptions))

    def close(self, code: int, reason: str) -> int:
        """Close every connection with this code. Return the number of connections."""
        subscriptions = [each for of_user in self._subscriptions.values() for each in of_user]
        for subscription in subscriptions:
            subscription.closing = code, reason
            subscription.wake()
        return len(subscriptions)

    @contextmanager
    def subscribe(self, user_id: int) -> Generator[Subscription]:
        """Register a connection of the user until the context ends."""
        subscription = Subscription()
        self._subscriptions[user_id].add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions[user_id].discard(subscription)
            if not self._subscriptions[user_id]:
                del self._subscriptions[user_id]
