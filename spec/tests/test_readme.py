"""The README's first session, run as written against a fresh server."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from video_calls import VideoCallsClient

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def block(language: str, containing: str) -> str:
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return next(text for text in blocks if containing in text)


def test_the_first_session_runs_as_written(serve: Callable[..., Any], tmp_path: Path) -> None:
    url = serve().url
    script = (
        block("bash", "DOCTOR=")
        .replace("http://127.0.0.1:8000", url)
        .replace("\ncurl -sS", "\necho; curl -sS")
    )
    commands = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{commands}:{os.environ['PATH']}"}
    printed = subprocess.run(
        ["bash", "-euc", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    ).stdout
    created, listed, doctor, patient, ended, refused = (
        json.loads(line) for line in printed.split("\n") if line
    )
    assert created["status"] == "scheduled"
    assert listed["results"] == [created]
    assert doctor["channel_name"] == patient["channel_name"] == created["channel_name"]
    assert ended["status"] == "completed"
    assert json.dumps(refused, separators=(",", ":")) in README


def test_the_python_example_runs_as_written() -> None:
    exec(block("python", "create_app"), {})  # noqa: S102 (our own README)


@pytest.mark.parametrize("containing", ["SchedulingConflictError", "asyncio.run"])
def test_the_sdk_examples_run_as_written(
    serve: Callable[..., Any], capsys: pytest.CaptureFixture[str], containing: str
) -> None:
    server = serve()
    token = server.headers()["Authorization"].removeprefix("Bearer ")
    base_url = f"{server.url}/api/v1/video"
    with VideoCallsClient(base_url, token) as client:
        client.calls.create(doctor=1, patient=2, scheduled_time=datetime.now(UTC) + timedelta(days=1))
    code = block("python", containing).replace("http://127.0.0.1:8000/api/v1/video", base_url)
    exec(code, {"doctors_token": token})  # noqa: S102 (our own README)
    printed = capsys.readouterr().out
    assert ("call_" if containing == "SchedulingConflictError" else "scheduled Other Patient") in printed


def test_the_events_example_tells_what_happens(serve: Callable[..., Any]) -> None:
    server = serve("--database", ":memory:")
    token = server.headers()["Authorization"].removeprefix("Bearer ")
    base_url = f"{server.url}/api/v1/video"
    code = block("python", "client.events()").replace("http://127.0.0.1:8000/api/v1/video", base_url)
    code = f"from video_calls import VideoCallsClient\ndoctors_token = {token!r}\n{code}"
    with (
        subprocess.Popen([sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, text=True) as follower,
        VideoCallsClient(base_url, token) as client,
        httpx.stream("GET", f"{server.url}/_control/requests/stream?after=0&status=101") as handshakes,
    ):
        next(line for line in handshakes.iter_lines() if line.startswith("data"))
        call = client.calls.create(
            doctor=1, patient=1, scheduled_time=datetime.now(UTC) + timedelta(minutes=5)
        )
        client.calls.join(call.id)
        client.calls.end(call.id)
        assert follower.stdout
        told = [next(follower.stdout).split() for _ in range(4)]
        follower.kill()
    assert told == [
        ["call.started", "1", "ongoing"],
        ["participant.joined", "1", "ongoing"],
        ["participant.left", "1", "completed"],
        ["call.ended", "1", "completed"],
    ]


def test_every_path_that_it_names_exists() -> None:
    root = Path(__file__).resolve().parents[2]
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (root / target).exists(), target
