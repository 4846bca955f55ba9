"""Read Agora tokens: for whom, for which channel, for how long, and whether a certificate signed them.

Versions 006 (AccessToken) and 007 (AccessToken2) are read without a network and without Agora's packages.
Everything read is a claim, because anybody can write a token: only `TokenInfo.verify` checks who signed it.

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
_MOST_INFLATED = 64 * 1024  # bytes; real tokens have some hundreds
_RTC, _RTM = 1, 2  # the services of a 007 token whose parts can be read: calls and messages


class InvalidTokenError(VideoCallsError, ValueError):
    """Not a token that Agora's packages could have made. Says why, and shows nothing of the token.

    >>> inspect_token("eyJhbGciOiJIUzI1NiJ9")
    Traceback (most recent call last):
    video_calls_sdk.agora.InvalidTokenError: an Agora token starts with 006 or 007
    """


class Privilege(IntEnum):
    """What a token lets its holder do in a channel.

    >>> Privilege(2)
    <Privilege.PUBLISH_AUDIO_STREAM: 2>
    """

    JOIN_CHANNEL = 1
    PUBLISH_AUDIO_STREAM = 2
    PUBLISH_VIDEO_STREAM = 3
    PUBLISH_DATA_STREAM = 4


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """What an Agora token says. Made by `inspect_token`; its repr shows neither token nor signature.

    >>> info = inspect_token(
    ...     "007eJxTYBBbsMMnKq7p9Hf/HcIX5kce9b518kCiQgSr5Zrp4X1Tu6UUGCzNDZwdjU1TUs0Mkk1MzExMk5ISUy0SjQxNDcw"
    ...     "Mk4yN3b8IMEQwMTAwMoAwBIL4CgzmKeZGxmamqUmWFsYmFqbGluapxqnGaZYpJmYGSSkpiVwMRhYWRsYmhkbmxgDCaiTj"
    ... )
    >>> info.channel_name, info.account, str(info.expires_at - info.issued_at)
    ('7d72365eb983485397e3e3f9d460bdda', '2882341273', '0:10:00')

    All times are aware, in UTC, to the second. A privilege that is granted for as long as the token (a 0 in
    the token) lapses with it.

    Attributes:
        version: "006" or "007".
        app_id: of the Agora project, 32 hex digits.
        salt: a random number.
        issued_at: when a 007 token was made; None for 006.
        expires_at: when the token lapses: the `ts` of 006, issue plus lifetime of 007.
        privileges: what the holder may do in the channel, and when each lapses. Keys are `Privilege` members,
            or plain integers where unknown. Empty for a 007 token without RTC.
        channel_name: None for 006, which holds only a CRC of it, and for a 007 token without RTC.
        account: the uid in decimal or the user account, empty for any uid; None as for `channel_name`.
        channel_crc, uid_crc: the CRC-32 of both; None for 007.
    """

    version: Literal["006", "007"]
    app_id: str
    salt: int
    issued_at: datetime | None
    expires_at: datetime
    privileges: Mapping[int, datetime] = field(hash=False)
    channel_name: str | None
    account: str | None
    channel_crc: int | None
    uid_crc: int | None
    _signature: bytes = field(repr=False)
    _message: bytes = field(repr=False)

    def expired(self, now: datetime | None = None) -> bool:
        """Whether the token has lapsed at `now`, an aware time; by default the present.

        Raises:
            NaiveDatetimeError: `now` has no offset.
        """
        return _aware(now) >= self.expires_at

    def allows(self, privilege: int, now: datetime | None = None) -> bool:
        """Whether the holder may do this at `now`, an aware time; by default the present.

        Raises:
            NaiveDatetimeError: `now` has no offset.
        """
        now = _aware(now)
        lapse = self.privileges.get(privilege)
        return lapse is not None and now < lapse and not self.expired(now)

    def is_for_channel(self, name: str) -> bool:
        """Whether the token is for this channel; for 006 by CRC, where one other name in 2^32 agrees."""
        if self.channel_crc is not None:
            return zlib.crc32(_utf8(name)) == self.channel_crc
        return name == self.channel_name

    def is_for_uid(self, uid: int | str) -> bool:
        """Whether the token names this uid or user account; for 006 by CRC, where one other in 2^32 agrees.

        0 asks whether it is for any uid; such a token names no other, though Agora admits everyone with it.
        The text "0" is a user account.

        Raises:
            TypeError: `uid` is neither an int nor a str.
        """
        account = _account(uid)
        if self.uid_crc is not None:
            return zlib.crc32(_utf8(account)) == self.uid_crc
        return account == self.account

    def verify(
        self, app_certificate: str, *, channel_name: str | None = None, uid: int | str | None = None
    ) -> bool:
        """Whether this certificate signed the token, for this channel and uid where they are given.

        Tells nothing of time: see `expired`. A 006 token signs channel and uid run together, so that "call_1"
        with uid 23 and "call_12" with uid 3 have one signature, and their CRCs are not signed.

        Args:
            app_certificate: of the Agora project, 32 hex digits.
            channel_name: needed for 006, whose signature covers the channel without holding it.
            uid: needed for 006; as in `is_for_uid`.

        Raises:
            ValueError: `app_certificate` is empty, which anybody could sign with, or the token is 006 and
                channel or uid is missing (False where the one that is given is not the token's).
            TypeError: `uid` is neither an int nor a str.
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
            raise ValueError("a 006 token does not hold its channel and uid: give channel_name and uid")
        else:
            message = _utf8(self.app_id + channel_name + _account(uid)) + message
        return hmac.compare_digest(hmac.digest(key, message, "sha256"), self._signature)


def inspect_token(token: str) -> TokenInfo:
    """Read an Agora token of version 006 or 007, such as the `token` of `JoinCredentials`.

    >>> inspect_token("006").app_id
    Traceback (most recent call last):
    video_calls_sdk.agora.InvalidTokenError: the app id is not 32 hexadecimal digits

    Raises:
        InvalidTokenError: it is none, was cut off or otherwise made unreadable, or has more behind it. Damage
            that leaves it readable shows in `TokenInfo.verify` alone.
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
        issued_at=None,
        expires_at=expires_at,
        privileges=privileges,
        channel_name=None,
        account=None,
        channel_crc=channel_crc,
        uid_crc=uid_crc,
        _signature=signature,
        _message=message,
    )


def _read_007(text: str) -> TokenInfo:
    content = _Bytes(_inflated(_base64(text)))
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
            break  # the length of its part, and so where the next one begins, is unknown
        granted = _privileges(content, since=issued, expires_at=expires_at)
        if service == _RTC:
            privileges, channel_name, account = granted, content.text(), content.text()
        else:
            content.text()  # the user's id
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
        channel_crc=None,
        uid_crc=None,
        _signature=signature,
        _message=message,
    )


def _privileges(content: "_Bytes", *, since: int, expires_at: datetime) -> dict[int, datetime]:
    lapses: dict[int, datetime] = {}
    for _ in range(content.uint16()):
        privilege, seconds = _named(content.uint16()), content.uint32()
        lapses[privilege] = _time(since + seconds) if seconds else expires_at
    return lapses


def _named(privilege: int) -> int:
    try:
        return Privilege(privilege)
    except ValueError:
        return privilege


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
        raise InvalidTokenError("it is not base64") from None
    # Decoding skips strays and ignores spare bits; a token is written in one way only.
    if base64.b64encode(data).decode("ascii") != text:
        raise InvalidTokenError("it is not base64")
    return data


def _inflated(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(data, _MOST_INFLATED + 1)
    except zlib.error:
        raise InvalidTokenError("it is not compressed data") from None
    if len(content) > _MOST_INFLATED:
        raise InvalidTokenError(f"it inflates to more than {_MOST_INFLATED} bytes")
    if not stream.eof:
        raise InvalidTokenError("it is cut off")
    if stream.unused_data:
        raise InvalidTokenError("there is more behind its end")
    return content


def _time(seconds: int) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)


def _aware(now: datetime | None) -> datetime:
    if now is None:
        return datetime.now(UTC)
    if now.utcoffset() is None:
        raise NaiveDatetimeError(f"now, {now.isoformat()}, has no time zone; give an aware datetime")
    return now


def _account(uid: object) -> str:
    if isinstance(uid, bool) or not isinstance(uid, int | str):
        raise TypeError(f"a uid is an int or a str, not {type(uid).__name__}")
    return "" if uid == 0 else str(uid)


def _utf8(text: str) -> bytes:
    # A lone surrogate is in no token, so that its bytes equal none; to encode it is no error.
    return text.encode("utf-8", "surrogatepass")


class _Bytes:
    """Little-endian fields, read one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise InvalidTokenError("it is cut off, or a length in it is too large")
        self._at += count
        return taken

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
            raise InvalidTokenError("a text in it is not UTF-8") from None

    def rest(self) -> bytes:
        return self._data[self._at :]

    def end(self) -> None:
        if self._at < len(self._data):
            raise InvalidTokenError("there is more behind its end")
