"""The tokens of identities. Before a token expires, its command runs again and prints a new one.

This module sends no requests.
"""

import threading
import time
from collections.abc import Callable
from datetime import datetime

from video_calls_contract.config import Identity
from video_calls_contract.jwt import expiry
from video_calls_contract.redaction import Redactor

_MARGIN = 60.0  # seconds before its expiry when a token is replaced, but not in the first half of its life
_INTERVAL = 2.0  # seconds before the same command runs again, if its tokens are valid only briefly
_MOST_REFUSALS = 3  # after so many refused new tokens, the command does not run again


class Token:
    """The current token of an identity. Several threads may use it at once.

    Args:
        now: returns the backend's time.

    Attributes:
        was_accepted: whether the backend has accepted a token of the identity.
    """

    def __init__(self, identity: Identity, redactor: Redactor, now: Callable[[], datetime]) -> None:
        self.was_accepted = False
        self._identity = identity
        self._redactor = redactor
        self._now = now
        self._lock = threading.Lock()
        self._refusals = 0
        self._not_before = 0.0
        self._set(identity.token or "")

    def value(self) -> str:
        """Return the token, or a new one if it expires soon.

        Raises:
            ConfigError: if the command fails.
        """
        with self._lock:
            left = self.seconds_left
            is_due = left is not None and left < min(_MARGIN, self._lifetime / 2)
            if is_due and time.monotonic() >= self._not_before:
                self._run_command()
            return self._value

    def replace(self, value: str) -> bool:
        """Get a new token if the backend refused this one; return whether the token is now another.

        Raises:
            ConfigError: if the command fails.
        """
        with self._lock:
            if self._value == value and self._refusals < _MOST_REFUSALS:
                self._run_command()
            return self._value != value

    def note_refusal(self) -> None:
        """Count that the backend refused a new token, too: the token is probably not the reason."""
        with self._lock:
            self._refusals += 1

    def _run_command(self) -> None:
        if self._identity.command is not None:
            self._set(self._identity.command.token())
            self._not_before = time.monotonic() + _INTERVAL

    def _set(self, value: str) -> None:
        self._value = value
        self._redactor.learn(value, self._identity.variable)
        self._lifetime = self.seconds_left or 0.0

    def has_expired(self, value: str) -> bool:
        """Return whether a token of this identity has expired."""
        expires = expiry(value)
        return expires is not None and expires <= self._now()

    @property
    def has_command(self) -> bool:
        """Whether a command prints new tokens."""
        return self._identity.command is not None

    @property
    def seconds_left(self) -> float | None:
        """The seconds until the token expires; None if it has no readable `exp`."""
        expires = expiry(self._value)
        return None if expires is None else (expires - self._now()).total_seconds()

    @property
    def refusal_reason(self) -> str:
        """Why the backend now refuses a token that it accepted before, and what helps."""
        name, expires = f"[identities.{self._identity.name}]", expiry(self._value)
        if self.has_command:
            return f"the backend accepts no token of {name} any more, not even a new one of its token_command"
        remedy = "use token_command instead of token, or a token that lasts longer"
        if expires is not None and expires <= self._now():
            return f"the token of {name} expired at {expires:%Y-%m-%d %H:%M:%S} UTC, during the run; {remedy}"
        return f"the backend does not accept the token of {name} any more, which worked before; {remedy}"
