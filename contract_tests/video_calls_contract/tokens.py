"""The tokens of a run's people: a command that makes one is run again before the token lapses.

No request is sent here.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from video_calls_contract.config import Identity
from video_calls_contract.exchange import Redactor
from video_calls_contract.jwt import claims

__all__ = ["Token"]

_MARGIN = 60.0  # seconds before its end at which a token is replaced; half its life if that is less
_FRESH = 30.0  # seconds that a connection for events may last
_PAUSE = 2.0  # seconds until a command is run again that printed a token of little time
_MOST_IN_VAIN = 3


class Token:
    """The token of an identity.

    Args:
        now: the backend's time.

    Attributes:
        worked: whether the backend has accepted it.
    """

    def __init__(self, identity: Identity, redactor: Redactor, now: Callable[[], datetime]) -> None:
        self.worked = False
        self._identity = identity
        self._redactor = redactor
        self._now = now
        self._lock = threading.Lock()
        self._in_vain = 0
        self._not_before = 0.0
        self._keep(identity.token or "")

    def value(self, *, fresh: bool = False) -> str:
        """Return the token, made again if it lapses soon; `fresh` is for what lasts some seconds.

        Raises:
            ConfigError: if the command fails.
        """
        with self._lock:
            left = self.seconds_left(self._value)
            soon = min(_MARGIN, self._lifetime / 2)
            is_due = left is not None and left < (max(soon, _FRESH) if fresh else soon)
            if is_due and time.monotonic() >= self._not_before:
                self._make()
            return self._value

    def replaced(self, refused: str) -> bool:
        """Return whether there is another token in place of one that the backend refused.

        Raises:
            ConfigError: if the command fails.
        """
        with self._lock:
            if self._value == refused and self._in_vain < _MOST_IN_VAIN:
                self._make()
            return self._value != refused

    def was_replaced_in_vain(self) -> None:
        """Note that the other token was refused too: the token is not the reason."""
        self._in_vain += 1

    def _make(self) -> None:
        if self._identity.command is not None:
            self._keep(self._identity.command.token())
            self._not_before = time.monotonic() + _PAUSE

    def _keep(self, value: str) -> None:
        self._value = value
        self._redactor.learn(value, self._identity.variable)
        self._lifetime = self.seconds_left(value) or 0.0

    def seconds_left(self, value: str) -> float | None:
        """Return how long a token lasts; None if it does not say so."""
        expires = _expiry(value)
        return None if expires is None else (expires - self._now()).total_seconds()

    @property
    def is_made(self) -> bool:
        """Whether a command makes it."""
        return self._identity.command is not None

    @property
    def left(self) -> float | None:
        """The seconds that the token lasts; None if it does not say so."""
        return self.seconds_left(self._value)

    @property
    def ending(self) -> str:
        """What happened to a token that worked and is refused, with the remedy."""
        name, expires = f"[identities.{self._identity.name}]", _expiry(self._value)
        if self.is_made:
            return (
                f"the backend accepts no token of {name} any more, not even a fresh one of its token_command"
            )
        remedy = "give token_command in place of token, or a token that lasts longer"
        if expires is not None and expires <= self._now():
            return f"the token of {name} expired at {expires:%Y-%m-%d %H:%M:%S} UTC, during the run; {remedy}"
        return f"the backend does not accept the token of {name} any more, which worked before; {remedy}"


def _expiry(value: str) -> datetime | None:
    expires = claims(value).get("exp")
    if not isinstance(expires, int | float):
        return None
    try:
        return datetime.fromtimestamp(expires, UTC)
    except (ValueError, OverflowError, OSError):
        return None
