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
    require,
    require_cancelled,
    require_completed,
    require_refusal,
    require_scheduled,
    require_time,
)
from video_calls_contract.clock import MOST_DIFFERENCE
from video_calls_contract.exchange import SOMEBODY, Exchange, as_object, instant
from video_calls_contract.ids import is_id
from video_calls_contract.jwt import claims
from video_calls_contract.observers import Finding
from video_calls_contract.outcomes import Violation
from video_calls_contract.pagination import link_problem
from video_calls_contract.prediction import SAMPLE, how_predictable
from video_calls_contract.watch.exchanges import NOBODY, bearer, call_id_of, calls_of, is_of_contract
from video_calls_contract.watch.state import SECOND, Traffic, TrafficObserver

__all__ = ["RULES_OF_TRAFFIC"]

RULES_OF_TRAFFIC: list[tuple[RuleId, TrafficObserver]] = []

_LEEWAY = timedelta(minutes=2)  # that a backend may give an expired token
_OVERLAP = timedelta(minutes=30)
_WINDOW = timedelta(minutes=15)

Check = Callable[[Traffic, Exchange], bool | None]
"""Raises `Violation`; it returns False if the rule has nothing to do with the exchange."""


def holds(rule: RuleId, *operations: str) -> Callable[[Check], Check]:
    """Hold every exchange to a rule, or those of operations that the backend did."""

    def register(check: Check) -> Check:
        def observer(traffic: Traffic, exchange: Exchange) -> list[Finding] | None:
            if operations and not (exchange.operation in operations and exchange.succeeded):
                return None
            try:
                return None if check(traffic, exchange) is False else []
            except Violation as violation:
                return [Finding(violation.expected, violation.exchanges)]

        RULES_OF_TRAFFIC.append((rule, observer))
        return check

    return register


# -- Authentication -----------------------------------------------------------------------------------


@holds("auth.required")
def token_is_required(_: Traffic, exchange: Exchange) -> bool | None:
    if not exchange.operation or exchange.person != NOBODY:
        return False
    if exchange.succeeded or exchange.status == 403:  # noqa: PLR2004 (HTTP)
        require_refusal(exchange, 401, because="a request without a token")
    return None


@holds("auth.expired-token")
def expired_token_is_refused(traffic: Traffic, exchange: Exchange) -> bool | None:
    expires = claims(bearer(exchange.request_headers)).get("exp")
    now = min(traffic.clock.possible_times(exchange.sent_at))
    if not isinstance(expires, int | float) or expires >= (now - _LEEWAY).timestamp():
        return False
    if exchange.operation and exchange.succeeded:
        require_refusal(
            exchange, 401, because=f"a token that expired at {datetime.fromtimestamp(expires, UTC)}"
        )
    return None


# -- Creating -----------------------------------------------------------------------------------------


def request_json(exchange: Exchange) -> dict[str, Any]:
    """The body of a request, if it is a JSON object; else an empty one."""
    try:
        return as_object(json.loads(exchange.request_body))
    except (ValueError, RecursionError):
        return {}


@holds("create.valid-body", "createVideoCall")
def missing_field_is_refused(_: Traffic, exchange: Exchange) -> bool | None:
    body = request_json(exchange)
    missing = [name for name in ("doctor", "patient", "scheduled_time") if body.get(name) is None]
    if body and missing:
        require_refusal(exchange, 400, because=f"a body without {', '.join(missing)}")
    return bool(body)


@holds("create.schedules", "createVideoCall")
def creation_shows_new_call(_: Traffic, exchange: Exchange) -> bool | None:
    body = request_json(exchange)
    if not {"doctor", "patient"} <= body.keys():
        return False
    # An id may be sent as text.
    roles = [(body[role], exchange.object.get(role)) for role in ("doctor", "patient")]
    require_scheduled(exchange, *(got if str(got) == str(sent) else sent for sent, got in roles))
    return None


@holds("model.scheduled-time", "createVideoCall")
def creation_has_its_time(_: Traffic, exchange: Exchange) -> bool | None:
    at = instant(request_json(exchange).get("scheduled_time"))
    if at is None:
        return False
    require_time(exchange, at)
    return None


@holds("create.future", "createVideoCall")
def time_that_passed_is_refused(traffic: Traffic, exchange: Exchange) -> None:
    at, created = (instant(exchange.object.get(name)) for name in ("scheduled_time", "created_at"))
    now = min(traffic.clock.possible_times(exchange.sent_at)) - MOST_DIFFERENCE
    if at is not None and created is not None and at < min(created, now):
        require_refusal(exchange, 400, because="a time that has passed")


@holds("create.unique-channel")
def channel_is_of_one_call(traffic: Traffic, exchange: Exchange) -> bool | None:
    names = [(call["id"], call["channel_name"]) for call in calls_of(exchange) if call.get("channel_name")]
    for call_id, channel in names:
        shown = traffic.shortened(exchange, call_id)
        other, first = traffic.channel_of.get_or_add(str(channel), (call_id, shown))
        expected = f"a channel of its own for each call; calls {other} and {call_id} have {channel!r}"
        require(other == call_id, expected, first, shown)
    return bool(names)


@holds("create.random-channel", "createVideoCall")
def channel_is_random(traffic: Traffic, _: Exchange) -> bool | None:
    if len(traffic.sample) < SAMPLE:
        return False
    sample = list(traffic.sample)
    traffic.sample.clear()
    reason = how_predictable([one.object for one in sample if one.object.get("channel_name")])
    require(not reason, f"`channel_name` to be random; {reason}", *sample[-3:])
    return None


@holds("create.no-overlap")
def overlapping_call_is_refused(traffic: Traffic, exchange: Exchange) -> bool | None:
    """Two calls overlap for certain if the first is alive after the second was accepted."""
    for call in calls_of(exchange):
        seen = traffic.seen_calls.get(str(call["id"]))
        if seen is None or seen.created is None or call.get("status") not in ("scheduled", "ongoing"):
            continue
        for rival in seen.rivals:
            if rival.received_at < exchange.sent_at:
                shown = traffic.shortened(exchange, call["id"])
                require_refusal(
                    rival, 400, before=[seen.created, shown], because="a time less than 30 minutes away"
                )
    if exchange.operation != "createVideoCall" or not exchange.succeeded:
        return False
    for first in _booked_near(traffic, exchange):
        if seen := traffic.seen_calls.get(str(first.object.get("id"))):
            seen.rivals.append(traffic.shortened(exchange, None))
    return None


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


@holds("get.returns-call", "getVideoCall", "endVideoCall", "cancelVideoCall")
def answer_is_about_its_call(_: Traffic, exchange: Exchange) -> bool | None:
    named, got = call_id_of(exchange.url), exchange.object.get("id")
    if not is_id(got) or named.isdecimal() != str(got).isdecimal():
        return False
    require(str(got) == named, f"the call that was asked for, {named}; got {got!r}", exchange)
    return None


@holds("end.completes", "endVideoCall")
def end_completes(_: Traffic, exchange: Exchange) -> None:
    require_completed(exchange)


@holds("cancel.cancels", "cancelVideoCall")
def cancel_cancels(_: Traffic, exchange: Exchange) -> None:
    require_cancelled(exchange)


def _not_after(rule: RuleId, operation: str, *statuses: str) -> None:
    """Hold an operation to being refused once a call was seen in a status that it never leaves."""

    @holds(rule)
    def check(traffic: Traffic, exchange: Exchange) -> bool | None:
        seen, channel = traffic.seen_before(exchange), exchange.object.get("channel_name")
        if operation == "joinVideoCall" and (seen is None or seen.record[1] != channel):
            return False  # perhaps another call of the same id, after the data was reset
        found = [(one, traffic.final_before(exchange, one)) for one in statuses]
        before = [(status, shown) for status, shown in found if shown]
        if exchange.operation == operation and exchange.succeeded:
            for status, shown in before:
                require_refusal(exchange, 400, before=[shown], because=f"a call that was {status}")
        return exchange.operation == operation and bool(before)


_not_after("join.not-cancelled", "joinVideoCall", "cancelled")
_not_after("join.not-completed", "joinVideoCall", "completed")
_not_after("end.ongoing-only", "endVideoCall", "completed", "cancelled")
_not_after("cancel.scheduled-only", "cancelVideoCall", "completed", "cancelled")


@holds("cancel.scheduled-only", "cancelVideoCall")
def ongoing_call_is_not_cancelled(traffic: Traffic, exchange: Exchange) -> bool | None:
    seen = traffic.seen_before(exchange)
    if seen is None or seen.ongoing is None:
        return False
    require_refusal(exchange, 400, before=[seen.ongoing], because="an ongoing call")
    return None


@holds("join.starts-call")
def joined_call_has_started(traffic: Traffic, exchange: Exchange) -> bool | None:
    applies = False
    for call in calls_of(exchange):
        seen = traffic.seen_calls.get(str(call["id"]))
        if seen and seen.joined and seen.joined.received_at < exchange.sent_at:
            applies, started = True, call.get("status") != "scheduled"
            shown = exchange.about(call["id"])
            require(started, "a call that was joined to be ongoing", seen.joined, shown)
    return applies


@holds("join.window")
def call_starts_within_window(traffic: Traffic, exchange: Exchange) -> bool | None:
    applies = False
    for call in calls_of(exchange):
        at, started = instant(call.get("scheduled_time")), instant(call.get("started_at"))
        if at is not None and started is not None and traffic.is_ours(call["id"]):
            applies = True
            expected = f"no join earlier than 15 minutes before the call; it started {at - started} before"
            require(started >= at - _WINDOW - SECOND, expected, exchange.about(call["id"]))
    return applies


@holds("join.same-channel")
def join_leads_to_channel_of_call(traffic: Traffic, exchange: Exchange) -> bool | None:
    """The data may have been reset before the join: it is blamed once the call is seen to be the same."""
    applies = False
    for call in calls_of(exchange):
        seen = traffic.seen_calls.get(str(call["id"]))
        joined = (seen.astray or seen.joined) if seen else None
        channel = joined.object.get("channel_name") if joined else None
        if joined and isinstance(channel, str) and joined.received_at < exchange.sent_at:
            applies, own = True, call.get("channel_name")
            expected = f"`channel_name` to be the call's, {own!r}; got {channel!r}"
            require(channel == own, expected, exchange.about(call["id"]), joined)
    return applies


@holds("join.uid-stable", "joinVideoCall")
def uid_is_the_same_again(traffic: Traffic, exchange: Exchange) -> bool | None:
    if exchange.person in (SOMEBODY, NOBODY):
        return False
    place = f"{exchange.url} {exchange.object.get('channel_name')}"
    first = traffic.uid_of.get_or_add((place, exchange.person), traffic.shortened(exchange, None))
    same = first.object.get("uid") == exchange.object.get("uid")
    require(same, "the same uid at each join", first, exchange)
    return None


# -- Lists and methods --------------------------------------------------------------------------------


@holds("list.pages", "listVideoCalls")
def page_leads_to_its_neighbours(_: Traffic, exchange: Exchange) -> None:
    for link in ("next", "previous"):
        to = exchange.object.get(link)
        if to is not None:
            leads = isinstance(to, str) and urlsplit(to).path.endswith("/video-calls/")
            problem = link_problem(link, to, leads_to_list=leads)
            require(not problem, problem, exchange)
            require(to != exchange.url, f"`{link}` to lead on; it leads to this page", exchange)
    ids = [str(call["id"]) for call in calls_of(exchange)]
    require(len(ids) == len(set(ids)), "each call once on a page", exchange)


@holds("list.envelope", "listVideoCalls")
def count_counts_the_calls(_: Traffic, exchange: Exchange) -> bool | None:
    count, following, before = (exchange.object.get(name) for name in ("count", "next", "previous"))
    if not isinstance(count, int) or not isinstance(exchange.object.get("results"), list):
        return False
    size = len(list(exchange.calls))
    # A call that is created meanwhile may be counted and not listed, or the other way round.
    is_all = not following and not before and not urlsplit(exchange.url).query
    good = abs(count - size) <= 1 if is_all else count > size or not following
    require(good, f"`count` to be the number of calls on all pages; got {count} with {size} here", exchange)
    return None


@holds("list.newest-first", "listVideoCalls")
def page_is_in_descending_order(_: Traffic, exchange: Exchange) -> None:
    times = [time for call in calls_of(exchange) if (time := instant(call.get("scheduled_time")))]
    require(times == sorted(times, reverse=True), "calls in descending order of `scheduled_time`", exchange)


@holds("errors.method-not-allowed")
def other_method_is_refused(_: Traffic, exchange: Exchange) -> bool | None:
    if exchange.operation or not is_of_contract(exchange.url):
        return False
    expected = f"a refusal of {exchange.method} on this path; got {exchange.answer}"
    require(not exchange.succeeded, expected, exchange)
    return None
