"""The command `video-calls-contract`, against backends of a few lines and the reference server."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from video_calls_contract import __main__ as program
from video_calls_contract.catalogue import AREAS, catalogue, select_rules
from video_calls_contract.command import main
from video_calls_contract.config import TEMPLATE
from video_calls_server.settings import environment_variable, setting_fields

from support.fake_backend import CERTIFICATE, TOKENS, FakeBackend, Request, echoing, fake_backend, scheduling
from support.suite_runs import run_suite_command, suite_command

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@pytest.fixture
def broken_backend(tmp_path: Path) -> Iterator[FakeBackend]:
    """Serve a backend that breaks rules, with its configuration in the default place."""
    with fake_backend(echoing) as backend:
        (tmp_path / "contract.toml").write_text(backend.toml())
        yield backend


def invoke(*arguments: str, cwd: Path) -> Result:
    """Run the command in this process."""
    with contextlib.chdir(cwd):
        return CliRunner().invoke(main, arguments, env={"COLUMNS": "110"})


def start(*arguments: str, cwd: Path) -> "subprocess.Popen[str]":
    """Start the command as a process."""
    return subprocess.Popen(
        suite_command(*arguments), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def assert_error(result: "Result | subprocess.CompletedProcess[str]", *words: str) -> None:
    """Assert that the command ended with one line that has these words."""
    status = result.exit_code if isinstance(result, Result) else result.returncode
    assert status == 2, (result.stdout, result.stderr)
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert result.stderr.startswith("video-calls-contract: ")
    for word in words:
        assert word in result.stderr


# -- init, rules, version ---------------------------------------------------------------------------


def test_init_writes_configuration_and_keeps_existing_one(tmp_path: Path) -> None:
    assert invoke("init", cwd=tmp_path).exit_code == 0
    path = tmp_path / "contract.toml"
    assert path.read_text() == TEMPLATE
    path.write_text("mine")
    assert_error(invoke("init", cwd=tmp_path), "contract.toml already exists", "--force")
    assert path.read_text() == "mine"
    assert invoke("init", "--force", cwd=tmp_path).exit_code == 0
    assert path.read_text() == TEMPLATE


def test_rules_command_lists_the_catalogue(tmp_path: Path) -> None:
    listed = invoke("rules", cwd=tmp_path).stdout
    assert [slug for slug in catalogue() if slug not in listed] == []
    areas = re.findall(r"^(\S.*)  \(--section (\w+)\)$", listed, re.MULTILINE)
    assert areas == [(title, area) for area, title in AREAS.items()]
    rules = json.loads(invoke("rules", "--json", cwd=tmp_path).stdout)
    assert [rule["id"] for rule in rules] == list(catalogue())
    assert rules[0]["section"] == "Authentication"


@pytest.mark.parametrize("area", AREAS)
def test_section_option_selects_rules_of_area(area: str) -> None:
    rules = [slug for slug in catalogue() if slug.startswith(f"{area}.")]
    assert rules
    for name in (area, area.upper()):
        assert list(select_rules((), (name,), fuzz=True)) == rules


def test_section_option_matches_part_of_heading() -> None:
    under = [slug for slug, rule in catalogue().items() if rule.section == "Endpoints"]
    assert list(select_rules((), ("endpoint",), fuzz=True)) == under
    assert {slug.partition(".")[0] for slug in under} == {"errors"}


def test_missing_extra_is_reported_with_install_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "click", None)
    monkeypatch.delitem(sys.modules, "video_calls_contract.command")
    with pytest.raises(SystemExit) as caught:
        program.run()
    assert caught.value.code == 2
    assert 'pip install "video-calls[contract]"' in capsys.readouterr().err


# -- Errors before the first request -------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config", "other.toml"], ["other.toml", "video-calls-contract init"]),
        (["--rule", "join.wndow"], ["unknown rule join.wndow", "video-calls-contract rules"]),
        (["--section", "joining"], ["unknown section joining", "join"]),
        (["--rule", "fuzz.links", "--fuzz", "off"], ["--fuzz off excludes"]),
        (["--baseline", "no.toml"], ["no.toml"]),
        (["--base-url", "example.com"], ["'example.com' is not an http"]),
        (["--json", "nowhere/report.json"], ["nowhere/report.json", "no directory nowhere"]),
        (["--html", "."], [".: is a directory"]),
        (["--junit", "x", "--json", "x"], ["x: is used for two reports"]),
        (["--write-baseline", "contract.toml"], ["contract.toml: a baseline is a list"]),
    ],
)
def test_invalid_option_stops_run_before_requests(
    tmp_path: Path, broken_backend: FakeBackend, arguments: list[str], words: list[str]
) -> None:
    before = set(tmp_path.iterdir())
    assert_error(invoke("run", *arguments, cwd=tmp_path), *words)
    assert broken_backend.requests == []
    assert set(tmp_path.iterdir()) == before


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everything")
def test_unwritable_report_file_stops_run_before_requests(
    tmp_path: Path, broken_backend: FakeBackend
) -> None:
    (tmp_path / "report.json").write_text("old")
    (tmp_path / "report.json").chmod(0o444)
    assert_error(
        invoke("run", "--json", "report.json", cwd=tmp_path), "report.json", "no permission to write"
    )
    assert broken_backend.requests == []


def test_unreachable_backend_is_an_error(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        (tmp_path / "contract.toml").write_text(FakeBackend(url).toml())
        result = run_suite_command("run", "--json", "report.json", cwd=tmp_path)
    assert_error(result, url, "base_url")
    assert json.loads((tmp_path / "report.json").read_text())["exit_status"] == 2


def test_run_names_identity_with_invalid_token(tmp_path: Path) -> None:
    def refusing(request: Request) -> tuple[int, Any]:
        good = (request.authorization or "").endswith(TOKENS["doctor"])
        return (200, {"results": []}) if good else (401, {"error": "who?"})

    with fake_backend(refusing) as backend:
        (tmp_path / "contract.toml").write_text(backend.toml())
        result = run_suite_command("run", cwd=tmp_path)
    assert_error(result, "[identities.patient] does not work")
    assert not [request for request in backend.requests if request.method != "GET"]


# -- A run ------------------------------------------------------------------------------------------

REPORTS = ("--junit", "r.xml", "--json", "r.json", "--html", "r.html", "--markdown", "r.md")


@dataclass
class FailedRun:
    """A run with violations, in a directory and an environment that would break pytest."""

    directory: Path
    arguments: tuple[str, ...]
    result: "subprocess.CompletedProcess[str]"
    files: set[str]


@pytest.fixture(scope="module")
def failed_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FailedRun]:
    directory = tmp_path_factory.mktemp("failed_run")
    (directory / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\nfilterwarnings = error\n")
    (directory / "conftest.py").write_text("raise SystemExit('the conftest was read')\n")
    (directory / "plugin.py").write_text("raise SystemExit('the plugin was loaded')\n")
    env = {
        **os.environ,
        "PYTEST_ADDOPTS": "--no-such-option",
        "PYTEST_PLUGINS": "plugin",
        "PYTHONPATH": os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(directory)]),
    }
    arguments = ("run", "--rule", "auth.required", "--baseline", "b.toml", "--write-baseline", "b.toml")
    with fake_backend(echoing) as backend:
        (directory / "contract.toml").write_text(backend.toml())
        before = {path.name for path in directory.iterdir()}
        result = run_suite_command(*arguments, *REPORTS, cwd=directory, env=env)
        files = {path.name for path in directory.iterdir()} - before
        yield FailedRun(directory, arguments, result, files)


def test_run_ignores_the_settings_of_pytest(failed_run: FailedRun) -> None:
    assert failed_run.result.returncode == 1, failed_run.result.stdout + failed_run.result.stderr
    assert "breaks" in failed_run.result.stdout.splitlines()[-2]
    assert failed_run.files == {"r.xml", "r.json", "r.html", "r.md", "b.toml"}


def test_reports_have_no_secrets_or_control_characters(failed_run: FailedRun) -> None:
    outputs = {name: (failed_run.directory / name).read_text() for name in failed_run.files}
    outputs |= {"stdout": failed_run.result.stdout, "stderr": failed_run.result.stderr}
    for name, text in outputs.items():
        for secret in (*TOKENS.values(), CERTIFICATE):
            assert secret not in text, name
        assert not CONTROL.search(text), name
        assert "Traceback" not in text, name
        if name not in ("stderr", "b.toml"):
            assert "auth.required" in text, name
            assert "$DOCTOR_TOKEN" in text.replace("&#36;", "$").replace("&#95;", "_"), name


def test_written_baseline_lets_next_run_pass(failed_run: FailedRun) -> None:
    assert "lists 1 violation" in failed_run.result.stdout
    baseline = failed_run.directory / "b.toml"
    baseline.write_text(baseline.read_text().replace("not fixed yet", "in autumn"))
    second = run_suite_command(*failed_run.arguments, cwd=failed_run.directory)
    assert second.returncode == 0, second.stdout
    assert "in autumn" in second.stdout
    assert "in autumn" in baseline.read_text()


def first_pages_only(request: Request) -> tuple[int, Any]:
    """Respond like `scheduling`, but refuse every page except the first."""
    beyond = request.authorization and "?" in request.path and "?page=1&" not in request.path + "&"
    return (400, {"error": "no"}) if beyond else scheduling(request)


def test_settings_of_schemathesis_and_hypothesis_change_no_request(tmp_path: Path) -> None:
    hooks = (
        "import schemathesis\n@schemathesis.hook\ndef filter_query(context, query):\n    return not query\n"
    )
    (tmp_path / "hooks.py").write_text(hooks)
    (tmp_path / "schemathesis.toml").write_text('[generation]\nmode = "positive"\n')
    variables = {name: value for name, value in os.environ.items() if name not in ("CI", "GITHUB_ACTIONS")}
    others = {"SCHEMATHESIS_HOOKS": str(tmp_path / "hooks.py"), "CI": "true", "HYPOTHESIS_NO_PLUGINS": ""}
    paths: list[list[str]] = []
    for env in (variables, variables | others):
        with fake_backend(first_pages_only) as backend:
            (tmp_path / "contract.toml").write_text(backend.toml())
            result = run_suite_command("run", "--rule", "fuzz.listVideoCalls", cwd=tmp_path, env=env)
            assert result.returncode == 0, result.stdout + result.stderr
            paths.append([request.path for request in backend.requests])
    assert len(paths[0]) > 20
    assert paths[0] == paths[1]


@pytest.mark.usefixtures("broken_backend")
def test_unwritable_report_does_not_prevent_other_reports(tmp_path: Path) -> None:
    # The check before the run cannot find this error, because only a write fails on a full device.
    result = run_suite_command(
        "run", "--rule", "auth.required", "--html", "/dev/full", "--json", "r.json", cwd=tmp_path
    )
    assert result.returncode == 2
    assert "VIOLATION  auth.required" in result.stdout
    assert re.fullmatch(r"video-calls-contract: /dev/full: cannot be written: .*\n", result.stderr)
    assert json.loads((tmp_path / "r.json").read_text())["summary"]["failed"] == 1


def test_broken_pipe_does_not_end_the_run(tmp_path: Path) -> None:
    with fake_backend(scheduling) as backend:
        (tmp_path / "contract.toml").write_text(backend.toml())
        with start("run", "--rule", "auth.required", "--json", "r.json", cwd=tmp_path) as process:
            assert process.stdout
            assert process.stderr
            process.stdout.close()
            outputs = process.stderr.read()
    assert "Traceback" not in outputs
    assert "BrokenPipe" not in outputs
    assert [request for request in backend.requests if request.path.endswith("/cancel/")]
    assert (tmp_path / "r.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_cleans_up_and_reports(tmp_path: Path, number: signal.Signals) -> None:
    reached, release = threading.Event(), threading.Event()

    def waiting(request: Request) -> tuple[int, Any]:
        if not request.authorization:
            reached.set()
            release.wait(30)
        return scheduling(request)

    with fake_backend(waiting) as backend:
        (tmp_path / "contract.toml").write_text(backend.toml())
        # The run waits for its open requests.
        with start(
            "run", "--rule", "auth.required", "--json", "r.json", "--timeout", "0.5", cwd=tmp_path
        ) as process:
            assert reached.wait(30)
            process.send_signal(number)
            output, errors = process.communicate(timeout=30)
            release.set()
    assert process.returncode == 2, errors
    assert "the run was interrupted" in output
    assert "Traceback" not in output + errors
    assert [request for request in backend.requests if request.path.endswith("/cancel/")]
    assert json.loads((tmp_path / "r.json").read_text())["stopped"] == "the run was interrupted"
    assert {path.name for path in tmp_path.iterdir()} == {"contract.toml", "r.json"}


def test_second_interrupt_stops_cleanup_and_reports_open_calls(tmp_path: Path) -> None:
    cleaning, release = threading.Event(), threading.Event()

    def waiting(request: Request) -> tuple[int, Any]:
        if request.path.endswith(("/cancel/", "/end/")):
            if not any(earlier.path.endswith("/nothing/") for earlier in backend.requests):
                return 400, {"error": "not before the tests"}
            cleaning.set()
            release.wait(30)
        return scheduling(request)

    with fake_backend(waiting) as backend:
        (tmp_path / "contract.toml").write_text(backend.toml())
        with start(
            "run", "--rule", "errors.unknown-path", "--json", "r.json", "--timeout", "0.5", cwd=tmp_path
        ) as process:
            assert cleaning.wait(30)
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=30)
            release.set()
    assert process.returncode in (1, 2)
    assert "calls 7 may be left: cleaning up was interrupted" in output
    assert "Traceback" not in output + errors
    assert json.loads((tmp_path / "r.json").read_text())["stopped"] == "the run was interrupted"
    assert {path.name for path in tmp_path.iterdir()} == {"contract.toml", "r.json"}


def test_run_reports_call_that_cannot_be_closed(tmp_path: Path) -> None:
    def keeping(request: Request) -> tuple[int, Any]:
        is_closing = request.path.endswith(("/cancel/", "/end/"))
        return (500, {"error": "no"}) if is_closing and request.authorization else scheduling(request)

    with fake_backend(keeping) as backend:
        (tmp_path / "contract.toml").write_text(backend.toml())
        result = run_suite_command("run", "--rule", "auth.required", cwd=tmp_path)
    assert "call 7 could be neither cancelled nor ended" in result.stdout


# -- Bugs in the suite ---------------------------------------------------------------------------


READS_NO_TOKEN = "def claims(_token):\n    return {}\ndef expiry(_token):\n    return None\n"


def environment_with_module(tmp_path: Path, module: str, text: str) -> dict[str, str]:
    """Return an environment in which a module is replaced by this text."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util, sys\n"
        "from importlib.machinery import SourceFileLoader\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        f"            loader = SourceFileLoader(name, {str(tmp_path / 'other.py')!r})\n"
        "            return importlib.util.spec_from_loader(name, loader)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    (tmp_path / "other.py").write_text(text)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "FORGERIES = {'none': 'broken'}\ndef forged(*_):\n    raise ZeroDivisionError('a bug')\n",
            r"ZeroDivisionError: a bug \(\w+\.py:\d+\)",
        ),
        ("FORGERIES = {}\n", "ImportError"),
    ],
    ids=["test", "module"],
)
def test_bug_in_the_suite_is_reported(tmp_path: Path, text: str, error: str) -> None:
    env = environment_with_module(tmp_path, "video_calls_contract.jwt", READS_NO_TOKEN + text)
    with fake_backend(scheduling) as backend:
        (tmp_path / "contract.toml").write_text(backend.toml())
        result = run_suite_command("run", "--rule", "auth.valid-token", cwd=tmp_path, env=env)
    assert result.returncode == 2, result.stdout
    assert re.search(rf"Bugs in the suite.*{error}", result.stdout, re.DOTALL)
    assert "Traceback" not in result.stdout + result.stderr


# -- The reference server -----------------------------------------------------------------------------


def test_reference_server_is_started_tested_and_stopped(tmp_path: Path) -> None:
    variables = {environment_variable(setting): "of another server" for setting in setting_fields()}
    proxy = {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9"}
    result = run_suite_command(
        "run", "--reference", "--section", "auth", cwd=tmp_path, env={**os.environ, **variables, **proxy}
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "conforms" in result.stdout
    assert "not checked" not in result.stdout.lower()
    assert not CONTROL.search(result.stdout)
    match = re.search(r"http://127\.0\.0\.1:(\d+)", result.stdout)
    assert match
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(match[1])), timeout=5).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise ModuleNotFoundError(\"No module named 'video_calls_server'\")", ["video-calls[server]"]),
        ("raise SystemExit('video-calls-server: the port is gone')", ["did not start: the port is gone"]),
        ("def run():\n    pass", ["did not start: it printed nothing"]),
    ],
    ids=["not installed", "refuses", "ends"],
)
def test_failed_start_of_reference_server_is_error(tmp_path: Path, text: str, words: list[str]) -> None:
    env = environment_with_module(tmp_path, "video_calls_server.command", text)
    assert_error(run_suite_command("run", "--reference", cwd=tmp_path, env=env), *words)


def test_reference_option_excludes_config_and_base_url(tmp_path: Path) -> None:
    result = invoke("run", "--reference", "--base-url", "http://x", cwd=tmp_path)
    assert result.exit_code == 2
    assert "leave out --config and --base-url" in result.stderr
