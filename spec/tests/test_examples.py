"""Every script of `examples/`, run as it stands against a fresh server."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import Process
from video_calls import VideoCallsClient

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
COMMANDS = Path(sys.executable).parent

PRINTED = {
    "schedule_and_join.py": [
        "call 1 is scheduled",
        "uid 101 may join call_",
        "for 60 minutes",
        "call 1 is completed",
    ],
    "list_everything.py": ["1 calls", "scheduled Jane Smith"],
    "handle_errors.py": [
        "taken: There is already a scheduled call within 30 minutes of this time",
        "too early: This call is not scheduled to start yet",
        "gone: Video call not found",
    ],
    "follow_events.py": [
        "call.started: call 1 is ongoing",
        "participant.joined: call 1 is ongoing, doctor 101",
        "call.ended: call 1 is completed",
    ],
    "refresh_token.py": ["asked for a token", "0 calls"],
}


def token(process: Process) -> str:
    return process.headers()["Authorization"].removeprefix("Bearer ")


def environment(process: Process) -> dict[str, str]:
    return os.environ | {
        "PATH": f"{COMMANDS}:{os.environ['PATH']}",
        "VIDEO_CALLS_BASE_URL": f"{process.url}/api/v1/video",
        "VIDEO_CALLS_TOKEN": token(process),
    }


def book(process: Process, **later: float) -> None:
    with VideoCallsClient(f"{process.url}/api/v1/video", token(process)) as client:
        client.calls.create(doctor=1, patient=1, scheduled_time=datetime.now(UTC) + timedelta(**later))


@pytest.mark.parametrize("script", PRINTED)
def test_a_script_runs_as_it_stands(serve: Callable[..., Process], tmp_path: Path, script: str) -> None:
    process = serve()
    if script == "list_everything.py":
        book(process, days=2)
    result = subprocess.run(
        [sys.executable, EXAMPLES / script],
        cwd=tmp_path,
        env=environment(process),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    for text in PRINTED[script]:
        assert text in result.stdout


def test_the_web_handler_passes_the_users_token_on(
    serve: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = serve()
    monkeypatch.setenv("VIDEO_CALLS_BASE_URL", f"{process.url}/api/v1/video")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from litestar.testing import TestClient
    from web_handler import app

    with TestClient(app) as client:
        assert client.get("/next-call", headers=process.headers()).json() is None
        book(process, days=3)
        book(process, days=2)
        found: dict[str, Any] = client.get("/next-call", headers=process.headers()).json()
        assert (found["id"], found["with"]) == (2, "Jane Smith")
        refused = client.get("/next-call", headers={"Authorization": "Bearer x"})
        assert (refused.status_code, refused.json()) == (401, {"error": "The token is invalid"})


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_the_frontends_test_passes_as_it_stands(serve: Callable[..., Process]) -> None:
    process = serve("--database", ":memory:")
    result = subprocess.run(
        ["node", "--test", f"{EXAMPLES}/frontend/"],
        env=os.environ | {"VIDEO_CALLS_SERVER": process.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, "# pass 1\n" in result.stdout) == (0, True), result.stdout


def test_every_script_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*PRINTED, "web_handler.py"}
