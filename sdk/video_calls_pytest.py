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
    from video_calls_sdk.testing import Serve, VideoCallsServer


@pytest.fixture(scope="session")
def _serve_video_calls() -> Iterator[Serve]:
    from video_calls_sdk.testing import server_application

    with server_application() as serve:
        yield serve


@pytest.fixture
def video_calls_server(_serve_video_calls: Serve) -> Iterator[VideoCallsServer]:
    """Start a reference server in this process, a new `VideoCallsServer` for each test."""
    with _serve_video_calls() as server:
        yield server


@pytest.fixture
def video_calls_router() -> Iterator[respx.MockRouter]:
    """Mock the API, at any base URL; the responses are examples of the contract. See `contract_router`."""
    from video_calls_sdk.testing import contract_router

    with contract_router() as router:
        yield router
