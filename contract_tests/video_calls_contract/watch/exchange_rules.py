"""Rules about one exchange and the last known state of its call, checked in the exchanges of clients.

The checks are the same as for `run`. This module decides when a rule applies, because clients send any
request.
"""

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

from video_calls_spec import RuleId

from video_calls_contract.checks import (
    PRECISION,
    require,
    require_cancelled,
    require_completed,
    require_refusal,
)
from video_calls_contract.exchange import Exchange, instant
from video_calls_contract.ids import is_id
from video_calls_contract.jwt import claims
from video_calls_contract.pagination import link_problem
from video_calls_contract.watch.decoding import NOBODY, bearer, call_id_of, calls_of, header, methods_of
from video_calls_contract.watch.history import History
from video_calls_contract.watch.registration import Checks, is_refused

CHECKS = Checks()

_LEEWAY = timedelta(minutes=2)  # for so long, a backend may still accept an expired token
_WINDOW = timedelta(minutes=15)
_MOST_CALLS = 100  # calls on a page


# -- Authentication -----------------------------------------------------------------------------------


@CHECKS.of("auth.required")
def _token_is_required(_: History, exchange: Exchange) -> bool | None:
    if not exchange.operation or exchange.user != NOBODY:
        return False
    if exchange.succeeded or exchange.status == 403:  # noqa: PLR2004 (HTTP)
        require_refusal(exchange, 401, because="a request without a token")
    return None


@CHECKS.of("auth.expired-token")
def _expired_token_is_refused(history: History, exchange: Exchange) -> bool | None:
    expires = claims(bearer(exchange.request_headers)).get("exp")
    now = min(history.clock.possible_times(exchange.sent_at)) - _LEEWAY
    if not exchange.operation or not isinstance(expires, int | float) or expires >= now.timestamp():
        return False
    return is_refused(
        exchange, 401, because=f"a token that expired at {datetime.fromtimestamp(expires, UTC)}"
    )


# -- Reading, joining, ending, cancelling -------------------------------------------------------------


@CHECKS.of("get.returns-call", "getVideoCall", "endVideoCall", "cancelVideoCall")
def _response_is_about_its_call(_: History, exchange: Exchange) -> bool | None:
    call_id, actual = call_id_of(exchange.url), exchange.object.get("id")
    if not is_id(actual) or call_id.isdecimal() != str(actual).isdecimal():
        return False
    require(str(actual) == call_id, f"the call of the request, {call_id}; got {actual!r}", exchange)
    return None


@CHECKS.of("end.completes", "endVideoCall")
def _end_completes(_: History, exchange: Exchange) -> None:
    require_completed(exchange)


@CHECKS.of("cancel.cancels", "cancelVideoCall")
def _cancel_cancels(_: History, exchange: Exchange) -> None:
    require_cancelled(exchange)


def _refuse_after(rule: RuleId, operation: str, *statuses: str) -> None:
    """Register a check: the backend refuses an operation if the call last had one of these statuses."""

    @CHECKS.of(rule)
    def check(history: History, exchange: Exchange) -> bool | None:
        last = history.last_seen.get(call_id_of(exchange.url))
        if exchange.operation != operation or last is None or last.exchange.received_at >= exchange.sent_at:
            return False
        # If the channel changed, the data was reset, and the id now belongs to another call.
        channel = exchange.object.get("channel_name", last.call.get("channel_name"))
        status = last.call.get("status")
        if status not in statuses or channel != last.call.get("channel_name"):
            return False
        return is_refused(exchange, 400, before=(last.exchange,), because=f"a call that is {status}")


_refuse_after("join.not-cancelled", "joinVideoCall", "cancelled")
_refuse_after("join.not-completed", "joinVideoCall", "completed")
_refuse_after("end.ongoing-only", "endVideoCall", "completed", "cancelled")
_refuse_after("cancel.scheduled-only", "cancelVideoCall", "ongoing", "completed", "cancelled")


@CHECKS.of("join.window")
def _call_starts_within_window(history: History, exchange: Exchange) -> bool | None:
    applies = False
    for call in calls_of(exchange):
        at, started = instant(call.get("scheduled_time")), instant(call.get("started_at"))
        if at is not None and started is not None and history.is_ours(call["id"]):
            applies = True
            expected = f"no join earlier than 15 minutes before the call; it started {at - started} before"
            require(started >= at - _WINDOW - PRECISION, expected, exchange.about(call["id"]))
    return applies


# -- Lists --------------------------------------------------------------------------------------------


@CHECKS.of("list.pages", "listVideoCalls")
def _page_leads_to_its_neighbours(_: History, exchange: Exchange) -> None:
    for link in ("next", "previous"):
        to = exchange.object.get(link)
        if to is not None:
            leads = isinstance(to, str) and urlsplit(to).path.endswith("/video-calls/")
            problem = link_problem(link, to, leads_to_list=leads)
            require(not problem, problem, exchange)
            require(to != exchange.url, f"`{link}` to lead on; it leads to this page", exchange)
    ids = [str(call["id"]) for call in calls_of(exchange)]
    require(len(ids) == len(set(ids)), "each call once on a page", exchange)


@CHECKS.of("list.newest-first", "listVideoCalls")
def _page_is_in_descending_order(_: History, exchange: Exchange) -> None:
    times = [time for call in calls_of(exchange) if (time := instant(call.get("scheduled_time")))]
    require(times == sorted(times, reverse=True), "calls in descending order of `scheduled_time`", exchange)


@CHECKS.of("list.page-size", "listVideoCalls")
def _page_is_not_longer_than_requested(history: History, exchange: Exchange) -> bool | None:
    """Check that a page has at most `page_size` calls.

    `page_size` is optional, so the check begins when full pages of two sizes show that the backend uses it.
    """
    query = parse_qs(urlsplit(exchange.url).query, keep_blank_values=True)
    text, number = "&".join(query.get("page_size", [])), len(list(exchange.calls))
    size = int(text) if re.fullmatch(r"[1-9]\d?|100", text, re.ASCII) else None
    if size == number and exchange.object.get("next"):
        history.page_sizes.add(number)
    if "page_size" not in query or len(history.page_sizes) < 2:  # noqa: PLR2004
        return False
    most = size or _MOST_CALLS
    require(number <= most, f"at most {most} calls on this page; got {number}", exchange)
    return None


# -- Methods and request ids --------------------------------------------------------------------------


@CHECKS.of("errors.method-not-allowed")
def _other_method_is_refused(_: History, exchange: Exchange) -> bool | None:
    if exchange.operation or not methods_of(exchange.url):
        return False
    return is_refused(exchange, 405, 404, because=f"{exchange.method}, which this path does not take")


@CHECKS.of("errors.allow-header")
def _refusal_names_the_methods(_: History, exchange: Exchange) -> bool | None:
    methods = methods_of(exchange.url)
    if exchange.operation or not methods or exchange.status != 405:  # noqa: PLR2004 (HTTP)
        return False
    allowed = {word.strip().upper() for word in exchange.headers.get("allow", "").split(",")}
    require(methods <= allowed, f"`Allow` with {', '.join(sorted(methods))}", exchange)
    return None


@CHECKS.of("tracing.request-id")
def _response_has_the_request_id(history: History, exchange: Exchange) -> bool | None:
    """Check that every response returns the request id, if an earlier one did: a backend need not."""
    request_id = header(exchange.request_headers, "x-request-id")
    actual = exchange.headers.get("x-request-id")
    history.returns_request_ids |= bool(request_id) and actual == request_id
    if not history.returns_request_ids or not re.fullmatch(r"[\w-]{1,64}", request_id, re.ASCII):
        return False
    require(
        actual == request_id, f"the request's own `X-Request-ID` on every response; got {actual!r}", exchange
    )
    return None
