"""The names of Agora channels."""

import random
from datetime import datetime

_DIGITS = 16
_UNGUESSABLE = random.SystemRandom()


def channel_name(now: datetime, digits: random.Random = _UNGUESSABLE) -> str:
    """A name that nobody can guess ("Security Considerations" 5), of characters that Agora allows."""
    return f"call_{int(now.timestamp())}_{''.join(digits.choices('0123456789', k=_DIGITS))}"
