"""Schemas: Schemathesis generates requests from openapi.yaml; `fuzzing` checks the responses."""

from concurrent.futures import Future

import pytest

from video_calls_contract.exceptions import NotOffered
from video_calls_contract.run import Run
from video_calls_contract.schema import operations

pytestmark = pytest.mark.long


@pytest.fixture(scope="module", autouse=True)
def skip_if_off(run: Run) -> None:
    """Skip these tests if generated requests are switched off."""
    if run.options.fuzz == "off":
        raise NotOffered("generated requests are switched off")


@pytest.mark.parametrize(
    "operation", [pytest.param(name, marks=pytest.mark.rule(f"fuzz.{name}")) for name in operations()]
)
def test_generated_requests_get_documented_responses(
    run: Run, preparing_fuzzer: Future[None], operation: str
) -> None:
    preparing_fuzzer.result()
    from video_calls_contract.fuzzing import fuzz_operation  # imports Schemathesis, which takes seconds

    fuzz_operation(run, operation)


@pytest.mark.rule("fuzz.links")
def test_link_chains_get_documented_responses(run: Run, preparing_fuzzer: Future[None]) -> None:
    preparing_fuzzer.result()
    from video_calls_contract.fuzzing import fuzz_links

    fuzz_links(run)
