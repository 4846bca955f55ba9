"""The exception that a rule raises to refuse a request."""

from video_calls_spec import RULES, RuleId


class RuleViolation(Exception):
    """A rule of the catalogue refuses the request.

    The status comes from the rule in `openapi.yaml`, and so does the text unless `error` replaces it.
    `fields` holds the messages for each field of the request.
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
    """Return the error text of a rule.

    Raises:
        LookupError: if the rule refuses no request.
    """
    text = RULES[rule].error
    if text is None:
        raise LookupError(f"{rule} refuses nothing")
    return text


def field_violation(rule: RuleId, field: str) -> RuleViolation:
    """Return the violation of `rule` by one field of the request."""
    return RuleViolation(rule, fields={field: [error_text(rule)]})
