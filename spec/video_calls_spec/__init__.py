"""The contract, for the three products that read it: where `openapi.yaml` lies, and its rules as data.

Nothing else may enter: no I/O beyond that one file, no import beyond the standard library.
"""

from pathlib import Path

from video_calls_spec._rules import RULES, RuleId
from video_calls_spec._types import Level, Rule

__all__ = ["RULES", "Level", "Rule", "RuleId", "openapi_path"]


def openapi_path() -> Path:
    """Where `openapi.yaml` is: inside this package when installed, at the root in a checkout."""
    here = Path(__file__).resolve().parent
    installed = here / "openapi.yaml"
    return installed if installed.exists() else here.parents[1] / "openapi.yaml"
