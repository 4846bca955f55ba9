"""Rules that hold for every exchange. They are judged last, over all that a run has seen."""

import pytest
from video_calls_spec import RuleId

from video_calls_contract.observers import MOST_FINDINGS, OBSERVED, Finding
from video_calls_contract.outcomes import Blocked, Missing, NotOffered, Violation
from video_calls_contract.run import Run

ABSENT = {
    "join.app-id": NotOffered("not offered: no answer to a join has an `app_id`"),
    "join.token-signature": Missing("the configuration has no agora.app_certificate"),
    "errors.body-everywhere": NotOffered("no request was refused before it reached an operation"),
}
"""Why a rule may have met nothing that it applies to."""

NEED_A_CALL = ("model.schema", "privacy.details")
NEED_A_JOIN = ("model.started-at", "model.ended-at")
"""Rules that little is known of where no call was made, or none was joined."""


@pytest.mark.observed
@pytest.mark.parametrize("slug", [pytest.param(slug, marks=pytest.mark.rule(slug)) for slug in OBSERVED])
def test_every_exchange_keeps_it(run: Run, obstacle: Blocked | None, slug: RuleId) -> None:
    aside = [Finding(expected, shown) for rule, expected, shown in run.backend.findings if rule == slug]
    findings = (run.observers.findings[slug] + aside)[:MOST_FINDINGS]
    if findings:
        expected = "; ".join(dict.fromkeys(finding.expected for finding in findings))
        # Reports show the last exchange in full: it is that of the first finding, which is told first.
        shown = (exchange for finding in reversed(findings) for exchange in finding.exchanges)
        raise Violation(expected, *shown)
    seen = run.observers.seen[slug]
    hardly = slug in NEED_A_JOIN or (slug in NEED_A_CALL and not run.calls.record.calls)
    if obstacle is not None and (hardly or (not seen and not slug.startswith("errors."))):
        raise obstacle
    if not seen:
        raise ABSENT.get(slug) or Blocked("no exchange of this run got so far")
