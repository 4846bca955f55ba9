"""Pages of calls, and iteration over a page and the pages after it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping
from typing import Any

from video_calls_sdk._models import VideoCall, VideoCallPage
from video_calls_sdk._requests import Request, list_calls, next_query
from video_calls_sdk._responses import APIResponse, departure

Response = APIResponse[VideoCallPage]
Fetch = Callable[[Request[VideoCallPage]], Response]
AsyncFetch = Callable[[Request[VideoCallPage]], Coroutine[Any, Any, Response]]


class _Page:
    """One page of calls."""

    def __init__(self, response: Response) -> None:
        self._response = response

    @property
    def count(self) -> int:
        """Return the number of the user's calls on all pages."""
        return self._response.data.count

    @property
    def results(self) -> list[VideoCall]:
        """Return the calls of this page."""
        return self._response.data.results

    @property
    def next(self) -> str | None:
        """Return the URL of the next page as the server sent it; None on the last page."""
        return self._response.data.next

    @property
    def previous(self) -> str | None:
        """Return the URL of the previous page as the server sent it; None on the first page."""
        return self._response.data.previous

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.results)} calls, {self.count} in all>"


class CallPage(_Page):
    """A page of calls. Iterating over it fetches the following pages too, one by one.

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
        response, queries = self._response, [self._query]
        while True:
            yield from response.data.results
            query = _next(response, queries)
            if query is None:
                return
            response = self._fetch(list_calls(query))


class AsyncCallPage(_Page):
    """A page of calls. Iterating over it fetches the following pages too, one by one.

    ```python
    page = await client.calls.list(page_size=50)
    everything = [call async for call in page]
    ```
    """

    def __init__(self, fetch: AsyncFetch, query: Mapping[str, str], response: Response) -> None:
        super().__init__(response)
        self._fetch = fetch
        self._query = query

    async def __aiter__(self) -> AsyncIterator[VideoCall]:
        response, queries = self._response, [self._query]
        while True:
            for call in response.data.results:
                yield call
            query = _next(response, queries)
            if query is None:
                return
            response = await self._fetch(list_calls(query))


class AsyncCallList:
    """A page that is not fetched yet: `await` it, or iterate over its calls and those of the next pages."""

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


def _next(response: Response, queries: list[Mapping[str, str]]) -> Mapping[str, str] | None:
    """Return the query of the next page and add it to `queries`; None after the last page.

    Raises:
        InvalidResponseError: if `next` is not a URL, or is the URL of an earlier page.
    """
    problem = "next: is the URL of an earlier page"
    try:
        query = next_query(response.data.next)
    except ValueError:
        query, problem = {}, "next: is not a URL"
    else:
        if query is None or query not in queries:
            queries.extend([query] if query is not None else [])
            return query
    raise departure(response, "/video-calls/", problem)
