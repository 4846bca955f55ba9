"""The contract, for the three products that read it: where `openapi.yaml` lies, and its rules as data.

What a part of it refers to is found here too. Nothing else may enter: no I/O beyond that one file, no
import beyond the standard library.
"""

from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from video_calls_spec._rules import RULES, OperationId, RuleId
from video_calls_spec._types import Level, Rule

__all__ = ["RULES", "Level", "OperationId", "Rule", "RuleId", "openapi_path", "resolved"]


def openapi_path() -> Path:
    """Where `openapi.yaml` is: inside this package when installed, at the root in a checkout."""
    here = Path(__file__).resolve().parent
    installed = here / "openapi.yaml"
    return installed if installed.exists() else here.parents[1] / "openapi.yaml"


def resolved(contract: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """A part of the contract, or what it refers to; `contract` is all of `openapi.yaml`, as YAML is read."""
    while "$ref" in node:
        node = reduce(getitem, node["$ref"].removeprefix("#/").split("/"), contract)
    return node
