"""The tree of results: what becomes of tests, and of the exit status."""

import json

import pytest
from video_calls_contract.results import TestOutcome, as_json, rule_results
from video_calls_spec import RULES

from support.made_results import exchange, failed, outcome_of_test, passed, rule_result, tree

SLUGS = {slug: RULES[slug] for slug in ("join.window", "join.again")}


def test_a_violation_is_a_one_whatever_else_happened() -> None:
    broken = [outcome_of_test("broken", "join.again")]
    assert tree(failed("join.window"), broken=broken, stopped="the run was interrupted").exit_status == 1


def test_a_should_deviation_fails_at_that_level_only() -> None:
    results = tree(failed("errors.unknown-path"), passed("join.window"))
    assert (results.exit_status, len(results.warnings), results.violations) == (0, 1, [])
    results.level = "should"
    assert (results.exit_status, results.warnings, len(results.violations)) == (1, [], 1)


def test_rules_that_one_refusal_shows_are_told_together() -> None:
    refusal = exchange(operation="joinVideoCall", status=500)
    other = failed("end.completes", "200; got 500", exchange(operation="endVideoCall", status=500))
    results = tree(
        failed("create.frees-slot", "200; got 500", refusal), other, failed("join.window", "200", refusal)
    )
    slugs = [[result.rule.id for result in cause] for cause in results.causes]
    assert slugs == [["join.window", "create.frees-slot"], ["end.completes"]]


@pytest.mark.parametrize("status", [101, 200])
def test_rules_that_no_refusal_shows_are_told_apart(status: int) -> None:
    shown = exchange(status=status)
    results = tree(failed("join.window", "400", shown), failed("join.again", "200", shown))
    assert len(results.causes) == 2


def test_note_fails_no_level_and_is_no_warning() -> None:
    noted = outcome_of_test("noted", "list.newest-first", "calls in descending order")
    results = tree(*rule_results({"list.newest-first": RULES["list.newest-first"]}, [noted]))
    results.level = "should"
    assert (results.exit_status, results.warnings, results.violations) == (0, [], [])
    assert [result.reason for result in results.of("noted")] == ["expected calls in descending order"]


def test_nothing_checked_is_no_success() -> None:
    assert tree().exit_status == 2
    results = tree(rule_result("join.window", "not_checked", "no outsider"))
    assert results.exit_status == 2
    assert "nothing was checked" in results.verdict


def test_a_test_of_the_suites_that_broke_is_a_two_and_said_to_be_the_suites() -> None:
    results = tree(passed("join.window"), broken=[outcome_of_test("broken", "join.again", "KeyError: 'x'")])
    assert results.exit_status == 2
    assert "bug" in results.verdict


def test_a_rule_that_could_not_be_reached_is_a_two() -> None:
    blocked = outcome_of_test("blocked", "join.window", "no call could be scheduled: 500")
    rules = rule_results(SLUGS, [blocked, outcome_of_test("passed", "join.again")])
    results = tree(*rules)
    assert results.exit_status == 2
    assert "join.window: no call could be scheduled" in results.verdict


@pytest.mark.parametrize(
    ("second", "expected"),
    [("passed", "passed"), ("not_checked", "passed"), ("blocked", "passed"), ("broken", "not_checked")],
)
def test_rule_passes_in_part_unless_the_suite_broke(second: TestOutcome, expected: str) -> None:
    tests = [outcome_of_test("passed", "join.window"), outcome_of_test(second, "join.window", "why")]
    result = rule_results(SLUGS, tests)[0]
    assert result.outcome == expected
    assert ("why" in result.reason) == (second != "passed")


def test_rule_that_was_blocked_in_part_is_a_two() -> None:
    tests = [
        outcome_of_test("passed", "join.window"),
        outcome_of_test("blocked", "join.window", "join was answered 500 for call 19", exchange()),
    ]
    results = tree(*rule_results(SLUGS, tests))
    assert results.exit_status == 2
    assert "join was answered 500 for call 19" in results.verdict
    assert [len(rule.exchanges) for rule in results.rules] == [1, 0]


def test_json_has_the_promised_form() -> None:
    results = tree(failed("join.window", "200; got 500", exchange(b"\xff{")), passed("join.again"))
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
    (shown,) = rule["exchanges"]
    assert shown["request"].startswith("GET https://")
    assert shown["response"].startswith("HTTP 500")
    assert "$DOCTOR_TOKEN" in shown["curl"]
