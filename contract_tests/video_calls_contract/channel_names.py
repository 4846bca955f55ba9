"""Tests whether channel names can be predicted from their calls, or from earlier names.

A name has parts. A part is predictable if it is the same in all names, if it is a field of its call, or if it
is a counter. Names are random if one of their parts is not predictable.
"""

import hashlib
import itertools
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from video_calls_contract.exchange import instant

SAMPLE = 24
"""How many channel names are compared."""

_WORD = re.compile(r"[0-9A-Za-z]+|[^0-9A-Za-z]+")
_DIGITS = re.compile(r"\d+|\D+")
_CLOSE = 5  # seconds by which a number in a name may differ from a time of the call
_MOST_HASHED = 5000  # hashes of the numbers below this are recognized
_HASH_PREFIX = 8  # so many characters of a hash do not occur by coincidence


def how_predictable(calls: Sequence[dict[str, Any]]) -> str:
    """Return why the channel names of calls are predictable; empty if they are random.

    Args:
        calls: in the order of their creation.
    """
    names = [str(call["channel_name"]) for call in calls]
    if len(set(names)) < len(names):
        return "a name came twice"
    if all(_is_hash(name, call) for name, call in zip(names, calls, strict=True)):
        return f"names such as {names[-1]!r} are hashes of fields of the call, or of a counter"
    for pattern in (_WORD, _DIGITS):
        parts = [pattern.findall(name) for name in names]
        is_alike = len({len(of_name) for of_name in parts}) == 1
        if is_alike and all(_is_predictable(column, calls) for column in zip(*parts, strict=True)):
            return f"each part of names such as {names[-1]!r} is constant, a field of the call, or a counter"
    return ""


def _is_predictable(column: Sequence[str], calls: Sequence[dict[str, Any]]) -> bool:
    if len(set(column)) == 1:
        return True
    if all(part.lower() in _fields(call) for part, call in zip(column, calls, strict=True)):
        return True
    for base in (10, 16, 36):
        try:
            numbers = [int(part, base) for part in column]
        except ValueError:
            continue
        if _is_counter(numbers) or _is_time(numbers, calls):
            return True
    return False


def _is_counter(numbers: Sequence[int]) -> bool:
    """Return whether numbers increase by equal steps, or by small steps."""
    steps = {later - earlier for earlier, later in itertools.pairwise(numbers)}
    return len(steps) == 1 or (min(steps) > 0 and max(steps) <= 2 * len(numbers))


def _is_time(numbers: Sequence[int], calls: Sequence[dict[str, Any]]) -> bool:
    """Return whether numbers are times of the calls, in milliseconds, microseconds or nanoseconds."""
    return list(numbers) == sorted(numbers) and any(
        all(
            any(abs(number / scale - seconds) <= _CLOSE for seconds in _seconds(call))
            for number, call in zip(numbers, calls, strict=True)
        )
        for scale in (1000, 1_000_000, 1_000_000_000)
    )


def _seconds(call: dict[str, Any]) -> list[float]:
    times = [instant(call.get(name)) for name in ("created_at", "scheduled_time")]
    return [time.timestamp() for time in times if time is not None]


def _fields(call: dict[str, Any]) -> set[str]:
    """Return the texts that a backend may copy from a call into its name: ids, and times in several forms."""
    fields = {str(call.get(name)).lower() for name in ("id", "doctor", "patient")}
    fields |= {word for text in fields for word in _WORD.findall(text)}
    for name in ("created_at", "scheduled_time"):
        time = instant(call.get(name))
        if time is not None:
            fields |= {
                f"{time:{form}}" for form in ("%Y%m%d", "%H%M", "%H%M%S", "%Y%m%d%H%M", "%Y%m%d%H%M%S")
            }
    near = range(-_CLOSE, _CLOSE + 1)
    return fields | {str(int(seconds) + distance) for seconds in _seconds(call) for distance in near}


def _is_hash(name: str, call: dict[str, Any]) -> bool:
    """Return whether a name contains the beginning of a hash: of fields of the call, or of a counter."""
    call_id, doctor, patient, at = (call.get(key) for key in ("id", "doctor", "patient", "scheduled_time"))
    texts = [f"{call_id}", f"call_{call_id}", f"call-{call_id}", f"{at}"]
    texts += [joint.join(map(str, (doctor, patient, at))) for joint in ("", "_", "-", ":")]
    beginnings = {beginning for text in texts for beginning in _hashes(text)} | _hashes_of_counters()
    return any(
        word[:_HASH_PREFIX].lower() in beginnings for word in _WORD.findall(name) if len(word) >= _HASH_PREFIX
    )


def _hashes(text: str) -> list[str]:
    return [hashlib.new(kind, text.encode()).hexdigest()[:_HASH_PREFIX] for kind in ("md5", "sha1", "sha256")]


@cache
def _hashes_of_counters() -> frozenset[str]:
    return frozenset(beginning for number in range(_MOST_HASHED) for beginning in _hashes(str(number)))
