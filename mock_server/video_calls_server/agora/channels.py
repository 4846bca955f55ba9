"""Names of Agora channels."""

import random
from datetime import datetime

_DIGITS = 16
_SYSTEM_RANDOM = random.SystemRandom()


def channel_name(now: datetime, digits: random.Random = _SYSTEM_RANDOM) -> str:
    """Return a channel name that cannot be guessed ("Security Considerations" 5)."""
    return f"call_{int(now.timestamp())}_{''.join(digits.choices('0123456789', k=_DIGITS))}"
