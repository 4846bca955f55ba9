"""Recognizes a gateway that answers instead of the backend: it gives every request the same answer.

This module sends no requests.
"""

import re
from collections.abc import Sequence

from video_calls_contract.exchange import NO_RESPONSE, Exchange

NOWHERE = "/no-such-path-of-any-api/"
"""A path that no backend has."""

_UNAUTHORIZED, _TOO_MANY_REQUESTS = 401, 429
_OTHER_MEANINGS = (NO_RESPONSE, _UNAUTHORIZED, _TOO_MANY_REQUESTS)
_MOST_QUOTED = 160


def is_unlike_the_api(exchange: Exchange) -> bool:
    """Return whether a response is a server error, or has a form that the API never uses."""
    if exchange.status in _OTHER_MEANINGS:
        return False
    if exchange.succeeded:
        return not exchange.object
    return exchange.status >= 500 or not isinstance(exchange.object.get("error"), str)  # noqa: PLR2004 (HTTP)


def gateway_in(unusual: Exchange, page: Exchange, others: Sequence[Exchange]) -> str:
    """Return what a gateway answers instead of the backend; empty if the backend itself answers.

    Args:
        unusual: the response to judge.
        page: the response to a list request with a valid token.
        others: responses that the API answers differently: a list without a token, and an unknown path.
    """
    if isinstance(page.object.get("results"), list) or unusual.status in _OTHER_MEANINGS:
        return ""
    if any(other.status != unusual.status for other in (page, *others)):
        return ""
    kind = unusual.headers.get("content-type", "").partition(";")[0].strip() or "no Content-Type"
    text = " ".join(re.sub(r"<[^>]*>", " ", unusual.text).split())
    quoted = f": “{text[:_MOST_QUOTED]}{'…' if len(text) > _MOST_QUOTED else ''}”" if text else ""
    help_ = "; it may want a client certificate: --cert and --key" if "certificate" in text.lower() else ""
    return (
        f"answers everything alike, also without a token and at a path that no API has: {unusual.status}, "
        f"{kind}{quoted}; a gateway or a proxy seems to answer instead of the backend{help_}"
    )
