"""The HTML report in real headless Chromium: on a phone's width, and with its filters in use."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from video_calls_contract.reports.html import as_html
from video_calls_spec import RULES

from support.sample_results import failed_rule, passed_rule, rule_result, tree

playwright = pytest.importorskip("playwright.sync_api", reason="the Python package playwright is missing")

CHROMIUM = Path("/usr/bin/chromium")
PHONE = {"width": 390, "height": 844}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no Chromium at {CHROMIUM}"),
]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Any]:
    """Yield the page of a report whose first rule was not checked, so that a passed rule comes second."""
    first, *rest = RULES
    rules = [
        rule_result(first, "not_checked", "no time"),
        *map(passed_rule, rest[:-1]),
        failed_rule(rest[-1]),
    ]
    report = tmp_path / "report.html"
    report.write_text(as_html(tree(*rules)), encoding="utf-8")
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport=PHONE)
        page.goto(report.as_uri())
        yield page
        browser.close()


def test_report_fits_the_width_of_a_phone(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for control in page.locator("#filters :is(select, input, label)").all():
        box = control.bounding_box()
        assert 0 <= box["x"] <= box["x"] + box["width"] <= PHONE["width"], control.inner_text()
