"""Tests of the tree of results: outcomes, verdict, exit status and JSON."""

import json

import pytest
from video_calls_contract.results import Results, TestOutcome, as_json, rule_results
from video_calls_spec import RULES

from support.sample_results import exchange, failed_rule, passed_rule, result_of_test, rule_result, tree

SLUGS = {slug: RULES[slug] for slug in ("join.window", "join.again")}


def test_exit_status_of_a_violation_is_1() -> None:
    broken = [result_of_test("broken", "join.again")]
    assert tree(failed_rule("join.window"), broken=broken, stopped="the run was interrupted").exit_status == 1


def test_should_rule_violation_fails_only_at_should_level() -> None:
    results = tree(failed_rule("errors.unknown-path"), passed_rule("join.window"))
    assert (results.exit_status, len(results.warnings), results.violations) == (0, 1, [])
    results.level = "should"
    assert (results.exit_status, results.warnings, len(results.violations)) == (1, [], 1)


def test_rules_with_the_same_refusal_are_grouped() -> None:
    refusal = exchange(operation="joinVideoCall", status=500)
    other = failed_rule("end.completes", "200; got 500", exchange(operation="endVideoCall", status=500))
    results = tree(
        failed_rule("create.frees-slot", "200; got 500", refusal),
        other,
        failed_rule("join.window", "200", refusal),
    )
    slugs = [[result.rule.id for result in cause] for cause in results.causes]
    assert slugs == [["join.window", "create.frees-slot"], ["end.completes"]]


@pytest.mark.parametrize("status", [101, 200])
def test_rules_without_a_refusal_are_not_grouped(status: int) -> None:
    evidence = exchange(status=status)
    results = tree(failed_rule("join.window", "400", evidence), failed_rule("join.again", "200", evidence))
    assert len(results.causes) == 2


def test_note_fails_the_run_at_no_level() -> None:
    noted = result_of_test("noted", "list.newest-first", "calls in descending order")
    results = tree(*rule_results({"list.newest-first": RULES["list.newest-first"]}, [noted]))
    results.level = "should"
    assert (results.exit_status, results.warnings, results.violations) == (0, [], [])
    assert [result.reason for result in results.of("noted")] == ["expected calls in descending order"]


BLOCKED = result_of_test("blocked", "join.window", "no call could be scheduled: 500", exchange())


@pytest.mark.parametrize(
    ("results", "verdict"),
    [
        (tree(), "nothing was checked"),
        (tree(rule_result("join.window", "not_checked", "no outsider")), "nothing was checked"),
        (tree(passed_rule("join.window"), broken=[result_of_test("broken", "join.again")]), "bug"),
        (tree(*rule_results(SLUGS, [BLOCKED])), "join.window: no call could be scheduled"),
        (
            tree(*rule_results(SLUGS, [BLOCKED, result_of_test("passed", "join.window")])),
            "join.window: no call could be scheduled",
        ),
    ],
    ids=["no rule", "not checked", "bug", "blocked", "blocked in part"],
)
def test_exit_status_of_incomplete_run_is_2(results: Results, verdict: str) -> None:
    assert results.exit_status == 2
    assert verdict in results.verdict


@pytest.mark.parametrize(
    ("second", "expected"),
    [("passed", "passed"), ("not_checked", "passed"), ("blocked", "passed"), ("broken", "not_checked")],
)
def test_rule_outcome_combines_outcomes_of_its_tests(second: TestOutcome, expected: str) -> None:
    tests = [result_of_test("passed", "join.window"), result_of_test(second, "join.window", "why")]
    result = rule_results(SLUGS, tests)[0]
    assert result.outcome == expected
    assert ("why" in result.reason) == (second != "passed")


def test_json_report_has_its_keys() -> None:
    results = tree(failed_rule("join.window", "200; got 500", exchange(b"\xff{")), passed_rule("join.again"))
    document = json.loads(json.dumps(as_json(results)))
    assert document["base_url"] == "https://staging.example.com/api/v1/video"
    assert document["summary"] == {"passed": 1, "failed": 1, "noted": 0, "not_checked": 0, "known": 0}
    rule = document["rules"][0]
    assert {key: rule[key] for key in ("id", "level", "section", "outcome", "reason")} == {
        "id": "join.window",
        "level": "must",
        "section": "4. Join Video Call",
        "outcome": "failed",
        "reason": "expected 200; got 500",
    }
    assert rule["statement"] == "Call must be scheduled within the next 15 minutes"
    (evidence,) = rule["exchanges"]
    assert evidence["request"].startswith("GET https://")
    assert evidence["response"].startswith("HTTP 500")
    assert "$DOCTOR_TOKEN" in evidence["curl"]
