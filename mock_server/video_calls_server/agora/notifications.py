"""Agora's channel notifications: verify the signature, and read which participant joined or left.

The `eventType`s of real-time communication (`productId` 1):

    101, 102       channel created, destroyed: ignored, because each participant has a notification too
    103, 105, 107  a user joined as host, as audience member, in the communication profile: joined
    104, 106, 108  a user of these three kinds left: left, unless they joined on another device (`reason` 5)
    111, 112       a participant changed role: joined, because both roles are in the channel

`clientSeq` increases with each event on the participant's device. Notifications can arrive late or twice.
"""

import hmac
from hashlib import sha256
from typing import Literal, NamedTuple

import msgspec

RTC_PRODUCT = 1
JOINED = frozenset({103, 105, 107, 111, 112})
LEFT = frozenset({104, 106, 108})
ON_ANOTHER_DEVICE = 5
"""The `reason` of a leave if the participant continues on another device."""

MAX_SEQUENCE = 2**64 - 1


class Notice(NamedTuple):
    """A notification that a participant has joined or left a channel."""

    id: str
    channel_name: str
    uid: int
    presence: Literal["joined", "left"]
    client_seq: int | None


class UnknownShapeError(Exception):
    """The notification does not have the form that Agora documents."""


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
    """Return whether `Agora-Signature-V2` is the HMAC-SHA256 of the body, in hexadecimal digits."""
    digest = hmac.new(secret.encode(), body, sha256).hexdigest()
    return hmac.compare_digest(digest.encode(), (signature or "").encode())


def read_notice(body: bytes) -> Notice | None:
    """Return the notice in a notification, or None if no participant joined or left.

    Raises:
        ValueError: if the body is not a JSON object.
        UnknownShapeError: if the object does not have the form that Agora documents.
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
    is_leave = notification.event_type in LEFT
    if is_leave and payload.reason == ON_ANOTHER_DEVICE:
        return None
    if payload.client_seq is not None and not 0 <= payload.client_seq <= MAX_SEQUENCE:
        raise UnknownShapeError("clientSeq does not fit into 64 bits")
    if "\0" in notification.notice_id + payload.channel_name:  # PostgreSQL cannot store a NUL
        raise UnknownShapeError("a text contains a NUL")
    return Notice(
        notification.notice_id,
        payload.channel_name,
        payload.uid,
        "left" if is_leave else "joined",
        payload.client_seq,
    )


_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NOTIFICATION = msgspec.json.Decoder(_Notification)
_PAYLOAD = msgspec.json.Decoder(_Payload)
