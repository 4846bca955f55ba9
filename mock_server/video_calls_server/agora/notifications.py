"""Agora's channel events: checking that a notification is Agora's, and reading who has joined or left.

What each `eventType` of real-time communication (`productId` 1) is taken for:

    101, 102  the channel was created, destroyed: nothing; each participant has notices of their own
    103, 105  a host, an audience member joined (live profile): joined
    107       a user joined (communication profile): joined
    104, 106, 108  the same three left: left, unless they joined on another device (`reason` 5)
    111, 112  became a host, an audience member: joined, for both are in the channel

`clientSeq` grows with what happens on the participant's device; notices can come late, and more than once.
"""

import hmac
from hashlib import sha256
from typing import Literal, NamedTuple

import msgspec

RTC_PRODUCT = 1
JOINED = frozenset({103, 105, 107, 111, 112})
LEFT = frozenset({104, 106, 108})
ON_ANOTHER_DEVICE = 5
"""The `reason` of a leave with which the participant goes on elsewhere."""

LARGEST_SEQUENCE = 2**64 - 1


class Notice(NamedTuple):
    """A participant has joined a channel or left it."""

    id: str
    channel_name: str
    uid: int
    presence: Literal["joined", "left"]
    client_seq: int | None


class UnknownShapeError(Exception):
    """A notification is not as Agora documents it."""


class _Payload(msgspec.Struct, rename="camel"):
    channel_name: str
    uid: int
    client_seq: int | None = None
    reason: int | None = None


class _Notification(msgspec.Struct, rename="camel"):
    notice_id: str
    product_id: int
    event_type: int
    payload: msgspec.Raw


def is_signed(body: bytes, signature: str | None, secret: str) -> bool:
    """Whether `Agora-Signature-V2` signs this very body: its HMAC-SHA256 in hexadecimal digits."""
    expected = hmac.new(secret.encode(), body, sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), (signature or "").encode())


def read_notice(body: bytes) -> Notice | None:
    """What a notification says of who is where; None where it says nothing of that.

    Raises:
        ValueError: the body is no JSON object.
        UnknownShapeError: it is none that this can read.
    """
    try:
        body.decode()
        _OBJECT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("not a JSON object") from error
    try:
        notification = _NOTIFICATION.decode(body)
        if notification.product_id != RTC_PRODUCT or notification.event_type not in JOINED | LEFT:
            return None
        payload = _PAYLOAD.decode(notification.payload)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnknownShapeError(str(error)) from error
    left = notification.event_type in LEFT
    if left and payload.reason == ON_ANOTHER_DEVICE:
        return None
    if payload.client_seq is not None and not 0 <= payload.client_seq <= LARGEST_SEQUENCE:
        raise UnknownShapeError("clientSeq is not in 64 bits")
    if "\0" in notification.notice_id + payload.channel_name:  # which PostgreSQL takes in no text
        raise UnknownShapeError("a text has a NUL in it")
    return Notice(
        notification.notice_id,
        payload.channel_name,
        payload.uid,
        "left" if left else "joined",
        payload.client_seq,
    )


_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NOTIFICATION = msgspec.json.Decoder(_Notification)
_PAYLOAD = msgspec.json.Decoder(_Payload)
