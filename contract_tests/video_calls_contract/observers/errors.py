"""Error responses, rate limits and privacy: what a refusal must contain, and what no response may contain."""

import re

from video_calls_contract import private_data
from video_calls_contract.exchange import NO_RESPONSE, Exchange, as_object
from video_calls_contract.observers.registry import Finding, Observers, Verdict, observes

_REFUSALS, _UNAUTHORIZED, _TOO_MANY_REQUESTS, _SERVER_ERRORS = 400, 401, 429, 500
_OF_OPERATIONS = (400, 401, 403, 404, 422)
"""The statuses with which an operation refuses; others come from the framework around it."""

_SHORTEST_CHANNEL = 8  # characters; a shorter channel name may occur in a text by coincidence


@observes("errors.no-server-error")
def no_server_error(_: Observers, exchange: Exchange) -> Verdict:
    """Check that every request gets a readable response, and no 5xx."""
    if exchange.status == NO_RESPONSE:
        return [f"a response; {exchange.text}"]
    if exchange.unread:
        return [f"a response that can be read; {exchange.unread}"]
    if exchange.status >= _SERVER_ERRORS:
        return [f"no server error; got {exchange.status_text}"]
    return []


def _error_text(exchange: Exchange) -> Verdict:
    text = exchange.object.get("error")
    if isinstance(text, str) and text.strip():
        return []
    return [f"a JSON object with a text in `error`, with {exchange.status_text}"]


def _by_operation(exchange: Exchange) -> bool:
    """Return whether an operation refused the request, and not the router: that may refuse an invalid id."""
    if not exchange.operation or exchange.status not in _OF_OPERATIONS:
        return False
    call_id = re.search(r"/video-calls/([^/?]+)", exchange.url)
    return call_id is None or call_id[1].isdecimal()


@observes("errors.body")
def error_body(_: Observers, exchange: Exchange) -> Verdict:
    """Check that a refusal by an operation has a text in `error`."""
    return _error_text(exchange) if _by_operation(exchange) else None


@observes("errors.body-everywhere")
def error_body_everywhere(_: Observers, exchange: Exchange) -> Verdict:
    """Check that a refusal by something else, such as the router, has a text in `error`, too."""
    if not _REFUSALS <= exchange.status < _SERVER_ERRORS or _by_operation(exchange):
        return None
    return _error_text(exchange)


@observes("auth.challenge")
def challenge(_: Observers, exchange: Exchange) -> Verdict:
    """Check that a 401 names the authentication scheme."""
    if exchange.status != _UNAUTHORIZED:
        return None
    header = exchange.headers.get("www-authenticate", "")
    if re.search(r"\bbearer\b", header, re.IGNORECASE):
        return []
    return [f"a 401 with `WWW-Authenticate: Bearer`; got {header or 'no such header'}"]


@observes("privacy.details")
def private_details(observers: Observers, exchange: Exchange) -> Verdict:
    """Check that a successful response contains no private data."""
    if not exchange.operation or not exchange.succeeded:
        return None
    body = exchange.object
    if exchange.operation == "joinVideoCall":
        body = {name: value for name, value in body.items() if name != "token"}
    return list(private_data.in_body(body, _secrets(observers)))


@observes("privacy.errors")
def private_errors(observers: Observers, exchange: Exchange) -> Verdict:
    """Check that a refusal reveals nothing about the backend's internals or other users."""
    for call in exchange.calls:
        for role in ("doctor_details", "patient_details"):
            email = as_object(as_object(call.get(role)).get("user")).get("email")
            if isinstance(email, str) and "@" in email:
                observers.emails[email.lower()] = None
        channel = call.get("channel_name")
        if isinstance(channel, str) and len(channel) >= _SHORTEST_CHANNEL:
            observers.channels[channel] = None
    if exchange.status < _REFUSALS:
        return None
    sent = f"{exchange.url} {exchange.request_body.decode('utf-8', 'replace')}"
    return [
        Finding(expected, (exchange.about(part),))
        for expected, part in private_data.in_error(
            exchange.text, sent, observers.emails, _secrets(observers)
        )
    ] + [
        Finding("no call's `channel_name` in an error; got one", (exchange.about(channel),))
        for channel in observers.channels
        if channel in exchange.text and channel not in sent
    ][:1]


def _secrets(observers: Observers) -> tuple[str, ...]:
    certificate = observers.agora.app_certificate
    return (certificate,) if certificate else ()


@observes("limits.rate")
def rate_limit(_: Observers, exchange: Exchange) -> Verdict:
    """Check that a 429 says when to try again."""
    if exchange.status == _TOO_MANY_REQUESTS and not exchange.headers.get("retry-after", "").strip():
        return ["a 429 with `Retry-After`"]
    return []
