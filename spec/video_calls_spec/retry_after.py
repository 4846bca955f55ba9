"""Read `Retry-After` and HTTP dates.

No I/O, and no import beyond the standard library.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def http_date(text: str) -> datetime | None:
    """Return an HTTP date in UTC, which is also the default zone; None if the text is not a date."""
    try:
        date = parsedate_to_datetime(text)
        return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait, 0 or more, by the server's own clock; None without a valid `Retry-After`.

    Args:
        headers: of the response, with names in lower case.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    date = http_date(value)
    if date is None:
        return None
    now = http_date(headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (date - now).total_seconds())
