"""Error responses, security considerations and rate limiting: what no answer may be, and no refusal lack."""

import re

from video_calls_contract import privacy
from video_calls_contract.exchange import NO_ANSWER, Exchange, as_object
from video_calls_contract.observers.registry import Complaint, Finding, Observers, observes

_REFUSALS, _UNAUTHORIZED, _TOO_MANY_REQUESTS, _SERVER_ERRORS = 400, 401, 429, 500
_OF_OPERATIONS = (400, 401, 403, 404, 422)
"""Statuses that an operation answers; others are the framework's around it."""


@observes("errors.no-server-error")
def no_server_error(_: Observers, exchange: Exchange) -> list[Complaint]:
    """Every request is answered, so that it can be read, and none with a 5xx."""
    if exchange.status == NO_ANSWER:
        return [(f"an answer; {exchange.text}",)]
    if exchange.unread:
        return [(f"an answer that can be read; {exchange.unread}",)]
    if exchange.status >= _SERVER_ERRORS:
        return [(f"no server error; got {exchange.answer}",)]
    return []


_TELLING = 8  # characters of a channel's name that are no coincidence


def _without_error_text(exchange: Exchange) -> list[Complaint]:
    text = exchange.object.get("error")
    if isinstance(text, str) and text.strip():
        return []
    return [(f"a JSON object with a text in `error`, with {exchange.answer}",)]


def _by_operation(exchange: Exchange) -> bool:
    """Whether an operation refused. A path whose id is no number is one that a router need not know."""
    if not exchange.operation or exchange.status not in _OF_OPERATIONS:
        return False
    named = re.search(r"/video-calls/([^/?]+)", exchange.url)
    return named is None or named[1].isdecimal()


@observes("errors.body")
def error_body(_: Observers, exchange: Exchange) -> list[Complaint] | None:
    """An operation's refusal has a text in `error`."""
    if not _by_operation(exchange):
        return None
    return _without_error_text(exchange)


@observes("errors.body-everywhere")
def error_body_everywhere(_: Observers, exchange: Exchange) -> list[Complaint] | None:
    """So has every other refusal."""
    if exchange.status < _REFUSALS or _by_operation(exchange):
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
def private_errors(observers: Observers, exchange: Exchange) -> list[Finding] | None:
    """Nothing in a refusal tells of the backend's inside, or of other people."""
    for call in exchange.calls:
        for role in ("doctor_details", "patient_details"):
            email = as_object(as_object(call.get(role)).get("user")).get("email")
            if isinstance(email, str) and "@" in email:
                observers.emails[email.lower()] = None
        channel = call.get("channel_name")
        if isinstance(channel, str) and len(channel) >= _TELLING:
            observers.channels[channel] = None
    if exchange.status < _REFUSALS:
        return None
    secret = observers.agora.app_certificate
    secrets = (secret,) if secret else ()
    sent = exchange.request_body.decode("utf-8", "replace")
    return [
        Finding(complaint, (exchange.about(part),))
        for complaint, part in privacy.in_error(exchange.text, sent, observers.emails, secrets)
    ] + [
        Finding("no call's `channel_name` in an error; got one", (exchange.about(channel),))
        for channel in observers.channels
        if channel in exchange.text and channel not in sent
    ][:1]


@observes("limits.rate")
def rate_limit(_: Observers, exchange: Exchange) -> list[Complaint] | None:
    """A 429 says when to come again."""
    if exchange.status != _TOO_MANY_REQUESTS:
        return []
    if not exchange.headers.get("retry-after", "").strip():
        return [("a 429 with `Retry-After`",)]
    return []
