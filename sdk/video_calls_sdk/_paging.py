"""Pages of calls that go on: one page with what it holds, and iteration over all that follow it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping
from typing import Any

from video_calls_sdk._answers import APIResponse, departure
from video_calls_sdk._flow import Request, list_calls, next_query
from video_calls_sdk._models import VideoCall, VideoCallPage

Answered = APIResponse[VideoCallPage]
Fetch = Callable[[Request[VideoCallPage]], Answered]
AsyncFetch = Callable[[Request[VideoCallPage]], Coroutine[Any, Any, Answered]]


class _Page:
    """One page of calls."""

    def __init__(self, answer: Answered) -> None:
        self._answer = answer

    @property
    def count(self) -> int:
        """How many calls the user has, over all pages."""
        return self._answer.data.count

    @property
    def results(self) -> list[VideoCall]:
        """The calls of this page."""
        return self._answer.data.results

    @property
    def next(self) -> str | None:
        """The URL of the next page as the server gave it, None on the last."""
        return self._answer.data.next

    @property
    def previous(self) -> str | None:
        """The URL of the page before as the server gave it, None on the first."""
        return self._answer.data.previous

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.results)} calls, {self.count} in all>"


class CallPage(_Page):
    """A page of calls; iterating over it goes on to the pages after it, fetched one by one.

    ```python
    page = client.calls.list(page_size=50)
    print(page.count, len(page.results))
    everything = list(page)
    ```
    """

    def __init__(self, fetch: Fetch, query: Mapping[str, str]) -> None:
        super().__init__(fetch(list_calls(query)))
        self._fetch = fetch
        self._query = query

    def __iter__(self) -> Iterator[VideoCall]:
        answer, asked = self._answer, [self._query]
        while True:
            yield from answer.data.results
            query = _following(answer, asked)
            if query is None:
                return
            answer = self._fetch(list_calls(query))


class AsyncCallPage(_Page):
    """A page of calls; iterating over it goes on to the pages after it, fetched one by one.

    ```python
    page = await client.calls.list(page_size=50)
    everything = [call async for call in page]
    ```
    """

    def __init__(self, fetch: AsyncFetch, query: Mapping[str, str], answer: Answered) -> None:
        super().__init__(answer)
        self._fetch = fetch
        self._query = query

    async def __aiter__(self) -> AsyncIterator[VideoCall]:
        answer, asked = self._answer, [self._query]
        while True:
            for call in answer.data.results:
                yield call
            query = _following(answer, asked)
            if query is None:
                return
            answer = await self._fetch(list_calls(query))


class AsyncCallList:
    """A page of calls to be: `await` it for the page, or iterate over it for that page and all after it."""

    def __init__(self, fetch: AsyncFetch, query: Mapping[str, str]) -> None:
        self._fetch = fetch
        self._query = query

    def __await__(self) -> Generator[Any, Any, AsyncCallPage]:
        return self._first().__await__()

    async def __aiter__(self) -> AsyncIterator[VideoCall]:
        async for call in await self._first():
            yield call

    async def _first(self) -> AsyncCallPage:
        return AsyncCallPage(self._fetch, self._query, await self._fetch(list_calls(self._query)))


def _following(answer: Answered, asked: list[Mapping[str, str]]) -> Mapping[str, str] | None:
    """The query of the page after this one, None after the last; put among those asked.

    Raises:
        InvalidResponseError: `next` is no URL, or leads back.
    """
    problem = "next: leads back to a page that came before"
    try:
        query = next_query(answer.data.next)
    except ValueError:
        query, problem = {}, "next: is no URL"
    else:
        if query is None or query not in asked:
            asked.extend([query] if query is not None else [])
            return query
    raise departure(answer, "/video-calls/", problem)
