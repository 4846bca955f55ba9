"""The progress of a run and its report in the terminal; plain lines if the output is not a terminal."""

import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text

from video_calls_contract.catalogue import AREAS, catalogue
from video_calls_contract.reports import (
    NOTES_HEADING,
    count,
    counts,
    evidence,
    headline,
    how_to_curl,
    shorten,
    step,
    visible,
)
from video_calls_contract.results import CONFORMS, VIOLATIONS, Results, RuleResult, TestResult

_MAX_OTHER_TESTS = 6
_TITLE_WIDTH = max(len(title) for title in AREAS.values()) + 4
_ALL_EXCHANGES = "All exchanges"

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
        """Continue the run without output after the reader of the pipe has ended."""
        self.quiet = True
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.file.fileno())
        os.close(null)


def console(file: TextIO | None = None) -> Console:
    """Return a console for a file or the current standard output, before pytest replaces `sys.stdout`."""
    output: TextIO = file or sys.stdout
    return _Console(file=output, highlight=False, markup=False, emoji=False, soft_wrap=not output.isatty())


class Progress:
    """The progress of a run: a line for each section, with a mark for each test."""

    def __init__(self, target: Console) -> None:
        self._console = target
        self._section = ""
        self._column = 0
        self._is_ascii = not (target.encoding or "").lower().replace("-", "").startswith("utf")

    def begin(self, base_url: str, tests: str, notes: Sequence[str]) -> None:
        """Print what the run tests, and the notes from `preflight`."""
        self._console.print(Text(visible(f"Testing {base_url}: {tests}"), style="bold"))
        for note in notes:
            self._console.print(Text(visible(f"Note: {note}")), soft_wrap=True)
        self._console.print()

    def show_section(self, slug: str | None) -> None:
        """Begin a new line if the rule is in another section; None stands for tests of all exchanges."""
        section = _ALL_EXCHANGES if slug is None else AREAS.get(slug.partition(".")[0], slug)
        if section != self._section:
            self.end_line()
            self._section = section
            self._write(f"  {section:<{_TITLE_WIDTH}}")

    def show_result(self, result: TestResult) -> None:
        """Print the mark of a test."""
        if self._column >= self._console.width - 1:
            self.end_line()
            self._write(" " * (_TITLE_WIDTH + 2))
        self._write(_MARKS[result.outcome][self._is_ascii], _STYLES[result.outcome])

    def end_line(self) -> None:
        """End the line if it is not empty."""
        if self._column:
            self._console.print()
        self._column = 0

    def _write(self, text: str, style: str = "") -> None:
        self._column += len(text)
        self._console.print(Text(text, style=style), end="")
        try:
            self._console.file.flush()
        except BrokenPipeError:
            self._console.on_broken_pipe()


def report(target: Console, results: Results) -> None:
    """Print the results without the verdict."""
    _Terminal(target, results).print()


def verdict(target: Console, results: Results) -> None:
    """Print the verdict and the counts."""
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
                self._line(f"same refusal as for {first.rule.id}; {other.reason}", indent=2)
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
        self._list(NOTES_HEADING, [(one.rule.id, one.reason) for one in results.of("noted")])
        self._list("Known violations", [(one.rule.id, one.reason) for one in results.of("known")])
        self._list("Not checked", _by_reason(results.of("not_checked")))
        self._list("Checked in part", _by_reason([one for one in results.blocked if one.outcome == "passed"]))
        self._list(
            "Bugs in the suite, not in the backend; please report them",
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
        """Print the first test with its exchanges, and the other tests by name only."""
        for test in result.failures[:1]:
            self._line()
            self._line(test.name, indent=2, style="bold")
            self._line(f"expected {test.reason}", indent=2)
            exchanges = evidence(test)
            for before in exchanges[:-1]:
                self._line(f"before: {step(before)}", indent=4, style="dim")
            for exchange in exchanges[-1:]:
                self._block("request", exchange.request_text)
                self._block("response", exchange.response_text)
                self._line("repeat it:", indent=4, style="dim")
                self._line(exchange.curl, indent=6, wrap=False)
        others = result.failures[1:]
        for test in others[:_MAX_OTHER_TESTS]:
            self._line(f"also: {test.name}: expected {test.reason}", indent=2)
        if (more := len(others) - _MAX_OTHER_TESTS) > 0:
            self._line(f"… and in {count(more, 'more test')}", indent=2)

    def _block(self, title: str, text: str) -> None:
        self._line(f"{title}:", indent=4, style="dim")
        self._line(shorten(visible(text)), indent=6)

    def _list(self, title: str, lines: Sequence[tuple[str, str]]) -> None:
        if not lines:
            return
        self._line()
        self._line(f"{title} ({len(lines)})" if len(lines) > 1 else title, style="bold")
        for name, reason in lines:
            self._line(f"{name}: {reason}" if name else reason, indent=2)

    def _line(self, text: str = "", *, indent: int = 0, style: str = "", wrap: bool = True) -> None:
        """Print a text; without `wrap`, on one line, so that it can be copied."""
        content: RenderableType = Text(visible(text), style=style, overflow="fold")
        options: dict[str, Any] = {}
        if not wrap or self._console.soft_wrap:
            content = Text("\n".join(" " * indent + line for line in visible(text).split("\n")), style=style)
            options = {"soft_wrap": True}
        elif indent:
            content = Padding(content, (0, 0, 0, indent), expand=False)
        self._console.print(content, **options)


def _by_reason(results: Sequence[RuleResult]) -> list[tuple[str, str]]:
    """Return a pair for each reason: the slugs of the rules with this reason, and the reason."""
    by_reason: dict[str, list[str]] = {}
    for result in results:
        by_reason.setdefault(result.reason.removeprefix("in part: "), []).append(result.rule.id)
    return [(", ".join(slugs), reason) for reason, slugs in by_reason.items()]


def print_rules(target: Console) -> None:
    """Print the catalogue."""
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
