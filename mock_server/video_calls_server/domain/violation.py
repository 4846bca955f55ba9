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
        self.error = error or self.rule.error or self.rule.summary
        self.fields = fields
        super().__init__(f"{rule}: {self.error}")


def refused_field(rule: RuleId, field: str) -> RuleViolation:
    """The violation of `rule` by one field of the request, named in the error body's `fields`."""
    return RuleViolation(rule, fields={field: [RULES[rule].error or ""]})
