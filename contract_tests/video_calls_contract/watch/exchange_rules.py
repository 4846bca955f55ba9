"""Rules that `run` tests with requests of its own, judged in the exchanges of others.

The checks are those of `run`. What is added here is when a rule applies to somebody else's request.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from video_calls_spec import RuleId

from video_calls_contract.checks import (
    PRECISION,
    require,
    require_cancelled,
    require_completed,
    require_refusal,
    require_scheduled,
    require_time,
)
from video_calls_contract.clock import MOST_DIFFERENCE
from video_calls_contract.exceptions import Violation
from video_calls_contract.exchange import Exchange, as_object, instant
from video_calls_contract.ids import is_id
from video_calls_contract.jwt import claims
from video_calls_contract.observers.registry import OBSERVED, Finding
from video_calls_contract.pagination import link_problem
from video_calls_contract.watch.decoding import NOBODY, bearer, call_id_of, calls_of, methods_of
from video_calls_contract.watch.history import Traffic

__all__ = ["JUDGED", "Check", "hold", "judge_exchange"]

_LEEWAY = timedelta(minutes=2)  # that a backend may give an expired token
_WINDOW = timedelta(minutes=15)

Check = Callable[[Traffic, Exchange], bool | None]
"""Raises `Violation`; returns False if the rule does not apply to the exchange."""

_CHECKS: list[tuple[RuleId, Check]] = []


def judge_exchange(traffic: Traffic, exchange: Exchange) -> None:
    """Judge an exchange by every rule, and remember it."""
    traffic.prepare(exchange)
    traffic.watch(exchange)
    for rule, check in _CHECKS:
        hold(traffic, rule, check, exchange)
    traffic.remember(exchange)


def hold(traffic: Traffic, rule: RuleId, check: Check, exchange: Exchange) -> None:
    """Hold an exchange to a rule."""

    def observer(_: object, observed: Exchange) -> list[Finding] | None:
        try:
            return None if check(traffic, observed) is False else []
        except Violation as violation:
            return [Finding(violation.expected, violation.exchanges)]

    traffic.ask(rule, observer, exchange)


def holds(rule: RuleId, *operations: str) -> Callable[[Check], Check]:
    """Register the check of a rule, for all exchanges or for successes of these operations."""

    def register(check: Check) -> Check:
        def applied(traffic: Traffic, exchange: Exchange) -> bool | None:
            if operations and not (exchange.operation in operations and exchange.succeeded):
                return False
            return check(traffic, exchange)

        _CHECKS.append((rule, applied))
        return check

    return register


def is_refused(exchange: Exchange, *statuses: int, because: str, before: tuple[Exchange, ...] = ()) -> bool:
    """Return whether a request was refused with one of these statuses.

    Raises:
        Violation: if it succeeded.
    """
    if exchange.succeeded:
        require_refusal(exchange, *statuses, before=before, because=because)
    return exchange.status in statuses


# -- Authentication -----------------------------------------------------------------------------------


@holds("auth.required")
def token_is_required(_: Traffic, exchange: Exchange) -> bool | None:
    if not exchange.operation or exchange.user != NOBODY:
        return False
    if exchange.succeeded or exchange.status == 403:  # noqa: PLR2004 (HTTP)
        require_refusal(exchange, 401, because="a request without a token")
    return None


@holds("auth.expired-token")
def expired_token_is_refused(traffic: Traffic, exchange: Exchange) -> bool | None:
    expires = claims(bearer(exchange.request_headers)).get("exp")
    now = min(traffic.clock.possible_times(exchange.sent_at)) - _LEEWAY
    if not exchange.operation or not isinstance(expires, int | float) or expires >= now.timestamp():
        return False
    return is_refused(
        exchange, 401, because=f"a token that expired at {datetime.fromtimestamp(expires, UTC)}"
    )


# -- Creating -----------------------------------------------------------------------------------------


def body_of(exchange: Exchange) -> dict[str, Any]:
    """Return the body of a request; empty if it is no JSON object."""
    try:
        return as_object(json.loads(exchange.request_body))
    except (ValueError, RecursionError):
        return {}


def flaws_of(created: Exchange) -> Iterator[tuple[RuleId, tuple[int, ...], str]]:
    """Yield why a creation is to be refused: the rule, the statuses, and the flaw in words."""
    body = body_of(created)
    kind = next((value for name, value in created.request_headers if name == "content-type"), "json")
    if "json" not in kind.lower():
        yield "errors.media-type", (415, 400), f"a body of {kind}"
    if not body and created.request_body.strip() != b"{}":
        yield "errors.malformed-json", (400,), "a body that is no JSON object"
    missing = [name for name in ("doctor", "patient", "scheduled_time") if body.get(name) is None]
    if body and missing:
        yield "create.valid-body", (400,), f"a body without {', '.join(missing)}"
    with suppress(ValueError):
        if datetime.fromisoformat(str(body.get("scheduled_time"))).tzinfo is None:
            yield "create.aware-time", (400,), "a time without an offset, which is no instant"


def refuses(rule: RuleId) -> None:
    """Register that a creation with a flaw of a rule is refused."""

    @holds(rule)
    def check(_: Traffic, exchange: Exchange) -> bool | None:
        flaws = flaws_of(exchange) if exchange.operation == "createVideoCall" else ()
        refusals = [
            is_refused(exchange, *statuses, because=why) for slug, statuses, why in flaws if slug == rule
        ]
        return any(refusals)


for _rule in ("errors.media-type", "errors.malformed-json", "create.valid-body", "create.aware-time"):
    refuses(_rule)


@holds("create.schedules", "createVideoCall")
def creation_shows_new_call(_: Traffic, exchange: Exchange) -> bool | None:
    body = body_of(exchange)
    if not {"doctor", "patient"} <= body.keys():
        return False
    # An id may be sent as text.
    roles = [(body[role], exchange.object.get(role)) for role in ("doctor", "patient")]
    require_scheduled(exchange, *(got if str(got) == str(sent) else sent for sent, got in roles))
    return None


@holds("model.scheduled-time", "createVideoCall")
def creation_has_its_time(_: Traffic, exchange: Exchange) -> bool | None:
    at = instant(body_of(exchange).get("scheduled_time"))
    if at is None:
        return False
    require_time(exchange, at)
    return None


@holds("create.future", "createVideoCall")
def past_time_is_refused(traffic: Traffic, exchange: Exchange) -> None:
    at, created = (instant(exchange.object.get(name)) for name in ("scheduled_time", "created_at"))
    now = min(traffic.clock.possible_times(exchange.sent_at)) - MOST_DIFFERENCE
    if at is not None and created is not None and at < min(created, now):
        require_refusal(exchange, 400, because="a time that has passed")


# -- Reading, joining, ending, cancelling -------------------------------------------------------------


@holds("get.returns-call", "getVideoCall", "endVideoCall", "cancelVideoCall")
def response_is_about_its_call(_: Traffic, exchange: Exchange) -> bool | None:
    call_id, actual = call_id_of(exchange.url), exchange.object.get("id")
    if not is_id(actual) or call_id.isdecimal() != str(actual).isdecimal():
        return False
    require(str(actual) == call_id, f"the call of the request, {call_id}; got {actual!r}", exchange)
    return None


@holds("end.completes", "endVideoCall")
def end_completes(_: Traffic, exchange: Exchange) -> None:
    require_completed(exchange)


@holds("cancel.cancels", "cancelVideoCall")
def cancel_cancels(_: Traffic, exchange: Exchange) -> None:
    require_cancelled(exchange)


def refused_after(rule: RuleId, operation: str, *statuses: str) -> None:
    """Register that an operation is refused if a call was seen in a status from which it has no way."""

    @holds(rule)
    def check(traffic: Traffic, exchange: Exchange) -> bool | None:
        last = traffic.last_seen.get(call_id_of(exchange.url))
        if exchange.operation != operation or last is None or last.exchange.received_at >= exchange.sent_at:
            return False
        # A join to another channel is perhaps one to another call, after the data was reset.
        channel = exchange.object.get("channel_name", last.call.get("channel_name"))
        status = last.call.get("status")
        if status not in statuses or channel != last.call.get("channel_name"):
            return False
        return is_refused(exchange, 400, before=(last.exchange,), because=f"a call that is {status}")


refused_after("join.not-cancelled", "joinVideoCall", "cancelled")
refused_after("join.not-completed", "joinVideoCall", "completed")
refused_after("end.ongoing-only", "endVideoCall", "completed", "cancelled")
refused_after("cancel.scheduled-only", "cancelVideoCall", "ongoing", "completed", "cancelled")


@holds("join.window")
def call_starts_within_window(traffic: Traffic, exchange: Exchange) -> bool | None:
    applies = False
    for call in calls_of(exchange):
        at, started = instant(call.get("scheduled_time")), instant(call.get("started_at"))
        if at is not None and started is not None and traffic.is_ours(call["id"]):
            applies = True
            expected = f"no join earlier than 15 minutes before the call; it started {at - started} before"
            require(started >= at - _WINDOW - PRECISION, expected, exchange.about(call["id"]))
    return applies


# -- Lists --------------------------------------------------------------------------------------------


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


@holds("list.newest-first", "listVideoCalls")
def page_is_in_descending_order(_: Traffic, exchange: Exchange) -> None:
    times = [time for call in calls_of(exchange) if (time := instant(call.get("scheduled_time")))]
    require(times == sorted(times, reverse=True), "calls in descending order of `scheduled_time`", exchange)


# -- Methods and request ids --------------------------------------------------------------------------


@holds("errors.method-not-allowed")
def other_method_is_refused(_: Traffic, exchange: Exchange) -> bool | None:
    if exchange.operation or not methods_of(exchange.url):
        return False
    return is_refused(exchange, 405, 404, because=f"{exchange.method}, which this path does not take")


@holds("errors.allow-header")
def refusal_names_the_methods(_: Traffic, exchange: Exchange) -> bool | None:
    methods = methods_of(exchange.url)
    if exchange.operation or not methods or exchange.status != 405:  # noqa: PLR2004 (HTTP)
        return False
    allowed = {word.strip().upper() for word in exchange.headers.get("allow", "").split(",")}
    require(methods <= allowed, f"`Allow` with {', '.join(sorted(methods))}", exchange)
    return None


@holds("tracing.request-id")
def response_has_the_request_id(traffic: Traffic, exchange: Exchange) -> bool | None:
    """Check that a backend that has sent a request id back does so always."""
    request_id = next((value for name, value in exchange.request_headers if name == "x-request-id"), "")
    actual = exchange.headers.get("x-request-id")
    traffic.sends_ids_back |= bool(request_id) and actual == request_id
    if not traffic.sends_ids_back or not re.fullmatch(r"[\w-]{1,64}", request_id, re.ASCII):
        return False
    require(
        actual == request_id, f"the request's own `X-Request-ID` on every response; got {actual!r}", exchange
    )
    return None


JUDGED: frozenset[RuleId] = frozenset({*OBSERVED, *(rule for rule, _ in _CHECKS)})
"""The rules that exchanges are judged by."""
