"""A SQLite file that cannot be used as it is, or not for now: what the server says, and leaves alone."""

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

from support.api import CALLS, USERS, Api, FakeClock
from support.command import assert_told, run
from support.deployments import Server, assert_unavailable, events_of, headers, rows_of, soon

DOCTOR = headers(USERS["doctor"])


@contextmanager
def served(file: Path, *, calls: int = 0) -> Iterator[Api]:
    """The application on this file, with so many calls if it makes the file."""
    clock, settings = FakeClock(), Settings(database=str(file), seed_calls=calls)
    with TestClient(create_app(settings, clock=clock), raise_server_exceptions=False) as client:
        yield Api(client, clock, settings)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """That of a database in use, with calls of all kinds."""
    path = tmp_path_factory.mktemp("content") / "calls.db"
    with served(path, calls=120) as api:
        assert book(api).status_code == 201
    assert list(path.parent.iterdir()) == [path]
    return path.read_bytes()


@pytest.fixture
def file(tmp_path: Path, content: bytes) -> Path:
    """A database in use that nobody has open."""
    path = tmp_path / "calls.db"
    path.write_bytes(content)
    return path


def book(api: Api) -> httpx.Response:
    """What a create is answered at the first time that is free."""
    for minutes in range(30, 30_000, 30):
        answer = api.create(minutes=minutes, headers={"Idempotency-Key": f"in-{minutes}-minutes"})
        if answer.status_code != 400:
            break
    return answer


def page_size(content: bytes) -> int:
    return int.from_bytes(content[16:18], "big")


# -- at the start -----------------------------------------------------------------------------------


def cut_short(content: bytes) -> bytes:
    return content[: len(content) // 2]


def header_overwritten(content: bytes) -> bytes:
    return b"\xff" * 100 + content[100:]


def people_overwritten(content: bytes) -> bytes:
    size = page_size(content)
    return content[:size] + b"\0" * size * 30 + content[31 * size :]


@pytest.mark.parametrize(
    ("damage", "command"),
    [
        (cut_short, "serve"),
        (header_overwritten, "serve"),
        (people_overwritten, "serve"),
        (people_overwritten, "identities"),
    ],
)
def test_a_damaged_file_is_told_in_a_line_and_left_alone(
    file: Path, command: str, damage: Callable[[bytes], bytes]
) -> None:
    damaged = damage(file.read_bytes())
    file.write_bytes(damaged)
    result = run(command, "--database", str(file), "--port", "1", cwd=file.parent)
    assert_told(result, f"the database {file}: ")
    assert file.read_bytes() == damaged
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("journal", ["delete", "wal"])
@pytest.mark.parametrize("command", ["serve", "migrate", "identities"])
def test_the_database_of_another_program_is_left_alone(tmp_path: Path, journal: str, command: str) -> None:
    theirs = tmp_path / "theirs.db"
    with closing(sqlite3.connect(theirs)) as other:
        other.execute(f"PRAGMA journal_mode = {journal}")
        other.executescript(
            "CREATE TABLE recipes (id INTEGER, name TEXT); INSERT INTO recipes VALUES (1, 'Soup')"
        )
    content = theirs.read_bytes()
    assert_told(run(command, "--database", str(theirs), cwd=tmp_path), "other tables", "recipes")
    assert theirs.read_bytes() == content
    assert list(tmp_path.iterdir()) == [theirs]


def unprivileged(*words: str) -> list[str]:
    """A command without root's right to write what it may not; a file's owner has no such right."""
    if os.geteuid() != 0:
        return list(words)
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root may write everywhere, and there is no setpriv to take that away")
    return [setpriv, "--bounding-set=-dac_override", *words]


@pytest.mark.parametrize("who", ["the file", "the directory"])
def test_a_file_that_may_only_be_read_is_told_in_a_line_and_left_alone(file: Path, who: str) -> None:
    content = file.read_bytes()
    closed = file if who == "the file" else file.parent
    mode = closed.stat().st_mode
    closed.chmod(mode & ~0o222)
    try:
        words = [sys.executable, "-m", "video_calls_server", "serve", "--port", "0", "--database", str(file)]
        done = subprocess.run(unprivileged(*words), capture_output=True, text=True, timeout=30, check=False)
    finally:
        closed.chmod(mode)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert f"the database {file}: " in done.stderr
    assert file.read_bytes() == content


# -- while it is served: damage ---------------------------------------------------------------------

PATHS = [CALLS, f"{CALLS}?page=2", *(f"{CALLS}{number}/" for number in range(1, 122, 10))]


def ask_everything(api: Api) -> list[httpx.Response]:
    """What reads and changes are answered that touch every table."""
    answers = [api.get(user, path) for path in PATHS for user in ("doctor", "patient")]
    answers.append(book(api))
    for call_id in range(1, 122, 5):
        answers += [api.act("doctor", call_id, action) for action in ("join", "end", "cancel")]
    return answers


def damaged_pages(content: bytes, every: int) -> Iterator[tuple[int, bytes]]:
    """The content with one page overwritten, for every so manieth page but the first."""
    size = page_size(content)
    fillings = [b"\0" * size, b"\xff" * size, random.Random(2).randbytes(size)]  # noqa: S311 (no secret)
    for page in range(1, len(content) // size, every):
        yield page, content[: page * size] + fillings[page % 3] + content[(page + 1) * size :]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.long)])
def test_what_touches_a_damaged_page_is_unavailable_and_the_rest_is_served(
    file: Path, caplog: pytest.LogCaptureFixture, every: int
) -> None:
    content = file.read_bytes()
    seen = {"refused at the start": 0, "answered": 0, "unavailable": 0}
    for page, damaged in damaged_pages(content, every):
        file.write_bytes(damaged)
        if run("identities", "--database", str(file), cwd=file.parent).exit_code:
            seen["refused at the start"] += 1
            continue
        caplog.clear()
        with served(file) as api:
            for answer in ask_everything(api):
                if answer.status_code == 503:
                    assert_unavailable(answer)
                    assert f"unavailable: the database {file}: " in caplog.text, page
                    seen["unavailable"] += 1
                else:
                    assert answer.status_code < 500, f"page {page}: {answer.request.url} {caplog.text}"
                    seen["answered"] += 1
            assert api.get("doctor", "/healthz").status_code == 200
        assert "Traceback" not in caplog.text, page
    print(f"{len(content) // page_size(content)} pages", seen)
    assert all(seen.values())


# -- while it is served: a full disk ----------------------------------------------------------------


@contextmanager
def file_size_limited(server: Server) -> Iterator[None]:
    """No file of the server's may grow, or be written to beyond its first page."""
    pid = server.popen.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def test_a_file_that_cannot_grow_costs_only_the_changes_meanwhile(
    launch: Callable[..., Server], tmp_path: Path
) -> None:
    file = tmp_path / "calls.db"
    server = launch("--database", str(file))
    with httpx.Client(base_url=server.url, headers=DOCTOR, timeout=30) as client:

        def create(hours: int) -> httpx.Response:
            body = {"doctor": 1, "patient": 1, "scheduled_time": soon(60 * hours)}
            return client.post(CALLS, json=body, headers={"Idempotency-Key": f"in-{hours}-hours"})

        def join() -> httpx.Response:
            return client.post(f"{CALLS}{first}/join/")

        body = {"doctor": 1, "patient": 1, "scheduled_time": soon(10)}
        first = client.post(CALLS, json=body).raise_for_status().json()["id"]
        kept = 1
        with file_size_limited(server):
            hours = 0
            while (answer := create(hours := hours + 1)).status_code == 201:  # while pages are left to fill
                kept += 1
                assert hours < 1000
            for refused in (answer, create(hours), join(), join()):
                assert_unavailable(refused)
            assert client.get(f"{CALLS}{first}/").json()["status"] == "scheduled"
            assert client.get(CALLS).json()["count"] == kept
            assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
            assert events_of(str(file)) == {}
        assert create(hours).status_code == 201
        assert join().status_code == 200
        assert client.get(CALLS).json()["count"] == kept + 1
    assert events_of(str(file)) == {first: ["call.started", "participant.joined"]}
    assert rows_of(str(file), "SELECT count(*) AS calls FROM calls")[0]["calls"] == kept + 1
    assert server.says(rf"unavailable: the database {file}: (.*) request_id", 4)
    server.assert_no_traceback()
    assert server.stop()[0] == 0
