"""4. Join Video Call: the credentials in every response to a join."""

from collections.abc import Iterator
from datetime import timedelta

from video_calls_sdk.agora import InvalidTokenError, Privilege, TokenInfo

from video_calls_contract.exchange import SOMEBODY, Exchange, instant
from video_calls_contract.observers.registry import (
    LENIENCE,
    Finding,
    Observers,
    Verdict,
    observes,
    of_each_join,
    token_of,
)

_HOUR = timedelta(hours=1)
_ROUNDING = timedelta(seconds=2)
"""How much `expiration_time` may differ from the token's expiry, because backends round both to seconds."""

_PRIVILEGES = (Privilege.JOIN_CHANNEL, Privilege.PUBLISH_AUDIO_STREAM, Privilege.PUBLISH_VIDEO_STREAM)


def _is_join(exchange: Exchange) -> bool:
    return exchange.operation == "joinVideoCall" and exchange.succeeded


@observes("join.token-format")
def token_format(observers: Observers, exchange: Exchange) -> Verdict:
    """Check that `token` is a readable Agora token for the configured app id."""
    if not _is_join(exchange):
        return None
    try:
        token = token_of(exchange)
    except InvalidTokenError as error:
        return [f"`token` to be an Agora AccessToken of version 006 or 007; {error}"]
    app_id = observers.agora.app_id
    if app_id is not None and token.app_id.lower() != app_id.lower():
        return [f"`token` to be for the app id {app_id}; got {token.app_id}"]
    return []


@observes("join.token-signature")
def token_signature(observers: Observers, exchange: Exchange) -> Verdict:
    """Check that the token is signed with the configured app certificate."""
    certificate = observers.agora.app_certificate
    if certificate is None:
        return None

    def check(_: Observers, exchange: Exchange, token: TokenInfo) -> Iterator[str]:
        channel, uid = _channel_and_uid(exchange)
        if channel is None or uid is None or not (token.is_for_channel(channel) and token.is_for_uid(uid)):
            return  # other rules check the channel and the uid
        if not token.verify(certificate, channel_name=channel, uid=uid):
            yield "`token` to be signed with the app certificate of the configuration"

    return of_each_join(check)(observers, exchange)


@observes("join.token-channel")
@of_each_join
def token_channel(_: Observers, exchange: Exchange, token: TokenInfo) -> Iterator[str]:
    """Check that the token is for the channel of the response."""
    channel, _uid = _channel_and_uid(exchange)
    if channel is not None and not token.is_for_channel(channel):
        yield f"`token` to be for the channel of the response, {channel!r}"


@observes("join.token-uid")
@of_each_join
def token_uid(_: Observers, exchange: Exchange, token: TokenInfo) -> Iterator[str]:
    """Check that the token is for the uid of the response."""
    _channel, uid = _channel_and_uid(exchange)
    if uid is not None and not token.is_for_uid(uid):
        yield f"`token` to be for the uid of the response, {uid}"


@observes("join.uid-differs")
def uid_differs(observers: Observers, exchange: Exchange) -> Verdict:
    """Check that the participants of a call have different uids."""
    _channel, uid = _channel_and_uid(exchange)
    if not _is_join(exchange) or uid is None or exchange.user == SOMEBODY:
        return None
    # After a reset of the data, another call may have the same id, but not the same channel.
    place = f"{exchange.url} {exchange.object.get('channel_name')}"
    first = observers.uids.get_or_add((place, uid), observers.shortened(exchange, None))
    if first.user == exchange.user:
        return []
    return [
        Finding(f"the {exchange.user} to have a uid other than the {first.user}'s, {uid}", (first, exchange))
    ]


@observes("join.token-privileges")
@of_each_join
def token_privileges(_: Observers, __: Exchange, token: TokenInfo) -> Iterator[str]:
    """Check that the token has the privileges that a participant needs."""
    missing = [privilege.name.lower() for privilege in _PRIVILEGES if privilege not in token.privileges]
    if missing:
        yield f"`token` to grant joining and publishing audio and video; {', '.join(missing)} is missing"


@observes("join.token-lifetime")
@of_each_join
def token_lifetime(observers: Observers, exchange: Exchange, token: TokenInfo) -> Iterator[str]:
    """Check that every privilege expires one hour after the join."""
    for privilege, granted_until in token.privileges.items():
        expires = min(granted_until, token.expires_at)
        if not observers.clock.matches(expires - _HOUR, exchange.sent_at, exchange.received_at, LENIENCE):
            name = getattr(privilege, "name", str(privilege)).lower()
            yield f"`token` to expire one hour after the join; {name} expires at {expires.isoformat()}"
            return


@observes("join.token-timestamp")
@of_each_join
def token_own_expiry(observers: Observers, exchange: Exchange, token: TokenInfo) -> Iterator[str]:
    """Check that the token itself, apart from its privileges, expires one hour after the join."""
    expires = token.expires_at
    if not observers.clock.matches(expires - _HOUR, exchange.sent_at, exchange.received_at, LENIENCE):
        yield f"`token` itself to expire one hour after the join; it expires at {expires.isoformat()}"


@observes("join.expiration-time")
def expiration_time(observers: Observers, exchange: Exchange) -> Verdict:
    """Check that `expiration_time` is one hour after the join, and agrees with the token."""
    if not _is_join(exchange):
        return None
    time = instant(exchange.object.get("expiration_time"))
    if time is None:
        return ["`expiration_time` to be a time"]
    try:
        token = token_of(exchange)
    except InvalidTokenError:
        token = None
    if token is not None and token.privileges:
        expires = min(token.expires_at, *token.privileges.values())
        if abs(expires - time) > _ROUNDING:
            expected = f"`expiration_time` to be the time when the token expires, {expires.isoformat()}"
            return [f"{expected}; got {time.isoformat()}"]
    elif not observers.clock.matches(time - _HOUR, exchange.sent_at, exchange.received_at, LENIENCE):
        return [f"`expiration_time` to be one hour after the join; got {time.isoformat()}"]
    return []


@observes("join.app-id")
def app_id(observers: Observers, exchange: Exchange) -> Verdict:
    """Check that `app_id`, if the response has one, is the app id in the token."""
    if not _is_join(exchange) or "app_id" not in exchange.object:
        return None
    value = exchange.object["app_id"]

    def check(_: Observers, __: Exchange, token: TokenInfo) -> Iterator[str]:
        if not isinstance(value, str) or token.app_id.lower() != value.lower():
            yield f"`app_id` to be that of the token, {token.app_id}; got {value!r}"

    return of_each_join(check)(observers, exchange)


def _channel_and_uid(exchange: Exchange) -> tuple[str | None, int | None]:
    channel, uid = exchange.object.get("channel_name"), exchange.object.get("uid")
    return (
        channel if isinstance(channel, str) else None,
        uid if isinstance(uid, int) and not isinstance(uid, bool) else None,
    )
