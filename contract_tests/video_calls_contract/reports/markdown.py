"""The Markdown report for the summary of a CI job, such as `$GITHUB_STEP_SUMMARY`.

Text that is not the suite's own is written as character references, so that it never becomes Markdown or
HTML.
"""

import re

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
from video_calls_contract.results import Results, RuleResult

_MARKS = {0: "✅", 1: "❌", 2: "⚠️"}
_ACTIVE = re.compile(r"[\\`*_{}\[\]<>()#+\-!|~@:&$\"'=]|(?<=[wW]{3})\.")
_MAX_DETAILS = 30
_MAX_TESTS = 3


def as_markdown(results: Results) -> str:
    """Return the Markdown report."""
    lines = [f"## {_MARKS[results.exit_status]} Video Calls API: {_escape(headline(results))}", ""]
    lines += [_escape(counts(results)), ""]
    lines += _list("Bugs in the suite", [f"{test.name}: {test.reason}" for test in results.broken])
    if results.violations:
        lines += _violations(results)
    if results.warnings:
        lines += ["### Warnings", "", *_table(results.warnings), ""]
    tables: dict[str, list[RuleResult]] = {
        NOTES_HEADING: results.of("noted"),
        "Known violations": results.of("known"),
        "Not checked": results.of("not_checked"),
    }
    for title, rules in tables.items():
        if rules:
            lines += [f"<details><summary>{title} ({len(rules)})</summary>", ""]
            lines += [*_table(rules), "", "</details>", ""]
    lines += _list("Could not be cleaned up", results.left)
    lines += _list("Notes", results.notes)
    return "\n".join(lines).rstrip("\n") + "\n"


def _list(title: str, lines: list[str]) -> list[str]:
    return [f"### {title}", "", *(f"- {_escape(line)}" for line in lines), ""] if lines else []


def _violations(results: Results) -> list[str]:
    lines = ["### Violations", "", *_table(results.violations), ""]
    for result in results.violations[:_MAX_DETAILS]:
        lines += _details(result)
    if (more := len(results.violations) - _MAX_DETAILS) > 0:
        lines += [f"… and {count(more, 'more violation')}, in the other reports.", ""]
    failures = [test for result in results.violations for test in result.failures]
    if how := how_to_curl(exchange for test in failures for exchange in evidence(test)):
        lines += [_escape(how), ""]
    return lines


def _table(rules: list[RuleResult]) -> list[str]:
    return [
        "| rule | level | the document says | result |",
        "| --- | --- | --- | --- |",
        *(
            f"| {_escape(result.rule.id)} | {result.rule.level} | {_escape(result.rule.statement)} "
            f"<br><small>{_escape(result.rule.section)}</small> | {_escape(result.reason)} |"
            for result in rules
        ),
    ]


def _details(result: RuleResult) -> list[str]:
    if not result.failures:
        return []
    lines = [f"<details><summary>{_escape(result.rule.id)}: evidence</summary>", ""]
    for test in result.failures[:_MAX_TESTS]:
        lines += [f"**{_escape(test.name)}**: expected {_escape(test.reason)}", ""]
        exchanges = evidence(test)
        if len(exchanges) > 1:
            lines += ["Before that:", "", *_fenced("text", "\n".join(map(step, exchanges[:-1])))]
        for exchange in exchanges[-1:]:
            lines += _fenced("http", exchange.request_text)
            lines += _fenced("http", exchange.response_text)
            lines += _fenced("sh", exchange.curl)
    if (more := len(result.failures) - _MAX_TESTS) > 0:
        lines += [f"… and {count(more, 'more test')}, in the other reports.", ""]
    return [*lines, "</details>", ""]


def _fenced(language: str, text: str) -> list[str]:
    content = shorten(visible(text))
    longest = max((len(run) for run in re.findall(r"`+", content)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", content, fence, ""]


def _escape(text: str) -> str:
    line = " ".join(visible(text).split())
    return _ACTIVE.sub(lambda match: f"&#{ord(match[0])};", line)
