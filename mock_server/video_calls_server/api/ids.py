"""The ids that clients see: the integers of the store, or UUIDs in place of them.

Only the API, the control API and the command line use this module. A UUID is an encrypted integer. Therefore
an integer always has the same UUID, and the server recognizes the UUIDs that it issued. A call, a doctor and
a patient with the same integer have different UUIDs. The key is public, so a UUID does not hide its integer.
"""

import re
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from typing import Annotated, Literal, TypeAlias
from uuid import UUID

import msgspec
from msgspec import Meta

from video_calls_server.api.jwt import LARGEST_ID
from video_calls_server.settings import IdForm

Kind = Literal["call", "doctor", "patient"]
ExternalId: TypeAlias = int | str
"""An id as clients see it, in contrast to the integer in the store."""

UNUSED_NUMBER = 0
"""The number for a well-formed id that the server did not issue; the store never assigns it."""

_WHOLE = re.compile(r"[0-9]{1,19}", re.ASCII)
_FRACTIONAL = re.compile(rb"[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?")
UUID_FORM = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_UUID = re.compile(UUID_FORM, re.ASCII | re.IGNORECASE)
_INTEGER = msgspec.json.Decoder(Annotated[int, Meta(ge=1, le=LARGEST_ID)])
_TEXT = msgspec.json.Decoder(str)


class IntegerIds:
    """Ids in the form that the store has."""

    requirement = "must be a positive whole number"
    """The text of the error if an id in a body has another form."""

    def format(self, kind: Kind, number: int) -> ExternalId:  # noqa: ARG002 (the same for each kind)
        """Return the number unchanged."""
        return number

    def parse(self, kind: Kind, text: str) -> int | None:  # noqa: ARG002
        """Return the number that a text in a path or a query has, or None if it is not a number in digits."""
        return whole_number(text)

    def decode(self, kind: Kind, value: msgspec.Raw) -> int:  # noqa: ARG002
        """Return the id that a JSON value holds.

        Raises:
            msgspec.DecodeError: if the value is not a positive whole number.
        """
        number: int = _INTEGER.decode(_as_integer(value))
        return number


class UuidIds:
    """Ids as UUIDs. Of the 122 free bits of a UUID, 58 hold a checksum, and 64 hold the masked number."""

    requirement = "must be a UUID"

    def format(self, kind: Kind, number: int) -> ExternalId:
        """Return the UUID of a number."""
        return _uuid(kind, number)

    def parse(self, kind: Kind, text: str) -> int | None:
        """Return the number of a UUID in a path or a query, or None if this server did not issue the UUID."""
        return _number(kind, text) if _UUID.fullmatch(text) else None

    def decode(self, kind: Kind, value: msgspec.Raw) -> int:
        """Return the number of a UUID in JSON, or `UNUSED_NUMBER` if this server did not issue the UUID.

        Raises:
            msgspec.DecodeError: if the value is not a string with a UUID.
        """
        text = _TEXT.decode(value)
        if not _UUID.fullmatch(text):
            raise msgspec.ValidationError(self.requirement)
        return self.parse(kind, text) or UNUSED_NUMBER


Ids: TypeAlias = IntegerIds | UuidIds
"""Converts the numbers of calls, doctors and patients to the ids that clients see, and back."""

INTEGERS = IntegerIds()
_FORMS: dict[IdForm, Ids] = {"integer": INTEGERS, "uuid": UuidIds()}


def ids_of(form: IdForm) -> Ids:
    """Return the conversion for a form of ids."""
    return _FORMS[form]


def parse_external_id(text: str) -> ExternalId | None:
    """Return the id, an integer or a UUID, that a client has written. Return None for any other text."""
    number = whole_number(text)
    return text.lower() if number is None and _UUID.fullmatch(text) else number


def whole_number(text: str) -> int | None:
    """Return the number of a text in ASCII digits. Return None for other texts and above `LARGEST_ID`."""
    if not _WHOLE.fullmatch(text):
        return None
    number = int(text)
    return number if number <= LARGEST_ID else None


def _as_integer(value: msgspec.Raw) -> msgspec.Raw | bytes:
    """Return a whole number in plain digits, and any other value unchanged.

    JSON does not distinguish 1.0 and 1e0 from 1.
    """
    text = bytes(value)
    if not _FRACTIONAL.fullmatch(text):
        return value
    number = Decimal(text.decode())
    return b"%d" % number if number <= LARGEST_ID and number == number.to_integral_value() else value


# -- UUIDs ------------------------------------------------------------------------------------------
# The checksum is a hash of the number, and the mask is a hash of the checksum. Therefore the server can
# compute the number of a UUID without a table.

_CHECKSUM_BITS, _NUMBER_BITS, _NODE_BITS = 58, 64, 62
_KEY = b"video-calls-server ids"


@lru_cache(maxsize=8192)
def _uuid(kind: Kind, number: int) -> str:
    checksum = _hash(b"checksum", kind, number) >> 64 - _CHECKSUM_BITS
    free = checksum << _NUMBER_BITS | (number ^ _hash(b"mask", kind, checksum))
    head, node = free >> _NODE_BITS, free & (1 << _NODE_BITS) - 1
    return str(UUID(int=head >> 12 << 80 | (head & 0xFFF) << 64 | node, version=4))


@lru_cache(maxsize=8192)
def _number(kind: Kind, text: str) -> int | None:
    """Return the number of a well-formed UUID, or None if this server did not issue it for this kind."""
    value = UUID(text).int
    free = (value >> 80 << 12 | value >> 64 & 0xFFF) << _NODE_BITS | value & (1 << _NODE_BITS) - 1
    checksum = free >> _NUMBER_BITS
    number = (free & (1 << _NUMBER_BITS) - 1) ^ _hash(b"mask", kind, checksum)
    was_issued = 1 <= number <= LARGEST_ID and _uuid(kind, number) == text.lower()
    return number if was_issued else None


def _hash(purpose: bytes, kind: Kind, number: int) -> int:
    message = kind.encode() + number.to_bytes(8, "big")
    return int.from_bytes(blake2b(message, digest_size=8, key=_KEY, person=purpose).digest(), "big")
