"""Whether a channel's name can be predicted from what is known of the call, and from the names before it.

A name is cut into runs of digits, of letters, and what is between. A run that is the same in all names, that
is something known of the call, or that only counts on, tells nothing new. A name is random where some run is
left.
"""

import base64
import hashlib
import itertools
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from video_calls_contract.exchange import instant

__all__ = ["SAMPLE", "how_predictable"]

SAMPLE = 24
"""How many names are looked at together."""

_RUN = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9A-Za-z]+|[^0-9A-Za-z]+")
_DIGITS = re.compile(r"\d+|[A-Za-z]+")
_CLOSE = 5  # seconds between what a name holds and a time of the call
_FEW = 0.6  # of a sample: fewer different values than this are no random ones


def how_predictable(calls: Sequence[dict[str, Any]]) -> str:
    """Why the names of these calls, in the order of their creation, are not random; empty where they are."""
    names = [str(call["channel_name"]) for call in calls]
    if len(set(names)) < len(names):
        return "the same name comes twice"
    # All of them: among many hashes, one of many random names may begin alike by coincidence.
    if all(_is_derived(name, call) for name, call in zip(names, calls, strict=True)):
        return "it is derived from what everybody knows of the call"
    split = [_RUN.findall(name) for name in names]
    if len({len(runs) for runs in split}) > 1:
        return ""
    reasons = [_explained([runs[place] for runs in split], calls) for place in range(len(split[0]))]
    if not all(reasons):
        return ""
    telling = list(dict.fromkeys(reason for reason in reasons if reason != "the same in all"))
    return f"each part of names such as {names[-1]!r} is {', or '.join(telling) or 'the same'}"


def _explained(runs: list[str], calls: Sequence[dict[str, Any]]) -> str:  # noqa: PLR0911 (one a reason)
    """Why this part of the names is no random one; empty where it may be."""
    if len(set(runs)) == 1:
        return "the same in all"
    if all(run.isdigit() for run in runs):
        return _explained_number([int(run) for run in runs], calls)
    for what in (_known, _hashed):
        if all(run.lower() in what(call) for run, call in zip(runs, calls, strict=True)):
            return "known of the call"
    parts = [_DIGITS.findall(run) for run in runs]
    if len({len(part) for part in parts}) == 1 and len(parts[0]) > 1:
        inner = [_explained([part[place] for part in parts], calls) for place in range(len(parts[0]))]
        return "known, or counting" if all(inner) else ""
    if len(set(runs)) < len(runs) * _FEW:
        return "one of a few"
    for base in (16, 36):
        try:
            numbers = [int(run, base) for run in runs]
        except ValueError:
            continue
        if _counts(numbers):
            return "a number that counts on"
    return ""


def _explained_number(numbers: list[int], calls: Sequence[dict[str, Any]]) -> str:
    if _counts(numbers):
        return "a number that counts on"
    if all(number in _numbers(call) for number, call in zip(numbers, calls, strict=True)):
        return "known of the call"
    ids = [call["id"] for call in calls if isinstance(call.get("id"), int)]
    if len(ids) == len(numbers) and _is_affine(ids, numbers):
        return "computed from the call's id"
    # Random digits behind the seconds look like a finer time, but do not go on as one.
    for scale in (1, 1000, 1_000_000, 1_000_000_000) if numbers == sorted(numbers) else ():
        if all(_is_time(number / scale, call) for number, call in zip(numbers, calls, strict=True)):
            return "the time"
    if len(set(numbers)) < len(numbers) * _FEW and max(numbers) < 10:  # noqa: PLR2004 (a single digit)
        return "one of a few"
    return ""


def _counts(numbers: list[int]) -> bool:
    """Whether they go on by one small step, or by a few."""
    steps = {later - earlier for earlier, later in itertools.pairwise(numbers)}
    return len(steps) == 1 or (all(step > 0 for step in steps) and max(steps) <= 2 * len(numbers))


def _is_affine(ids: list[int], numbers: list[int]) -> bool:
    first, last = ids[0], ids[-1]
    if first == last:
        return False
    slope = (numbers[-1] - numbers[0]) / (last - first)
    return all(
        round(numbers[0] + slope * (one - first)) == number for one, number in zip(ids, numbers, strict=True)
    )


def _is_time(seconds: float, call: dict[str, Any]) -> bool:
    times = [instant(call.get(name)) for name in ("created_at", "scheduled_time")]
    return any(time is not None and abs(time.timestamp() - seconds) <= _CLOSE for time in times)


def _numbers(call: dict[str, Any]) -> set[int]:
    found = [call.get(name) for name in ("id", "doctor", "patient")]
    numbers = {number for number in found if isinstance(number, int)}
    for name in ("created_at", "scheduled_time"):
        time = instant(call.get(name))
        if time is not None:
            numbers |= {
                int(time.strftime(form))
                for form in ("%Y%m%d", "%H%M", "%H%M%S", "%Y%m%d%H%M", "%Y%m%d%H%M%S")
            }
    return numbers


def _known(call: dict[str, Any]) -> set[str]:
    return {str(call.get(name)).lower() for name in ("id", "doctor", "patient")} | {
        f"{number:x}" for number in _numbers(call)
    }


def _texts(call: dict[str, Any]) -> list[str]:
    call_id, doctor, patient = (call.get(name) for name in ("id", "doctor", "patient"))
    at = str(call.get("scheduled_time"))
    seconds = instant(at)
    texts = [str(call_id), f"call_{call_id}", f"call-{call_id}", at]
    texts += [f"{separator}".join((str(doctor), str(patient))) for separator in ("", "_", "-", ":")]
    if seconds is not None:
        texts += [
            str(int(seconds.timestamp())),
            *(f"{text}{sep}{int(seconds.timestamp())}" for text in texts[4:] for sep in ("", "_", "-", ":")),
        ]
    return texts


_HASHES: list[Callable[[bytes], str]] = [
    lambda text: hashlib.md5(text, usedforsecurity=False).hexdigest(),
    lambda text: hashlib.sha1(text, usedforsecurity=False).hexdigest(),
    lambda text: hashlib.sha256(text).hexdigest(),
    lambda text: base64.urlsafe_b64encode(text).decode().rstrip("="),
]
_COUNTED = 10_000
_SHORTEST = 8  # characters of a hash that are no coincidence


def _hashed(call: dict[str, Any]) -> set[str]:
    return {hash_(text.encode()).lower() for text in _texts(call) for hash_ in _HASHES}


def _is_derived(name: str, call: dict[str, Any]) -> bool:
    """Whether the name holds a hash, or the beginning of one, of something that is known."""
    runs = [
        run.lower()
        for run in re.findall(r"[0-9A-Za-z]+", name)
        if len(run) >= _SHORTEST and not run.isdigit()
    ]
    hashes = _hashed(call)
    return any(known.startswith(run) for run in runs for known in hashes) or any(
        run[:_SHORTEST] in _counted() and any(known.startswith(run) for known in _counted()[run[:_SHORTEST]])
        for run in runs
    )


@cache
def _counted() -> dict[str, list[str]]:
    """The hashes of the first numbers, by how they begin: of a counter, wherever it stands."""
    found: dict[str, list[str]] = {}
    for number in range(_COUNTED):
        for hash_ in _HASHES:
            known = hash_(str(number).encode()).lower()
            found.setdefault(known[:_SHORTEST], []).append(known)
    return found
