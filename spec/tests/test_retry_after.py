"""Check that `Retry-After` is read in both forms that servers send: seconds and a date."""

import time

import pytest
from video_calls_spec.retry_after import retry_after

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": " 7 "}, 7),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "9" * 9999}, float("inf")),
        ({"retry-after": "Sun, 06 Nov 1994 08:51:07 GMT", "date": DATE}, 90),
        ({"retry-after": "Sun Nov  6 08:49:40 1994", "date": DATE}, 3),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:07 -0000", "date": DATE}, 0),
        ({"retry-after": DATE, "date": "now"}, 0),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 +9999999999999"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "-1"}, None),
        ({}, None),
    ],
    ids=lambda value: f"{value!s:.60}",
)
def test_retry_after_is_read_in_both_forms(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], seconds: float | None
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert retry_after(headers) == seconds
    finally:
        monkeypatch.undo()
        time.tzset()
