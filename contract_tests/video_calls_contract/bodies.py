"""Response bodies, decoded while they arrive and within bounds that no page of the API reaches."""

import time
import zlib

import httpx

__all__ = ["ACCEPTED_CODING", "MOST_BYTES", "MOST_VALUES", "UnreadBodyError", "read_body"]

ACCEPTED_CODING = "gzip"
"""The one coding that the suite asks for."""

MOST_BYTES = 2 * 1024 * 1024
"""Decoded bytes of a body: a page of 100 calls has some 100 KiB."""

MOST_VALUES = 200_000
"""JSON values of a body: a page of 100 calls has some 3,000."""

_GZIP_ONLY = 31  # zlib's `wbits` for the gzip format


class UnreadBodyError(Exception):
    """The body was not read; the message says why."""


def read_body(response: httpx.Response, *, until: float) -> bytes:
    """Return the decoded body of a streamed response; `until` is a time of `time.monotonic`.

    Raises:
        UnreadBodyError: if the body is too long, or has a coding that was not asked for.
        httpx.ReadTimeout: if the body takes longer.
    """
    decoder = (
        zlib.decompressobj(_GZIP_ONLY) if _is_gzip(response.headers.get("content-encoding", "")) else None
    )
    body = bytearray()
    received = False
    for chunk in response.iter_raw():
        if time.monotonic() > until:
            raise httpx.ReadTimeout("the body took too long", request=response.request)
        received = True
        try:
            # The bound of `decompress` leaves the rest of a bomb unread.
            body += decoder.decompress(chunk, MOST_BYTES + 1 - len(body)) if decoder else chunk
        except zlib.error:
            raise UnreadBodyError("the body is not the gzip that its Content-Encoding says") from None
        if len(body) > MOST_BYTES:
            raise UnreadBodyError(f"the body is longer than {MOST_BYTES // 2**20} MiB")
    if decoder and received and not decoder.eof:
        raise UnreadBodyError("the gzip body is cut off")
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MOST_VALUES:
        raise UnreadBodyError(f"the body has more than {MOST_VALUES:,} values")
    return bytes(body)


def _is_gzip(header: str) -> bool:
    codings = [coding.strip().lower() for coding in header.split(",")]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    if codings not in ([], ["gzip"], ["x-gzip"]):
        raise UnreadBodyError(
            f"the body has the Content-Encoding {', '.join(codings)!r}, and the suite asks for gzip alone"
        )
    return bool(codings)
