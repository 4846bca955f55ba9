"""That the suite blames no conforming backend: variants of the reference server, each with its freedoms.

All of them take twenty minutes and are `nox -s variants`; the default run has those that combine many.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from mutants import PACKAGE
from runs import LONGEST, Verdict, reference, run_suite
from variants import COMBINED, SINGLE, Variant
from video_calls_spec import RULES


@pytest.fixture
def judge(tmp_path: Path) -> Callable[[Variant], Verdict]:
    """Runs the suite against a variant."""

    def run(variant: Variant) -> Verdict:
        with reference(variant, tmp_path) as config:
            return run_suite(config)

    return run


def assert_conforms(variant: Variant, verdict: Verdict) -> None:
    assert verdict.failed == variant.warnings, verdict.output
    assert verdict.unchecked == variant.unchecked, verdict.reasons
    assert verdict.status == 0, verdict.output
    assert verdict.left == ()


@pytest.mark.timeout(LONGEST)
@pytest.mark.parametrize("variant", COMBINED, ids=lambda variant: variant.name)
def test_many_freedoms_at_once_are_not_blamed(variant: Variant, judge: Callable[[Variant], Verdict]) -> None:
    assert_conforms(variant, judge(variant))


@pytest.mark.long
@pytest.mark.timeout(LONGEST)
@pytest.mark.parametrize("variant", SINGLE, ids=lambda variant: variant.name)
def test_a_freedom_is_not_blamed(variant: Variant, judge: Callable[[Variant], Verdict]) -> None:
    assert_conforms(variant, judge(variant))


def test_every_variant_fits_the_server() -> None:
    drifted: list[str] = []
    for variant in (*SINGLE, *COMBINED):
        texts = {change.module: (PACKAGE / change.module).read_text() for change in variant.changes}
        for change in variant.changes:
            if texts[change.module].count(change.old) != 1:
                drifted.append(f"{variant.name}: not once in {change.module}: {change.old!r}")
            texts[change.module] = texts[change.module].replace(change.old, change.new)
        for module, text in texts.items():
            compile(text, f"{variant.name}: {module}", "exec")
    assert drifted == []


def test_a_variant_leaves_nothing_that_every_backend_must_keep() -> None:
    for variant in (*SINGLE, *COMBINED):
        assert {RULES[slug].level for slug in variant.warnings} <= {"should"}, variant.name
        assert {RULES[slug].level for slug in variant.unchecked} <= {"should", "may"}, variant.name
