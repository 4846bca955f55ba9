"""Decode the body of a response while it arrives, up to a limit on its decoded size.

No I/O, and no import beyond the standard library.
"""

import zlib
from typing import Final

LARGEST_BODY: Final = 2 * 2**20
"""Bytes, before and after decoding: about twenty times the size of a page with 100 calls."""

ACCEPTED_CODING: Final = "gzip"
"""The content coding that the SDK and the suite accept."""

_UNCODED = {"", "identity"}
_GZIP = {ACCEPTED_CODING, "x-gzip"}  # RFC 9110, 8.4.1.3
_WBITS = 31  # zlib's number for the gzip format


class Body:
    """Collects the parts of a body and decodes them.

    Attributes:
        problem: why the body cannot be read to its end; None if it can.
    """

    def __init__(self, content_encoding: str) -> None:
        coding = content_encoding.strip().lower()
        self.problem: str | None = None
        if coding not in _UNCODED | _GZIP:
            self.problem = f"Content-Encoding is {content_encoding[:40]!r}, not only {ACCEPTED_CODING}"
        self._decoder = zlib.decompressobj(_WBITS) if coding in _GZIP else None
        self._content = bytearray()
        self._received = 0

    def add(self, part: bytes) -> None:
        """Add a part, before decoding.

        Raises:
            zlib.error: if the body is not gzip, although its Content-Encoding says so.
        """
        if self.problem is not None:
            return
        part = part[: LARGEST_BODY + 1 - self._received]
        self._received += len(part)
        if self._decoder is not None:
            # Drop data after the end of the gzip stream, because zlib would keep it in memory.
            room = LARGEST_BODY + 1 - len(self._content)
            part = b"" if self._decoder.eof else self._decoder.decompress(part, room)
        self._content += part
        if max(self._received, len(self._content)) > LARGEST_BODY:
            self.problem = f"more than {LARGEST_BODY:,} bytes"
            del self._content[LARGEST_BODY:]

    @property
    def is_cut_off(self) -> bool:
        """Return whether the gzip stream is incomplete."""
        return self._decoder is not None and self._received > 0 and not self._decoder.eof

    @property
    def content(self) -> bytes:
        """Return the decoded body so far."""
        return bytes(self._content)
