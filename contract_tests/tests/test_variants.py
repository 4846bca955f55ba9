"""That the suite blames no conforming backend: variants of the reference server, each with its freedoms.

All of them take twenty minutes and are `nox -s variants`; the default run has one, which combines many.
"""

from pathlib import Path

import pytest
from mutants import drifted
from runs import LONGEST, Verdict, judged
from variants import COMBINED, SINGLE, Variant
from video_calls_contract.catalogue import NOTED
from video_calls_spec import RULES


def assert_conforms(variant: Variant, verdict: Verdict) -> None:
    assert verdict.failed == set(), verdict.output
    assert verdict.noted == variant.notes, verdict.output
    assert verdict.unchecked == variant.unchecked, verdict.reasons
    assert verdict.status == 0, verdict.output
    assert verdict.left == ()


DEFAULT, *REST = (*COMBINED, *SINGLE)


@pytest.mark.timeout(LONGEST)
@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(DEFAULT, id=DEFAULT.name[:60]),
        *(pytest.param(variant, id=variant.name[:60], marks=pytest.mark.long) for variant in REST),
    ],
)
def test_a_freedom_is_not_blamed(variant: Variant, tmp_path: Path) -> None:
    assert_conforms(variant, judged(variant, tmp_path))


def test_every_variant_fits_the_server() -> None:
    found = {variant.name: drifted(variant.changes) for variant in (*SINGLE, *COMBINED)}
    assert {name: changes for name, changes in found.items() if changes} == {}


def test_a_variant_leaves_nothing_that_every_backend_must_keep() -> None:
    for variant in (*SINGLE, *COMBINED):
        assert variant.notes <= NOTED, variant.name
        assert {RULES[slug].level for slug in variant.unchecked} <= {"should", "may"}, variant.name
