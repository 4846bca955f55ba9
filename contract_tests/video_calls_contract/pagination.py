"""Reads the list of calls from page to page."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from video_calls_contract.exchange import Exchange
from video_calls_contract.users import User

LARGE = "page_size=100"
"""A query that asks for few pages, if the backend supports page sizes."""

_MOST_PAGES = 50


@dataclass(slots=True)
class Walk:
    """The pages of a list that were read by following links, in this order.

    Attributes:
        ended: whether the last page was reached.
        query: the query of the first page.
        problem: what is wrong with the page or the link at which the walk stopped; empty if nothing is.
    """

    pages: list[Exchange] = field(default_factory=list[Exchange])
    ended: bool = False
    problem: str = ""
    query: str = ""

    @property
    def ids(self) -> list[object]:
        """The ids of the calls, in order."""
        return [call.get("id") for page in self.pages for call in page.calls]

    def back(self, user: User) -> "Walk":
        """Follow the `previous` links from the last page."""
        return _follow(user, self.pages[-1], "previous")

    def is_current(self, user: User) -> bool:
        """Return whether the first page is still the same; if not, another run has changed the list."""
        first, again = self.pages[0], user.list(self.query)
        return again.object.get("count") == first.object.get("count") and [
            call.get("id") for call in again.calls
        ] == [call.get("id") for call in first.calls]


def read_list(user: User, query: str = "") -> Walk:
    """Read and return the pages of a user's list, at most 50."""
    walk = _follow(user, user.list(query), "next")
    walk.query = query
    return walk


def visible_calls(user: User) -> Iterator[dict[str, Any]]:
    """Yield the calls of a user's list, up to the first page that cannot be read. This checks no rule."""
    page = user.list(LARGE)
    if not page.succeeded:
        page = user.list()
    for _ in range(_MOST_PAGES):
        yield from page.calls
        link = page.object.get("next")
        if not isinstance(link, str) or not user.backend.local_url(link):
            return
        page = user.follow(link)


def _follow(user: User, page: Exchange, link: str) -> Walk:
    walk = Walk()
    visited = {page.url}
    while True:
        walk.pages.append(page)
        if page.status != 200 or not isinstance(page.object.get("results"), list):  # noqa: PLR2004 (HTTP)
            walk.problem = f"a page of the list; got {page.status_text}"
            return walk
        following = page.object.get(link)
        if following is None:
            walk.ended = True
            return walk
        if len(walk.pages) >= _MOST_PAGES:
            return walk
        inner = user.backend.local_url(following) if isinstance(following, str) else None
        problem = link_problem(link, following, leads_to_list=inner is not None)
        if not problem and inner in visited:
            problem = f"`{link}` to lead to another page; it leads back to {following!r}"
        if problem:
            walk.problem = problem
            return walk
        visited.add(inner or following)
        page = user.follow(following)


def link_problem(link: str, following: object, *, leads_to_list: bool) -> str:
    """Return what is wrong with a `next` or `previous` that is not null; empty if nothing is."""
    if not isinstance(following, str):
        return f"`{link}` to be a URL or null; got {following!r}"
    other = urlsplit(following)
    if not other.scheme or not other.netloc:
        return f"`{link}` to be an absolute URL; got {following!r}"
    return "" if leads_to_list else f"`{link}` to lead to a page of the list; got {following!r}"
