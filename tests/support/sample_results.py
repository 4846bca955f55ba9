"""Results of the suite, made by hand, and the reports of them."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
from video_calls_contract.exchange import Exchange
from video_calls_contract.redaction import Redactor
from video_calls_contract.reports import terminal
from video_calls_contract.reports.html import as_html
from video_calls_contract.reports.junit import as_junit
from video_calls_contract.reports.markdown import as_markdown
from video_calls_contract.results import Outcome, Results, RuleResult, TestOutcome, TestResult, as_json
from video_calls_spec import RULES

from support.fake_backend import TOKENS


def exchange(content: bytes = b'{"error": "no"}', *, status: int = 500, **changes: Any) -> Exchange:
    redactor = Redactor()
    redactor.learn(TOKENS["doctor"], "DOCTOR_TOKEN")
    now = datetime(2030, 1, 1, tzinfo=UTC)
    values: dict[str, Any] = {
        "operation": "getVideoCall",
        "user": "doctor",
        "method": "GET",
        "url": "https://staging.example.com/api/v1/video/video-calls/1/",
        "request_headers": (("Authorization", f"Bearer {TOKENS['doctor']}"),),
        "request_body": b"",
        "headers": httpx.Headers({"content-type": "application/json"}),
        "sent_at": now,
        "received_at": now,
        "redactor": redactor,
    }
    return Exchange(**{**values, **changes}, status=status, content=content)


def result_of_test(
    outcome: TestOutcome, slug: str, reason: str = "", *exchanges: Exchange, name: str = "a test"
) -> TestResult:
    return TestResult(
        name, (slug,), outcome, reason, slug if outcome in ("failed", "noted") else "", exchanges, 0.25
    )


def rule_result(
    slug: Any, outcome: Outcome, reason: str = "", *tests: TestResult, **values: Any
) -> RuleResult:
    exchanges_shown = tuple(one for test in tests for one in test.exchanges)
    return RuleResult(RULES[slug], outcome, reason, exchanges_shown, tests, **values)


def failed_rule(slug: Any, reason: str = "404; got 500", *exchanges: Exchange) -> RuleResult:
    exchanges_shown = exchanges or (exchange(),)
    return rule_result(
        slug, "failed", f"expected {reason}", result_of_test("failed", slug, reason, *exchanges_shown)
    )


def passed_rule(slug: Any) -> RuleResult:
    return rule_result(slug, "passed", "", result_of_test("passed", slug))


def tree(*rules: RuleResult, **values: Any) -> Results:
    return Results("https://staging.example.com/api/v1/video", "must", 0, rules=list(rules), **values)


def in_terminal(results: Results) -> str:
    file = io.StringIO()
    target = terminal.console(file)
    terminal.report(target, results)
    terminal.verdict(target, results)
    return file.getvalue()


def as_json_text(results: Results) -> str:
    return json.dumps(as_json(results))


REPORTS: dict[str, Callable[[Results], str]] = {
    "terminal": in_terminal,
    "junit": as_junit,
    "json": as_json_text,
    "html": as_html,
    "markdown": as_markdown,
}
