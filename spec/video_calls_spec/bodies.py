"""The body of an answer, decoded within bounds while it arrives: a small answer must not become gigabytes.

No I/O, and no import beyond the standard library.
"""

import zlib
from typing import Final

LARGEST_BODY: Final = 2 * 2**20
"""Bytes, both as received and decoded. A page of 100 calls has about a twentieth of it."""

ACCEPTED_CODING: Final = "gzip"
"""The one coding that the SDK and the suite ask for."""

_UNCODED = {"", "identity"}
_GZIP = {ACCEPTED_CODING, "x-gzip"}  # RFC 9110, 8.4.1.3
_WBITS = 31  # zlib's name for the gzip format


class Body:
    """Collects the parts of a body and decodes them.

    Attributes:
        problem: why no further part is needed, None while there is no problem.
    """

    def __init__(self, content_encoding: str) -> None:
        coding = content_encoding.strip().lower()
        self.problem: str | None = None
        if coding not in _UNCODED | _GZIP:
            self.problem = f"Content-Encoding is {content_encoding[:40]!r}, not {ACCEPTED_CODING} alone"
        self._decoder = zlib.decompressobj(_WBITS) if coding in _GZIP else None
        self._content = bytearray()
        self._received = 0

    def add(self, part: bytes) -> None:
        """Add a part as it was received.

        Raises:
            zlib.error: if the body is not gzip, although its Content-Encoding says so.
        """
        if self.problem is not None:
            return
        part = part[: LARGEST_BODY + 1 - self._received]
        self._received += len(part)
        if self._decoder is not None:
            # What follows the end of the gzip is dropped here: zlib would keep it.
            room = LARGEST_BODY + 1 - len(self._content)
            part = b"" if self._decoder.eof else self._decoder.decompress(part, room)
        self._content += part
        if max(self._received, len(self._content)) > LARGEST_BODY:
            self.problem = f"more than {LARGEST_BODY:,} bytes"
            del self._content[LARGEST_BODY:]

    @property
    def is_cut_off(self) -> bool:
        """Whether a gzip body that began has not ended."""
        return self._decoder is not None and self._received > 0 and not self._decoder.eof

    @property
    def content(self) -> bytes:
        """The body, as far as it was read."""
        return bytes(self._content)
