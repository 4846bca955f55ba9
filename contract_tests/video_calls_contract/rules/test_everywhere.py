"""Rules for every exchange. The observers check them; at the end, these tests report the findings."""

import pytest
from video_calls_spec import RuleId

from video_calls_contract.exceptions import Blocked, Missing, NotOffered, Violation
from video_calls_contract.observers.registry import MOST_FINDINGS, OBSERVED, Finding
from video_calls_contract.run import Run

ABSENT = {
    "join.app-id": NotOffered("not offered: no response to a join has an `app_id`"),
    "join.token-signature": Missing("the configuration has no agora.app_certificate"),
    "errors.body-everywhere": NotOffered("no request was refused outside the operations"),
}
"""For some rules, why a run may have no exchange to check."""

NEED_A_CALL = ("model.schema", "privacy.details")
NEED_A_JOIN = ("model.started-at", "model.ended-at")
"""Rules that are not checked if no call was created, or none was joined."""


@pytest.mark.observed
@pytest.mark.parametrize("slug", [pytest.param(slug, marks=pytest.mark.rule(slug)) for slug in OBSERVED])
def test_every_exchange_keeps_rule(run: Run, sampling_error: Blocked | None, slug: RuleId) -> None:
    of_tests = [
        Finding(expected, exchanges) for rule, expected, exchanges in run.backend.findings if rule == slug
    ]
    findings = (run.observers.findings[slug] + of_tests)[:MOST_FINDINGS]
    if findings:
        expected = "; ".join(dict.fromkeys(finding.expected for finding in findings))
        # The first finding comes last, because reports show only the last exchange in full.
        evidence = (exchange for finding in reversed(findings) for exchange in finding.exchanges)
        raise Violation(expected, *evidence)
    checked = run.observers.checked[slug]
    is_partial = slug in NEED_A_JOIN or (slug in NEED_A_CALL and not run.calls.created.calls)
    if sampling_error is not None and (is_partial or (not checked and not slug.startswith("errors."))):
        raise sampling_error
    if not checked:
        raise ABSENT.get(slug) or Blocked("no exchange of this run concerned this rule")
