"""Test an installation outside the checkout, with these extras.

    python -I tests/check_installation.py server contract

`nox -s package` runs this in environments that have only the package. Because of that, it imports only the
package and the standard library.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import files, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urljoin

import httpx
import video_calls_sdk
import video_calls_spec
from video_calls_sdk import ConnectionFailedError, VideoCallsClient, VideoCallsError

SERVER = {
    "agora_token_builder",
    "alembic",
    "click",
    "litestar",
    "msgspec",
    "sqlalchemy",
    "uvicorn",
    "websockets",
}
MODULES = {
    "server": SERVER,
    "postgres": SERVER | {"asyncpg"},
    "metrics": SERVER | {"prometheus_client"},
    "otel": SERVER | {"opentelemetry"},
    "testing": SERVER | {"pytest", "respx"},
    "events": {"websockets"},
    "contract": {"click", "jsonschema_rs", "pytest", "schemathesis", "uvicorn", "websockets"},
}
"""The modules that each extra installs, and that are missing without it."""

COMMANDS = Path(sys.executable).parent
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("PYTHON", "VIDEO_CALLS_", "AGORA_"))
} | {"PYTHONUNBUFFERED": "1"}
CLOSED_PORT = "postgresql://user@127.0.0.1:1/calls"
TEST = """
from datetime import timedelta

from video_calls_sdk import VideoCallsClient


def test_the_servers_clock_is_set(video_calls_server):
    later = video_calls_server.clock.now() + timedelta(hours=1)
    call = video_calls_server.doctor.calls.create(doctor=1, patient=1, scheduled_time=later)
    video_calls_server.clock.advance(minutes=50)
    assert video_calls_server.patient.calls.join(call.id).channel_name == call.channel_name


def test_answers_are_mocked(video_calls_router):
    with VideoCallsClient("https://api.example.com/api/v1/video", "token") as client:
        assert client.calls.get(1).id == 1
"""


def run(command: str, *arguments: str, status: int = 0) -> str:
    """Run a command of the environment; return its output on both streams."""
    words = [COMMANDS / command, *arguments]
    process = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    output = process.stdout + process.stderr
    assert process.returncode == status, (command, arguments, process.returncode, output)
    return output


@contextmanager
def running_server(*options: str) -> Iterator[str]:
    """Run a server and yield the root of its API; it has to stop with status 0."""
    words = [COMMANDS / "video-calls-server", "serve", "--port", "0", "--database", "calls.db"]
    words += ["--log-level", "warning", *options]
    with subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            yield next(line for line in server.stdout if "Video Calls API" in line).split()[-1]
        finally:
            server.terminate()
    assert server.returncode == 0


# -- All installations --------------------------------------------------------------------------------


def check_files() -> None:
    """Check that the installed package is imported, and has its types, licences and contract."""
    assert Path(video_calls_sdk.__file__).is_relative_to(sys.prefix)
    assert video_calls_spec.openapi_path().is_relative_to(sys.prefix)
    assert video_calls_spec.openapi_path().is_file()
    names = {str(path) for path in files("video-calls") or ()}
    for package in ("video_calls_sdk", "video_calls_spec", "video_calls_server", "video_calls_contract"):
        assert f"{package}/py.typed" in names, package
    licences = {name.rpartition("/")[2] for name in names if "/licenses/" in name}
    assert licences == {"LICENSE", "htm.LICENSE", "preact.LICENSE"}, licences


def check_modules(extras: list[str]) -> None:
    """Check that the modules of these extras are installed, and no modules of others."""
    expected = {module for extra in extras for module in MODULES[extra]}
    for module in {module for modules in MODULES.values() for module in modules}:
        assert (find_spec(module) is not None) == (module in expected), module


def sdk() -> None:
    """Check that a client reads a response."""
    page = {"count": 0, "next": None, "previous": None, "results": []}
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, json=page))
    with VideoCallsClient("https://api.example.com/api/v1/video", "token", transport=transport) as client:
        assert list(client.calls.list()) == []


def error_without_events() -> VideoCallsError:
    """Return the error of a client that connects to events at a closed port."""
    closed = VideoCallsClient("http://127.0.0.1:1/api/v1/video", "token", retries=0)
    try:
        with closed as client, client.events() as events:
            raise AssertionError(f"connected: {events}")
    except VideoCallsError as error:
        return error


# -- Extras --------------------------------------------------------------------------------------------


def events() -> None:
    """Check that the client tries to connect."""
    assert isinstance(error_without_events(), ConnectionFailedError)


def server() -> None:
    """Check the server: the version, the tables, the operations and the pages."""
    assert version("video-calls") in run("video-calls-server", "--version")
    assert run("video-calls-server", "migrate", "--database", "new.db").startswith("revision none to ")
    with running_server() as api:
        token = run("video-calls-server", "token", "doctor@example.com", "--database", "calls.db").strip()
        with VideoCallsClient(api, token) as client:
            soon = datetime.now(UTC) + timedelta(minutes=5)
            call = client.calls.create(doctor=1, patient=1, scheduled_time=soon)
            assert client.calls.join(call.id).channel_name == call.channel_name
            assert client.calls.end(call.id).status == "completed"
        for path in ("/", "/docs/", "/openapi.yaml", "/_console/vendor/htm-preact.module.js"):
            assert httpx.get(urljoin(api, path)).status_code == 200, path


def postgres() -> None:
    """Check that the server connects to PostgreSQL."""
    output = run("video-calls-server", "migrate", "--database", CLOSED_PORT, status=2)
    assert "127.0.0.1:1" in output, output
    assert "install" not in output, output


def metrics() -> None:
    """Check that the server has metrics."""
    with running_server("--metrics") as api:
        assert "# TYPE" in httpx.get(urljoin(api, "/metrics")).text


def otel() -> None:
    """Check that the server starts with spans."""
    ENVIRONMENT["OTEL_TRACES_EXPORTER"] = "none"
    with running_server("--otel") as api:
        assert httpx.get(urljoin(api, "/healthz")).status_code == 200


def testing() -> None:
    """Check that pytest finds the fixtures of the plugin."""
    Path("test_calls.py").write_text(TEST, encoding="utf-8")
    assert "2 passed" in run("pytest", "-q", "test_calls.py")


def contract() -> None:
    """Check the suite: the version, the rules, and a run if the server is installed."""
    assert version("video-calls") in run("video-calls-contract", "--version")
    assert "join.window" in run("video-calls-contract", "rules")
    reference = ("video-calls-contract", "run", "--reference", "--html", "report.html")
    if find_spec("litestar"):
        run(*reference)
        assert "</html>" in Path("report.html").read_text(encoding="utf-8")
    else:
        assert 'pip install "video-calls[server]"' in run(*reference, status=2)


# -- Missing extras -----------------------------------------------------------------------------------


def check_hint_of_events() -> None:
    """Check that the SDK names the missing extra."""
    assert "video-calls[events]" in str(error_without_events())


COMMANDS_BY_HINT: dict[str, tuple[str, ...]] = {
    'pip install "video-calls[server]"': ("video-calls-server", "--version"),
    'pip install "video-calls[contract]"': ("video-calls-contract", "rules"),
    "video-calls[server,postgres]": ("video-calls-server", "serve", "--database", CLOSED_PORT),
    "video-calls[metrics]": ("video-calls-server", "serve", "--metrics"),
    "video-calls[otel]": ("video-calls-server", "serve", "--otel"),
}
"""Commands that need an extra, by their hint if it is missing."""


def check_hints(*hints: str) -> None:
    """Check that commands name the missing extra."""
    for hint in hints:
        printed = run(*COMMANDS_BY_HINT[hint], status=2)
        assert hint in printed, printed


EXTRA_CHECKS = (server, postgres, metrics, otel, testing, events, contract)


def check(extras: list[str]) -> None:
    """Check an environment with these extras."""
    check_modules(extras)
    check_files()
    sdk()
    for check_extra in EXTRA_CHECKS:
        if check_extra.__name__ in extras:
            check_extra()
    installed_modules = {module for extra in extras for module in MODULES[extra]}
    without_server, without_contract, *without_parts = COMMANDS_BY_HINT
    if "websockets" not in installed_modules:
        check_hint_of_events()
    if "litestar" not in installed_modules:
        check_hints(without_server)
    if "schemathesis" not in installed_modules:
        check_hints(without_contract)
    if "server" in extras:
        check_hints(*without_parts)


if __name__ == "__main__":
    requested = sys.argv[1:]
    with TemporaryDirectory() as directory:
        os.chdir(directory)
        check(requested)
    print(f"video-calls {version('video-calls')}, extras {', '.join(requested) or 'none'}: all checks passed")
