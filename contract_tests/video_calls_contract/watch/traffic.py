"""Checks traffic: turns captures into results."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

from video_calls_spec import RULES, Level, RuleId

from video_calls_contract.catalogue import NOTED
from video_calls_contract.config import Agora
from video_calls_contract.observers.registry import OBSERVED, Recent
from video_calls_contract.reports import count
from video_calls_contract.reports.files import describe_error
from video_calls_contract.results import CONFORMS, Results, TestOutcome, TestResult, rule_results
from video_calls_contract.watch import creation_rules, exchange_rules
from video_calls_contract.watch.capture import Capture
from video_calls_contract.watch.decoding import decode, skip_reason
from video_calls_contract.watch.event_rules import EVENT_RULES, Connection
from video_calls_contract.watch.history import History, Report
from video_calls_contract.watch.registration import apply

_OUTAGE = (502, 503, 504)
_MOST_BROKEN = 20

_CHECKS = (*exchange_rules.CHECKS, *creation_rules.CHECKS)
_CHECKED_RULES = EVENT_RULES | OBSERVED.keys() | {rule for rule, _ in _CHECKS}

_NO_EXCHANGE = "no exchange of the traffic shows it"
_NEEDS_REQUESTS = "it needs requests that only `video-calls-contract run` sends"
_NEEDS_KNOWLEDGE = {
    "own-calls": "traffic does not show whose calls a user may see",
    "participants-only": "traffic does not show which call a user may see or change",
    "active": "traffic does not show which users are active",
    "active-user": "traffic does not show which users are active",
    "different-users": "traffic does not show which doctor is which patient",
    "valid": "traffic does not show which doctors and patients exist",
    "valid-token": "only the backend knows which tokens are valid",
    "no-race": "the order of simultaneous requests is unknown",
    "adjacent": "a refusal may have reasons that traffic does not show",
    "frees-slot": "a refusal may have reasons that traffic does not show",
}
"""Why traffic cannot show whether a rule is kept, by the last part of the rule's slug."""


class _Results(Results):
    @property
    def verdict(self) -> str:
        """The outcome in a few words; traffic shows only a part of the contract."""
        if self.exit_status != CONFORMS:
            return super().verdict
        not_checked = len(self.of("not_checked"))
        checked = len(self.rules) - not_checked
        return f"breaks no rule in this traffic ({checked} rules checked, {not_checked} not)"


class Traffic:
    """Checks captures one after another.

    Args:
        base_url: the root of the API.
        level: the lowest level whose violations fail.
        started_at: when the traffic began.
        report: a function that is called with the first violation of each rule.

    Attributes:
        notes: what a reader should know about the traffic.
        skip_reasons: for each rule that is not checked, why.
    """

    def __init__(
        self,
        base_url: str,
        agora: Agora,
        level: Level,
        started_at: datetime,
        report: Report = lambda _rule, _finding: None,
    ) -> None:
        parts = urlsplit(base_url)
        self._origin, self._root = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
        self.notes: list[str] = []
        self.skip_reasons: dict[RuleId, str] = {}
        if agora.app_certificate is None:
            self.skip_reasons["join.token-signature"] = "no --config gives agora.app_certificate"
        self._results = _Results(base_url, level, 0, started_at=started_at)
        self._history = History(agora, self.skip_reasons, started_at, report)
        self._connections: Recent[int, Connection] = Recent()
        self._skip_counts: Counter[str] = Counter()

    def check(self, capture: Capture) -> None:
        """Check a capture. If the suite crashes, record this, so that the next capture can be checked."""
        try:
            if capture.socket:
                self._check_message(capture)
            else:
                self._check_exchange(capture)
        except Exception as error:  # noqa: BLE001 (a bug must not end the check of the traffic)
            broken = TestResult("checking an exchange", (), "broken", describe_error(error))
            self._results.broken = [*self._results.broken, broken][:_MOST_BROKEN]

    def _check_message(self, capture: Capture) -> None:
        if capture.target.partition("?")[0] != f"{self._root}/events/":
            return
        if capture.socket not in self._connections:
            opened = decode(capture, self._origin, self._root)
            self._connections[capture.socket] = Connection(self._history, opened)
        self._connections[capture.socket].check(capture)
        if capture.is_end:
            del self._connections[capture.socket]

    def _check_exchange(self, capture: Capture) -> None:
        self._results.requests += 1
        if reason := skip_reason(capture, self._root):
            self._skip_counts[reason] += 1
            return
        exchange = decode(capture, self._origin, self._root)
        if exchange.status in _OUTAGE and not isinstance(exchange.object.get("error"), str):
            self._skip_counts["answered by a gateway in place of the target"] += 1
            return
        self._history.prepare(exchange)
        self._history.watch(exchange)
        for rule, check in _CHECKS:
            apply(self._history, rule, check, exchange)
        self._history.remember(exchange)

    def results(self) -> Results:
        """Return the results."""
        results = self._results
        rules = {str(slug): rule for slug, rule in RULES.items()}
        results.rules = rule_results(rules, [self._result(slug) for slug in RULES])
        results.seconds = (datetime.now(UTC) - results.started_at).total_seconds()
        results.notes = [*self.notes, *self._notes()]
        return results

    def _result(self, slug: RuleId) -> TestResult:
        findings, number = self._history.findings[slug], self._history.checked[slug]
        reason, broken_rule = "; ".join(dict.fromkeys(finding.expected for finding in findings)), ""
        outcome: TestOutcome = "passed"
        if findings:
            broken_rule, outcome = slug, "noted" if slug in NOTED else "failed"
        elif not number:
            outcome, reason = "not_checked", self._skip_reason(slug)
        exchanges = tuple(exchange for finding in reversed(findings) for exchange in finding.exchanges)
        return TestResult(f"in {count(number, 'exchange')}", (slug,), outcome, reason, broken_rule, exchanges)

    def _skip_reason(self, slug: RuleId) -> str:
        """Return why a rule was checked in no exchange."""
        if slug in self.skip_reasons:
            return self.skip_reasons[slug]
        if slug in _CHECKED_RULES:
            return _NO_EXCHANGE
        ending = slug.rpartition(".")[2]
        reasons = [reason for end, reason in _NEEDS_KNOWLEDGE.items() if f"-{ending}".endswith(f"-{end}")]
        return reasons[0] if reasons else _NEEDS_REQUESTS

    def _notes(self) -> Iterator[str]:
        if self._skip_counts:
            numbers = ", ".join(f"{number:,} {reason}" for reason, number in self._skip_counts.most_common())
            yield f"exchanges that were not checked: {numbers}"
        if times := self._history.clock.skip_count:
            yield (
                f"{count(times, 'time')} were not current, in responses without any current time: "
                "the clock was set, or the times are wrong"
            )
        if resets := self._history.reset_count:
            yield (
                f"{count(resets, 'call')} became another one, or went back to an earlier state: the data was "
                "reset, or old responses were cached"
            )
