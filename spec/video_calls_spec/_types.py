"""The type of a rule; the generated `_rules.py` has the rules."""

from typing import Literal, NamedTuple

Level = Literal["must", "should", "may"]


class Rule(NamedTuple):
    """A rule of the contract, from `x-rules` of `openapi.yaml`.

    `statement` is the document's sentence and `section` its heading. `operation` is an `operationId`, or `*`
    for all. `status` is the status of the response to which the rule applies. `error` is the text of the
    refusal; None if the rule refuses nothing.
    """

    id: str
    level: Level
    section: str
    statement: str
    operation: str
    status: int
    error: str | None
    summary: str
