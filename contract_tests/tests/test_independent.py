"""Tests with backends that share no code with the reference server: they conform, or break a rule on purpose.

The default run has the small one; the others are in `nox -s freedoms`, and `examples/backends` has two more.
"""

from pathlib import Path

import pytest
from video_calls_spec import RULES

from support.suite_runs import SMALL_BACKEND, backend_process, run_on_small_backend, run_suite

EVENTS = {slug for slug in RULES if slug.startswith("events.")}

NOT_OF_SMALL = {
    "create.idempotency-key",
    "errors.body-size",
    "list.page-out-of-range",
    "list.page-size",
    "tracing.request-id",
}

BACKENDS = {
    "small": ([], {"errors.allow-header"}, NOT_OF_SMALL),
    "opening hours": (
        ["--uuids", "--days-ahead", "90", "--opening-hours"],
        {"errors.allow-header", "model.integer-ids"},
        NOT_OF_SMALL,
    ),
    "a week": (
        ["--days-ahead", "7", "--opening-hours", "--step", "10", "--notice", "5"],
        {"errors.allow-header"},
        NOT_OF_SMALL,
    ),
    "to the letter": (
        ["--strict-window", "--hide-foreign"],
        {"errors.allow-header"},
        NOT_OF_SMALL,
    ),
}
"""The options of each backend, the recommendations that it does not follow, and its unchecked rules."""


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    "name", [name if name == "small" else pytest.param(name, marks=pytest.mark.long) for name in BACKENDS]
)
def test_independent_backend_conforms(name: str, tmp_path: Path) -> None:
    options, notes, unchecked = BACKENDS[name]
    verdict = run_on_small_backend(tmp_path, options)
    assert verdict.failed == set(), verdict.output
    assert verdict.noted == notes, verdict.output
    assert verdict.unchecked == unchecked | EVENTS, verdict.reasons
    assert all("not offered" in verdict.reasons[slug] for slug in EVENTS)
    assert verdict.status == 0, verdict.output
    assert verdict.left == ()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "starts_at", ["2026-11-30T12:10:00Z", pytest.param("2026-12-05T23:40:00Z", marks=pytest.mark.long)]
)
def test_suite_discovers_and_notes_booking_policy(starts_at: str, tmp_path: Path) -> None:
    rules = ("create.schedules", "create.adjacent", "join.credentials", "join.token-channel")
    policy = ["--uuids", "--days-ahead", "7", "--opening-hours", "--notice", "30"]
    options = [*policy, "--starts-at", starts_at]
    verdict = run_on_small_backend(tmp_path, options, *(f"--rule={slug}" for slug in rules))
    assert (verdict.status, verdict.failed, verdict.left) == (0, set(), ()), verdict.output
    reason = "the backend books no call less than 30 minutes ahead"
    assert verdict.reasons["join.credentials"] == verdict.reasons["join.token-channel"] == reason
    assert verdict.unchecked == {"join.credentials", "join.token-channel"}
    for note in ("(about 7 days ahead)", "the backend books on ", reason):
        assert note in verdict.output


@pytest.mark.long
@pytest.mark.timeout(200)
def test_failing_join_blocks_only_rules_that_join(tmp_path: Path) -> None:
    leak = 'languages={"account_number": "608010167519"}'
    verdict = run_on_small_backend(tmp_path, ["--break-join", "--replace", leak])
    assert verdict.failed == {"errors.no-server-error", "join.credentials", "privacy.details"}, verdict.output
    assert len(RULES) - len(verdict.unchecked) >= 60, verdict.output
    assert "join was answered 500 for call " in verdict.reasons["end.completes"]
    assert verdict.status == 1


@pytest.mark.long
@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("option", "rule"),
    [
        ("--replace=doctor={}", "model.schema"),
        ("--replace=results=null", "list.envelope"),
        ("--replace=uid={}", "model.schema"),
        ("--replace=channel_name=[]", "model.schema"),
        ("--refuse-create", "create.schedules"),
        ("empty-list-404", "list.own-calls"),
    ],
)
def test_response_of_invalid_shape_is_violation(option: str, rule: str, tmp_path: Path) -> None:
    verdict = run_on_small_backend(tmp_path, [option])
    assert rule in verdict.failed, verdict.output
    assert verdict.status == 1
    assert "Broken" not in verdict.output


@pytest.mark.long
@pytest.mark.timeout(120)
def test_equal_uids_of_any_two_participants_are_violation(tmp_path: Path) -> None:
    config = tmp_path / "contract.toml"
    with backend_process([SMALL_BACKEND, "profile-uid"], tmp_path, "# ready") as small_config:
        # Swap the patients: the doctor now has the same number as `other_patient`, not as `patient`.
        swapped = small_config.replace("[identities.patient]", "[identities.third]")
        swapped = swapped.replace("[identities.other_patient]", "[identities.patient]")
        config.write_text(swapped.replace("[identities.third]", "[identities.other_patient]"))
        verdict = run_suite(config, "--rule=join.uid-differs")
    assert verdict.failed == {"join.uid-differs"}, verdict.output


@pytest.mark.long
@pytest.mark.timeout(120)
def test_request_that_crashes_the_backend_is_named(tmp_path: Path) -> None:
    verdict = run_on_small_backend(tmp_path, ["body-kills"], "--rule=create.valid-body")
    assert verdict.status == 2, verdict.output
    notes = [line for line in verdict.output.splitlines() if "the connection ended during POST" in line]
    assert any('with {"doctor": [' in line for line in notes), verdict.output


@pytest.mark.long
@pytest.mark.timeout(120)
def test_hanging_operation_costs_few_full_timeouts(tmp_path: Path) -> None:
    verdict = run_on_small_backend(
        tmp_path, ["hanging-join"], "--section=join", "--section=end", "--section=cancel"
    )
    assert verdict.failed >= {"join.credentials", "join.window"}, verdict.output
    assert "got 0" not in verdict.output
    assert verdict.seconds < 100  # thirty full timeouts would take 300
