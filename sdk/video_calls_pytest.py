"""The pytest plugin: the fixtures `video_calls_server` and `video_calls_router` of `video_calls_sdk.testing`.

pytest imports this module in every environment that has the distribution, so it imports pytest and the
standard library only. It is outside `video_calls_sdk` because that package imports httpx and pydantic.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import respx
    from video_calls_sdk.testing import ServerApplication, VideoCallsServer


@pytest.fixture(scope="session")
def _video_calls_application() -> Iterator[ServerApplication]:
    from video_calls_sdk.testing import server_application

    with server_application() as application:
        yield application


@pytest.fixture
def video_calls_server(_video_calls_application: ServerApplication) -> Iterator[VideoCallsServer]:
    """Start a reference server in this process, a new `VideoCallsServer` for each test."""
    with _video_calls_application.serve() as server:
        yield server


@pytest.fixture
def video_calls_router() -> Iterator[respx.MockRouter]:
    """Mock the API at any base URL with examples of the contract; see `contract_router`."""
    from video_calls_sdk.testing import contract_router

    with contract_router() as router:
        yield router
