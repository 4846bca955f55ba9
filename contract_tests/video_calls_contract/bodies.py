"""Reads response bodies, up to limits that no response of the API reaches."""

import time
import zlib

import httpx
from video_calls_spec.bodies import Body

MOST_VALUES = 200_000
"""How many JSON values a body may have; a page of 100 calls has some 3,000."""


class UnreadBodyError(Exception):
    """A body cannot be read; the message says why."""


def read_body(response: httpx.Response, *, until: float) -> bytes:
    """Return the decoded body of a streamed response.

    Args:
        until: the deadline, a time of `time.monotonic`.

    Raises:
        UnreadBodyError: if the body is too long, or has a coding that the request did not accept.
        httpx.ReadTimeout: if the body arrives after the deadline.
    """
    body = Body(response.headers.get("content-encoding", ""))
    for chunk in response.iter_raw():
        if time.monotonic() > until:
            raise httpx.ReadTimeout("the body took too long", request=response.request)
        try:
            body.add(chunk)
        except zlib.error:
            raise UnreadBodyError("the body is not gzip, as its Content-Encoding says") from None
        if body.problem is not None:
            break
    if body.problem is not None:
        raise UnreadBodyError(f"the body is not read: {body.problem}")
    if body.is_cut_off:
        raise UnreadBodyError("the gzip body is cut off")
    if sum(body.content.count(mark) for mark in (b",", b"[", b"{")) > MOST_VALUES:
        raise UnreadBodyError(f"the body has more than {MOST_VALUES:,} values")
    return body.content
