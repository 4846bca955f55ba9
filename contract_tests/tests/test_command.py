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

from support.fake_backend import (
    CERTIFICATE,
    TOKENS,
    FakeBackend,
    Request,
    command,
    echoing,
    fake_backend,
    run,
    scheduling,
)

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[FakeBackend]:
    """A backend that breaks rules; its configuration is where the command looks for it."""
    with fake_backend(echoing) as backend:
        (tmp_path / "contract.toml").write_text(backend.toml())
        yield backend


def here(*arguments: str, cwd: Path) -> Result:
    """The command, in this process."""
    with contextlib.chdir(cwd):
        return CliRunner().invoke(main, arguments, env={"COLUMNS": "110"})


def assert_told(result: "Result | subprocess.CompletedProcess[str]", *words: str) -> None:
    """The command refused in one line that has these words."""
    status = result.exit_code if isinstance(result, Result) else result.returncode
    assert status == 2, (result.stdout, result.stderr)
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert result.stderr.startswith("video-calls-contract: ")
    for word in words:
        assert word in result.stderr


# -- init, rules, version ---------------------------------------------------------------------------


def test_init_writes_a_configuration_and_overwrites_none(tmp_path: Path) -> None:
    assert here("init", cwd=tmp_path).exit_code == 0
    path = tmp_path / "contract.toml"
    assert path.read_text() == TEMPLATE
    path.write_text("mine")
    assert_told(here("init", cwd=tmp_path), "contract.toml already exists", "--force")
    assert path.read_text() == "mine"
    assert here("init", "--force", cwd=tmp_path).exit_code == 0
    assert path.read_text() == TEMPLATE


def test_init_says_where_it_cannot_write(tmp_path: Path) -> None:
    assert_told(here("init", "nowhere/contract.toml", cwd=tmp_path), "nowhere/contract.toml", "no directory")


def test_rules_lists_the_catalogue(tmp_path: Path) -> None:
    listed = here("rules", cwd=tmp_path).stdout
    assert [slug for slug in catalogue() if slug not in listed] == []
    areas = re.findall(r"^(\S.*)  \(--section (\w+)\)$", listed, re.MULTILINE)
    assert areas == [(title, area) for area, title in AREAS.items()]
    rules = json.loads(here("rules", "--json", cwd=tmp_path).stdout)
    assert [rule["id"] for rule in rules] == list(catalogue())
    assert rules[0]["section"] == "Authentication"


@pytest.mark.parametrize("area", AREAS)
def test_the_name_of_an_area_selects_its_own_rules_alone(area: str) -> None:
    rules = [slug for slug in catalogue() if slug.startswith(f"{area}.")]
    assert rules
    for name in (area, area.upper()):
        assert list(select_rules((), (name,), fuzz=True)) == rules


def test_a_part_of_a_heading_selects_the_rules_under_it() -> None:
    under = [slug for slug, rule in catalogue().items() if rule.section == "Endpoints"]
    assert list(select_rules((), ("endpoint",), fuzz=True)) == under
    assert {slug.partition(".")[0] for slug in under} == {"errors"}


def test_the_version_is_told(tmp_path: Path) -> None:
    assert re.search(r"\d+\.\d+", here("--version", cwd=tmp_path).stdout)


def test_a_missing_extra_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "click", None)
    monkeypatch.delitem(sys.modules, "video_calls_contract.command")
    with pytest.raises(SystemExit) as caught:
        program.run()
    assert caught.value.code == 2
    assert 'pip install "video-calls[contract]"' in capsys.readouterr().err


# -- What cannot be done is said before anything is -------------------------------------------------


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
def test_what_is_wrong_is_told_before_a_request_is_sent(
    tmp_path: Path, echo: FakeBackend, arguments: list[str], words: list[str]
) -> None:
    before = set(tmp_path.iterdir())
    assert_told(here("run", *arguments, cwd=tmp_path), *words)
    assert echo.requests == []
    assert set(tmp_path.iterdir()) == before


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_report_that_may_not_be_written_is_told_before_a_request_is_sent(
    tmp_path: Path, echo: FakeBackend
) -> None:
    (tmp_path / "report.json").write_text("old")
    (tmp_path / "report.json").chmod(0o444)
    assert_told(here("run", "--json", "report.json", cwd=tmp_path), "report.json", "no permission to write")
    assert echo.requests == []


def test_a_backend_that_is_not_there_is_told(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        (tmp_path / "contract.toml").write_text(FakeBackend(url).toml())
        result = run("run", "--json", "report.json", cwd=tmp_path)
    assert_told(result, url, "base_url")
    assert json.loads((tmp_path / "report.json").read_text())["exit_status"] == 2


def test_a_token_that_does_not_work_is_named(tmp_path: Path) -> None:
    def refusing(request: Request) -> tuple[int, Any]:
        good = (request.authorization or "").endswith(TOKENS["doctor"])
        return (200, {"results": []}) if good else (401, {"error": "who?"})

    with fake_backend(refusing) as backend:
        (tmp_path / "contract.toml").write_text(backend.toml())
        result = run("run", cwd=tmp_path)
    assert_told(result, "[identities.patient] does not work")
    assert not [request for request in backend.requests if request.method != "GET"]


# -- A run ------------------------------------------------------------------------------------------

REPORTS = ("--junit", "r.xml", "--json", "r.json", "--html", "r.html", "--markdown", "r.md")


@dataclass
class Failing:
    """A run that fails, whose directory and environment hold settings of pytest that would break it."""

    directory: Path
    arguments: tuple[str, ...]
    result: "subprocess.CompletedProcess[str]"
    written: set[str]


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Failing]:
    directory = tmp_path_factory.mktemp("failing")
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
        result = run(*arguments, *REPORTS, cwd=directory, env=env)
        written = {path.name for path in directory.iterdir()} - before
        yield Failing(directory, arguments, result, written)


def test_run_leaves_its_reports_alone_whatever_pytests_settings_are(failing: Failing) -> None:
    assert failing.result.returncode == 1, failing.result.stdout + failing.result.stderr
    assert "breaks" in failing.result.stdout.splitlines()[-2]
    assert failing.written == {"r.xml", "r.json", "r.html", "r.md", "b.toml"}


def test_no_report_has_a_secret_or_a_control_character(failing: Failing) -> None:
    told = {name: (failing.directory / name).read_text() for name in failing.written}
    told |= {"stdout": failing.result.stdout, "stderr": failing.result.stderr}
    for name, text in told.items():
        for secret in (*TOKENS.values(), CERTIFICATE):
            assert secret not in text, name
        assert not CONTROL.search(text), name
        assert "Traceback" not in text, name
        if name not in ("stderr", "b.toml"):
            assert "auth.required" in text, name
            assert "$DOCTOR_TOKEN" in text.replace("&#36;", "$").replace("&#95;", "_"), name


def test_a_baseline_of_a_run_lets_the_next_one_pass(failing: Failing) -> None:
    assert "lists 1 violation" in failing.result.stdout
    baseline = failing.directory / "b.toml"
    baseline.write_text(baseline.read_text().replace("not fixed yet", "in autumn"))
    second = run(*failing.arguments, cwd=failing.directory)
    assert second.returncode == 0, second.stdout
    assert "in autumn" in second.stdout
    assert "in autumn" in baseline.read_text()


def listing(request: Request) -> tuple[int, Any]:
    """As `scheduling`, with nothing but first pages."""
    beyond = request.authorization and "?" in request.path and "?page=1&" not in request.path + "&"
    return (400, {"error": "no"}) if beyond else scheduling(request)


def test_other_tools_settings_change_no_generated_request(tmp_path: Path) -> None:
    hooks = (
        "import schemathesis\n@schemathesis.hook\ndef filter_query(context, query):\n    return not query\n"
    )
    (tmp_path / "hooks.py").write_text(hooks)
    (tmp_path / "schemathesis.toml").write_text('[generation]\nmode = "positive"\n')
    own = {name: value for name, value in os.environ.items() if name not in ("CI", "GITHUB_ACTIONS")}
    others = {"SCHEMATHESIS_HOOKS": str(tmp_path / "hooks.py"), "CI": "true", "HYPOTHESIS_NO_PLUGINS": ""}
    paths: list[list[str]] = []
    for env in (own, own | others):
        with fake_backend(listing) as backend:
            (tmp_path / "contract.toml").write_text(backend.toml())
            result = run("run", "--rule", "fuzz.listVideoCalls", cwd=tmp_path, env=env)
            assert result.returncode == 0, result.stdout + result.stderr
            paths.append([request.path for request in backend.requests])
    assert len(paths[0]) > 20
    assert paths[0] == paths[1]


@pytest.mark.usefixtures("echo")
def test_a_report_that_could_not_be_written_in_the_end_costs_no_other(tmp_path: Path) -> None:
    # A full device is found out no earlier than on writing.
    result = run("run", "--rule", "auth.required", "--html", "/dev/full", "--json", "r.json", cwd=tmp_path)
    assert result.returncode == 2
    assert "VIOLATION  auth.required" in result.stdout
    assert re.fullmatch(r"video-calls-contract: /dev/full: cannot be written: .*\n", result.stderr)
    assert json.loads((tmp_path / "r.json").read_text())["summary"]["failed"] == 1


def test_a_reader_who_leaves_does_not_end_the_run(tmp_path: Path) -> None:
    with fake_backend(scheduling) as backend:
        (tmp_path / "contract.toml").write_text(backend.toml())
        arguments = command("run", "--rule", "auth.required", "--json", "r.json")
        with subprocess.Popen(
            arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            assert process.stderr
            process.stdout.close()
            told = process.stderr.read()
    assert "Traceback" not in told
    assert "BrokenPipe" not in told
    assert [request for request in backend.requests if request.path.endswith("/cancel/")]
    assert (tmp_path / "r.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_cleans_up_and_tells_what_it_found(tmp_path: Path, number: signal.Signals) -> None:
    reached, release = threading.Event(), threading.Event()

    def waiting(request: Request) -> tuple[int, Any]:
        if not request.authorization:
            reached.set()
            release.wait(30)
        return scheduling(request)

    with fake_backend(waiting) as backend:
        (tmp_path / "contract.toml").write_text(backend.toml())
        # Requests that are under way are waited for.
        arguments = command("run", "--rule", "auth.required", "--json", "r.json", "--timeout", "0.5")
        with subprocess.Popen(
            arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
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


def test_a_second_interrupt_ends_the_cleaning_and_tells_what_is_left(tmp_path: Path) -> None:
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
        arguments = command("run", "--rule", "errors.unknown-path", "--json", "r.json", "--timeout", "0.5")
        with subprocess.Popen(
            arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
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


def test_what_cannot_be_taken_away_again_is_told(tmp_path: Path) -> None:
    def keeping(request: Request) -> tuple[int, Any]:
        gone = request.path.endswith(("/cancel/", "/end/"))
        return (500, {"error": "no"}) if gone and request.authorization else scheduling(request)

    with fake_backend(keeping) as backend:
        (tmp_path / "contract.toml").write_text(backend.toml())
        result = run("run", "--rule", "auth.required", cwd=tmp_path)
    assert "call 7 could be neither cancelled nor ended" in result.stdout


# -- The suite's own faults ---------------------------------------------------------------------------


READS_NO_CLAIMS = "def claims(_token):\n    return {}\n"


def broken_suite(tmp_path: Path, module: str, text: str) -> dict[str, str]:
    """An environment in which a module of the suite's is another."""
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


def test_a_bug_of_the_suite_is_told_as_its_own(tmp_path: Path) -> None:
    env = broken_suite(
        tmp_path,
        "video_calls_contract.jwt",
        f"{READS_NO_CLAIMS}FORGERIES = {{'none': 'broken'}}\n"
        "def forged(*_):\n    raise ZeroDivisionError('a bug')\n",
    )
    with fake_backend(scheduling) as backend:
        (tmp_path / "contract.toml").write_text(backend.toml())
        result = run("run", "--rule", "auth.valid-token", cwd=tmp_path, env=env)
    assert result.returncode == 2, result.stdout
    assert re.search(r"Bugs in the suite.*ZeroDivisionError: a bug \(\w+\.py:\d+\)", result.stdout, re.DOTALL)
    assert "Traceback" not in result.stdout + result.stderr


def test_a_module_of_the_suite_that_cannot_be_loaded_is_told_as_its_own_fault(tmp_path: Path) -> None:
    env = broken_suite(tmp_path, "video_calls_contract.jwt", f"{READS_NO_CLAIMS}FORGERIES = {{}}\n")
    with fake_backend(scheduling) as backend:
        (tmp_path / "contract.toml").write_text(backend.toml())
        result = run("run", "--rule", "auth.valid-token", cwd=tmp_path, env=env)
    assert result.returncode == 2, result.stdout
    assert "Bugs in the suite" in result.stdout
    assert "ImportError" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


# -- The reference server -----------------------------------------------------------------------------


def test_the_reference_server_is_started_tested_and_stopped(tmp_path: Path) -> None:
    own = {environment_variable(setting): "of another server" for setting in setting_fields()}
    proxy = {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9"}
    result = run("run", "--reference", "--section", "auth", cwd=tmp_path, env={**os.environ, **own, **proxy})
    assert result.returncode == 0, result.stdout + result.stderr
    assert "conforms" in result.stdout
    assert "not checked" not in result.stdout.lower()
    assert not CONTROL.search(result.stdout)
    found = re.search(r"http://127\.0\.0\.1:(\d+)", result.stdout)
    assert found
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(found[1])), timeout=5).close()
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
def test_a_reference_server_that_does_not_start_is_told(tmp_path: Path, text: str, words: list[str]) -> None:
    env = broken_suite(tmp_path, "video_calls_server.command", text)
    assert_told(run("run", "--reference", cwd=tmp_path, env=env), *words)


def test_a_reference_run_brings_its_own_configuration(tmp_path: Path) -> None:
    result = here("run", "--reference", "--base-url", "http://x", cwd=tmp_path)
    assert result.exit_code == 2
    assert "leave out --config and --base-url" in result.stderr
