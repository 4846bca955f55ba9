"""Wakes the connections of the users to whom something happened. What happened, they read from the outbox.

A wake-up carries nothing, so that a missed or a doubled one is no harm, and a slow reader costs no memory.
"""

from collections import defaultdict
from collections.abc import Generator, Iterable
from contextlib import contextmanager

import anyio


class Subscription:
    """Somebody's place in the queue for news. `closing` is the code and the reason to close with, if any."""

    def __init__(self) -> None:
        self.closing: tuple[int, str] | None = None
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

    @property
    def is_quiet(self) -> bool:
        """Whether nobody is connected."""
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
        """Have every connection closed with this code; how many they are."""
        subscriptions = [each for of_user in self._subscriptions.values() for each in of_user]
        for subscription in subscriptions:
            subscription.closing = code, reason
            subscription.wake()
        return len(subscriptions)

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
