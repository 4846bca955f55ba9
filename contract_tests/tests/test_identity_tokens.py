"""Tests of expiring tokens, and of gateways that respond in place of the backend."""

import contextlib
import io
import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from click.testing import CliRunner
from video_calls_contract.backend import Backend
from video_calls_contract.command import main
from video_calls_contract.config import Identity, TokenCommand, parse_config
from video_calls_contract.identity_tokens import Token
from video_calls_contract.preflight import preflight
from video_calls_contract.redaction import Redactor
from video_calls_contract.reports import terminal
from video_calls_contract.run import Options, Run

from support.fake_backend import TOKENS, FakeBackend, Request, fake_backend, scheduling
from support.suite_runs import run_suite_command

SECRET = "a secret of the tests alone, of 32 bytes and more"
HTML = "<html><title>Service Unavailable</title></html>"


def new_token(seconds: float) -> str:
    return jwt.encode({"exp": int(time.time() + seconds)}, SECRET)


# -- Tokens ----------------------------------------------------------------------------------------


class Expiring:
    """A backend that accepts each token for this number of requests."""

    def __init__(self, requests: int) -> None:
        self._requests = requests
        self.used: dict[str, int] = {}

    def __call__(self, request: Request) -> tuple[int, Any]:
        token = (request.authorization or "").removeprefix("Bearer ")
        is_genuine = token in TOKENS.values() or token.startswith(tuple(TOKENS))
        if not is_genuine or self.used.get(token, 0) >= self._requests:
            return 401, {"error": "no"}
        self.used[token] = self.used.get(token, 0) + 1
        return scheduling(request)


def toml_with_commands(backend: FakeBackend, directory: Path) -> str:
    """Return a configuration with commands that print a new token each time."""
    script = directory / "mint.py"
    script.write_text("import os, sys; print(sys.argv[1] + os.urandom(16).hex())")
    lines = [f"base_url = {json.dumps(backend.url)}"]
    for name in TOKENS:
        words = [sys.executable, "-S", str(script), name]
        lines += [f"[identities.{name}]", "id = 1", f"token_command = {json.dumps(words)}"]
    return "\n".join(lines)


def test_refused_token_is_renewed_by_its_command(tmp_path: Path) -> None:
    answer = Expiring(3)
    with fake_backend(answer) as backend:
        (tmp_path / "contract.toml").write_text(toml_with_commands(backend, tmp_path))
        result = run_suite_command("run", "--rule", "auth.required", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(answer.used) > len(TOKENS)
    assert [request for request in backend.requests if request.path.endswith("/cancel/")]


def test_expired_token_without_command_stops_the_run(tmp_path: Path) -> None:
    with fake_backend(Expiring(3)) as backend:
        (tmp_path / "contract.toml").write_text(backend.toml())
        result = run_suite_command("run", "--section", "auth", cwd=tmp_path)
    assert result.returncode == 2, result.stdout
    assert "VIOLATION" not in result.stdout
    output = result.stdout + result.stderr
    assert "does not accept the token of [identities.doctor] any more" in output
    assert "token_command" in output


def test_report_notes_token_that_expires_soon() -> None:
    with fake_backend(scheduling) as backend:
        toml = backend.toml().replace(TOKENS["doctor"], new_token(240))
        beginning = Run(parse_config(toml, "contract.toml"), Options())
        preflight(beginning)
        beginning.finish()
    file = io.StringIO()
    terminal.Progress(terminal.console(file)).begin(backend.url, "2 rules", beginning.notes)
    assert "Note: the token of [identities.doctor] expires in 4 min, perhaps before" in file.getvalue()
    assert "[identities.patient]" not in file.getvalue()


def test_token_is_renewed_before_it_expires(tmp_path: Path) -> None:
    script = tmp_path / "mint.py"
    script.write_text(f"print({new_token(1000)!r})")
    command = TokenCommand((sys.executable, str(script)), "c")
    ahead = timedelta(0)
    first = new_token(100)
    identity = Identity("doctor", first, command=command)
    token = Token(identity, Redactor(), lambda: datetime.now(UTC) + ahead)
    assert token.value() == first
    ahead = timedelta(seconds=60)
    assert token.value() != first


# -- Gateways --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, HTML),
        (503, HTML),
        (500, {"error": "down"}),
        (403, {"message": "Forbidden"}),
        (400, "No required SSL certificate was sent"),
        (200, {}),
    ],
)
def test_same_answer_to_every_request_stops_run(tmp_path: Path, status: int, body: object) -> None:
    with fake_backend(lambda _: (status, body)) as backend, contextlib.chdir(tmp_path):
        Path("contract.toml").write_text(backend.toml())
        result = CliRunner().invoke(main, ["run"])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert f"answers everything alike, also without a token and at a path that no API has: {status}" in line
    assert ("--cert" in line) == ("certificate" in str(body))


def test_gateway_error_during_run_is_no_violation(tmp_path: Path) -> None:
    requests: list[Request] = []

    def fail_after_create(request: Request) -> tuple[int, Any]:
        requests.append(request)
        return (503, HTML) if any(one.method == "POST" for one in requests) else scheduling(request)

    with fake_backend(fail_after_create) as backend:
        (tmp_path / "contract.toml").write_text(backend.toml())
        result = run_suite_command("run", "--section", "auth", "--json", "r.json", cwd=tmp_path)
    assert result.returncode == 2, result.stdout
    assert "VIOLATION" not in result.stdout
    report = json.loads((tmp_path / "r.json").read_text())
    assert "answers everything alike" in report["stopped"]
    assert "503" in report["stopped"]


def test_error_of_one_operation_does_not_stop_run() -> None:
    def respond(request: Request) -> tuple[int, Any]:
        return (500, HTML) if request.path.endswith("/7/") else scheduling(request)

    with fake_backend(respond) as backend, contextlib.closing(Backend(backend.url, Redactor())) as client:
        client.expect_api(lambda: f"Bearer {TOKENS['doctor']}")
        assert client.send("GET", "/video-calls/7/").status == 500
