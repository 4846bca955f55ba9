"""The judgement of traffic: records in, results out."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import urlsplit

from video_calls_spec import RULES, Level, RuleId

from video_calls_contract.catalogue import NOTED
from video_calls_contract.config import Agora
from video_calls_contract.reports import count
from video_calls_contract.reports.files import describe_error
from video_calls_contract.results import CONFORMS, Results, TestOutcome, TestResult, rule_results
from video_calls_contract.watch.capture import Record
from video_calls_contract.watch.decoding import exchange_of, why_unjudged
from video_calls_contract.watch.event_rules import JUDGED_EVENTS, Connection
from video_calls_contract.watch.exchange_rules import JUDGED, judge_exchange
from video_calls_contract.watch.history import Report, Traffic

__all__ = ["Judge"]

_OUTAGE = (502, 503, 504)
_MOST_BROKEN = 20

_NOT_SEEN = "the traffic had no exchange that shows it"
_NOT_JUDGED = "traffic is not judged by this rule; `video-calls-contract run` tests it"


class _Results(Results):
    @property
    def verdict(self) -> str:
        """The outcome in a few words; traffic shows a part of the contract only."""
        if self.exit_status != CONFORMS:
            return super().verdict
        unjudged = len(self.of("not_checked"))
        return f"breaks no rule in this traffic ({len(self.rules) - unjudged} rules judged, {unjudged} not)"


class Judge:
    """Judges records in the order in which they come.

    Args:
        base_url: the root of the API.
        level: the least level whose deviations fail.
        begun: when the traffic began.
        report: is called with the first violation of each rule.

    Attributes:
        notes: what a reader should know, beyond what the judge finds out.
        unjudged: rules that are not judged, and why.
    """

    def __init__(
        self,
        base_url: str,
        agora: Agora,
        level: Level,
        begun: datetime,
        report: Report = lambda _rule, _finding: None,
    ) -> None:
        parts = urlsplit(base_url)
        self._origin, self._root = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
        self.notes: list[str] = []
        self.unjudged: dict[RuleId, str] = {}
        if agora.app_certificate is None:
            self.unjudged["join.token-signature"] = "no agora.app_certificate was given with --config"
        self._results = _Results(base_url, level, 0, started_at=begun)
        self._traffic = Traffic(agora, self.unjudged, begun, report)
        self._connections: dict[int, Connection] = {}
        self._skipped: Counter[str] = Counter()

    def judge(self, record: Record) -> None:
        """Judge a record. If the suite breaks on it, the results say so, and the next one is judged."""
        try:
            if record.socket:
                self._message(record)
            else:
                self._http(record)
        except Exception as error:  # noqa: BLE001 (whatever breaks, traffic is still judged)
            broken = TestResult("judging an exchange", (), "broken", describe_error(error))
            self._results.broken = [*self._results.broken, broken][:_MOST_BROKEN]

    def _message(self, record: Record) -> None:
        if record.target.partition("?")[0] != f"{self._root}/events/":
            return
        if record.socket not in self._connections:
            opened = exchange_of(record, self._origin, self._root)
            self._connections[record.socket] = Connection(self._traffic, opened)
        self._connections[record.socket].judge(record)
        if record.is_end:
            del self._connections[record.socket]

    def _http(self, record: Record) -> None:
        self._results.requests += 1
        if why := why_unjudged(record, self._root):
            self._skipped[why] += 1
            return
        exchange = exchange_of(record, self._origin, self._root)
        if exchange.status in _OUTAGE and not isinstance(exchange.object.get("error"), str):
            self._skipped["answered by a gateway in place of the target"] += 1
            return
        judge_exchange(self._traffic, exchange)

    def results(self) -> Results:
        """Return the results."""
        results = self._results
        rules = {str(slug): rule for slug, rule in RULES.items()}
        results.rules = rule_results(rules, [self._of_rule(slug) for slug in RULES])
        results.seconds = (datetime.now(UTC) - results.started_at).total_seconds()
        results.notes = [*self.notes, *self._notes()]
        return results

    def _of_rule(self, slug: RuleId) -> TestResult:
        findings, seen = self._traffic.findings[slug], self._traffic.checked[slug]
        reason, blamed = "; ".join(dict.fromkeys(finding.expected for finding in findings)), ""
        outcome: TestOutcome = "passed"
        if findings:
            blamed, outcome = slug, "noted" if slug in NOTED else "failed"
        elif not seen:
            outcome = "not_checked"
            reason = self.unjudged.get(slug, _NOT_SEEN if slug in JUDGED | JUDGED_EVENTS else _NOT_JUDGED)
        exchanges = tuple(shown for finding in reversed(findings) for shown in finding.exchanges)
        return TestResult(f"in {count(seen, 'exchange')}", (slug,), outcome, reason, blamed, exchanges)

    def _notes(self) -> Iterable[str]:
        if self._skipped:
            listed = ", ".join(f"{number:,} {why}" for why, number in self._skipped.most_common())
            yield f"exchanges that were not judged: {listed}"
        if times := self._traffic.clock.unjudged:
            yield (
                f"{count(times, 'time')} were not about now, in responses in which no time was: "
                "a clock was set, or the times are wrong"
            )
        if resets := self._traffic.resets:
            yield (
                f"{count(resets, 'call')} became another one, or went back to an earlier state: the data was "
                "reset, or old responses were cached"
            )
