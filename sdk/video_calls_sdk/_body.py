"""The body of an answer, read within bounds: a small answer must not become gigabytes. No I/O."""

import zlib
from collections.abc import Mapping
from typing import Final

import httpx

LARGEST_BODY: Final = 2 * 2**20
"""Bytes, decoded. A page of 100 calls has about a twentieth of it."""

ACCEPTED_CODING: Final = "gzip"


class Body:
    """Collects the parts of a body and decodes them, up to `LARGEST_BODY` bytes.

    Attributes:
        problem: why no further part is needed, None while there is no problem.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        coding = headers.get("content-encoding", "").strip().lower()
        self.problem: str | None = None
        self._decoder = zlib.decompressobj(wbits=31) if coding == ACCEPTED_CODING else None
        if coding not in {"", "identity", ACCEPTED_CODING}:
            self.problem = "body: Content-Encoding is not gzip, the one coding that the client accepts"
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, part: bytes) -> None:
        """Add a part as it was received.

        Raises:
            httpx.DecodingError: if the body is not what its Content-Encoding says.
        """
        if self.problem is not None:
            return
        room = LARGEST_BODY - self._size
        if self._decoder is not None:
            try:
                part = self._decoder.decompress(part, room + 1)
            except zlib.error as error:
                raise httpx.DecodingError(f"the body is not gzip: {error}") from error
        if len(part) > room:
            self.problem = f"body: more than {LARGEST_BODY:,} bytes"
            part = part[:room]
        self._size += len(part)
        self._parts.append(part)

    @property
    def content(self) -> bytes:
        """The body, as far as it was read."""
        return b"".join(self._parts)
