"""Read `Retry-After` and HTTP dates.

No I/O, and no import beyond the standard library.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def http_date(text: str) -> datetime | None:
    """Return an HTTP date in UTC; None if the text is not a date. A date without a zone is in UTC already."""
    try:
        date = parsedate_to_datetime(text)
        return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds to wait, 0 or more; None without a valid `Retry-After`.

    If `Retry-After` is a date, count from the response's `Date`, because the server's clock may differ.

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
