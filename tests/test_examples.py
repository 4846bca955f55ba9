"""Every example runs unchanged against a fresh server. Browser tests cover the example page."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from video_calls_sdk import Event, VideoCallsClient

from support.server_process import ServerProcess

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
COMMANDS = Path(sys.executable).parent

OUTPUT = {
    "schedule_and_join.py": [
        "call 1 is scheduled",
        "uid 101 may join call_",
        "until",
        "call 1 is completed",
    ],
    "schedule_and_join_async.py": [
        "3 calls are booked",
        "uid 101 may join call_",
        "the first is completed",
        "UTC is cancelled",
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
ENDLESS = {"web_handler.py", "worker.py"}
"""Examples that do not end by themselves."""


def book(process: ServerProcess, **later: float) -> int:
    with VideoCallsClient(process.base_url, process.token()) as client:
        time = datetime.now(UTC) + timedelta(**later)
        return client.calls.create(doctor=1, patient=1, scheduled_time=time).id


def test_every_example_is_run_and_listed() -> None:
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert scripts == {*OUTPUT, *ENDLESS}
    listed = set(re.findall(r"^\| \[(.*?)\]", (EXAMPLES / "README.md").read_text("utf-8"), re.MULTILINE))
    tests = {f"testing/{path.name}" for path in EXAMPLES.glob("testing/test_*.py")}
    assert scripts | tests <= listed


@pytest.mark.parametrize("script", OUTPUT)
def test_example_script_runs_unchanged(fresh_server: ServerProcess, tmp_path: Path, script: str) -> None:
    if script == "list_everything.py":
        book(fresh_server, days=2)
    result = subprocess.run(
        [sys.executable, EXAMPLES / script],
        cwd=tmp_path,
        env=fresh_server.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    for text in OUTPUT[script]:
        assert text in result.stdout


# -- The worker ---------------------------------------------------------------------------------------


@contextmanager
def running_worker(process: ServerProcess, directory: Path) -> "Iterator[subprocess.Popen[str]]":
    """Start the worker, wait until it follows events, and kill it afterwards."""
    worker = subprocess.Popen(
        [sys.executable, EXAMPLES / "worker.py", "worker.db"],
        cwd=directory,
        env=process.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert worker.stdout
        assert next(worker.stdout).startswith("at work after event ")
        yield worker
    finally:
        worker.kill()
        worker.communicate()


def complete_call(process: ServerProcess) -> None:
    """Book, join and end a call."""
    call_id = book(process, minutes=5)
    with VideoCallsClient(process.base_url, process.token()) as client:
        client.calls.join(call_id)
        client.calls.end(call_id)


def output_until(worker: "subprocess.Popen[str]", last: str) -> list[str]:
    """Return the output of the worker up to this line."""
    finished: list[str] = []
    assert worker.stdout
    while last not in finished:
        finished.append(re.sub(r"^event \d+: | from .*", "", next(worker.stdout)).strip())
    return finished


def test_restarted_worker_handles_missed_events(fresh_server: ServerProcess, tmp_path: Path) -> None:
    with running_worker(fresh_server, tmp_path) as worker:
        complete_call(fresh_server)
        assert output_until(worker, "call 1 lasted") == ["Dr. John Doe is in call 1", "call 1 lasted"]
    complete_call(fresh_server)
    with running_worker(fresh_server, tmp_path) as worker:
        missed = output_until(worker, "call 2 lasted")
        assert missed[missed[0] == "call 1 lasted" :] == ["Dr. John Doe is in call 2", "call 2 lasted"]
        complete_call(fresh_server)
        assert output_until(worker, "call 3 lasted") == ["Dr. John Doe is in call 3", "call 3 lasted"]
        worker.send_signal(signal.SIGTERM)
        assert worker.stdout
        assert (worker.stdout.read(), worker.wait()) == ("stopped\n", 0)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Import the worker in this process; restore the signal handlers afterwards."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield import_module("worker")
    del sys.modules["worker"]  # because a test has replaced its handlers
    for number, before in handlers.items():
        signal.signal(number, before)


@pytest.mark.parametrize(
    ("failure", "expected_types", "put_aside"),
    [(KeyError("no printer"), ["call.started", "call.ended"], 1), (SystemExit(1), ["call.started"] * 2, 0)],
    ids=["a handler fails", "the process ends in a handler"],
)
def test_worker_stores_event_after_its_handler(
    fresh_server: ServerProcess,
    worker: Any,
    *,
    failure: BaseException,
    expected_types: list[str],
    put_aside: int,
) -> None:
    progress = worker.Progress(":memory:")
    progress.save("0")
    complete_call(fresh_server)
    types: list[str] = []

    def handler(event: Event) -> None:
        types.append(event.type)
        raise failure if len(types) == 1 else SystemExit

    worker.HANDLERS |= {"call.started": handler, "call.ended": handler}
    while len(types) < len(expected_types):
        with (
            VideoCallsClient(fresh_server.base_url, fresh_server.token()) as client,
            pytest.raises(SystemExit),
        ):
            worker.work(client, progress)
    assert types == expected_types
    assert progress.database.execute("SELECT count(*) FROM failed").fetchone() == (put_aside,)


# -- In a web framework, and in tests -----------------------------------------------------------------


def test_web_handler_forwards_token_of_user(
    fresh_server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDEO_CALLS_BASE_URL", fresh_server.base_url)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from litestar.testing import TestClient
    from web_handler import app

    with TestClient(app) as client:
        assert client.get("/next-call", headers=fresh_server.headers()).json() is None
        book(fresh_server, days=3)
        book(fresh_server, days=2)
        next_call: dict[str, Any] = client.get("/next-call", headers=fresh_server.headers("patient")).json()
        assert (next_call["id"], next_call["doctor"], next_call["patient"]) == (
            2,
            "Dr. John Doe",
            "Jane Smith",
        )
        refusal = client.get("/next-call", headers={"Authorization": "Bearer x"})
        assert (refusal.status_code, refusal.json()) == (401, {"error": "The token is invalid"})


def test_example_tests_pass() -> None:
    options = ("-p", "no:cacheprovider", "-p", "video_calls_pytest")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options, EXAMPLES / "testing"],
        cwd=ROOT,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # to load other plugins takes seconds
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_frontend_test_passes(fresh_server: ServerProcess) -> None:
    result = subprocess.run(
        ["node", "--test", f"{EXAMPLES}/frontend/video-calls.test.mjs"],
        env=os.environ | {"VIDEO_CALLS_SERVER": fresh_server.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


# -- In GitHub Actions --------------------------------------------------------------------------------

ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
WORKFLOW: dict[str, Any] = yaml.safe_load((EXAMPLES / "github-actions/contract.yml").read_text("utf-8"))
[OUR_STEP] = [step for step in WORKFLOW["jobs"]["contract"]["steps"] if "video-calls@" in step["uses"]]


def fill_expressions(values: dict[str, str], contexts: dict[str, dict[str, str]]) -> dict[str, str]:
    """Return values with their expressions, such as `${{ inputs.config }}`, replaced as on GitHub."""

    def value(expression: re.Match[str]) -> str:
        context, name = expression[1].split(".", 1)
        return contexts[context][name]

    return {name: re.sub(r"\$\{\{ (.*?) \}\}", value, text) for name, text in values.items()}


def run_step(directory: Path, url: str, secrets: dict[str, str]) -> tuple[int, Path]:
    """Run the script of the action for a step of the workflow, without installing the suite."""
    shutil.copy(EXAMPLES / "github-actions/contract.toml", directory)
    installed = directory / "runner/video-calls-contract"
    installed.mkdir(parents=True)
    (installed / "bin").symlink_to(COMMANDS)
    contexts = {"vars": {"VIDEO_CALLS_URL": url}, "secrets": secrets}
    defaults = {name: each["default"] for name, each in ACTION["inputs"].items()}
    contexts["inputs"] = defaults | fill_expressions(OUR_STEP["with"], contexts)
    [step] = [step for step in ACTION["runs"]["steps"] if step.get("id") == "run"]
    files = {
        "RUNNER_TEMP": directory / "runner",
        "GITHUB_STEP_SUMMARY": directory / "summary.md",
        "GITHUB_OUTPUT": directory / "output",
    }
    result = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", step["run"]],  # as GitHub runs `shell: bash`
        cwd=directory,
        env=os.environ
        | {name: str(path) for name, path in files.items()}
        | fill_expressions(OUR_STEP["env"], contexts)
        | fill_expressions(step["env"], contexts),
        check=False,
    )
    return result.returncode, directory


@pytest.mark.long
@pytest.mark.timeout(180)
def test_workflow_checks_a_backend(fresh_server: ServerProcess, tmp_path: Path) -> None:
    tokens = {"DOCTOR_TOKEN": fresh_server.token(), "PATIENT_TOKEN": fresh_server.token("patient")}
    status, directory = run_step(tmp_path, fresh_server.base_url, tokens)
    assert status == 0
    assert (directory / "output").read_text(encoding="utf-8") == "status=0\n"
    assert "conforms" in (directory / "summary.md").read_text(encoding="utf-8")
    [upload] = [step for step in WORKFLOW["jobs"]["contract"]["steps"] if "upload-artifact@" in step["uses"]]
    reports = {path.name for path in (directory / upload["with"]["path"]).iterdir()}
    assert reports == {"report.html", "report.json", "report.xml"}


def test_workflow_fails_without_backend(tmp_path: Path) -> None:
    tokens = {"DOCTOR_TOKEN": "any", "PATIENT_TOKEN": "any"}
    status, directory = run_step(tmp_path, "http://127.0.0.1:9/api/v1/video", tokens)
    assert status == 2
    assert (directory / "output").read_text(encoding="utf-8") == "status=2\n"


def test_action_has_inputs_of_workflow_and_page() -> None:
    assert WORKFLOW[True].keys() == {"push", "schedule", "workflow_dispatch"}  # YAML's `on` is true
    assert OUR_STEP["with"].keys() <= ACTION["inputs"].keys()
    page = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
    workflow = re.findall(r"```yaml\n(jobs:.*?)```", page, re.DOTALL)[0]
    [step] = [step for step in yaml.safe_load(workflow)["jobs"]["contract"]["steps"] if "with" in step]
    assert step["with"].keys() <= ACTION["inputs"].keys()
    assert step["uses"] == OUR_STEP["uses"]
    inputs = page[page.index("| input | default |") :].split("\n\n")[0]
    assert re.findall(r"^\| `(.*?)` \|", inputs, re.MULTILINE) == list(ACTION["inputs"])
