"""SQLite files that are damaged, read-only, full, or belong to another program."""

import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from litestar.testing import TestClient
from video_calls_server import Settings, create_app

from support.api import CALLS, USERS, Api, FakeClock, assert_unavailable, auth_headers, time_ahead
from support.database_contents import events_of, rows_of
from support.server_command import assert_one_line_error, run
from support.server_process import ServerProcess

DOCTOR = auth_headers(USERS["doctor"])


@contextmanager
def serving(file: Path, *, calls: int = 0) -> Iterator[Api]:
    """Run an application on this file. If the file is new, it gets this many calls."""
    clock, settings = FakeClock(), Settings(database=str(file), seed_calls=calls)
    with TestClient(create_app(settings, clock=clock), raise_server_exceptions=False) as client:
        yield Api(client, clock, settings)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the content of a used database, with calls in all states."""
    path = tmp_path_factory.mktemp("content") / "calls.db"
    with serving(path, calls=120) as api:
        assert book(api).status_code == 201
    assert list(path.parent.iterdir()) == [path]
    return path.read_bytes()


@pytest.fixture
def file(tmp_path: Path, content: bytes) -> Path:
    """Return a used database that no process has open."""
    path = tmp_path / "calls.db"
    path.write_bytes(content)
    return path


def book(api: Api) -> httpx.Response:
    """Create a call at the first free time and return the response."""
    for minutes in range(30, 30_000, 30):
        answer = api.create(minutes=minutes, headers={"Idempotency-Key": f"in-{minutes}-minutes"})
        if answer.status_code != 400:
            break
    return answer


def page_size(content: bytes) -> int:
    return int.from_bytes(content[16:18], "big")


# -- at the start -----------------------------------------------------------------------------------


def header_overwritten(content: bytes) -> bytes:
    return b"\xff" * 100 + content[100:]


def people_overwritten(content: bytes) -> bytes:
    size = page_size(content)
    return content[:size] + b"\0" * size * 30 + content[31 * size :]


@pytest.mark.parametrize(
    ("damage", "command"), [(header_overwritten, "serve"), (people_overwritten, "identities")]
)
def test_damaged_file_is_refused_and_unchanged(
    file: Path, command: str, damage: Callable[[bytes], bytes]
) -> None:
    damaged = damage(file.read_bytes())
    file.write_bytes(damaged)
    result = run(command, "--database", str(file), "--port", "1", cwd=file.parent)
    assert_one_line_error(result, f"the database {file}: ")
    assert file.read_bytes() == damaged
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("journal", ["delete", "wal"])
@pytest.mark.parametrize("command", ["serve", "migrate", "identities"])
def test_database_of_other_program_is_refused(tmp_path: Path, journal: str, command: str) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA journal_mode = {journal}")
        other.executescript(
            "CREATE TABLE recipes (id INTEGER, name TEXT); INSERT INTO recipes VALUES (1, 'Soup')"
        )
    content = path.read_bytes()
    assert_one_line_error(run(command, "--database", str(path), cwd=tmp_path), "other tables", "recipes")
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def unprivileged(*words: str) -> list[str]:
    """Return a command that runs without root's right to write to every file."""
    if os.geteuid() != 0:
        return list(words)
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root can write to every file, and setpriv is not installed")
    return [setpriv, "--bounding-set=-dac_override", *words]


@pytest.mark.parametrize("read_only", ["the file", "the directory"])
def test_read_only_file_is_refused_and_unchanged(file: Path, read_only: str) -> None:
    content = file.read_bytes()
    target = file if read_only == "the file" else file.parent
    mode = target.stat().st_mode
    target.chmod(mode & ~0o222)
    try:
        words = [sys.executable, "-m", "video_calls_server", "serve", "--port", "0", "--database", str(file)]
        result = subprocess.run(unprivileged(*words), capture_output=True, text=True, timeout=30, check=False)
    finally:
        target.chmod(mode)
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert f"the database {file}: " in result.stderr
    assert file.read_bytes() == content


# -- damage while the server runs ---------------------------------------------------------------------

PATHS = [CALLS, f"{CALLS}?page=2", *(f"{CALLS}{number}/" for number in range(1, 122, 10))]


def responses_of_all_tables(api: Api) -> list[httpx.Response]:
    """Return the responses of requests that read and change every table."""
    answers = [api.get(user, path) for path in PATHS for user in ("doctor", "patient")]
    answers.append(book(api))
    for call_id in range(1, 122, 5):
        answers += [api.act("doctor", call_id, action) for action in ("join", "end", "cancel")]
    return answers


def damaged_pages(content: bytes, every: int) -> Iterator[tuple[int, bytes]]:
    """Yield the content with one page overwritten, for every nth page except the first."""
    size = page_size(content)
    fillings = [b"\0" * size, b"\xff" * size, random.Random(2).randbytes(size)]  # noqa: S311 (no secret)
    for page in range(1, len(content) // size, every):
        yield page, content[: page * size] + fillings[page % 3] + content[(page + 1) * size :]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("every", [24, pytest.param(1, marks=pytest.mark.long)])
def test_damaged_page_affects_only_requests_for_its_rows(
    file: Path, caplog: pytest.LogCaptureFixture, every: int
) -> None:
    content = file.read_bytes()
    outcomes = set()
    for page, damaged in damaged_pages(content, every):
        file.write_bytes(damaged)
        if run("identities", "--database", str(file), cwd=file.parent).exit_code:
            outcomes.add("refused at the start")
            continue
        caplog.clear()
        with serving(file) as api:
            for answer in responses_of_all_tables(api):
                if answer.status_code == 503:
                    assert_unavailable(answer)
                    assert f"unavailable: the database {file}: " in caplog.text, page
                    outcomes.add("unavailable")
                else:
                    assert answer.status_code < 500, f"page {page}: {answer.request.url} {caplog.text}"
                    outcomes.add("answered")
            assert api.get("doctor", "/healthz").status_code == 200
        assert "Traceback" not in caplog.text, page
    assert outcomes == {"refused at the start", "answered", "unavailable"}


# -- a full disk while the server runs ----------------------------------------------------------------


@contextmanager
def file_size_limited(server: ServerProcess) -> Iterator[None]:
    """Limit the size of each file that the server writes to one page."""
    pid = server.popen.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def test_full_disk_refuses_changes_until_space_is_free(
    serve: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    file = tmp_path / "calls.db"
    server = serve("--database", str(file))
    with httpx.Client(base_url=server.url, headers=DOCTOR, timeout=30) as client:

        def create(hours: int) -> httpx.Response:
            body = {"doctor": 1, "patient": 1, "scheduled_time": time_ahead(60 * hours)}
            return client.post(CALLS, json=body, headers={"Idempotency-Key": f"in-{hours}-hours"})

        def join() -> httpx.Response:
            return client.post(f"{CALLS}{first}/join/")

        body = {"doctor": 1, "patient": 1, "scheduled_time": time_ahead(10)}
        first = client.post(CALLS, json=body).raise_for_status().json()["id"]
        count = 1
        with file_size_limited(server):
            hours = 0
            while (answer := create(hours := hours + 1)).status_code == 201:  # until no free page is left
                count += 1
                assert hours < 1000
            for refusal in (answer, create(hours), join(), join()):
                assert_unavailable(refusal)
            assert client.get(f"{CALLS}{first}/").json()["status"] == "scheduled"
            assert client.get(CALLS).json()["count"] == count
            assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
            assert events_of(str(file)) == {}
        assert create(hours).status_code == 201
        assert join().status_code == 200
        assert client.get(CALLS).json()["count"] == count + 1
    assert events_of(str(file)) == {first: ["call.started", "participant.joined"]}
    assert rows_of(str(file), "SELECT count(*) AS calls FROM calls")[0]["calls"] == count + 1
    assert server.wait_for_output(rf"unavailable: the database {file}: (.*) request_id", 4)
    server.assert_no_traceback()
    assert server.stop()[0] == 0
