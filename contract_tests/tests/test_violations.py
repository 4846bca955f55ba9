"""Tests that the suite names the rule that a backend breaks, and no other rule.

Each run checks only a few rules. The default run has some violations; `nox -s violations` has all. As a
program, this module prints which rules caught each violation, from the JUnit report of these tests.
"""

import json
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from video_calls_spec import RULES

from support.alterations import Alteration, slug
from support.suite_runs import run_on_small_backend, run_suite
from support.violations import VIOLATIONS, Violation

QUICK = (
    "get needs no token",
    "cached list lags behind joins and ends",
    "only later calls overlap",
    "day that does not exist rolls over",
    "006 token has another certificate",
    "id of an event is a number",
)
"""The violations of the default run: one for each technique of the suite."""

COLUMNS = ("violation", "caught by", "also named", "seconds")


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "violation",
    [
        pytest.param(one, id=slug(one.name), marks=() if one.name in QUICK else pytest.mark.long)
        for one in VIOLATIONS
    ],
)
def test_suite_names_the_rules_of_a_violation(
    violation: Violation,
    altered: Callable[..., str],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    how = violation.how
    selection = ["--level=should", *(f"--rule={rule}" for rule in sorted(violation.checked_rules))]
    if isinstance(how, Alteration):
        (tmp_path / "contract.toml").write_text(altered(violation.name))
        verdict = run_suite(tmp_path / "contract.toml", *selection)
    else:
        word = how if isinstance(how, str) else f"--policy={json.dumps(how)}"
        verdict = run_on_small_backend(tmp_path, [word], *selection)
    named_rules = verdict.failed | verdict.noted
    columns = (named_rules & violation.rules, named_rules - violation.rules)
    values = (violation.name, *(", ".join(sorted(rules)) for rules in columns), f"{verdict.seconds:.1f}")
    for column, value in zip(COLUMNS, values, strict=True):
        record_property(column, value)
    assert named_rules == violation.rules, verdict.output
    assert verdict.status == (1 if verdict.failed else 0), verdict.output


def test_every_rule_has_a_violation() -> None:
    assert {rule for violation in VIOLATIONS for rule in violation.checked_rules} <= set(RULES)
    assert {rule for violation in VIOLATIONS for rule in violation.rules} == set(RULES)


def print_table(report: str) -> None:
    """Print the rules that caught each violation, from a JUnit report of these tests."""
    cases = [case.iter("property") for case in ET.parse(report).iter("testcase")]  # noqa: S314 (it is ours)
    properties_of_cases = [
        {one.get("name"): one.get("value", "") for one in properties} for properties in cases
    ]
    rows = sorted([one[column] for column in COLUMNS] for one in properties_of_cases if COLUMNS[0] in one)
    for violation, caught, also, seconds in (COLUMNS, *rows):
        print(f"{violation:66}  {caught:44}  {also:24}  {seconds}")
    print(f"\n{len(rows)} violations, {sum(not row[1] for row in rows)} not caught")


if __name__ == "__main__":
    print_table(sys.argv[1])
