"""The contract for the three products: the path of `openapi.yaml`, and its rules as data.

No I/O beyond that file, and no import beyond the standard library.
"""

from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from video_calls_spec._rules import RULES, OperationId, RuleId
from video_calls_spec._types import Level, Rule

__all__ = ["RULES", "Level", "OperationId", "Rule", "RuleId", "openapi_path", "resolved"]


def openapi_path() -> Path:
    """Return the path of `openapi.yaml`: in this package if installed, at the root in a checkout."""
    here = Path(__file__).resolve().parent
    installed = here / "openapi.yaml"
    return installed if installed.exists() else here.parents[1] / "openapi.yaml"


def resolved(contract: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """Return a node of the contract after following its `$ref`; `contract` is the whole document."""
    while "$ref" in node:
        node = reduce(getitem, node["$ref"].removeprefix("#/").split("/"), contract)
    return node
