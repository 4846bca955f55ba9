"""What the tutorials and the SDK's pages of docs/ show, run as written against a fresh server."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from conftest import Process
from video_calls_sdk import VideoCallsClient
from video_calls_server.testing import Control

DOCS = Path(__file__).resolve().parents[2] / "docs"
FIVE_MINUTES = timedelta(minutes=5)
SHOWN_SERVER = "http://127.0.0.1:8000"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def environment(process: Process) -> dict[str, str]:
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        "VIDEO_CALLS_BASE_URL": f"{process.url}/api/v1/video",
        "VIDEO_CALLS_TOKEN": process.headers()["Authorization"].removeprefix("Bearer "),
    }


def in_bash(process: Process, directory: Path, texts: Iterable[str]) -> list[str]:
    """What each block prints, by itself, run one after the other in one shell."""
    script = "".join(f"{text}\nprintf '\\n\\f\\n'\n" for text in texts).replace(SHOWN_SERVER, process.url)
    done = subprocess.run(
        ["bash", "-uc", script],
        cwd=directory,
        env=environment(process),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return [printed.strip() for printed in done.stdout.split("\f")[:-1]]


@pytest.mark.parametrize(
    ("page", "printed"),
    [
        ("sdk-tutorial.md", ["1 scheduled Dr. John Doe", *blocks("sdk-tutorial.md", "text"), "completed"]),
        ("errors-and-retries.md", ["404 join.not-found Video call not found {} ", "0", "0"]),
        ("lists.md", ["0 calls, 0 on this page", "None"]),
        ("async.md", ["1 scheduled", "1"]),
    ],
)
def test_the_python_of_a_page_runs_as_written(
    fresh_server: Process, tmp_path: Path, page: str, printed: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(blocks(page, "python"))],
        cwd=tmp_path,
        env=environment(fresh_server),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    rest = done.stdout
    for text in printed:
        before, found, rest = rest.partition(text)
        assert found, (text, before)


def test_the_page_about_events_tells_them_until_the_call_has_ended(
    fresh_server: Process, tmp_path: Path
) -> None:
    with (
        subprocess.Popen(
            [sys.executable, "-c", *blocks("following-events.md", "python")],
            cwd=tmp_path,
            env=environment(fresh_server),
            stdout=subprocess.PIPE,
            text=True,
        ) as follower,
        Control(fresh_server.url) as control,
        VideoCallsClient(control.base_url, control.token("doctor@example.com")) as doctor,
        httpx.stream("GET", f"{fresh_server.url}/_control/requests/stream?after=0&status=101") as handshakes,
        ExitStack() as stack,
    ):
        stack.callback(follower.kill)
        next(line for line in handshakes.iter_lines() if line.startswith("data"))
        call = doctor.calls.create(doctor=1, patient=1, scheduled_time=control.clock.now() + FIVE_MINUTES)
        doctor.calls.join(call.id)
        doctor.calls.end(call.id)
        printed, _ = follower.communicate(timeout=30)
    assert printed.splitlines()[-1] == "call.ended 1 completed"


def test_the_frontend_tutorial_runs_as_written(fresh_server: Process, tmp_path: Path) -> None:
    first, clock, faults = in_bash(fresh_server, tmp_path, blocks("frontend-tutorial.md", "bash"))
    assert first in (DOCS / "frontend-tutorial.md").read_text(encoding="utf-8")
    assert [key in clock for key in ('"code":"join.window"', '"uid":101')] == [True, True]
    assert clock.index('"code":"join.window"') < clock.index('"uid":101')
    assert faults.index('"code":"unavailable"') < faults.index('"status":"completed"')


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_the_javascript_books_and_joins_through_a_429(fresh_server: Process, tmp_path: Path) -> None:
    with Control(fresh_server.url) as control:
        control.faults.add(operation="joinVideoCall", status=429, retry_after=1, times=1)
        [code] = blocks("javascript.md", "javascript")
        soon = (control.clock.now()).isoformat().replace("+00:00", "Z")
        code = code.replace(SHOWN_SERVER, fresh_server.url) + (
            f"const token = {json.dumps(control.token('doctor@example.com'))};\n"
            f"const soon = new Date(Date.parse('{soon}') + 600_000).toISOString();\n"
            "const call = await create(token, {doctor: 1, patient: 1, scheduled_time: soon});\n"
            "console.log((await join(token, call.id)).channel_name === call.channel_name);\n"
            "await join(token, 99).catch((error) => console.log(error.status, error.code, error.message));\n"
        )
        (tmp_path / "page.mjs").write_text(code, encoding="utf-8")
        done = subprocess.run(["node", "page.mjs"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == ("true\n404 join.not-found Video call not found\n", "")
        joins = [request.status for request in control.requests.list(operation="joinVideoCall")]
    assert joins == [404, 200, 429]


@pytest.mark.long
@pytest.mark.timeout(180)
def test_the_contract_tutorial_runs_as_written(fresh_server: Process, tmp_path: Path) -> None:
    at = f"video-calls-contract run --base-url {fresh_server.url}/api/v1/video"
    texts = [
        re.sub(r"video-calls-contract run(.*)", rf"{at}\1; echo status $?", text)
        for text in blocks("contract-tutorial.md", "bash")
    ]
    texts[-1] += texts[-2].splitlines()[-1]  # "the run with the baseline"
    _, _, conforms, violates, known, mended = in_bash(fresh_server, tmp_path, texts)
    assert conforms.endswith("status 0")
    assert "not checked" in conforms
    assert violates.endswith("status 1")
    assert "curl" in violates
    [left_out] = re.findall(
        r"a join answers without its `(\w+)`", (DOCS / "contract-tutorial.md").read_text("utf-8")
    )
    assert f"expected credentials; without {left_out}\n" in violates
    assert re.findall("status .", known) == ["status 1", "status 0"]
    assert mended.endswith("status 1")
    assert (tmp_path / "report.html").exists()
