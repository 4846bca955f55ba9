"""The type of a rule; the generated `_rules.py` has the rules."""

from typing import Literal, NamedTuple

Level = Literal["must", "should", "may"]


class Rule(NamedTuple):
    """A rule of the contract, from `x-rules` of `openapi.yaml`.

    `statement` is the document's sentence and `section` its heading. `operation` is an `operationId`, or `*`
    for all. `status` is that of the response to which the rule applies. `error` is the error text of a
    refusal, else None.
    """

    id: str
    level: Level
    section: str
    statement: str
    operation: str
    status: int
    error: str | None
    summary: str
