"""The exceptions that end a test; `pytest_plugin.py` turns each into a result."""

from video_calls_spec import RuleId

from video_calls_contract.exchange import Exchange


class Violation(AssertionError):
    """The backend does not keep a rule.

    Attributes:
        expected: what a backend that keeps the rule does, and what this one did.
        exchanges: the evidence, in the order of time.
        rule: the violated rule; None stands for the first rule of the test.
    """

    def __init__(self, expected: str, *exchanges: Exchange, rule: RuleId | None = None) -> None:
        super().__init__(expected)
        self.expected = expected
        self.exchanges = exchanges
        self.rule = rule


class Blocked(Exception):
    """The test could not check its rule, because the backend refused an earlier step.

    Attributes:
        exchange: the refusal of that step, if there is one.
    """

    def __init__(self, reason: str, exchange: Exchange | None = None) -> None:
        super().__init__(reason)
        self.exchange = exchange


class OutsidePolicy(Blocked):
    """The backend's booking policy excludes the time that a test needs."""


class NotOffered(Exception):
    """The backend does not implement an optional feature."""


class Missing(Exception):
    """The configuration lacks something that the test needs, such as an identity."""


class Unreachable(Exception):
    """The backend does not answer any more, so the suite cannot do its work."""


class NotTheBackend(Unreachable):
    """Something answers or refuses the connection instead of the backend; the message says what helps."""
