"""Rules that hold for every exchange. They are judged last, over all that a run has seen."""

import pytest
from video_calls_spec import RuleId

from video_calls_contract.backend import Missing
from video_calls_contract.checks import Blocked, NotOffered, Violation
from video_calls_contract.observers import OBSERVED
from video_calls_contract.run import Run

ABSENT = {
    "join.app-id": NotOffered("not offered: no answer to a join has an `app_id`"),
    "join.token-signature": Missing("the configuration has no agora.app_certificate"),
    "errors.body-everywhere": NotOffered("no request was refused before it reached an operation"),
}
"""Why a rule may have met nothing that it applies to."""


@pytest.mark.observed
@pytest.mark.usefixtures("lives")
@pytest.mark.parametrize("slug", [pytest.param(slug, marks=pytest.mark.rule(slug)) for slug in OBSERVED])
def test_every_exchange_keeps_it(run: Run, slug: RuleId) -> None:
    findings = run.observers.findings[slug]
    if findings:
        expected = "; ".join(dict.fromkeys(finding.expected for finding in findings))
        raise Violation(expected, *(exchange for finding in findings for exchange in finding.exchanges))
    if not run.observers.seen[slug]:
        raise ABSENT.get(slug) or Blocked("no exchange of this run got so far")
