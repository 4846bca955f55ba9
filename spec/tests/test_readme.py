"""The README's sessions, run as written against a fresh server: all of each section, in order, without pip.
And the blocks of the pages on the SDK and the server, to which it leads.

Files that a section names in their first line are written as they stand there, and its shell blocks are one
script. Only the server's address is another, for the port is a free one.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from conftest import Process

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PATIENCE = 30  # seconds, for a busy machine
ADDRESS = "http://127.0.0.1:8000"
INTEGRATOR = "### You write a program that calls the API"
FRONTEND = "### You build a frontend"
BACKEND = "### You run a backend"


def blocks(title: str, page: str = README) -> list[tuple[str, str]]:
    """The language and the text of each block of a section, up to the next."""
    [section] = re.findall(rf"^{title}\n(.*?)(?=^##|\Z)", page, re.DOTALL | re.MULTILINE)
    found: list[tuple[str, str]] = re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)
    assert found
    return found


@dataclass
class Reader:
    """Somebody who pastes the blocks of a section, in a directory of their own."""

    title: str
    server: Process
    directory: Path

    def __post_init__(self) -> None:
        self.scripts = []
        for language, written in blocks(self.title):
            text = written.replace(ADDRESS, self.server.url)
            if named := re.match(r"(?:#|//) (\S+\.\w+)\n", text):
                (self.directory / named[1]).write_text(text, encoding="utf-8")
            elif language == "bash" and "pip install" not in text:
                self.scripts.append(text)
        paths = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = os.environ | {"PATH": paths, "PYTHONUNBUFFERED": "1"}

    def script(self, *leaving_out: str) -> str:
        """All that the section has for the shell, but for the blocks with one of these commands."""
        kept = [text for text in self.scripts if not any(command in text for command in leaving_out)]
        assert len(self.scripts) == len(kept) + len(leaving_out)
        return "\n".join(kept)

    def paste(self, script: str) -> str:
        """What the shell prints; where a command fails, so does the test."""
        done = subprocess.run(
            ["bash", "-euc", script],
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


WHAT_HAPPENS_TO_A_CALL = [
    ["call.started", "1", "ongoing"],
    ["participant.joined", "1", "ongoing"],
    ["participant.left", "1", "completed"],
    ["call.ended", "1", "completed"],
]


@contextmanager
def following(reader: Reader, script: str) -> Iterator[Iterator[str]]:
    """What a script prints that follows events, from when it is connected."""
    handshakes = f"{reader.server.url}/_control/requests/stream?after=0&status=101"
    with (
        httpx.stream("GET", handshakes, timeout=PATIENCE) as opened,
        subprocess.Popen(
            ["bash", "-euc", script],
            cwd=reader.directory,
            env=reader.environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as follower,
    ):
        try:
            next(line for line in opened.iter_lines() if line.startswith("data"))
            assert follower.stdout
            yield follower.stdout
        finally:
            follower.kill()


@pytest.fixture
def reader(fresh_server: Process, tmp_path: Path) -> Callable[[str], Reader]:
    return lambda title: Reader(title, fresh_server, tmp_path)


# -- Two commands -------------------------------------------------------------------------------------


def test_it_begins_with_three_sentences_a_picture_and_two_commands() -> None:
    opening, two_commands = README.split("\n## ")[:2]
    prose, picture = opening.removeprefix("# video-calls\n").rsplit("\n![", 1)
    assert len(re.findall(r"\.(?=\s)", prose)) == 3
    assert (ROOT / picture[picture.index("](") + 2 : picture.rindex(")")]).is_file()
    commands = re.findall(r"```bash\n(.*?)```", two_commands, re.DOTALL)
    assert [text.count("\n") for text in commands] == [1, 1]
    assert all(text.startswith("python -m pip install -c constraints.txt ") for text in commands)


def test_the_first_command_starts_a_server(serve: Callable[..., Process]) -> None:
    assert ' -e ".[server]" && video-calls-server serve\n' in README
    process = serve()
    assert f"Console           {process.url}/" in process.banner
    assert httpx.get(process.url).is_success


# -- A program ----------------------------------------------------------------------------------------


def test_the_integrators_session_runs_as_written(reader: Callable[[str], Reader]) -> None:
    section = reader(INTEGRATOR)
    variables, first_call = section.scripts
    with following(section, f"{variables}\nexec python follow.py") as lines:
        refused, joined, ended = section.paste(variables + first_call).splitlines()
        assert [next(lines).split() for _ in WHAT_HAPPENS_TO_A_CALL] == WHAT_HAPPENS_TO_A_CALL
    assert refused == "refused: There is already a scheduled call within 30 minutes of this time"
    assert re.fullmatch(r"to be joined: call_\w+ as 101", joined)
    assert ended == "now completed"


# -- A frontend ---------------------------------------------------------------------------------------


def test_the_frontends_session_runs_as_written(reader: Callable[[str], Reader]) -> None:
    section = reader(FRONTEND)
    answers = section.paste(section.script("node --test")).splitlines()
    created, listed, doctor, patient, ended, refused = map(json.loads, answers)
    assert created["status"] == "scheduled"
    assert listed["results"] == [created]
    assert doctor["channel_name"] == patient["channel_name"] == created["channel_name"]
    assert ended["status"] == "completed"
    assert json.dumps(refused, separators=(",", ":")) in README


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_the_frontends_test_passes_as_written(reader: Callable[[str], Reader]) -> None:
    section = reader(FRONTEND)
    section.paste(section.script("curl"))


# -- A backend ----------------------------------------------------------------------------------------


def test_the_backends_session_runs_as_written(reader: Callable[[str], Reader]) -> None:
    section = reader(BACKEND)
    printed = section.paste(section.script("--html"))
    conforms, breaks = printed.split("Testing ")[1:]
    assert f"{section.server.url}/api/v1/video conforms\n" in conforms
    assert "VIOLATION  cancel.cancels" in breaks
    assert "exit status 1\n" in breaks
    assert httpx.get(f"{section.server.url}/_control/faults").json() == []


@pytest.mark.long
@pytest.mark.timeout(180)
def test_the_whole_suite_passes_as_written(reader: Callable[[str], Reader]) -> None:
    section = reader(BACKEND)
    variables, whole = section.scripts[0], section.scripts[-1]
    assert "conforms\n" in section.paste(variables + whole)
    assert (section.directory / "report.html").stat().st_size > 100_000


def test_the_workflows_step_is_that_of_the_example() -> None:
    [shown] = [text for language, text in blocks(BACKEND) if language == "yaml"]
    workflow = yaml.safe_load((ROOT / "examples/github-actions/contract.yml").read_text(encoding="utf-8"))
    assert yaml.safe_load(shown)[0] in workflow["jobs"]["contract"]["steps"]


# -- The pages behind it ------------------------------------------------------------------------------


def test_the_page_of_the_sdk_runs_as_written(
    fresh_server: Process, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    names = {"doctors_token": fresh_server.headers()["Authorization"].removeprefix("Bearer ")}
    page = (ROOT / "docs/sdk.md").read_text(encoding="utf-8")
    blocking, asynchronous, events = (
        text.replace(ADDRESS, fresh_server.url) for _, text in blocks("# The Python SDK", page)
    )
    follow = (
        f"from video_calls_sdk import VideoCallsClient\ndoctors_token = {names['doctors_token']!r}\n{events}"
    )
    (tmp_path / "page.py").write_text(follow, encoding="utf-8")
    with following(Reader(INTEGRATOR, fresh_server, tmp_path), "exec python page.py") as lines:
        exec(blocking, names)  # noqa: S102 (our own page)
        assert capsys.readouterr().out.startswith("call_")
        assert [next(lines).split() for _ in WHAT_HAPPENS_TO_A_CALL] == WHAT_HAPPENS_TO_A_CALL
    exec(asynchronous, names)  # noqa: S102 (our own page)
    assert capsys.readouterr().out.endswith("completed Jane Smith\n")


def test_the_page_of_the_server_runs_as_written() -> None:
    page = (ROOT / "docs/server.md").read_text(encoding="utf-8")
    [code] = [text for language, text in blocks("# The reference server", page) if language == "python"]
    exec(code, {})  # noqa: S102 (our own page)


PAGES = [
    path
    for places in ("*", "docs/*", "examples/*", "examples/*/*", "benchmarks/*")
    for path in ROOT.glob(f"{places}.md")
]


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_every_page_is_led_to_from_the_index_and_that_from_the_readme() -> None:
    index = ROOT / "docs/index.md"
    assert index.relative_to(ROOT).as_posix() in re.findall(r"\]\(([^)#]+)", README)
    listed = re.findall(r"^[a-z-]+$", index.read_text(encoding="utf-8"), re.MULTILINE)
    assert {page.stem for page in ROOT.glob("docs/*.md")} - {"index"} == set(listed)
