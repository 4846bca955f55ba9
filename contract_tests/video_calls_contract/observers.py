"""Rules that every exchange of a run is held to, whatever test it belongs to.

An observer is asked about each exchange. It answers with the complaints it has, and with None where the
exchange has nothing to do with its rule. What it finds is reported by `rules/test_everywhere.py`.

What a call was when it was first seen is remembered, so that a field which must not move is seen to move.
Whether a record makes sense is asked of calls of this run alone: staging systems hold data of all kinds.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from video_calls.agora import InvalidTokenError, Privilege, TokenInfo, inspect_token
from video_calls_spec import RuleId

from video_calls_contract import privacy
from video_calls_contract.clock import BackendClock
from video_calls_contract.config import Agora
from video_calls_contract.checks import instant
from video_calls_contract.exchange import NO_ANSWER, Exchange
from video_calls_contract.schema import complaints

__all__ = ["OBSERVED", "Finding", "Observers"]

MOST_FINDINGS = 3
HOUR = timedelta(hours=1)
LENIENCE = timedelta(seconds=10)
AGREEMENT = timedelta(seconds=2)
COARSEST = timedelta(seconds=1)
STATUSES = ("scheduled", "ongoing", "completed", "cancelled")
TIMES = ("scheduled_time", "started_at", "ended_at", "created_at", "updated_at")

_UNAUTHORIZED, _TOO_MANY_REQUESTS, _SERVER_ERRORS = 401, 429, 500
_OF_OPERATIONS = (400, 401, 403, 404, 422)
"""Statuses that an operation answers; others are the framework's around it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What an observer has to complain of."""

    expected: str
    exchanges: tuple[Exchange, ...]


@dataclass(slots=True)
class _Known:
    """What was first seen of a call, and where."""

    exchange: Exchange
    values: dict[str, Any] = field(default_factory=dict[str, Any])


class Observers:
    """All of them, with what they remember.

    Args:
        is_ours: whether this run made the call of an id.
    """

    def __init__(self, clock: BackendClock, agora: Agora, is_ours: Callable[[object], bool]) -> None:
        self.clock = clock
        self.agora = agora
        self.is_ours = is_ours
        self.seen: Counter[RuleId] = Counter()
        self.findings: dict[RuleId, list[Finding]] = defaultdict(list)
        self.known: dict[object, _Known] = {}
        self.emails: set[str] = set()

    def watch(self, exchange: Exchange) -> None:
        """Ask every observer about an exchange."""
        for rule, observer in OBSERVED.items():
            found = observer(self, exchange)
            if found is None:
                continue
            self.seen[rule] += 1
            for expected, *earlier in found:
                if len(self.findings[rule]) < MOST_FINDINGS:
                    self.findings[rule].append(Finding(expected, (*earlier, exchange)))

    def first_seen(self, exchange: Exchange, call: dict[str, Any], name: str) -> tuple[Any, Exchange]:
        """The value that a field of this call had when it was first read, and where that was."""
        known = self.known.setdefault(call["id"], _Known(exchange))
        return known.values.setdefault(name, call.get(name)), known.exchange


Complaint = tuple[Any, ...]
"""What was expected, and earlier exchanges that show it."""

Observer = Callable[[Observers, Exchange], "list[Complaint] | None"]

OBSERVED: dict[RuleId, Observer] = {}


def observes(rule: RuleId) -> Callable[[Observer], Observer]:
    """Hold every exchange to a rule."""

    def register(observer: Observer) -> Observer:
        OBSERVED[rule] = observer
        return observer

    return register


def of_each_call(
    check: Callable[[Observers, Exchange, dict[str, Any]], Iterator[Complaint]], *, ours: bool = True
) -> Observer:
    """An observer that looks at every call in an exchange, or every one that this run made."""

    def observer(observers: Observers, exchange: Exchange) -> list[Complaint] | None:
        calls = [
            call
            for call in exchange.calls
            if isinstance(call.get("id"), int | str) and (not ours or observers.is_ours(call["id"]))
        ]
        if not calls:
            return None
        return [complaint for call in calls for complaint in check(observers, exchange, call)]

    return observer


def of_each_join(check: Callable[[Observers, Exchange, TokenInfo], Iterator[Complaint]]) -> Observer:
    """An observer of the Agora token in every answer to a join."""

    def observer(observers: Observers, exchange: Exchange) -> list[Complaint] | None:
        if exchange.operation != "joinVideoCall" or not exchange.succeeded:
            return None
        try:
            token = inspect_token(exchange.object.get("token", ""))
        except InvalidTokenError:
            return None
        return list(check(observers, exchange, token))

    return observer


# -- The record -------------------------------------------------------------------------------------


@observes("model.schema")
def schema(_: Observers, exchange: Exchange) -> list[Complaint] | None:
    """Success has the documented status, is JSON, and has the fields of the document."""
    if not exchange.operation or not exchange.succeeded:
        return None
    return [(complaint,) for complaint in complaints(exchange)]


@observes("model.status-values")
def status_values(_: Observers, exchange: Exchange) -> list[Complaint] | None:
    """No other status than the four."""
    calls = list(exchange.calls)
    if not calls:
        return None
    expected = f"`status` to be one of {', '.join(STATUSES)}"
    return [(f"{expected}; got {call.get('status')!r}",) for call in calls if call.get("status") not in STATUSES]


@observes("model.utc")
def utc(_: Observers, exchange: Exchange) -> list[Complaint] | None:
    """Times are written with Z."""
    bodies = list(exchange.calls)
    if exchange.operation == "joinVideoCall" and exchange.succeeded:
        bodies = [{"expiration_time": exchange.object.get("expiration_time")}]
    if not bodies:
        return None
    return [
        (f"`{name}` in UTC, ending in Z; got {value!r}",)
        for body in bodies
        for name, value in body.items()
        if name in (*TIMES, "expiration_time") and isinstance(value, str) and not value.endswith("Z")
    ][:1]


def _details(observers: Observers, exchange: Exchange, call: dict[str, Any]) -> Iterator[Complaint]:
    for role in ("doctor", "patient"):
        described = call.get(f"{role}_details")
        if not isinstance(described, dict):
            continue  # the schema's business
        if described.get("id") != call.get(role):
            yield (f"`{role}_details.id` to be the call's `{role}`, {call.get(role)!r}; got {described.get('id')!r}",)
        user = described.get("user")
        if isinstance(user, dict):
            person = (user.get("email"), user.get("full_name"))
            if not isinstance(person[0], str) or "@" not in person[0]:
                yield (f"`{role}_details.user.email` to be an e-mail address; got {person[0]!r}",)
                continue
            known = observers.known.setdefault((role, call.get(role)), _Known(exchange))
            first = known.values.setdefault("user", person)
            if person != first:
                yield (f"the same {role} to be described as in other calls, {first!r}; got {person!r}", known.exchange)
            namesakes = observers.known.setdefault((role, "email", person[0]), _Known(exchange))
            other = namesakes.values.setdefault("id", call.get(role))
            if other != call.get(role):
                yield (f"{role} {call.get(role)!r} not to be described as {role} {other!r} is", namesakes.exchange)


observes("model.details")(of_each_call(_details))


def _constant(name: str) -> Observer:
    def check(observers: Observers, exchange: Exchange, call: dict[str, Any]) -> Iterator[Complaint]:
        first, where = observers.first_seen(exchange, call, name)
        value = call.get(name)
        if value == first:
            return
        before, now = instant(first), instant(value)
        if before is None or now is None or abs(before - now) >= COARSEST:
            yield (f"`{name}` to stay {first!r} through the call's life; got {value!r}", where)

    return of_each_call(check)


observes("model.channel-constant")(_constant("channel_name"))
observes("model.scheduled-time")(_constant("scheduled_time"))


def _created_at(observers: Observers, exchange: Exchange, call: dict[str, Any]) -> Iterator[Complaint]:
    created = instant(call.get("created_at"))
    if created is None:
        yield ("`created_at` to be a time",)
    elif exchange.operation == "createVideoCall":
        tolerance = timedelta(seconds=75)
        if not observers.clock.tells_of(created, exchange.sent_at, exchange.received_at, tolerance):
            yield (f"`created_at` to be the time of creation; got {call['created_at']!r}",)
    yield from _constant("created_at")(observers, exchange) or ()


observes("model.created-at")(of_each_call(_created_at))


def _happened(name: str, since: tuple[str, ...], action: str) -> Observer:
    """`name` is null in every other status than these, and in these the time of its action."""

    def check(observers: Observers, exchange: Exchange, call: dict[str, Any]) -> Iterator[Complaint]:
        status, value = call.get("status"), call.get(name)
        if status not in STATUSES:
            return
        if status not in since:
            if value is not None:
                yield (f"`{name}` to be null while the call is {status}; got {value!r}",)
            return
        time = instant(value)
        if time is None:
            yield (f"`{name}` to be a time once the call is {status}; got {value!r}",)
            return
        if exchange.operation == action and not observers.clock.tells_of(
            time, exchange.sent_at, exchange.received_at, LENIENCE
        ):
            yield (f"`{name}` to be the time at which it happened; got {value!r}",)
        first, where = observers.first_seen(exchange, call, name) if name in call else (None, exchange)
        before = instant(first)
        if before is not None and abs(before - time) >= COARSEST:
            yield (f"`{name}` to stay {first!r}; got {value!r}", where)
        elif before is None:
            observers.known[call["id"]].values[name] = value
        started = instant(call.get("started_at"))
        if name == "ended_at" and started and time < started - COARSEST:
            yield (f"`ended_at` not to be before `started_at`, {call['started_at']!r}; got {value!r}",)

    return of_each_call(check)


observes("model.started-at")(_happened("started_at", ("ongoing", "completed"), ""))
observes("model.ended-at")(_happened("ended_at", ("completed",), "endVideoCall"))


def _updated_at(observers: Observers, exchange: Exchange, call: dict[str, Any]) -> Iterator[Complaint]:
    updated, created = instant(call.get("updated_at")), instant(call.get("created_at"))
    if updated is None:
        yield ("`updated_at` to be a time",)
        return
    if created is not None and updated < created - COARSEST:
        yield (f"`updated_at` not to be before `created_at`, {call['created_at']!r}; got {call['updated_at']!r}",)
    changed = exchange.operation in {"createVideoCall", "endVideoCall", "cancelVideoCall"}
    if changed and not observers.clock.tells_of(updated, exchange.sent_at, exchange.received_at, LENIENCE):
        yield (f"`updated_at` to be the time of this change; got {call['updated_at']!r}",)


observes("model.updated-at")(of_each_call(_updated_at))


# -- Joining ----------------------------------------------------------------------------------------


@observes("join.token-format")
def token_format(observers: Observers, exchange: Exchange) -> list[Complaint] | None:
    """Agora's packages could have made the token, for the backend's project."""
    if exchange.operation != "joinVideoCall" or not exchange.succeeded:
        return None
    body = exchange.object
    try:
        token = inspect_token(body.get("token", ""))
    except InvalidTokenError as error:
        return [(f"`token` to be an Agora AccessToken of version 006 or 007; {error}",)]
    known = observers.agora.app_id
    if known is not None and token.app_id.lower() != known.lower():
        return [(f"`token` to be of the app id {known}; got {token.app_id}",)]
    return []


@observes("join.token-signature")
def token_signature(observers: Observers, exchange: Exchange) -> list[Complaint] | None:
    """The configured certificate signed the token, for the channel and uid that it names."""
    certificate = observers.agora.app_certificate
    if certificate is None:
        return None

    def check(_: Observers, exchange: Exchange, token: TokenInfo) -> Iterator[Complaint]:
        channel, uid = _channel_and_uid(exchange)
        if channel is None or uid is None or not (token.is_for_channel(channel) and token.is_for_uid(uid)):
            return  # other rules say so
        if not token.verify(certificate, channel_name=channel, uid=uid):
            yield ("`token` to be signed with the app certificate of the configuration",)

    return of_each_join(check)(observers, exchange)


def _token_channel(_: Observers, exchange: Exchange, token: TokenInfo) -> Iterator[Complaint]:
    channel, _uid = _channel_and_uid(exchange)
    if channel is not None and not token.is_for_channel(channel):
        yield (f"`token` to be for the channel of the response, {channel!r}",)


observes("join.token-channel")(of_each_join(_token_channel))


def _token_uid(_: Observers, exchange: Exchange, token: TokenInfo) -> Iterator[Complaint]:
    _channel, uid = _channel_and_uid(exchange)
    if uid is not None and not token.is_for_uid(uid):
        yield (f"`token` to be for the uid of the response, {uid}",)


observes("join.token-uid")(of_each_join(_token_uid))

_NEEDED = (Privilege.JOIN_CHANNEL, Privilege.PUBLISH_AUDIO_STREAM, Privilege.PUBLISH_VIDEO_STREAM)


def _token_privileges(_: Observers, __: Exchange, token: TokenInfo) -> Iterator[Complaint]:
    missing = [privilege.name.lower() for privilege in _NEEDED if privilege not in token.privileges]
    if missing:
        yield (f"`token` to grant joining and publishing audio and video; without {', '.join(missing)}",)


observes("join.token-privileges")(of_each_join(_token_privileges))


def _token_lifetime(observers: Observers, exchange: Exchange, token: TokenInfo) -> Iterator[Complaint]:
    for privilege, granted_until in token.privileges.items():
        lapses = min(granted_until, token.expires_at)
        if not observers.clock.tells_of(lapses - HOUR, exchange.sent_at, exchange.received_at, LENIENCE):
            name = getattr(privilege, "name", str(privilege)).lower()
            yield (f"`token` to lapse one hour after it was made; {name} lapses at {lapses.isoformat()}",)
            return


observes("join.token-lifetime")(of_each_join(_token_lifetime))


def _token_timestamp(observers: Observers, exchange: Exchange, token: TokenInfo) -> Iterator[Complaint]:
    if not observers.clock.tells_of(
        token.expires_at - HOUR, exchange.sent_at, exchange.received_at, LENIENCE
    ):
        yield (f"`token` as a whole to lapse one hour after it was made; it does at {token.expires_at.isoformat()}",)


observes("join.token-timestamp")(of_each_join(_token_timestamp))


@observes("join.expiration-time")
def expiration_time(observers: Observers, exchange: Exchange) -> list[Complaint] | None:
    """It is an hour from now, and what the token says."""
    if exchange.operation != "joinVideoCall" or not exchange.succeeded:
        return None
    body = exchange.object
    time = instant(body.get("expiration_time"))
    if time is None:
        return [("`expiration_time` to be a time",)]
    try:
        token = inspect_token(body.get("token", ""))
    except InvalidTokenError:
        token = None
    if token is not None and token.privileges:
        lapses = min(token.expires_at, *token.privileges.values())
        if abs(lapses - time) > AGREEMENT:
            return [
                (f"`expiration_time` to be when the token lapses, {lapses.isoformat()}; got {time.isoformat()}",)
            ]
    elif not observers.clock.tells_of(time - HOUR, exchange.sent_at, exchange.received_at, LENIENCE):
        return [(f"`expiration_time` to be in one hour; got {time.isoformat()}",)]
    return []


@observes("join.app-id")
def app_id(observers: Observers, exchange: Exchange) -> list[Complaint] | None:
    """Where it is given, it is the token's."""
    if exchange.operation != "joinVideoCall" or not exchange.succeeded or "app_id" not in exchange.object:
        return None
    given = exchange.object["app_id"]

    def check(_: Observers, __: Exchange, token: TokenInfo) -> Iterator[Complaint]:
        if not isinstance(given, str) or token.app_id.lower() != given.lower():
            yield (f"`app_id` to be that of the token, {token.app_id}; got {given!r}",)

    return of_each_join(check)(observers, exchange)


def _channel_and_uid(exchange: Exchange) -> tuple[str | None, int | None]:
    channel, uid = exchange.object.get("channel_name"), exchange.object.get("uid")
    return (
        channel if isinstance(channel, str) else None,
        uid if isinstance(uid, int) and not isinstance(uid, bool) else None,
    )


# -- Errors, privacy, limits ------------------------------------------------------------------------


@observes("errors.no-server-error")
def no_server_error(_: Observers, exchange: Exchange) -> list[Complaint]:
    """Every request is answered, and none with a 5xx."""
    if exchange.status == NO_ANSWER:
        return [(f"an answer; {exchange.text}",)]
    if exchange.status >= _SERVER_ERRORS:
        return [(f"no server error; got {exchange.status}",)]
    return []


def _without_error_text(exchange: Exchange) -> list[Complaint]:
    text = exchange.object.get("error")
    if isinstance(text, str) and text.strip():
        return []
    return [(f"a JSON object with a text in `error`, with {exchange.status}",)]


@observes("errors.body")
def error_body(_: Observers, exchange: Exchange) -> list[Complaint] | None:
    """An operation's refusal has a text in `error`."""
    if not exchange.operation or exchange.status not in _OF_OPERATIONS:
        return None
    return _without_error_text(exchange)


@observes("errors.body-everywhere")
def error_body_everywhere(_: Observers, exchange: Exchange) -> list[Complaint] | None:
    """So has every other refusal."""
    if exchange.status < 400 or (exchange.operation and exchange.status in _OF_OPERATIONS):  # noqa: PLR2004 (HTTP)
        return None
    return _without_error_text(exchange) if exchange.status < _SERVER_ERRORS else None


@observes("auth.challenge")
def challenge(_: Observers, exchange: Exchange) -> list[Complaint] | None:
    """A 401 says how to authenticate."""
    if exchange.status != _UNAUTHORIZED:
        return None
    given = exchange.headers.get("www-authenticate", "")
    if re.search(r"\bbearer\b", given, re.IGNORECASE):
        return []
    return [(f"a 401 with `WWW-Authenticate: Bearer`; got {given or 'no such header'}",)]


@observes("privacy.details")
def private_details(observers: Observers, exchange: Exchange) -> list[Complaint] | None:
    """Nothing in a successful answer is what nobody should see."""
    if not exchange.operation or not exchange.succeeded:
        return None
    body = exchange.object
    if exchange.operation == "joinVideoCall":
        body = {name: value for name, value in body.items() if name != "token"}
    secret = observers.agora.app_certificate
    return [(complaint,) for complaint in privacy.in_body(body, (secret,) if secret else ())]


@observes("privacy.errors")
def private_errors(observers: Observers, exchange: Exchange) -> list[Complaint] | None:
    """Nothing in a refusal tells of the backend's inside, or of other people."""
    for call in exchange.calls:
        for role in ("doctor_details", "patient_details"):
            details = call.get(role)
            user = details.get("user") if isinstance(details, dict) else None
            email = user.get("email") if isinstance(user, dict) else None
            if isinstance(email, str) and "@" in email:
                observers.emails.add(email.lower())
    if exchange.status < 400:  # noqa: PLR2004 (HTTP)
        return None
    secret = observers.agora.app_certificate
    sent = exchange.request_body.decode("utf-8", "replace")
    return [
        (complaint,)
        for complaint in privacy.in_error(exchange.text, sent, observers.emails, (secret,) if secret else ())
    ]


@observes("limits.rate")
def rate_limit(_: Observers, exchange: Exchange) -> list[Complaint] | None:
    """A 429 says when to come again."""
    if exchange.status != _TOO_MANY_REQUESTS:
        return []
    if not exchange.headers.get("retry-after", "").strip():
        return [("a 429 with `Retry-After`",)]
    return []
