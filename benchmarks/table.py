"""The one table that every benchmark adds rows to, and how a run ends that has no result.

A row is a ratio: what ours took, or managed, divided by what stands beside it, measured within one run.
"""

import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from statistics import median, quantiles

import httpx
from video_calls_sdk import VideoCallsError
from websockets.exceptions import WebSocketException

HEADS = ("what", "ours", "beside", "its figure", "ratio", "aim")
NOT_PRESENT = "not present"


class BenchmarkError(Exception):
    """A server did not start, or gave another answer than the one that is measured."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    ours: str
    beside: str
    its: str
    ratio: str
    aim: str = ""


def compared(
    what: str,
    beside: str,
    pairs: Iterable[tuple[float, float]],
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Row:
    """A row of measurements, of which each is ours and, from the turn next to it, what it is held against."""
    pairs = list(pairs)
    ours, its = (figure(median(column)) for column in zip(*pairs, strict=True))
    ratios = [mine / other for mine, other in pairs]
    aim = ""
    if at_most is not None:
        aim = f"≤ {at_most:.2f}" + ("" if median(ratios) <= at_most else ", missed")
    if at_least is not None:
        aim = f"≥ {at_least:.2f}" + ("" if median(ratios) >= at_least else ", missed")
    return Row(what, ours, beside, its, spread(ratios), aim)


def absent(what: str, beside: str) -> Row:
    """The row of what cannot be measured here."""
    return Row(what, "", beside, "", NOT_PRESENT)


def spread(ratios: Sequence[float]) -> str:
    """The median and, in parentheses, where the middle half lies."""
    if len(ratios) == 1:
        return f"{ratios[0]:.2f}"
    low, _, high = quantiles(ratios, n=4, method="inclusive")
    return f"{median(ratios):.2f} ({low:.2f}-{high:.2f})"


def figure(value: float) -> str:
    """A number with as many digits as it is worth."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def markdown(rows: Sequence[Row]) -> str:
    """The table as GitHub writes it."""
    lines = [HEADS, *(astuple(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def stopped(*_: object) -> None:
    """End as an error does, so that every server that was started is ended too."""
    raise SystemExit("no result: stopped")


@contextmanager
def clear_end() -> Iterator[None]:
    """Say in one line why there is no result, with exit status 1; a SIGTERM ends what was started, too."""
    signal.signal(signal.SIGTERM, stopped)
    failures = (BenchmarkError, OSError, subprocess.SubprocessError, httpx.HTTPError)
    try:
        yield
    except (*failures, VideoCallsError, WebSocketException) as error:
        raise SystemExit(f"no result: {error or type(error).__name__}") from error


def progress(what: str) -> None:
    """Tell a reader who waits what is being measured, beside the table."""
    print(what, file=sys.stderr, flush=True)
