"""4. Join Video Call: what the credentials say, in every answer to a join."""

from collections.abc import Iterator
from datetime import timedelta

from video_calls_sdk.agora import InvalidTokenError, Privilege, TokenInfo

from video_calls_contract.exchange import SOMEBODY, Exchange, instant
from video_calls_contract.observers.registry import (
    LENIENCE,
    Complaint,
    Observers,
    Verdict,
    observes,
    of_each_join,
    token_of,
)

HOUR = timedelta(hours=1)
AGREEMENT = timedelta(seconds=2)
"""How far apart two ways to tell the same second may be."""


@observes("join.token-format")
def token_format(observers: Observers, exchange: Exchange) -> list[Complaint] | None:
    """Agora's packages could have made the token, for the backend's project."""
    if exchange.operation != "joinVideoCall" or not exchange.succeeded:
        return None
    try:
        token = token_of(exchange)
    except InvalidTokenError as error:
        return [(f"`token` to be an Agora AccessToken of version 006 or 007; {error}",)]
    known = observers.agora.app_id
    if known is not None and token.app_id.lower() != known.lower():
        return [(f"`token` to be of the app id {known}; got {token.app_id}",)]
    return []


@observes("join.token-signature")
def token_signature(observers: Observers, exchange: Exchange) -> Verdict:
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


@observes("join.uid-differs")
def uid_differs(observers: Observers, exchange: Exchange) -> list[Complaint] | None:
    """Nobody has the uid that another participant of the call had."""
    _channel, uid = _channel_and_uid(exchange)
    if exchange.operation != "joinVideoCall" or not exchange.succeeded or uid is None:
        return None
    if exchange.person == SOMEBODY:
        return None
    # The channel tells a call from another one of the same id, after the data was reset.
    place = f"{exchange.url} {exchange.object.get('channel_name')}"
    first = observers.uids.remembered((place, uid), observers.shortened(exchange, None))
    if first.person != exchange.person:
        return [(f"a uid of their own for the {exchange.person}; {uid} is that of the {first.person}", first)]
    return []


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
        yield (
            "`token` as a whole to lapse one hour after it was made; "
            f"it does at {token.expires_at.isoformat()}",
        )


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
        token = token_of(exchange)
    except InvalidTokenError:
        token = None
    if token is not None and token.privileges:
        lapses = min(token.expires_at, *token.privileges.values())
        if abs(lapses - time) > AGREEMENT:
            return [
                (
                    f"`expiration_time` to be when the token lapses, {lapses.isoformat()}; "
                    f"got {time.isoformat()}",
                )
            ]
    elif not observers.clock.tells_of(time - HOUR, exchange.sent_at, exchange.received_at, LENIENCE):
        return [(f"`expiration_time` to be in one hour; got {time.isoformat()}",)]
    return []


@observes("join.app-id")
def app_id(observers: Observers, exchange: Exchange) -> Verdict:
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
