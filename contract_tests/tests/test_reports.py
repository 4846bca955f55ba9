"""The reports: what they tell, and that nothing of what a backend sent becomes more than text."""

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
from support.made_results import (
    REPORTS,
    exchange,
    failed,
    in_terminal,
    outcome_of_test,
    passed,
    rule_result,
    tree,
)

NOTHING_CHECKED = "the configuration has no [identities.outsider]"


every_report = pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)


def everything() -> Results:
    """One rule of each outcome."""
    known = failed("join.again")
    known.outcome, known.listed, known.reason = "known", "known", "mended in autumn (known; expected 200)"
    return tree(
        failed("join.window", "400, for a join 16 minutes before the call; got 200"),
        failed("errors.unknown-path", "`Allow` with GET"),
        known,
        rule_result("get.participants-only", "not_checked", NOTHING_CHECKED),
        passed("auth.required"),
        left=["call 7 could be neither cancelled nor ended"],
        notes=["the backend's clock is 40 s ahead of this machine's"],
        requests=1234,
        seconds=5.67,
        started_at=datetime(2030, 1, 1, 12, tzinfo=UTC),
    )


def hostile(text: str = HOSTILE) -> Results:
    """A backend that puts the same text wherever it can."""
    body = json.dumps({"error": text}, ensure_ascii=False).encode("utf-8", "surrogatepass")
    shown = exchange(body), exchange(text.encode("utf-8", "surrogatepass"))
    return tree(
        failed("join.window", f"400; got {text}", *shown),
        failed("errors.unknown-path", f"`Allow`; got {text}", *shown),
        rule_result("get.not-found", "not_checked", text),
        broken=[outcome_of_test("broken", "join.again", text)],
        left=[text],
        notes=[text],
    )


class Page(HTMLParser):
    """What an HTML report is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


# -- What is told ----------------------------------------------------------------------------------


@every_report
def test_every_report_tells_of_a_violation_with_its_evidence(report: Callable[[Results], str]) -> None:
    text = report(everything())
    for wanted in ("join.window", "Call must be scheduled within the next 15 minutes", "4. Join Video Call"):
        assert wanted in text.replace("&#46;", ".")
    assert "DOCTOR_TOKEN" in text
    assert "curl -sS -i https://staging.example.com" in text
    assert NOTHING_CHECKED.split("[", maxsplit=1)[0] in text
    assert "mended in autumn" in text
    assert "16 minutes before the call" in text


@pytest.mark.parametrize("name", ["terminal", "html", "markdown"])
def test_people_are_told_the_verdict_what_was_left_and_how_to_use_the_curl_lines(name: str) -> None:
    text = re.sub(r"&#(\d+);", lambda found: chr(int(found[1])), REPORTS[name](everything()))
    assert "breaks 1 rule" in text
    assert "1,234 requests" in text
    assert "could be neither cancelled nor ended" in text
    assert "40 s ahead of" in text
    assert text.count("export DOCTOR_TOKEN=") == 1


@every_report
def test_a_test_that_broke_is_told_as_the_suites(report: Callable[[Results], str]) -> None:
    text = report(
        tree(passed("join.window"), broken=[outcome_of_test("broken", "join.again", "KeyError 42")])
    )
    assert "KeyError 42" in text
    assert "bug" in text


@every_report
def test_why_a_run_ended_early_is_told(report: Callable[[Results], str]) -> None:
    assert "stopped answering" in report(tree(passed("join.window"), stopped="it stopped answering"))


def test_warnings_are_shorter_in_the_terminal() -> None:
    text = in_terminal(tree(failed("errors.unknown-path", "`Allow` with GET"), passed("join.window")))
    assert "expected `Allow` with GET" in text
    assert "curl" not in text


def test_steps_before_a_violation_are_told_with_their_bodies() -> None:
    before = exchange(b'{"id": 7}', status=201, method="POST", request_body=b'{"doctor": 1}')
    text = in_terminal(tree(failed("join.window", "400", before, exchange())))
    assert 'with {"doctor": 1}: 201 {"id": 7}' in text


def test_a_long_body_is_shown_in_part() -> None:
    text = in_terminal(tree(failed("join.window", "400", exchange(b'"' + b"x" * 100_000 + b'"'))))
    assert len(text) < 5000
    assert "more character" in text


def test_junit_fails_what_fails_the_run_and_nothing_else() -> None:
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


def test_junit_is_not_green_where_the_suite_did_no_work() -> None:
    root = ET.fromstring(as_junit(tree(passed("join.window"), stopped="gone")))  # noqa: S314 (our own)
    assert root.get("errors") == "1"


def test_the_html_report_stands_alone() -> None:
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


def test_the_html_report_lists_every_rule_with_its_outcome() -> None:
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


# -- What a backend sent ---------------------------------------------------------------------------


@every_report
def test_nothing_secret_is_told(report: Callable[[Results], str]) -> None:
    shown = exchange(json.dumps({"error": TOKENS["doctor"], "token": "006" + "a" * 80}).encode())
    text = report(tree(failed("join.window", "400", shown)))
    assert TOKENS["doctor"] not in text
    assert "a" * 80 not in text


@every_report
def test_control_characters_are_shown_and_do_nothing(report: Callable[[Results], str]) -> None:
    text = report(hostile())
    assert re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text) == []
    assert "u202e" in text


@every_report
def test_half_a_character_breaks_no_report(report: Callable[[Results], str]) -> None:
    report(hostile("\ud800")).encode()


def test_what_a_backend_sent_is_no_html() -> None:
    plain, other = Page(as_html(hostile("harmless"))), Page(as_html(hostile()))
    assert [tag for tag, _ in other.tags] == [tag for tag, _ in plain.tags]


def test_what_a_backend_sent_is_no_xml() -> None:
    def shape(text: str) -> list[str]:
        return [element.tag for element in ET.fromstring(text).iter()]  # noqa: S314 (our own)

    assert shape(as_junit(hostile())) == shape(as_junit(hostile("harmless")))


def test_what_a_backend_sent_is_no_markup_of_the_terminals() -> None:
    assert "[bold]x[/]" in in_terminal(hostile())


def test_no_fence_of_the_markdown_is_broken_out_of() -> None:
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


def test_outside_of_fences_the_markdown_is_ours() -> None:
    text = as_markdown(
        tree(rule_result("get.not-found", "not_checked", "| a ![x](http://y) <b> @all www.z.org\n# h"))
    )
    (row,) = [line for line in text.splitlines() if "get" in line]
    assert row.count("|") == 5
    assert not re.search(r"<b>|!\[|@all|http://|www\.", row)


def test_visible_keeps_what_can_be_read() -> None:
    assert visible("Zoë — 日本語 🎉\n\tx") == "Zoë — 日本語 🎉\n\tx"
    assert visible("a\x1b[0m\r\nb\r\u2028\ufeff") == "a\\x1b[0m\nb\\x0d\\u2028\\ufeff"


def test_no_failure_without_exchanges_breaks_a_report() -> None:
    gone = RuleResult(failed("join.window").rule, "failed", "it holds now", (), (), "holds")
    for report in REPORTS.values():
        assert "it holds now" in report(tree(gone))
