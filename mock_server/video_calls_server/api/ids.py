"""How ids are written outside the server: as the integers of the store, or as UUIDs in their place.

Only the border uses this module: the API, the control API and the command line. A UUID holds its integer,
encrypted. The same integer always has the same UUID; calls, doctors and patients have different ones; a UUID
that this server did not make stands for nothing. The key is public, so the UUIDs hide nothing.
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
ShownId: TypeAlias = int | str
"""An id as clients see it."""

NOBODY = 0
"""The number of an id that is well-formed and of nothing: the store never gives it."""

_WHOLE = re.compile(r"[0-9]{1,19}", re.ASCII)
_FRACTIONAL = re.compile(rb"[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?")
UUID_FORM = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_UUID = re.compile(UUID_FORM, re.ASCII | re.IGNORECASE)
_INTEGER = msgspec.json.Decoder(Annotated[int, Meta(ge=1, le=LARGEST_ID)])
_TEXT = msgspec.json.Decoder(str)


class IntegerIds:
    """Ids as they are in the store."""

    expected = "must be a positive whole number"
    """What an id in a body must be."""

    def show(self, kind: Kind, number: int) -> ShownId:  # noqa: ARG002 (the same for each kind)
        """Return the number itself."""
        return number

    def number(self, kind: Kind, text: str) -> int | None:  # noqa: ARG002
        """Return the number of decimal digits in a path or a query; None for any other text."""
        return whole_number(text)

    def sent(self, kind: Kind, value: msgspec.Raw) -> int:  # noqa: ARG002
        """Return the number of a JSON number.

        Raises:
            msgspec.DecodeError: if the value has another form than ids have.
        """
        number: int = _INTEGER.decode(_as_integer(value))
        return number


class UuidIds:
    """Ids as UUIDs. Their 122 free bits are 58 bits of a checksum and the number, masked with its hash."""

    expected = "must be a UUID"

    def show(self, kind: Kind, number: int) -> ShownId:
        """Return the UUID of a number."""
        return _uuid(kind, number)

    def number(self, kind: Kind, text: str) -> int | None:
        """Return the number in a UUID in a path or a query; None if it is not a UUID of this kind."""
        return _number(kind, text) if _UUID.fullmatch(text) else None

    def sent(self, kind: Kind, value: msgspec.Raw) -> int:
        """Return the number in a UUID in a JSON text, `NOBODY` if it is well-formed and of nothing.

        Raises:
            msgspec.DecodeError: if the value has another form than ids have.
        """
        text = _TEXT.decode(value)
        if not _UUID.fullmatch(text):
            raise msgspec.ValidationError(self.expected)
        return self.number(kind, text) or NOBODY


Ids: TypeAlias = IntegerIds | UuidIds
"""The numbers of calls, doctors and patients in the form in which clients see them."""

INTEGERS = IntegerIds()
_FORMS: dict[IdForm, Ids] = {"integer": INTEGERS, "uuid": UuidIds()}


def ids_of(form: IdForm) -> Ids:
    """Return the ids of this form."""
    return _FORMS[form]


def number_of(ids: Ids, kind: Kind, given: ShownId) -> int | None:
    """Return the number of an id that the control API was given, which may be the number itself."""
    if isinstance(given, str):
        return ids.number(kind, given)
    return given if 1 <= given <= LARGEST_ID else None


def shown_in(path: str) -> ShownId | None:
    """Return an id in a path as clients see it, by its form alone; None for any other text."""
    number = whole_number(path)
    return path.lower() if number is None and _UUID.fullmatch(path) else number


def whole_number(text: str) -> int | None:
    """Return a number of ASCII digits that fits 64 bits; None for any other text."""
    if not _WHOLE.fullmatch(text):
        return None
    number = int(text)
    return number if number <= LARGEST_ID else None


def _as_integer(sent: msgspec.Raw) -> msgspec.Raw | bytes:
    """Return a number as it was sent, but 1.0 as 1: JSON knows no difference."""
    text = bytes(sent)
    if not _FRACTIONAL.fullmatch(text):
        return sent
    number = Decimal(text.decode())
    return b"%d" % number if number <= LARGEST_ID and number == number.to_integral_value() else sent


# -- UUIDs ------------------------------------------------------------------------------------------
# The checksum is a hash of the number, and the mask a hash of the checksum: reading one needs no table.

_CHECKSUM_BITS, _NUMBER_BITS, _NODE_BITS = 58, 64, 62
_KEY = b"video-calls-server ids"


@lru_cache(maxsize=8192)
def _uuid(kind: Kind, number: int) -> str:
    checksum = _checksum(kind, number)
    free = checksum << _NUMBER_BITS | (number ^ _mask(kind, checksum))
    head, node = free >> _NODE_BITS, free & (1 << _NODE_BITS) - 1
    return str(UUID(int=head >> 12 << 80 | (head & 0xFFF) << 64 | node, version=4))


@lru_cache(maxsize=8192)
def _number(kind: Kind, text: str) -> int | None:
    """Return the number in a well-formed UUID, None if it is not one of this server's for this kind."""
    value = UUID(text).int
    free = (value >> 80 << 12 | value >> 64 & 0xFFF) << _NODE_BITS | value & (1 << _NODE_BITS) - 1
    checksum = free >> _NUMBER_BITS
    number = (free & (1 << _NUMBER_BITS) - 1) ^ _mask(kind, checksum)
    is_ours = 1 <= number <= LARGEST_ID and _uuid(kind, number) == text.lower()
    return number if is_ours else None


def _checksum(kind: Kind, number: int) -> int:
    return _hash(b"checksum", kind, number) >> 64 - _CHECKSUM_BITS


def _mask(kind: Kind, checksum: int) -> int:
    return _hash(b"mask", kind, checksum)


def _hash(purpose: bytes, kind: Kind, number: int) -> int:
    message = kind.encode() + number.to_bytes(8, "big")
    return int.from_bytes(blake2b(message, digest_size=8, key=_KEY, person=purpose).digest(), "big")
