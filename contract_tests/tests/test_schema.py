"""Tests of the schema check of successful responses."""

import json
from dataclasses import replace
from typing import Any

import pytest
from video_calls_contract.exchange import Exchange
from video_calls_contract.schema import contract, operations, problems
from video_calls_spec import resolved

from support.sample_results import exchange

OPERATIONS: dict[str, dict[str, Any]] = {
    operation["operationId"]: operation
    for path in contract()["paths"].values()
    for method, operation in path.items()
    if method != "parameters"
}
each_operation = pytest.mark.parametrize("operation", OPERATIONS)


def example(operation: str) -> Exchange:
    """Return the successful response that the contract has as its example."""
    [status] = [status for status in OPERATIONS[operation]["responses"] if status.startswith("2")]
    answer = resolved(contract(), OPERATIONS[operation]["responses"][status])
    example_value = next(iter(answer["content"]["application/json"]["examples"].values()))
    body = json.dumps(resolved(contract(), example_value)["value"]).encode()
    return exchange(body, status=int(status), operation=operation)


def test_operations_have_the_order_of_the_contract() -> None:
    assert list(operations()) == list(OPERATIONS)


@each_operation
def test_example_of_the_contract_conforms(operation: str) -> None:
    assert problems(example(operation)) == []


@each_operation
def test_unexpected_status_is_a_problem(operation: str) -> None:
    success = example(operation)
    assert problems(replace(success, status=success.status + 2)) == [
        f"{success.status} on success; got {success.status + 2}"
    ]


@each_operation
def test_missing_field_is_a_problem(operation: str) -> None:
    success = example(operation)
    body = dict(success.object)
    left_out = next(iter(body))
    del body[left_out]
    [problem] = problems(replace(success, content=json.dumps(body).encode()))
    assert f'"{left_out}" is a required property' in problem
