"""The table that every benchmark adds rows to.

A row is a ratio: our figure divided by that of the baseline, both measured in one run.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from statistics import median, quantiles

HEADS = ("what", "ours", "baseline", "its figure", "ratio", "aim")
NOT_PRESENT = "not present"


class BenchmarkError(Exception):
    """A server did not start, or gave another answer than the one that is measured."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    ours: str
    baseline: str
    its: str
    ratio: str
    aim: str = ""


def compared(
    what: str,
    baseline: str,
    pairs: Iterable[tuple[float, float]],
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Row:
    """Return the row of these turns. A turn is a pair: our figure and the baseline's."""
    pairs = list(pairs)
    ours, its = (figure(median(column)) for column in zip(*pairs, strict=True))
    ratios = [mine / other for mine, other in pairs]
    aim = ""
    if at_most is not None:
        aim = f"≤ {at_most:.2f}" + ("" if median(ratios) <= at_most else ", missed")
    if at_least is not None:
        aim = f"≥ {at_least:.2f}" + ("" if median(ratios) >= at_least else ", missed")
    return Row(what, ours, baseline, its, spread(ratios), aim)


def absent(what: str, baseline: str) -> Row:
    """Return the row of a baseline that is not installed here."""
    return Row(what, "", baseline, "", NOT_PRESENT)


def spread(ratios: Sequence[float]) -> str:
    """Return the median and, in parentheses, the range of the middle half."""
    if len(ratios) == 1:
        return f"{ratios[0]:.2f}"
    low, _, high = quantiles(ratios, n=4, method="inclusive")
    return f"{median(ratios):.2f} ({low:.2f}-{high:.2f})"


def figure(value: float) -> str:
    """Return a number with three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def markdown(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [HEADS, *(astuple(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def progress(what: str) -> None:
    """Print to standard error what is being measured."""
    print(what, file=sys.stderr, flush=True)
