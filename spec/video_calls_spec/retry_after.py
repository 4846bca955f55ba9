"""How long a response asks to wait, and the dates of HTTP that it says this in.

No I/O, and no import beyond the standard library.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def http_date(text: str) -> datetime | None:
    """Return a date of HTTP in UTC, also if it names no zone; None if the text is not a date."""
    try:
        date = parsedate_to_datetime(text)
        return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait, 0 or more, by the server's own clock; None without a valid `Retry-After`.

    Args:
        headers: of the response, which finds names in lower case.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    date = http_date(value)
    if date is None:
        return None
    now = http_date(headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (date - now).total_seconds())
