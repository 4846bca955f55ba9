"""Successful answers held to the contract: what it shows of each conforms, what differs does not."""

import json
from dataclasses import replace
from typing import Any

import pytest
from video_calls_contract.exchange import Exchange
from video_calls_contract.schema import contract, operations, problems
from video_calls_spec import resolved

from support.made_results import exchange

OPERATIONS: dict[str, dict[str, Any]] = {
    operation["operationId"]: operation
    for path in contract()["paths"].values()
    for method, operation in path.items()
    if method != "parameters"
}
each_operation = pytest.mark.parametrize("operation", OPERATIONS)


def example(operation: str) -> Exchange:
    """The success that the contract shows."""
    [status] = [status for status in OPERATIONS[operation]["responses"] if status.startswith("2")]
    answer = resolved(contract(), OPERATIONS[operation]["responses"][status])
    shown = next(iter(answer["content"]["application/json"]["examples"].values()))
    body = json.dumps(resolved(contract(), shown)["value"]).encode()
    return exchange(body, status=int(status), operation=operation)


def test_the_operations_are_those_of_the_contract_in_its_order() -> None:
    assert list(operations()) == list(OPERATIONS)


@each_operation
def test_what_the_contract_shows_conforms(operation: str) -> None:
    assert problems(example(operation)) == []


@each_operation
def test_another_status_does_not(operation: str) -> None:
    good = example(operation)
    assert problems(replace(good, status=good.status + 2)) == [
        f"{good.status} on success; got {good.status + 2}"
    ]


@each_operation
def test_a_body_without_one_of_its_fields_does_not(operation: str) -> None:
    good = example(operation)
    body = dict(good.object)
    left_out = next(iter(body))
    del body[left_out]
    [complaint] = problems(replace(good, content=json.dumps(body).encode()))
    assert f'"{left_out}" is a required property' in complaint
