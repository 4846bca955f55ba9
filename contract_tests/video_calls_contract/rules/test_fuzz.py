"""Schemas: what Schemathesis generates from openapi.yaml is answered as the contract says."""

import pytest

from video_calls_contract.outcomes import NotOffered
from video_calls_contract.run import Run
from video_calls_contract.schema import operations

pytestmark = pytest.mark.long


@pytest.fixture(scope="module", autouse=True)
def wanted(run: Run) -> None:
    """Generated requests may be switched off."""
    if run.options.fuzz == "off":
        raise NotOffered("generated requests are switched off")


@pytest.mark.parametrize(
    "operation", [pytest.param(name, marks=pytest.mark.rule(f"fuzz.{name}")) for name in operations()]
)
def test_generated_requests_are_answered_as_the_contract_says(run: Run, operation: str) -> None:
    from video_calls_contract.fuzzing import fuzz_operation  # Schemathesis takes a while to import

    fuzz_operation(run, operation)


@pytest.mark.rule("fuzz.links")
def test_chains_along_the_links_are_answered_as_the_contract_says(run: Run) -> None:
    from video_calls_contract.fuzzing import fuzz_links

    fuzz_links(run)
