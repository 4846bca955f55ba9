"""Tests of the baseline."""

import tomllib
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from video_calls_contract.baseline import Entry, apply, read_baseline, write_baseline
from video_calls_contract.config import ConfigError

from support.sample_results import failed_rule, passed_rule, result_of_test, rule_result, tree

TODAY = date(2030, 6, 1)
KNOWN = Entry("join.window", "fixed in autumn")


def entries(path: Path) -> list[dict[str, Any]]:
    return tomllib.loads(path.read_text())["known"]


def test_violation_in_baseline_does_not_fail_run() -> None:
    results = tree(failed_rule("join.window"))
    apply([KNOWN], results.rules, TODAY)
    assert results.exit_status == 0
    assert results.rules[0].outcome == "known"
    assert "fixed in autumn" in results.rules[0].reason


@pytest.mark.parametrize("slug", ["join.window", "errors.unknown-path"])
def test_baseline_entry_of_passed_rule_fails_run(slug: str) -> None:
    results = tree(passed_rule(slug))
    apply([Entry(slug, "why")], results.rules, TODAY)
    assert results.exit_status == 1
    assert "remove the entry" in results.violations[0].reason


def test_baseline_entry_of_partly_checked_rule_is_valid() -> None:
    tests = (
        result_of_test("passed", "join.window"),
        result_of_test("not_checked", "join.window", "no outsider"),
    )
    results = tree(rule_result("join.window", "passed", "in part: no outsider", *tests))
    apply([KNOWN], results.rules, TODAY)
    assert results.exit_status == 0


@pytest.mark.parametrize(("days", "status"), [(-1, 1), (0, 0), (1, 0)])
def test_baseline_entry_is_valid_through_until_date(days: int, status: int) -> None:
    results = tree(failed_rule("join.window"))
    apply([Entry("join.window", "why", TODAY + timedelta(days))], results.rules, TODAY)
    assert results.exit_status == status
    assert results.rules[0].listed == ("expired" if status else "known")


def test_rewritten_baseline_keeps_reasons_and_until_dates(tmp_path: Path) -> None:
    path = tmp_path / "baseline.toml"
    results = tree(failed_rule("join.window"), failed_rule("errors.unknown-path"), passed_rule("join.again"))
    before = [Entry("join.window", 'it\'s "late" \\ ü\x7f', date(2031, 1, 2)), Entry("join.again", "gone")]
    apply(before, results.rules, TODAY)
    assert write_baseline(path, results.rules, before) == 2
    assert read_baseline(path) == [before[0], Entry("errors.unknown-path", "not fixed yet")]


def test_rewritten_baseline_keeps_rules_that_were_not_checked(tmp_path: Path) -> None:
    path = tmp_path / "baseline.toml"
    before = [KNOWN, Entry("join.again", "not run")]
    results = tree(rule_result("join.window", "not_checked", "no outsider"), failed_rule("end.completes"))
    write_baseline(path, results.rules, before)
    assert [entry["rule"] for entry in entries(path)] == ["join.window", "join.again", "end.completes"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("known = 1", "list of"),
        ('other = "x"', "list of"),
        ("[[known]]\nrule = 'join.wndow'\nreason = 'x'", "unknown rule 'join.wndow'"),
        ("[[known]]\nrule = 'join.window'", "a reason is missing"),
        ("[[known]]\nrule = 'join.window'\nreason = ' '", "a reason is missing"),
        ("[[known]]\nrule = 'join.window'\nreason = 'x'\nuntil = 'soon'", "until must be a date"),
        (
            "[[known]]\nrule = 'join.window'\nreason = 'x'\nuntil = 2030-01-01T00:00:00Z",
            "until must be a date",
        ),
        ("[[known]]\nrule = 'join.window'\nreason = 'x'\nday = 1", "unknown key day"),
        ("[[known]]\nrule = 'join.window'\nreason = 'x'\n" * 2, "listed twice"),
        ("known = [", "cannot be read"),
    ],
)
def test_invalid_baseline_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "baseline.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_baseline(path)
