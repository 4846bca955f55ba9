"""Registers the checks of rules, and applies them to exchanges."""

from collections.abc import Callable

from video_calls_spec import RuleId

from video_calls_contract.checks import require_refusal
from video_calls_contract.exceptions import Violation
from video_calls_contract.exchange import Exchange
from video_calls_contract.observers.registry import Finding
from video_calls_contract.watch.history import History

Check = Callable[[History, Exchange], bool | None]
"""Raises `Violation`; returns False if the rule does not concern the exchange."""


class Checks(list[tuple[RuleId, Check]]):
    """The checks of one module, each with its rule."""

    def of(self, rule: RuleId, *operations: str) -> Callable[[Check], Check]:
        """Register the check of a rule, for all exchanges or only for successes of these operations."""

        def register(check: Check) -> Check:
            def applicable(history: History, exchange: Exchange) -> bool | None:
                if operations and not (exchange.operation in operations and exchange.succeeded):
                    return False
                return check(history, exchange)

            self.append((rule, applicable))
            return check

        return register


def apply(history: History, rule: RuleId, check: Check, exchange: Exchange) -> None:
    """Check an exchange by a rule, and record a violation."""

    def observer(_: object, one: Exchange) -> list[Finding] | None:
        try:
            return None if check(history, one) is False else []
        except Violation as violation:
            return [Finding(violation.expected, violation.exchanges)]

    history.ask(rule, observer, exchange)


def is_refused(exchange: Exchange, *statuses: int, because: str, before: tuple[Exchange, ...] = ()) -> bool:
    """Return whether a request was refused with one of these statuses.

    Raises:
        Violation: if it succeeded.
    """
    if exchange.succeeded:
        require_refusal(exchange, *statuses, before=before, because=because)
    return exchange.status in statuses
