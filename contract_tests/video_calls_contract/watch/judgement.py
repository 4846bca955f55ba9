"""The judgement of traffic: records in, results out."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from video_calls_spec import RULES, Level, RuleId

from video_calls_contract.catalogue import NOTED
from video_calls_contract.config import Agora
from video_calls_contract.exchange import NO_ANSWER, Exchange
from video_calls_contract.observers import OBSERVED, Finding
from video_calls_contract.reports import count
from video_calls_contract.reports.files import describe_error
from video_calls_contract.results import Results, TestOutcome, TestResult, rule_results
from video_calls_contract.watch.exchanges import Reader
from video_calls_contract.watch.records import RawExchange, Record, SocketClose, SocketOpen
from video_calls_contract.watch.rules import RULES_OF_TRAFFIC
from video_calls_contract.watch.sockets import Connections
from video_calls_contract.watch.state import Traffic

__all__ = ["Judge"]

_OUTAGE = (502, 503, 504)
_SOON = timedelta(seconds=30)
_MOST_PENDING = 20

_OF_EVENTS = {slug for slug in RULES if slug.startswith("events.")} - {"events.own-calls", "events.resume"}
_JUDGED = {*OBSERVED, *(rule for rule, _ in RULES_OF_TRAFFIC), *_OF_EVENTS}
_WHOSE = {
    "list.own-calls", "get.participants-only", "join.participants-only", "end.participants-only",
    "cancel.participants-only", "create.participants-only", "create.different-users", "events.own-calls",
    "auth.active-user", "errors.order",
}  # fmt: skip
"""Rules about what a user may see or do."""

_NOT_SEEN = {
    "auth": "no request came without a token, or with one that had expired",
    "create": "no call was created in such a way",
    "join": "no join of such a call was seen",
    "end": "no end of such a call was seen",
    "cancel": "no cancellation of such a call was seen",
    "list": "no list was read",
    "events": "no event of this kind was told on a WebSocket that was seen",
}


class Judge:
    """Judges records in the order in which they come.

    Args:
        base_url: the root of the API.
        level: the least level whose deviations fail.
        report: is called with the first violation of each rule.
        begun: when it began.
    """

    def __init__(
        self,
        base_url: str,
        agora: Agora,
        level: Level,
        begun: datetime,
        report: Callable[[RuleId, Finding], None] = lambda _rule, _finding: None,
    ) -> None:
        parts = urlsplit(base_url)
        self.reader = Reader(base_url)
        self.notes: list[str] = []
        self.unjudged: dict[RuleId, str] = {}
        """Why a rule is not judged."""
        if agora.app_certificate is None:
            self.unjudged["join.token-signature"] = "no agora.app_certificate was given with --config"
        self._results = Results(base_url, level, 0, started_at=begun)
        self._traffic = Traffic(agora, RULES_OF_TRAFFIC, self.unjudged, begun, report)
        self._connections = Connections(
            self._traffic, lambda target: f"{parts.scheme}://{parts.netloc}{target}"
        )
        self._unanswered: list[Exchange] = []

    def judge(self, record: Record) -> None:
        """Judge a record. If the suite breaks on it, that is in the results, and the next one is judged."""
        try:
            self._judge(record)
        except Exception as error:  # noqa: BLE001 (whatever breaks, what passes is still passed on)
            broken = TestResult("judging an exchange", (), "broken", describe_error(error))
            self._results.broken = [*self._results.broken, broken][:_MOST_PENDING]

    def _judge(self, record: Record) -> None:
        match record:
            case RawExchange():
                self._results.requests += 1
                if exchange := self.reader.exchange(record):
                    self._exchange(exchange)
            case SocketOpen():
                if record.target.partition("?")[0] == f"{self.reader.root}/events/":
                    self._connections.opened(record)
            case SocketClose():
                self._connections.closed(record)
            case _:
                self._connections.told(record)

    def _exchange(self, exchange: Exchange) -> None:
        if exchange.status == NO_ANSWER:
            self._unanswered = [*self._unanswered, exchange][-_MOST_PENDING:]
            return
        if exchange.status in _OUTAGE and not isinstance(exchange.object.get("error"), str):
            self.reader.skipped["answered by a gateway in place of the target"] += 1
            return
        # A request without an answer is blamed if the target was alive: it answers the next one.
        for one in self._unanswered:
            if one.received_at < exchange.sent_at < one.received_at + _SOON:
                self._traffic.watch(one)
        self._unanswered = [one for one in self._unanswered if one.received_at >= exchange.sent_at]
        self._traffic.watch(exchange)

    def results(self) -> Results:
        """Return what came out."""
        results = self._results
        rules = {str(slug): rule for slug, rule in RULES.items()}
        results.rules = rule_results(rules, [self._of_rule(slug) for slug in RULES])
        results.seconds = (datetime.now(UTC) - results.started_at).total_seconds()
        results.notes = [*self.notes, *self._notes()]
        return results

    def _of_rule(self, slug: RuleId) -> TestResult:
        traffic = self._traffic
        findings, seen = traffic.findings[slug], traffic.checked[slug]
        reason, blamed, outcome = "", "", "passed"
        exchanges = tuple(shown for finding in reversed(findings) for shown in finding.exchanges)
        if findings:
            reason = "; ".join(dict.fromkeys(finding.expected for finding in findings))
            blamed, outcome = slug, "noted" if slug in NOTED else "failed"
        elif not seen:
            outcome, reason = "not_checked", self._why_not(slug)
        kind: TestOutcome = outcome  # type: ignore[assignment]
        name = f"in {count(seen, 'exchange')} of others"
        return TestResult(name, (slug,), kind, reason, blamed, exchanges)

    def _why_not(self, slug: RuleId) -> str:
        if slug in self.unjudged:
            return self.unjudged[slug]
        if slug in _WHOSE:
            return "traffic does not show which user a token is of, and what that user may do"
        if slug not in _JUDGED:
            return "it takes requests that only `video-calls-contract run` sends"
        return _NOT_SEEN.get(slug.partition(".")[0], "no exchange showed it")

    def _notes(self) -> Iterable[str]:
        skipped = self.reader.skipped
        if skipped:
            listed = ", ".join(f"{number:,} {why}" for why, number in skipped.most_common())
            yield f"exchanges that were not judged: {listed}"
        if lost := len(self._unanswered):
            yield f"{count(lost, 'request')} got no answer before the target was gone"
        if times := self._traffic.clock.unjudged:
            yield (
                f"{count(times, 'time')} were not about now, in answers in which no time was: "
                "a clock was set, or the times are wrong"
            )
        if resets := self._traffic.resets:
            yield (
                f"{count(resets, 'call')} became another one, or went back to an earlier state: the data was "
                "reset, or old answers were cached"
            )
