"""What docs/control.md shows, run as written against a fresh server."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from conftest import Process
from video_calls_server.testing import Control

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "control.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_session_by_hand_runs_as_written(fresh_server: Process) -> None:
    by_hand, own_fault = (text.replace("curl -sS", "echo; curl -sS") for text in blocks("bash"))
    by_hand = by_hand.replace("$(echo; ", "$(")
    before_reset = by_hand[: by_hand.rindex("echo; curl")] + own_fault
    script = before_reset.replace("http://127.0.0.1:8000", fresh_server.url)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    printed = subprocess.run(
        ["bash", "-euc", script], env=environment, capture_output=True, text=True, check=True
    ).stdout
    created, clock, fault, refused, joined, verdicts, *limited = printed.strip().split("\n")
    assert json.loads(created)["status"] == "scheduled"
    assert json.loads(clock)["offset"] > 6000
    assert json.loads(fault)["left"] == 1
    assert json.loads(refused)["code"] == "unavailable"
    assert json.loads(joined)["channel_name"] == json.loads(created)["channel_name"]
    assert {each["action"]: each["allowed"] for each in json.loads(verdicts)["actions"]} == {
        "get": True,
        "join": True,
        "end": True,
        "cancel": False,
    }
    assert limited[0].startswith("HTTP/1.1 429")
    assert "retry-after: 3" in [line.strip().lower() for line in limited]


def test_the_python_example_runs_as_written(fresh_server: Process) -> None:
    [code] = blocks("python")
    exec(code.replace("http://127.0.0.1:8000", fresh_server.url), {"timedelta": timedelta})  # noqa: S102 (our own)


def test_the_state_written_by_hand_is_taken(serve: Callable[..., Process], tmp_path: Path) -> None:
    [state] = blocks("json")
    (tmp_path / "state.json").write_text(state, encoding="utf-8")
    with Control(serve("--snapshot", "state.json").url) as control:
        assert [(call.id, call.status) for call in control.calls.list()] == [(1, "ongoing")]
