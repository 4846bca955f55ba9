"""Wakes the connections of the users to whom something happened. What happened, they read from the outbox.

A wake-up carries nothing, so that a missed or a doubled one is no harm, and a slow reader costs no memory.
"""

from collections import defaultdict
from collections.abc import Generator, Iterable
from contextlib import contextmanager

import anyio


class Subscription:
    """A connection's place in the hub."""

    def __init__(self) -> None:
        self._news = anyio.Event()

    def wake(self) -> None:
        """Something happened."""
        self._news.set()

    async def wait(self) -> None:
        """Until something has happened since the last return."""
        await self._news.wait()
        self._news = anyio.Event()


class Hub:
    """The open connections by user."""

    def __init__(self) -> None:
        self._subscriptions: defaultdict[int, set[Subscription]] = defaultdict(set)

    def wake(self, user_ids: Iterable[int]) -> None:
        """Wake the connections of these users."""
        for user_id in user_ids:
            for subscription in self._subscriptions.get(user_id, ()):
                subscription.wake()

    @contextmanager
    def subscribed(self, user_id: int) -> Generator[Subscription]:
        """A place for as long as a connection is open."""
        subscription = Subscription()
        self._subscriptions[user_id].add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions[user_id].discard(subscription)
            if not self._subscriptions[user_id]:
                del self._subscriptions[user_id]
