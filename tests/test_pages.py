"""The code of README.md and docs/ runs unchanged against a fresh server: one test for each page.

A block whose first line names a file is saved under that name. The other blocks of a language are one
program. Only the address of the server is replaced, because its port is random.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from video_calls_sdk import VideoCallsClient
from video_calls_server.control.client import Control

from support.server_process import ServerProcess

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = "http://127.0.0.1:8000"
TIMEOUT = 30  # seconds, for a busy machine
INTERPRETERS = {
    "bash": ["bash", "-euc"],
    "python": [sys.executable, "-W", "error", "-uc"],
    "javascript": ["node", "--input-type=module", "--eval"],
}
needs_node = pytest.mark.skipif(not shutil.which("node"), reason="needs node")


class Page:
    """The blocks of a page, or of one section of it, and a directory in which they run."""

    def __init__(self, name: str, process: ServerProcess, directory: Path) -> None:
        path, _, section = name.partition("#")
        text = (ROOT / path).read_text(encoding="utf-8").replace(ADDRESS, process.url)
        if section:
            text = text.partition(f"\n### {section}\n")[2].partition("\n##")[0]
        self.url = process.url
        self.directory = directory
        self.blocks: dict[str, list[str]] = {}
        for language, block in re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            if file := re.match(r"(?:#|//) (\S+\.\w+)\n", block):
                (directory / file[1]).write_text(block, encoding="utf-8")
            elif "pip install" not in block:
                self.blocks.setdefault(language, []).append(block)
        self.environment = process.environment()

    def code(self, language: str) -> str:
        """Return all blocks of a language as one program."""
        return "\n".join(self.blocks[language])

    def run(self, language: str, code: str) -> str:
        """Return what a program prints on either stream; it has to succeed."""
        program = subprocess.run(
            [*INTERPRETERS[language], code],
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert program.returncode == 0, program.stdout
        return program.stdout

    @contextmanager
    def running_follower(self, code: str) -> Iterator[Iterator[str]]:
        """Start a Python program that follows events, and yield its lines once it is connected."""
        handshakes = f"{self.url}/_control/requests/stream?after=0&status=101"
        with (
            httpx.stream("GET", handshakes, timeout=TIMEOUT) as opened,
            subprocess.Popen(
                [*INTERPRETERS["python"], code],
                cwd=self.directory,
                env=self.environment,
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
def page(fresh_server: ServerProcess, tmp_path: Path) -> Callable[[str], Page]:
    return lambda name: Page(name, fresh_server, tmp_path)


def assert_in_order(printed: str, texts: list[str]) -> None:
    rest = printed
    for text in texts:
        _, separator, rest = rest.partition(text)
        assert separator, f"no {text!r} at its place in {printed}"


def complete_call(client: VideoCallsClient, control: Control) -> None:
    """Create, join and end a call."""
    soon = control.clock.now() + timedelta(minutes=5)
    call = client.calls.create(doctor=1, patient=1, scheduled_time=soon)
    client.calls.join(call.id)
    client.calls.end(call.id)


EVENTS_OF_A_CALL = [
    "call.started 1 ongoing\n",
    "participant.joined 1 ongoing\n",
    "participant.left 1 completed\n",
    "call.ended 1 completed\n",
]


@pytest.mark.parametrize(
    ("name", "language", "printed"),
    [
        (
            "docs/sdk-tutorial.md",
            "python",
            [
                "1 scheduled Dr. John Doe",
                "400 create.no-overlap There is already a scheduled call within 30 minutes of this time\n"
                "This call is not scheduled to start yet\n",
                "completed",
            ],
        ),
        (
            "docs/errors-and-retries.md",
            "python",
            ["404 join.not-found Video call not found {} ", "0", "0"],
        ),
        ("docs/lists.md", "python", ["0 calls, 0 on this page", "None"]),
        ("docs/async.md", "python", ["1 scheduled", "1"]),
        ("docs/server.md", "python", []),
        ("docs/control.md", "python", []),
        (
            "docs/control.md",
            "bash",
            [
                '"status":"scheduled"',
                '"offset":',
                '"left":1',
                '"code":"unavailable"',
                '"channel_name":',
                '"action":"cancel"',
                "HTTP/1.1 429",
                "retry-after: 3",
            ],
        ),
        (
            "docs/frontend-tutorial.md",
            "bash",
            [
                '{"count":0,"next":null,"previous":null,"results":[]}',
                '"code":"join.window"',
                '"uid":101',
                '"code":"unavailable"',
                '"status":"completed"',
            ],
        ),
        pytest.param(
            "README.md#You build a frontend",
            "bash",
            [
                '"status":"scheduled"',
                '"count":1',
                '"uid":101',
                '"uid":102',
                '"status":"completed"',
                '{"error":"This call has already been completed","code":"join.not-completed"}',
                "pass 1",
            ],
            marks=needs_node,
        ),
    ],
)
def test_page_runs_as_written(
    page: Callable[[str], Page], name: str, language: str, printed: list[str]
) -> None:
    session = page(name)
    assert_in_order(session.run(language, session.code(language)), printed)


# -- Pages that follow events -------------------------------------------------------------------------


def test_readme_for_api_callers_runs_as_written(page: Callable[[str], Page]) -> None:
    section = page("README.md#You write a program that calls the API")
    with section.running_follower((section.directory / "follow.py").read_text("utf-8")) as lines:
        printed = section.run("bash", section.code("bash"))
        assert [next(lines) for _ in EVENTS_OF_A_CALL] == EVENTS_OF_A_CALL
    assert_in_order(
        printed,
        [
            "refused: There is already a scheduled call within 30 minutes of this time\n",
            "to be joined: call_",
            "now completed\n",
        ],
    )


def test_sdk_page_runs_as_written(page: Callable[[str], Page]) -> None:
    session = page("docs/sdk.md")
    token = f"doctors_token = {session.environment['VIDEO_CALLS_TOKEN']!r}\n"
    blocking, asynchronous, events = session.blocks["python"]
    with session.running_follower(f"from video_calls_sdk import VideoCallsClient\n{token}{events}") as lines:
        printed = session.run("python", token + blocking + asynchronous)
        assert [next(lines) for _ in EVENTS_OF_A_CALL] == EVENTS_OF_A_CALL
    assert_in_order(printed, ["call_", "completed Jane Smith\n"])


def test_events_page_runs_as_written(page: Callable[[str], Page]) -> None:
    session = page("docs/following-events.md")
    with (
        session.running_follower(session.code("python")) as lines,
        Control(session.url) as control,
        VideoCallsClient(control.base_url, control.token("doctor@example.com")) as doctor,
    ):
        complete_call(doctor, control)
        assert list(lines)[-1] == "call.ended 1 completed\n"


# -- Pages with other needs ---------------------------------------------------------------------------


def test_readme_for_backends_runs_as_written(page: Callable[[str], Page]) -> None:
    section = page("README.md#You run a backend")
    # The test of the contract tutorial runs all rules, so this test only looks at the command.
    *commands, whole_run = section.blocks["bash"]
    assert "--html" in whole_run
    assert_in_order(
        section.run("bash", "\n".join(commands)),
        [f"{section.url}/api/v1/video conforms\n", "VIOLATION  cancel.cancels", "exit status 1\n"],
    )


@needs_node
def test_javascript_page_retries_after_429(page: Callable[[str], Page]) -> None:
    session = page("docs/javascript.md")
    use = """
        const token = process.env.VIDEO_CALLS_TOKEN;
        const soon = new Date(Date.now() + 600_000).toISOString();
        const call = await create(token, {doctor: 1, patient: 1, scheduled_time: soon});
        console.log((await join(token, call.id)).channel_name === call.channel_name);
        await join(token, 99).catch(({ status, code }) => console.log(status, code));
    """
    with Control(session.url) as control:
        control.faults.add(operation="joinVideoCall", status=429, retry_after=1, times=1)
        assert session.run("javascript", session.code("javascript") + use) == "true\n404 join.not-found\n"
        joins = [request.status for request in control.requests.list(operation="joinVideoCall")]
    assert joins == [404, 200, 429]


def test_server_accepts_state_of_control_page(serve: Callable[..., ServerProcess], tmp_path: Path) -> None:
    _, _, block = (ROOT / "docs/control.md").read_text(encoding="utf-8").partition("```json\n")
    (tmp_path / "state.json").write_text(block.partition("```")[0], encoding="utf-8")
    with Control(serve("--snapshot", "state.json").url) as control:
        assert [(call.id, call.status) for call in control.calls.list()] == [(1, "ongoing")]


@pytest.mark.long
@pytest.mark.timeout(180)
def test_contract_tutorial_runs_as_written(page: Callable[[str], Page]) -> None:
    session = page("docs/contract-tutorial.md")
    at = f"video-calls-contract run --base-url {session.url}/api/v1/video"
    script = re.sub(r"video-calls-contract run(.*)", rf"{at}\1 || echo exit status 1", session.code("bash"))
    printed = session.run("bash", script)
    assert_in_order(
        printed,
        [
            "conforms",
            "1 not checked",
            "VIOLATION  join.credentials",
            "exit status 1",
            "exit status 1",
            "known",
            "conforms",
        ],
    )
    assert (session.directory / "report.html").exists()


# -- Links --------------------------------------------------------------------------------------------


def test_paths_in_pages_exist() -> None:
    places = ("*.md", "docs/*.md", "examples/*.md", "examples/*/*.md", "benchmarks/*.md")
    pages = [page for place in places for page in ROOT.glob(place)]
    missing = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert missing == []
