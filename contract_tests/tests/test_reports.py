"""Tests of the reports: their content, and that text of a backend stays text."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from video_calls_contract.reports import visible
from video_calls_contract.reports.html import as_html
from video_calls_contract.reports.junit import as_junit
from video_calls_contract.reports.markdown import as_markdown
from video_calls_contract.results import Results, RuleResult

from support.fake_backend import HOSTILE, TOKENS
from support.sample_results import (
    REPORTS,
    exchange,
    failed_rule,
    in_terminal,
    passed_rule,
    result_of_test,
    rule_result,
    tree,
)

NOTHING_CHECKED = "the configuration has no [identities.outsider]"


every_report = pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)


def everything() -> Results:
    """Return results with one rule of each outcome."""
    known_result = failed_rule("join.again")
    known_result.outcome, known_result.listed, known_result.reason = (
        "known",
        "known",
        "fixed in autumn (known; expected 200)",
    )
    return tree(
        failed_rule("join.window", "400, for a join 16 minutes before the call; got 200"),
        failed_rule("errors.unknown-path", "`Allow` with GET"),
        known_result,
        rule_result("get.participants-only", "not_checked", NOTHING_CHECKED),
        passed_rule("auth.required"),
        left=["call 7 could be neither cancelled nor ended"],
        notes=["the backend's clock is 40 s ahead of this machine's"],
        requests=1234,
        seconds=5.67,
        started_at=datetime(2030, 1, 1, 12, tzinfo=UTC),
    )


def hostile(text: str = HOSTILE) -> Results:
    """Return results that have this text in every field."""
    body = json.dumps({"error": text}, ensure_ascii=False).encode("utf-8", "surrogatepass")
    exchanges = exchange(body), exchange(text.encode("utf-8", "surrogatepass"))
    return tree(
        failed_rule("join.window", f"400; got {text}", *exchanges),
        failed_rule("errors.unknown-path", f"`Allow`; got {text}", *exchanges),
        rule_result("get.not-found", "not_checked", text),
        broken=[result_of_test("broken", "join.again", text)],
        left=[text],
        notes=[text],
    )


class Page(HTMLParser):
    """The tags of an HTML page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


# -- Content --------------------------------------------------------------------------------------


@every_report
def test_report_has_violation_with_its_evidence(report: Callable[[Results], str]) -> None:
    text = report(everything())
    for words in ("join.window", "Call must be scheduled within the next 15 minutes", "4. Join Video Call"):
        assert words in text.replace("&#46;", ".")
    assert "DOCTOR_TOKEN" in text
    assert "curl -sS -i https://staging.example.com" in text
    assert NOTHING_CHECKED.split("[", maxsplit=1)[0] in text
    assert "fixed in autumn" in text
    assert "16 minutes before the call" in text


@pytest.mark.parametrize("name", ["terminal", "html", "markdown"])
def test_report_has_notes_verdict_and_curl_instructions(name: str) -> None:
    text = re.sub(r"&#(\d+);", lambda match: chr(int(match[1])), REPORTS[name](everything()))
    assert "breaks 1 rule" in text
    assert "1,234 requests" in text
    assert "could be neither cancelled nor ended" in text
    assert "40 s ahead of" in text
    assert text.count("export DOCTOR_TOKEN=") == 1


@every_report
def test_report_shows_bugs_in_the_suite(report: Callable[[Results], str]) -> None:
    text = report(
        tree(passed_rule("join.window"), broken=[result_of_test("broken", "join.again", "KeyError 42")])
    )
    assert "KeyError 42" in text
    assert "bug" in text


@every_report
def test_report_shows_why_run_ended_early(report: Callable[[Results], str]) -> None:
    assert "stopped answering" in report(tree(passed_rule("join.window"), stopped="it stopped answering"))


def test_warning_in_terminal_has_no_evidence() -> None:
    text = in_terminal(
        tree(failed_rule("errors.unknown-path", "`Allow` with GET"), passed_rule("join.window"))
    )
    assert "expected `Allow` with GET" in text
    assert "curl" not in text


def test_report_shows_bodies_of_earlier_exchanges() -> None:
    before = exchange(b'{"id": 7}', status=201, method="POST", request_body=b'{"doctor": 1}')
    text = in_terminal(tree(failed_rule("join.window", "400", before, exchange())))
    assert 'with {"doctor": 1}: 201 {"id": 7}' in text


def test_long_body_is_shortened() -> None:
    text = in_terminal(tree(failed_rule("join.window", "400", exchange(b'"' + b"x" * 100_000 + b'"'))))
    assert len(text) < 5000
    assert "more character" in text


def test_junit_failures_are_the_violations() -> None:
    root = ET.fromstring(as_junit(everything()))  # noqa: S314 (our own)
    assert {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5",
        "failures": "1",
        "errors": "0",
        "skipped": "2",
    }
    failure = root.find("testsuite[@name='4. Join Video Call']/testcase[@name='join.window']/failure")
    assert failure is not None
    assert "HTTP 500" in (failure.text or "")
    warning = root.find(".//testcase[@name='errors.unknown-path']")
    assert warning is not None
    assert [child.tag for child in warning] == ["system-out"]


def test_junit_has_error_if_run_was_stopped() -> None:
    root = ET.fromstring(as_junit(tree(passed_rule("join.window"), stopped="kept_rule")))  # noqa: S314 (our own)
    assert root.get("errors") == "1"


def test_html_report_is_self_contained() -> None:
    text = as_html(everything())
    page = Page(text)
    assert [tag for tag, _ in page.tags if tag in ("link", "img", "iframe", "object", "base")] == []
    assert [attrs for tag, attrs in page.tags if tag == "script" and attrs] == []
    hrefs = [attrs["href"] or "" for _, attrs in page.tags if "href" in attrs]
    assert hrefs
    assert all(href.startswith("#") for href in hrefs)
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert {href[1:] for href in hrefs} <= ids
    assert "url(" not in text
    assert "prefers-color-scheme: dark" in text


def test_html_report_lists_each_rule() -> None:
    rules = {
        attrs["id"]: attrs["data-kind"]
        for tag, attrs in Page(as_html(everything())).tags
        if "data-kind" in attrs
    }
    assert rules == {
        "rule-join.window": "violation",
        "rule-errors.unknown-path": "warning",
        "rule-join.again": "known",
        "rule-get.participants-only": "not_checked",
        "rule-auth.required": "passed",
    }


# -- Text of a backend -----------------------------------------------------------------------------


@every_report
def test_report_has_no_secrets(report: Callable[[Results], str]) -> None:
    exchanges = exchange(json.dumps({"error": TOKENS["doctor"], "token": "006" + "a" * 80}).encode())
    text = report(tree(failed_rule("join.window", "400", exchanges)))
    assert TOKENS["doctor"] not in text
    assert "a" * 80 not in text


@every_report
def test_report_escapes_control_characters(report: Callable[[Results], str]) -> None:
    text = report(hostile())
    assert re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text) == []
    assert "u202e" in text


def test_backend_text_is_not_html() -> None:
    plain, other = Page(as_html(hostile("harmless"))), Page(as_html(hostile()))
    assert [tag for tag, _ in other.tags] == [tag for tag, _ in plain.tags]


def test_backend_text_is_not_xml() -> None:
    def shape(text: str) -> list[str]:
        return [element.tag for element in ET.fromstring(text).iter()]  # noqa: S314 (our own)

    assert shape(as_junit(hostile())) == shape(as_junit(hostile("harmless")))


def test_backend_text_is_not_terminal_markup() -> None:
    assert "[bold]x[/]" in in_terminal(hostile())


def test_backend_text_stays_inside_markdown_fences() -> None:
    lines = as_markdown(hostile("`````\n````sh\n# heading\n```\n<b>")).splitlines()
    fence = ""
    outside: list[str] = []
    for line in lines:
        if fence:
            fence = "" if line == fence else fence
        elif opening := re.match(r"(`{3,})\w+$", line):
            fence = opening[1]
        else:
            outside.append(line)
    assert not fence
    assert not [line for line in outside if "<b>" in line or "`" in line or line.startswith("# ")]


def test_backend_text_outside_fences_is_escaped() -> None:
    text = as_markdown(
        tree(rule_result("get.not-found", "not_checked", "| a ![x](http://y) <b> @all www.z.org\n# h"))
    )
    (row,) = [line for line in text.splitlines() if "get" in line]
    assert row.count("|") == 5
    assert not re.search(r"<b>|!\[|@all|http://|www\.", row)


def test_visible_escapes_only_invisible_characters() -> None:
    assert visible("Zoë — 日本語 🎉\n\tx") == "Zoë — 日本語 🎉\n\tx"
    assert visible("a\x1b[0m\r\nb\r\u2028\ufeff") == "a\\x1b[0m\nb\\x0d\\u2028\\ufeff"


def test_report_can_show_failure_without_exchanges() -> None:
    kept_rule = RuleResult(failed_rule("join.window").rule, "failed", "it holds now", (), (), "holds")
    for report in REPORTS.values():
        assert "it holds now" in report(tree(kept_rule))
