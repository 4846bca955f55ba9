"""Markdown for the summary of a CI job, such as `$GITHUB_STEP_SUMMARY`.

Text that is not ours is written in character references, so that nothing in it is Markdown or HTML.
"""

import re

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
from video_calls_contract.results import Results, RuleResult

__all__ = ["as_markdown"]

_MARKS = {0: "✅", 1: "❌", 2: "⚠️"}
_ACTIVE = re.compile(r"[\\`*_{}\[\]<>()#+\-!|~@:&$\"'=]|(?<=[wW]{3})\.")
_MOST_DETAILED = 30
_MOST_TESTS = 3
_LINES, _CHARACTERS = 40, 1500  # of a request or a response


def as_markdown(results: Results) -> str:
    """The report."""
    lines = [f"## {_MARKS[results.exit_status]} Video Calls API: {_escape(headline(results))}", ""]
    lines += [_escape(counts(results)), ""]
    if results.broken:
        lines += ["### Broken: the suite's own fault", ""]
        lines += [f"- {_escape(test.name)}: {_escape(test.reason)}" for test in results.broken]
        lines.append("")
    if results.violations:
        lines += _violations(results)
    if results.warnings:
        lines += ["### Warnings", "", *_table(results.warnings), ""]
    tables: dict[str, list[RuleResult]] = {
        LEFT_OPEN: results.of("noted"),
        "Known": results.of("known"),
        "Not checked": results.of("not_checked"),
    }
    for title, found in tables.items():
        if found:
            lines += [
                f"<details><summary>{title} ({len(found)})</summary>",
                "",
                *_table(found),
                "",
                "</details>",
                "",
            ]
    for title, told in (("Could not be cleaned up", results.left), ("Notes", results.notes)):
        if told:
            lines += [f"### {title}", "", *(f"- {_escape(line)}" for line in told), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _violations(results: Results) -> list[str]:
    lines = ["### Violations", "", *_table(results.violations), ""]
    for result in results.violations[:_MOST_DETAILED]:
        lines += _details(result)
    if (more := len(results.violations) - _MOST_DETAILED) > 0:
        lines += [f"… and {count(more, 'more violation')}, in the other reports.", ""]
    shown = [test for result in results.violations for test in result.failures]
    if how := how_to_curl(exchange for test in shown for exchange in evidence(test)):
        lines += [_escape(how), ""]
    return lines


def _table(found: list[RuleResult]) -> list[str]:
    rows = ["| rule | level | the document says | what came out |", "| --- | --- | --- | --- |"]
    rows += [
        f"| {_escape(result.rule.id)} | {result.rule.level} | {_escape(result.rule.statement)} "
        f"<br><small>{_escape(result.rule.section)}</small> | {_escape(result.reason)} |"
        for result in found
    ]
    return rows


def _details(result: RuleResult) -> list[str]:
    if not result.failures:
        return []
    lines = [f"<details><summary>{_escape(result.rule.id)}: evidence</summary>", ""]
    for test in result.failures[:_MOST_TESTS]:
        lines += [f"**{_escape(test.name)}**: expected {_escape(test.reason)}", ""]
        exchanges = evidence(test)
        if len(exchanges) > 1:
            lines += [
                "Before that:",
                "",
                *_fenced("text", "\n".join(step(one) for one in exchanges[:-1])),
                "",
            ]
        for exchange in exchanges[-1:]:
            lines += [
                *_fenced("http", exchange.request_text),
                "",
                *_fenced("http", exchange.response_text),
                "",
            ]
            lines += [*_fenced("sh", exchange.curl), ""]
    if (more := len(result.failures) - _MOST_TESTS) > 0:
        lines += [f"… and {count(more, 'more test')}, in the other reports.", ""]
    return [*lines, "</details>", ""]


def _fenced(language: str, text: str) -> list[str]:
    shown = bounded(visible(text), lines=_LINES, characters=_CHARACTERS)
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", shown, fence]


def _escape(text: str) -> str:
    line = " ".join(visible(text).split())
    return _ACTIVE.sub(lambda match: f"&#{ord(match[0])};", line)
