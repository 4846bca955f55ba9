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

NEED_A_JOIN = ("model.started-at", "model.ended-at")
"""Rules, beside those of the join itself, that calls which nobody joins tell next to nothing about."""


@pytest.mark.observed
@pytest.mark.parametrize("slug", [pytest.param(slug, marks=pytest.mark.rule(slug)) for slug in OBSERVED])
def test_every_exchange_keeps_it(run: Run, lives: Blocked | None, slug: RuleId) -> None:
    findings = run.observers.findings[slug]
    if findings:
        expected = "; ".join(dict.fromkeys(finding.expected for finding in findings))
        raise Violation(expected, *(exchange for finding in findings for exchange in finding.exchanges))
    seen = run.observers.seen[slug]
    if lives is not None and (slug in NEED_A_JOIN or (slug.startswith("join.") and not seen)):
        raise lives
    if not seen:
        raise ABSENT.get(slug) or Blocked("no exchange of this run got so far")
