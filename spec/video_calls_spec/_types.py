"""The shape of a rule; the rules themselves are generated into `_rules.py`."""

from typing import Literal, NamedTuple

Level = Literal["must", "should", "may"]


class Rule(NamedTuple):
    """One behaviour that the contract asks for, from `x-rules` of `openapi.yaml`.

    `statement` is the document's own sentence and `section` the heading it stands under. `operation` is
    an `operationId`, or `*` for all. `status` is the answer when the rule acts; `error` is the text of
    that answer where it is a refusal, else None.
    """

    id: str
    level: Level
    section: str
    statement: str
    operation: str
    status: int
    error: str | None
    summary: str
