"""The list of calls, walked from page to page."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from video_calls_contract.backend import Person
from video_calls_contract.exchange import Exchange

__all__ = ["LARGE", "Walk", "link_problem", "walked"]

LARGE = "page_size=100"
"""Asks for fewer pages, where the backend takes a page size."""

MOST_PAGES = 50


@dataclass(slots=True)
class Walk:
    """Pages in the order in which they were read.

    Attributes:
        ended: whether the last of them was reached.
        query: what the list was asked for with.
        problem: what was wrong with a page or a link, so that the walk could not go on.
    """

    pages: list[Exchange] = field(default_factory=list[Exchange])
    ended: bool = False
    problem: str = ""
    query: str = ""

    @property
    def ids(self) -> list[object]:
        """The ids of the calls, in order."""
        return [call.get("id") for page in self.pages for call in page.calls]

    def back(self, person: Person) -> "Walk":
        """The way back from the last page."""
        return _along(person, self.pages[-1], "previous")

    def is_current(self, person: Person) -> bool:
        """Whether the list still begins as it was read, so that no other run has changed it meanwhile."""
        first, again = self.pages[0], person.list(self.query)
        return again.object.get("count") == first.object.get("count") and [
            call.get("id") for call in again.calls
        ] == [call.get("id") for call in first.calls]


def walked(person: Person, query: str = "") -> Walk:
    """Return the whole list of a person, or its first pages if it has very many."""
    walk = _along(person, person.list(query), "next")
    walk.query = query
    return walk


def _along(person: Person, page: Exchange, link: str) -> Walk:
    walk = Walk()
    seen = {page.url}
    while True:
        walk.pages.append(page)
        if page.status != 200 or not isinstance(page.object.get("results"), list):  # noqa: PLR2004 (HTTP)
            walk.problem = f"a page of the list; got {page.answer}"
            return walk
        following = page.object.get(link)
        if following is None:
            walk.ended = True
            return walk
        if len(walk.pages) >= MOST_PAGES:
            return walk
        inner = person.backend.inner(following) if isinstance(following, str) else None
        problem = link_problem(link, following, leads_to_list=inner is not None)
        if not problem and inner in seen:
            problem = f"`{link}` to lead on; it leads to a page that was read before, {following!r}"
        if problem:
            walk.problem = problem
            return walk
        seen.add(inner or following)
        page = person.follow(following)


def link_problem(link: str, following: object, *, leads_to_list: bool) -> str:
    """Return what is wrong with a `next` or a `previous` that is not null; empty if nothing is."""
    if not isinstance(following, str):
        return f"`{link}` to be a URL or null; got {following!r}"
    other = urlsplit(following)
    if not other.scheme or not other.netloc:
        return f"`{link}` to be an absolute URL; got {following!r}"
    return "" if leads_to_list else f"`{link}` to lead to a page of the list; got {following!r}"
