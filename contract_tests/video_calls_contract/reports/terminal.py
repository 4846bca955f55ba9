"""What a person sees while a run goes on and when it is over. Without a terminal it is plain lines."""

import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text

from video_calls_contract.catalogue import AREAS, catalogue
from video_calls_contract.reports import (
    LEFT_OPEN,
    bounded,
    count,
    counts,
    evidence,
    headline,
    how_to_curl,
    step,
    visible,
)
from video_calls_contract.results import CONFORMS, VIOLATIONS, Results, RuleResult, TestResult

__all__ = ["Progress", "console", "report"]

_MOST_ALSO = 6
_LINES, _CHARACTERS = 40, 1500  # of a request or a response
_TITLE_WIDTH = max(len(title) for title in AREAS.values()) + 4
_LOOKING_BACK = "Over all exchanges"

_MARKS = {
    "passed": ("✓", "."),
    "failed": ("✗", "F"),
    "noted": ("•", "n"),
    "not_checked": ("-", "-"),
    "blocked": ("!", "!"),
    "broken": ("?", "?"),
}
_STYLES = {
    "passed": "green",
    "failed": "bold red",
    "noted": "dim",
    "not_checked": "dim",
    "blocked": "yellow",
    "broken": "magenta",
}


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Whoever read has gone: the run goes on, unseen."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


def console(file: TextIO | None = None) -> Console:
    """Where to print to: standard output as it is now, for pytest will change `sys.stdout`."""
    output: TextIO = file or sys.stdout
    return _Console(file=output, highlight=False, markup=False, emoji=False, soft_wrap=not output.isatty())


class Progress:
    """One line for each section, and a mark for each test as it ends."""

    def __init__(self, target: Console) -> None:
        self._console = target
        self._place = ""
        self._column = 0
        self._plain = not (target.encoding or "").lower().replace("-", "").startswith("utf")

    def begin(self, base_url: str, tests: str, notes: Sequence[str] = ()) -> None:
        """Say what is about to be done, and what may keep it from its end."""
        self._console.print(Text(visible(f"Testing {base_url}: {tests}"), style="bold"))
        for note in notes:
            self._console.print(Text(visible(f"Note: {note}")), soft_wrap=True)
        self._console.print()

    def started(self, slug: str | None) -> None:
        """A test of this rule has begun; None for what looks back on all exchanges."""
        place = _LOOKING_BACK if slug is None else AREAS.get(slug.partition(".")[0], slug)
        if place != self._place:
            self._end_line()
            self._place = place
            self._write(f"  {place:<{_TITLE_WIDTH}}")

    def ended(self, result: TestResult) -> None:
        """A test has a result."""
        if self._column >= self._console.width - 1:
            self._end_line()
            self._write(" " * (_TITLE_WIDTH + 2))
        self._write(_MARKS[result.outcome][self._plain], _STYLES[result.outcome])

    def done(self) -> None:
        """There will be no more."""
        self._end_line()

    def _write(self, text: str, style: str = "") -> None:
        self._column += len(text)
        self._console.print(Text(text, style=style), end="")
        try:
            self._console.file.flush()
        except BrokenPipeError:
            self._console.on_broken_pipe()

    def _end_line(self) -> None:
        if self._column:
            self._console.print()
        self._column = 0


def report(target: Console, results: Results) -> None:
    """Everything that came out but for the verdict."""
    _Terminal(target, results).print()


def verdict(target: Console, results: Results) -> None:
    """The last line."""
    style = {CONFORMS: "bold green", VIOLATIONS: "bold red"}.get(results.exit_status, "bold yellow")
    target.print()
    target.print(Text(headline(results), style=style))
    target.print(Text(counts(results)))


class _Terminal:
    def __init__(self, target: Console, results: Results) -> None:
        self._console = target
        self._results = results

    def print(self) -> None:
        results = self._results
        for first, *others in results.causes:
            self._heading(first, "VIOLATION", "bold red")
            self._tests(first)
            for other in others:
                self._heading(other, "VIOLATION", "bold red")
                self._line(f"{first.rule.id} shows the same; expected here: {other.reason}", indent=2)
        for result in results.warnings:
            self._heading(result, "warning", "bold yellow")
        if how := how_to_curl(
            exchange
            for result in results.violations
            for test in result.failures[:1]
            for exchange in evidence(test)[-1:]
        ):
            self._line()
            self._line(how, style="dim")
        self._list(LEFT_OPEN, [(one.rule.id, one.reason) for one in results.of("noted")])
        self._list("Known deviations", [(one.rule.id, one.reason) for one in results.of("known")])
        self._list("Not checked", _by_reason(self._results.of("not_checked")))
        in_part = [one for one in self._results.blocked if one.outcome == "passed"]
        self._list("Checked in part", _by_reason(in_part))
        self._list(
            "Broken: the suite's own fault, and none of the backend's; please report it",
            [(test.name, test.reason) for test in results.broken],
        )
        self._list("Could not be cleaned up", [("", line) for line in results.left])
        self._list("Notes", [("", line) for line in results.notes])

    def _heading(self, result: RuleResult, word: str, style: str) -> None:
        rule = result.rule
        self._line()
        title = Text(f"{word}  ", style=style)
        title.append(rule.id, style="bold")
        title.append(f"  ({rule.level}; {rule.section})")
        self._console.print(title)
        self._line(f"“{rule.statement}”", indent=2, style="italic")
        if not result.failures or word == "warning" or result.listed == "expired":
            self._line(result.reason, indent=2)

    def _tests(self, result: RuleResult) -> None:
        """The first test with all that it saw, the others by name: mostly they show the same again."""
        for test in result.failures[:1]:
            self._line()
            self._line(test.name, indent=2, style="bold")
            self._line(f"expected {test.reason}", indent=2)
            exchanges = evidence(test)
            for before in exchanges[:-1]:
                self._line(f"before: {step(before)}", indent=4, style="dim")
            for exchange in exchanges[-1:]:
                self._block("sent", exchange.request_text)
                self._block("came back", exchange.response_text)
                self._line("again:", indent=4, style="dim")
                self._line(exchange.curl, indent=6, whole=True)
        others = result.failures[1:]
        for test in others[:_MOST_ALSO]:
            self._line(f"also: {test.name}: expected {test.reason}", indent=2)
        if (more := len(others) - _MOST_ALSO) > 0:
            self._line(f"… and in {count(more, 'more test')}", indent=2)

    def _block(self, title: str, text: str) -> None:
        self._line(f"{title}:", indent=4, style="dim")
        self._line(bounded(visible(text), lines=_LINES, characters=_CHARACTERS), indent=6)

    def _list(self, title: str, lines: Sequence[tuple[str, str]]) -> None:
        if not lines:
            return
        self._line()
        self._line(f"{title} ({len(lines)})" if len(lines) > 1 else title, style="bold")
        for name, reason in lines:
            self._line(f"{name}: {reason}" if name else reason, indent=2)

    def _line(self, text: str = "", *, indent: int = 0, style: str = "", whole: bool = False) -> None:
        """Print a text; `whole` keeps the terminal from breaking it, so that it can be copied."""
        shown: RenderableType = Text(visible(text), style=style, overflow="fold")
        options: dict[str, Any] = {}
        if whole or self._console.soft_wrap:
            shown = Text("\n".join(" " * indent + line for line in visible(text).split("\n")), style=style)
            options = {"soft_wrap": True}
        elif indent:
            shown = Padding(shown, (0, 0, 0, indent), expand=False)
        self._console.print(shown, **options)


def _by_reason(results: Sequence[RuleResult]) -> list[tuple[str, str]]:
    """The rules with the same reason, and the reason."""
    by_reason: dict[str, list[str]] = {}
    for result in results:
        by_reason.setdefault(result.reason.removeprefix("in part: "), []).append(result.rule.id)
    return [(", ".join(slugs), reason) for reason, slugs in by_reason.items()]


def rules_table(target: Console) -> None:
    """The catalogue, for people."""
    section = ""
    for rule in catalogue().values():
        area = rule.id.partition(".")[0]
        if area != section:
            section = area
            target.print()
            target.print(Text(f"{AREAS[area]}  (--section {area})", style="bold"))
        target.print(
            Padding(Text(f"{rule.id:<26} {rule.level:<7} {rule.section}"), (0, 0, 0, 2), expand=False)
        )
        target.print(Padding(Text(rule.summary, style="dim"), (0, 0, 0, 6), expand=False))
