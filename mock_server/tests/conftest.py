"""Fixtures of the server's tests: a clock, applications with that clock, a real process, databases."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sqlalchemy.engine import make_url
from video_calls_server import Settings, create_app
from video_calls_server.control.client import Control

from support.api import Api, FakeClock, in_memory, in_process
from support.postgres import new_database, on_postgres, postgres_server
from support.server_process import ServerProcess, server_processes


@pytest.fixture(scope="session")
def read_only_api() -> Iterator[Api]:
    """Yield the application without calls for all tests that change nothing."""
    with in_memory() as api:
        yield api


@pytest.fixture(scope="module")
def api_of_module() -> Iterator[Api]:
    with in_memory() as api:
        yield api


@pytest.fixture
def clock(api_of_module: Api) -> FakeClock:
    """Return the clock of the test's applications, reset to its initial time."""
    api_of_module.clock.time = FakeClock().time
    return api_of_module.clock


@pytest.fixture
def api(api_of_module: Api, clock: FakeClock) -> Api:  # noqa: ARG001 (the fixture resets it)
    """Return the module's application, reset to its initial state; only the request ids continue."""
    for namespace in api_of_module.manage("GET", "/namespaces")[1:]:
        api_of_module.manage("DELETE", f"/namespaces/{namespace['name']}")
    for snapshot in api_of_module.manage("GET", "/snapshots"):
        api_of_module.manage("DELETE", f"/snapshots/{snapshot['name']}")
    api_of_module.manage("POST", "/state/reset")
    api_of_module.manage("DELETE", "/requests")
    return api_of_module


@pytest.fixture
def make_api(clock: FakeClock) -> Iterator[Callable[..., Api]]:
    """Return a function that makes applications with other settings, on an empty database in memory."""
    with ExitStack() as stack:

        def make(**options: Any) -> Api:
            settings = Settings(**{"database": ":memory:"} | options)
            client = stack.enter_context(in_process(create_app(settings, clock=clock)))
            return Api(client, clock, settings)

        yield make


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Yield one process for all tests that need only their own namespace, not their own process."""
    with server_processes(tmp_path_factory.mktemp("server")) as start:
        yield start("--database", ":memory:", env={"AGORA_NCS_SECRET": "agora-ncs-test-secret"})


@pytest.fixture
def control(server: ServerProcess, request: pytest.FixtureRequest) -> Iterator[Control]:
    """Yield the control client of the test's own namespace in that process."""
    name = sha256(request.node.nodeid.encode()).hexdigest()[:16]
    with Control(server.url, namespace=name) as control:
        yield control
        control.drop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Yield the URL of a PostgreSQL server on which tests create databases. Our own server skips fsync."""
    if url := os.environ.get("VIDEO_CALLS_TEST_POSTGRES_URL"):
        yield url
    else:
        # Not in a directory of pytest, because other runs of pytest delete those.
        with TemporaryDirectory() as directory, postgres_server(Path(directory) / "data") as server:
            url = server.get_uri()
            quick = ("ALTER SYSTEM SET fsync = off", "ALTER SYSTEM SET deadlock_timeout = '100ms'")
            asyncio.run(on_postgres(url, *quick, "SELECT pg_reload_conf()"))
            yield url


@pytest.fixture(scope="session")
def migrated(postgres: str) -> Iterator[str]:
    """Yield the name of a database that has our tables and that tests copy."""
    from video_calls_server.store.database import database_url
    from video_calls_server.store.migrate import migrate

    with new_database(postgres) as url:
        asyncio.run(migrate(database_url(url), "the template"))
        yield str(make_url(url).database)


@pytest.fixture
def empty_postgres_url(postgres: str) -> Iterator[str]:
    """Yield the URL of an empty database, which only this test uses."""
    with new_database(postgres) as url:
        yield url


@pytest.fixture
def postgres_url(postgres: str, migrated: str) -> Iterator[str]:
    """Yield the URL of a database that only this test uses. It has our tables without rows."""
    with new_database(postgres, like=migrated) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Yield Chromium, for tests with the marker `browser`."""
    from support.chromium import running_chromium

    with running_chromium() as chromium:
        yield chromium
