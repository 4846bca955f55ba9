"""How a rule says no."""

from video_calls_spec import RULES, RuleId


class RuleViolation(Exception):
    """A rule of the catalogue refuses the request.

    The status and, unless `error` is given, the text come from the rule in `openapi.yaml`.
    """

    def __init__(
        self,
        rule: RuleId,
        *,
        error: str | None = None,
        fields: dict[str, list[str]] | None = None,
    ) -> None:
        self.rule = RULES[rule]
        self.error = error or error_text(rule)
        self.fields = fields
        super().__init__(f"{rule}: {self.error}")


def error_text(rule: RuleId) -> str:
    """The contract's text for the refusal by a rule."""
    text = RULES[rule].error
    if text is None:
        raise LookupError(f"{rule} refuses nothing")
    return text


def refused_field(rule: RuleId, field: str) -> RuleViolation:
    """The violation of `rule` by one field of the request, named in the error body's `fields`."""
    return RuleViolation(rule, fields={field: [error_text(rule)]})
