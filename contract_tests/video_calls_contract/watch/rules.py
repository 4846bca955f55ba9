"""Rules that a test of `run` holds with requests of its own, held to the exchanges of others.

Whether an answer keeps a rule is judged by the functions that those tests use. What is added here is when the
rule applies to somebody else's request.
"""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from video_calls_spec import RuleId

from video_calls_contract.checks import (
    Violation,
    is_at,
    is_cancelled,
    is_completed,
    is_scheduled,
    refused,
    require,
)
from video_calls_contract.claims import claims
from video_calls_contract.clock import FAR
from video_calls_contract.exchange import SOMEBODY, Exchange, as_object, instant
from video_calls_contract.ids import is_id
from video_calls_contract.observers import Finding
from video_calls_contract.pagination import link_problem
from video_calls_contract.prediction import SAMPLE, how_predictable
from video_calls_contract.watch.exchanges import NOBODY, bearer, call_id_of, calls_of, is_of_contract
from video_calls_contract.watch.state import SECOND, Traffic, TrafficObserver

__all__ = ["RULES_OF_TRAFFIC"]

RULES_OF_TRAFFIC: list[tuple[RuleId, TrafficObserver]] = []

_LEEWAY = timedelta(minutes=2)  # that a backend may give an expired token
_OVERLAP = timedelta(minutes=30)
_WINDOW = timedelta(minutes=15)

Check = Callable[[Traffic, Exchange], object]
"""Raises `Violation`; what it returns is None if the rule has nothing to do with the exchange."""

APPLIES = True


def holds(rule: RuleId) -> Callable[[Check], Check]:
    """Hold every exchange to a rule."""

    def register(check: Check) -> Check:
        def observer(traffic: Traffic, exchange: Exchange) -> list[Finding] | None:
            try:
                return [] if check(traffic, exchange) else None
            except Violation as violation:
                return [Finding(violation.expected, violation.exchanges)]

        RULES_OF_TRAFFIC.append((rule, observer))
        return check

    return register


def done(exchange: Exchange, operation: str) -> bool:
    """Whether an exchange is this operation, and the backend did it."""
    return exchange.operation == operation and exchange.succeeded


# -- Authentication -----------------------------------------------------------------------------------


@holds("auth.required")
def token_is_required(_: Traffic, exchange: Exchange) -> object:
    if not exchange.operation or exchange.person != NOBODY:
        return None
    if exchange.succeeded or exchange.status == 403:  # noqa: PLR2004 (HTTP)
        refused(exchange, 401, because="a request without a token")
    return APPLIES


@holds("auth.expired-token")
def expired_token_is_refused(traffic: Traffic, exchange: Exchange) -> object:
    expires = claims(bearer(exchange.request_headers)).get("exp")
    if not exchange.operation or not isinstance(expires, int | float):
        return None
    now = min(traffic.clock.candidates(exchange.sent_at))
    if expires >= (now - _LEEWAY).timestamp():
        return None
    if exchange.succeeded:
        refused(exchange, 401, because=f"a token that expired at {datetime.fromtimestamp(expires, UTC)}")
    return APPLIES


# -- Creating -----------------------------------------------------------------------------------------


def asked(exchange: Exchange) -> dict[str, Any]:
    """The body of a request, where it is a JSON object; else an empty one."""
    try:
        return as_object(json.loads(exchange.request_body))
    except (ValueError, RecursionError):
        return {}


def is_json(exchange: Exchange) -> bool:
    """Whether a request says that its body is JSON."""
    return any(name == "content-type" and "json" in value for name, value in exchange.request_headers)


@holds("errors.malformed-json")
def malformed_body_is_refused(_: Traffic, exchange: Exchange) -> object:
    if exchange.operation != "createVideoCall" or not is_json(exchange) or asked(exchange):
        return None
    if exchange.succeeded:
        refused(exchange, 400, because="a body that is no JSON object with fields")
    return APPLIES


@holds("create.valid-body")
def missing_field_is_refused(_: Traffic, exchange: Exchange) -> object:
    if not done(exchange, "createVideoCall") or not asked(exchange):
        return None
    missing = [name for name in ("doctor", "patient", "scheduled_time") if asked(exchange).get(name) is None]
    if missing:
        refused(exchange, 400, because=f"a body without {', '.join(missing)}")
    return APPLIES


@holds("create.schedules")
def creation_shows_new_call(_: Traffic, exchange: Exchange) -> object:
    body = asked(exchange)
    if not done(exchange, "createVideoCall") or not {"doctor", "patient"} <= body.keys():
        return None
    # An id may be sent as text.
    roles = [(body[role], exchange.object.get(role)) for role in ("doctor", "patient")]
    is_scheduled(exchange, *(got if str(got) == str(sent) else sent for sent, got in roles))
    return APPLIES


@holds("model.scheduled-time")
def creation_has_its_time(_: Traffic, exchange: Exchange) -> object:
    at = instant(asked(exchange).get("scheduled_time"))
    if not done(exchange, "createVideoCall") or at is None:
        return None
    is_at(exchange, at)
    return APPLIES


@holds("create.aware-time")
def time_without_offset_is_refused(_: Traffic, exchange: Exchange) -> object:
    text = asked(exchange).get("scheduled_time")
    try:
        is_naive = isinstance(text, str) and datetime.fromisoformat(text).tzinfo is None
    except ValueError:
        return None
    if exchange.operation != "createVideoCall" or not is_naive:
        return None
    if exchange.succeeded:
        refused(exchange, 400, because="a time without an offset")
    return APPLIES


@holds("create.future")
def time_that_passed_is_refused(traffic: Traffic, exchange: Exchange) -> object:
    if not done(exchange, "createVideoCall"):
        return None
    at, created = instant(exchange.object.get("scheduled_time")), instant(exchange.object.get("created_at"))
    now = min(traffic.clock.candidates(exchange.sent_at)) - FAR
    if at is not None and created is not None and at < min(created, now):
        refused(exchange, 400, because="a time that has passed")
    return APPLIES


@holds("create.unique-channel")
def channel_is_of_one_call(traffic: Traffic, exchange: Exchange) -> object:
    applies: object = None
    for call in calls_of(exchange):
        channel, call_id = call.get("channel_name"), str(call.get("id"))
        if isinstance(channel, str) and channel:
            shown = traffic.kept(exchange, call.get("id"))
            other, first = traffic.channel_of.remembered(channel, (call_id, shown))
            applies = APPLIES
            require(
                other == call_id,
                f"a channel of its own for each call; calls {other} and {call_id} have {channel!r}",
                first,
                shown,
            )
    return applies


@holds("create.random-channel")
def channel_is_random(traffic: Traffic, exchange: Exchange) -> object:
    if not done(exchange, "createVideoCall") or len(traffic.sample) < SAMPLE:
        return None
    sample = list(traffic.sample)
    traffic.sample.clear()
    reason = how_predictable([one.object for one in sample if one.object.get("channel_name")])
    require(not reason, f"`channel_name` to be random; {reason}", *sample[-3:])
    return APPLIES


@holds("create.no-overlap")
def overlapping_call_is_refused(traffic: Traffic, exchange: Exchange) -> object:
    """Two calls overlap for certain if the first is seen to be alive after the second was accepted."""
    for call in calls_of(exchange):
        seen = traffic.seen_calls.get(str(call.get("id")))
        if seen is None or seen.created is None or call.get("status") not in ("scheduled", "ongoing"):
            continue
        for rival in seen.rivals:
            if rival.received_at < exchange.sent_at:
                shown = traffic.kept(exchange, call["id"])
                refused(rival, 400, before=[seen.created, shown], because="a time less than 30 minutes away")
    if not done(exchange, "createVideoCall"):
        return None
    for first in _booked_near(traffic, exchange):
        seen = traffic.seen_calls.get(str(first.object.get("id")))
        if seen is not None:
            seen.rivals.append(traffic.kept(exchange, None))
    return APPLIES


def _booked_near(traffic: Traffic, created: Exchange) -> Iterator[Exchange]:
    """Creations that were answered before, less than 30 minutes away, for the same doctor or patient."""
    at = instant(created.object.get("scheduled_time"))
    for role in ("doctor", "patient"):
        for first in traffic.booked.get((role, str(created.object.get(role))), ()):
            other = instant(first.object.get("scheduled_time"))
            is_near = at is not None and other is not None and abs(at - other) < _OVERLAP
            is_other = first.object.get("id") != created.object.get("id")
            if is_near and is_other and first.received_at < created.sent_at:
                yield first


# -- Joining, ending, cancelling ----------------------------------------------------------------------


@holds("get.returns-call")
def answer_is_about_its_call(_: Traffic, exchange: Exchange) -> object:
    if exchange.operation not in ("getVideoCall", "endVideoCall", "cancelVideoCall"):
        return None
    named, got = call_id_of(exchange.url), exchange.object.get("id")
    if not exchange.succeeded or not is_id(got) or named.isdecimal() != str(got).isdecimal():
        return None
    require(str(got) == named, f"the call that was asked for, {named}; got {got!r}", exchange)
    return APPLIES


@holds("end.completes")
def end_completes(_: Traffic, exchange: Exchange) -> object:
    if not done(exchange, "endVideoCall"):
        return None
    is_completed(exchange)
    return APPLIES


@holds("cancel.cancels")
def cancel_cancels(_: Traffic, exchange: Exchange) -> object:
    if not done(exchange, "cancelVideoCall"):
        return None
    is_cancelled(exchange)
    return APPLIES


def _not_after(rule: RuleId, operation: str, *statuses: str) -> None:
    """Hold an operation to being refused once a call was seen in a status that it never leaves."""

    @holds(rule)
    def check(traffic: Traffic, exchange: Exchange) -> object:
        if exchange.operation != operation:
            return None
        for status in statuses:
            if before := traffic.final_before(exchange, status):
                if exchange.succeeded:
                    refused(exchange, 400, before=[before], because=f"a call that was {status}")
                return APPLIES
        return None


_not_after("join.not-cancelled", "joinVideoCall", "cancelled")
_not_after("join.not-completed", "joinVideoCall", "completed")
_not_after("end.ongoing-only", "endVideoCall", "completed", "cancelled")
_not_after("cancel.scheduled-only", "cancelVideoCall", "completed", "cancelled")


@holds("cancel.scheduled-only")
def ongoing_call_is_not_cancelled(traffic: Traffic, exchange: Exchange) -> object:
    seen = traffic.seen_before(exchange)
    if not done(exchange, "cancelVideoCall") or seen is None or seen.ongoing is None:
        return None
    refused(exchange, 400, before=[seen.ongoing], because="an ongoing call")
    return APPLIES


@holds("join.starts-call")
def joined_call_has_started(traffic: Traffic, exchange: Exchange) -> object:
    applies: object = None
    for call in calls_of(exchange):
        seen = traffic.seen_calls.get(str(call.get("id")))
        if seen and seen.joined and seen.joined.received_at < exchange.sent_at:
            applies = APPLIES
            shown = exchange.about(call["id"])
            require(
                call.get("status") != "scheduled", "a call that was joined to be ongoing", seen.joined, shown
            )
    return applies


@holds("join.window")
def call_starts_within_window(traffic: Traffic, exchange: Exchange) -> object:
    applies: object = None
    for call in calls_of(exchange):
        at, started = instant(call.get("scheduled_time")), instant(call.get("started_at"))
        if at is not None and started is not None and traffic.is_ours(call.get("id")):
            applies = APPLIES
            require(
                started >= at - _WINDOW - SECOND,
                f"no join earlier than 15 minutes before the call; it started {at - started} before",
                exchange.about(call["id"]),
            )
    return applies


@holds("join.same-channel")
def join_leads_to_channel_of_call(traffic: Traffic, exchange: Exchange) -> object:
    seen = traffic.seen_calls.get(call_id_of(exchange.url))
    got = exchange.object.get("channel_name")
    if not done(exchange, "joinVideoCall") or seen is None or not isinstance(got, str):
        return None
    channel = seen.record[1]
    require(
        got == channel,
        f"`channel_name` to be the call's, {channel!r}; got {got!r}",
        seen.shown,
        exchange,
    )
    return APPLIES


@holds("join.uid-stable")
def uid_is_the_same_again(traffic: Traffic, exchange: Exchange) -> object:
    if not done(exchange, "joinVideoCall") or exchange.person in (SOMEBODY, NOBODY):
        return None
    first = traffic.uid_of.remembered((exchange.url, exchange.person), traffic.kept(exchange, None))
    require(
        first.object.get("uid") == exchange.object.get("uid"), "the same uid at each join", first, exchange
    )
    return APPLIES


# -- Lists and methods --------------------------------------------------------------------------------


@holds("list.pages")
def page_leads_to_its_neighbours(_: Traffic, exchange: Exchange) -> object:
    if not done(exchange, "listVideoCalls"):
        return None
    path = urlsplit(exchange.url).path
    for link in ("next", "previous"):
        to = exchange.object.get(link)
        if to is not None:
            leads = isinstance(to, str) and urlsplit(to).path.endswith("/video-calls/")
            problem = link_problem(link, to, leads_to_list=leads)
            require(not problem, problem, exchange)
            require(to != exchange.url, f"`{link}` to lead on; it leads to this page, {path}", exchange)
    ids = [str(call.get("id")) for call in calls_of(exchange)]
    require(len(ids) == len(set(ids)), "each call once on a page", exchange)
    return APPLIES


@holds("list.envelope")
def count_counts_the_calls(_: Traffic, exchange: Exchange) -> object:
    body = exchange.object
    count, results = body.get("count"), body.get("results")
    if not done(exchange, "listVideoCalls") or not isinstance(count, int) or not isinstance(results, list):
        return None
    is_alone = body.get("next") is None and body.get("previous") is None
    size = len(list(exchange.calls))
    # A call that is created meanwhile may be counted and not listed, or the other way round.
    good = abs(count - size) <= 1 if is_alone else count >= size
    good = good and not (body.get("next") and body.get("previous") is None and count == size)
    require(good, f"`count` to be the number of calls on all pages; got {count} with {size} here", exchange)
    return APPLIES


@holds("list.newest-first")
def page_is_in_descending_order(_: Traffic, exchange: Exchange) -> object:
    if not done(exchange, "listVideoCalls"):
        return None
    times = [time for call in exchange.calls if (time := instant(call.get("scheduled_time")))]
    require(times == sorted(times, reverse=True), "calls in descending order of `scheduled_time`", exchange)
    return APPLIES


@holds("errors.method-not-allowed")
def other_method_is_refused(_: Traffic, exchange: Exchange) -> object:
    if exchange.operation or not is_of_contract(exchange.url):
        return None
    require(
        not exchange.succeeded,
        f"a refusal of {exchange.method} on this path; got {exchange.answer}",
        exchange,
    )
    return APPLIES
