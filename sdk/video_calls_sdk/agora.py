"""Read Agora tokens: user, channel, expiry and privileges; and verify their signature.

It reads versions 006 (AccessToken) and 007 (AccessToken2), without a network or Agora's packages. Only
`TokenInfo.verify` checks who signed a token. Without this check, anybody may have made the token.

>>> token = (
...     "006970CA35de60c44645bbae8a215061b33IACV0fZUBw+72cVoL9eyGGh3Q6Poi8bgjwVLnyKSJyOXR7dIfRBXoFHl"
...     "EAABAAAAR/QQAAEAAQCvKDdW"
... )
>>> info = inspect_token(token)
>>> info.version, info.app_id, info.expires_at.isoformat()
('006', '970CA35de60c44645bbae8a215061b33', '1970-01-13T20:38:31+00:00')
>>> info.expired(), info.allows(Privilege.JOIN_CHANNEL)
(True, False)
>>> info.is_for_channel("7d72365eb983485397e3e3f9d460bdda"), info.is_for_uid(2882341273)
(True, True)
>>> info.verify(
...     "5CFd2fd1755d40ecb72977518be15d3b", channel_name="7d72365eb983485397e3e3f9d460bdda", uid=2882341273
... )
True
"""

import base64
import hmac
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Literal

from video_calls_sdk._errors import NaiveDatetimeError, VideoCallsError

__all__ = ["InvalidTokenError", "Privilege", "TokenInfo", "inspect_token"]

_APP_ID = re.compile(r"[0-9A-Fa-f]{32}", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SIGNATURE_BYTES = 32  # HMAC-SHA256
_MOST_INFLATED = 64 * 1024  # bytes; real tokens have a few hundred
_RTC, _RTM = 1, 2  # the services of a 007 token that this module can read: calls (RTC) and messages (RTM)


class InvalidTokenError(VideoCallsError, ValueError):
    """The text is not an Agora token. The message gives the reason, and does not show the text.

    >>> inspect_token("eyJhbGciOiJIUzI1NiJ9")
    Traceback (most recent call last):
    video_calls_sdk.agora.InvalidTokenError: an Agora token starts with 006 or 007
    """


class Privilege(IntEnum):
    """What a token allows its holder to do in a channel.

    >>> Privilege(2)
    <Privilege.PUBLISH_AUDIO_STREAM: 2>
    """

    JOIN_CHANNEL = 1
    PUBLISH_AUDIO_STREAM = 2
    PUBLISH_VIDEO_STREAM = 3
    PUBLISH_DATA_STREAM = 4


_PRIVILEGES = frozenset(Privilege)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenInfo:
    """The content of an Agora token. `inspect_token` returns it; its repr shows no token and no signature.

    >>> info = inspect_token(
    ...     "007eJxTYBBbsMMnKq7p9Hf/HcIX5kce9b518kCiQgSr5Zrp4X1Tu6UUGCzNDZwdjU1TUs0Mkk1MzExMk5ISUy0SjQxNDcw"
    ...     "Mk4yN3b8IMEQwMTAwMoAwBIL4CgzmKeZGxmamqUmWFsYmFqbGluapxqnGaZYpJmYGSSkpiVwMRhYWRsYmhkbmxgDCaiTj"
    ... )
    >>> info.channel_name, info.account, str(info.expires_at - info.issued_at)
    ('7d72365eb983485397e3e3f9d460bdda', '2882341273', '0:10:00')

    All times are aware, in UTC, to the second. A privilege without an expiry of its own (0 in the token)
    expires with the token.

    Attributes:
        version: "006" or "007".
        app_id: of the Agora project, 32 hex digits.
        salt: a random number.
        issued_at: the time of issue of a 007 token; None for 006.
        expires_at: the `ts` of a 006 token; issue plus lifetime of a 007 token.
        privileges: each privilege in the channel with its expiry. Keys are `Privilege` members, or plain
            integers if unknown. Empty for a 007 token without RTC.
        channel_name: None for a 006 token, which has only the CRC of the name, and for a 007 token without
            RTC.
        account: the uid in decimal, or the user account; empty if the token is for any uid; None if
            `channel_name` is None.
        channel_crc, uid_crc: the CRC-32 of channel and account; None for 007.
    """

    version: Literal["006", "007"]
    app_id: str
    salt: int
    issued_at: datetime | None = None
    expires_at: datetime
    privileges: Mapping[int, datetime] = field(hash=False)
    channel_name: str | None = None
    account: str | None = None
    channel_crc: int | None = None
    uid_crc: int | None = None
    _signature: bytes = field(repr=False)
    _message: bytes = field(repr=False)

    def expired(self, now: datetime | None = None) -> bool:
        """Return whether the token has expired at `now`, an aware time; by default the current time.

        Raises:
            NaiveDatetimeError: if `now` has no offset.
        """
        return _aware(now) >= self.expires_at

    def allows(self, privilege: int, now: datetime | None = None) -> bool:
        """Return whether the holder has this privilege at `now`, an aware time; by default the current time.

        Raises:
            NaiveDatetimeError: if `now` has no offset.
        """
        now = _aware(now)
        expiry = self.privileges.get(privilege)
        return expiry is not None and now < expiry and not self.expired(now)

    def is_for_channel(self, name: str) -> bool:
        """Return whether the token is for this channel.

        A 006 token has only the CRC of its channel, so about one in 2^32 other names also matches.
        """
        if self.channel_crc is not None:
            return zlib.crc32(_utf8(name)) == self.channel_crc
        return name == self.channel_name

    def is_for_uid(self, uid: int | str) -> bool:
        """Return whether the token names this uid or user account.

        A 006 token has only the CRC of its account, so about one in 2^32 others also matches. Agora admits
        any uid with a token for uid 0, but this method returns True for such a token only if `uid` is 0. The
        text "0" is a user account, not the uid 0.

        Raises:
            TypeError: if `uid` is neither an int nor a str.
        """
        account = _account(uid)
        if self.uid_crc is not None:
            return zlib.crc32(_utf8(account)) == self.uid_crc
        return account == self.account

    def verify(
        self, app_certificate: str, *, channel_name: str | None = None, uid: int | str | None = None
    ) -> bool:
        """Return whether this certificate signed the token, for this channel and uid.

        This does not check the expiry: see `expired`. The signature of a 006 token covers channel and uid
        without a separator, so "call_1" with uid 23 and "call_12" with uid 3 have the same signature. The
        signature does not cover the CRCs in the token.

        Args:
            app_certificate: of the Agora project, 32 hex digits.
            channel_name: required for 006, which does not contain it.
            uid: required for 006; as in `is_for_uid`.

        Raises:
            ValueError: if `app_certificate` is empty, because anybody could sign with it, or if a 006 token
                lacks `channel_name` or `uid`.
            TypeError: if `uid` is neither an int nor a str.
        """
        if not app_certificate:
            raise ValueError("app_certificate is empty: anybody could have signed with it")
        if channel_name is not None and not self.is_for_channel(channel_name):
            return False
        if uid is not None and not self.is_for_uid(uid):
            return False
        key = _utf8(app_certificate)
        message = self._message
        if self.issued_at is not None:
            key = hmac.digest(struct.pack("<I", int(self.issued_at.timestamp())), key, "sha256")
            key = hmac.digest(struct.pack("<I", self.salt), key, "sha256")
        elif channel_name is None or uid is None:
            raise ValueError("a 006 token does not contain its channel and uid: pass channel_name and uid")
        else:
            message = _utf8(self.app_id + channel_name + _account(uid)) + message
        return hmac.compare_digest(hmac.digest(key, message, "sha256"), self._signature)


def inspect_token(token: str) -> TokenInfo:
    """Read an Agora token of version 006 or 007, such as the `token` of `JoinCredentials`.

    >>> inspect_token("006").app_id
    Traceback (most recent call last):
    video_calls_sdk.agora.InvalidTokenError: the app id is not 32 hexadecimal digits

    Raises:
        InvalidTokenError: if the text is not a token, is cut off or continues after its end. Only
            `TokenInfo.verify` detects other damage.
    """
    match token[:3]:
        case "006":
            return _read_006(token[3:])
        case "007":
            return _read_007(token[3:])
        case _:
            raise InvalidTokenError("an Agora token starts with 006 or 007")


def _read_006(text: str) -> TokenInfo:
    app_id = _app_id(text[:32])
    content = _Bytes(_base64(text[32:]))
    signature = _signature(content)
    channel_crc, uid_crc = content.uint32(), content.uint32()
    message = content.string()
    content.end()
    fields = _Bytes(message)
    salt = fields.uint32()
    expires_at = _time(fields.uint32())
    privileges = _privileges(fields, since=0, expires_at=expires_at)
    fields.end()
    return TokenInfo(
        version="006",
        app_id=app_id,
        salt=salt,
        expires_at=expires_at,
        privileges=privileges,
        channel_crc=channel_crc,
        uid_crc=uid_crc,
        _signature=signature,
        _message=message,
    )


def _read_007(text: str) -> TokenInfo:
    content = _Bytes(_inflate(_base64(text)))
    signature = _signature(content)
    message = content.rest()
    app_id = _app_id(content.text())
    issued, lifetime, salt = content.uint32(), content.uint32(), content.uint32()
    expires_at = _time(issued + lifetime)
    privileges: dict[int, datetime] = {}
    channel_name = account = None
    for _ in range(content.uint16()):
        service = content.uint16()
        if service not in {_RTC, _RTM}:
            break  # an unknown service has an unknown length, so the next one cannot be found
        allowed = _privileges(content, since=issued, expires_at=expires_at)
        if service == _RTC:
            privileges, channel_name, account = allowed, content.text(), content.text()
        else:
            content.text()  # skip the user's id
    else:
        content.end()
    return TokenInfo(
        version="007",
        app_id=app_id,
        salt=salt,
        issued_at=_time(issued),
        expires_at=expires_at,
        privileges=privileges,
        channel_name=channel_name,
        account=account,
        _signature=signature,
        _message=message,
    )


def _privileges(content: "_Bytes", *, since: int, expires_at: datetime) -> dict[int, datetime]:
    expiries: dict[int, datetime] = {}
    for _ in range(content.uint16()):
        privilege, seconds = content.uint16(), content.uint32()
        key = Privilege(privilege) if privilege in _PRIVILEGES else privilege
        expiries[key] = _time(since + seconds) if seconds else expires_at
    return expiries


def _app_id(text: str) -> str:
    if not _APP_ID.fullmatch(text):
        raise InvalidTokenError("the app id is not 32 hexadecimal digits")
    return text


def _signature(content: "_Bytes") -> bytes:
    signature = content.string()
    if len(signature) != _SIGNATURE_BYTES:
        raise InvalidTokenError(f"the signature has {len(signature)} bytes, not {_SIGNATURE_BYTES}")
    return signature


def _base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text)
    except ValueError:
        raise InvalidTokenError("the token is not base64") from None
    # Decoding ignores unused bits and characters outside base64. A token with them is invalid.
    if base64.b64encode(data).decode("ascii") != text:
        raise InvalidTokenError("the token is not base64")
    return data


def _inflate(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(data, _MOST_INFLATED + 1)
    except zlib.error:
        raise InvalidTokenError("the token is not compressed data") from None
    if len(content) > _MOST_INFLATED:
        raise InvalidTokenError(f"the token inflates to more than {_MOST_INFLATED} bytes")
    if not stream.eof:
        raise InvalidTokenError("the token is cut off")
    if stream.unused_data:
        raise InvalidTokenError("the token has more after its end")
    return content


def _time(seconds: int) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)


def _aware(now: datetime | None) -> datetime:
    if now is None:
        return datetime.now(UTC)
    if now.utcoffset() is None:
        raise NaiveDatetimeError(f"now, {now.isoformat()}, has no time zone; pass an aware datetime")
    return now


def _account(uid: object) -> str:
    if isinstance(uid, bool) or not isinstance(uid, int | str):
        raise TypeError(f"a uid is an int or a str, not {type(uid).__name__}")
    return "" if uid == 0 else str(uid)


def _utf8(text: str) -> bytes:
    # A lone surrogate must not raise an error. Its bytes match nothing, because no token contains them.
    return text.encode("utf-8", "surrogatepass")


class _Bytes:
    """Reads little-endian fields one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        data = self._data[self._at : self._at + count]
        if len(data) < count:
            raise InvalidTokenError("the token is cut off, or a length in it is too large")
        self._at += count
        return data

    def uint16(self) -> int:
        return int.from_bytes(self.take(2), "little")

    def uint32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def string(self) -> bytes:
        return self.take(self.uint16())

    def text(self) -> str:
        try:
            return self.string().decode()
        except UnicodeDecodeError:
            raise InvalidTokenError("a text in the token is not UTF-8") from None

    def rest(self) -> bytes:
        return self._data[self._at :]

    def end(self) -> None:
        if self._at < len(self._data):
            raise InvalidTokenError("the token has more after its end")
