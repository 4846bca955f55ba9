"""The command `video-calls-server`."""

import asyncio
import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import jwt
import pytest
from video_calls_server.__main__ import run as run_script
from video_calls_server.command import serving
from video_calls_server.command.banner import banner
from video_calls_server.command.contract_config import contract_toml
from video_calls_server.control.client import Control
from video_calls_server.settings import DEVELOPMENT_JWT_SECRET, Settings
from video_calls_server.store import store_for
from video_calls_server.store.database import database_url, name_of
from video_calls_server.store.seed import load_seed

from support.api import CALLS, Api
from support.server_command import assert_one_line_error, run
from support.server_process import ServerProcess

OWN_SECRETS = {
    "jwt_secret": "x" * 32,
    "agora_app_id": "1" * 32,
    "agora_app_certificate": "2" * 32,
}
OWN_OPTIONS = [f"--{name.replace('_', '-')}={value}" for name, value in OWN_SECRETS.items()]
IDENTITY_PROVIDER = ("--jwt-algorithm", "RS256", "--jwt-jwks-url", "https://id.example.com")
ONE_DOCTOR = "users: [{id: 7, email: a@example.com, full_name: A, doctor: {id: 9}}]"


def python(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run a Python program in a process of its own."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=30, check=False)


# -- serve ------------------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Settings, str]]:
    """Collect the settings of each server and the options in its banner, and start none."""
    servers: list[tuple[Settings, str]] = []
    monkeypatch.setattr(serving, "serve", lambda settings, options: servers.append((settings, options)))
    return servers


@pytest.fixture
def script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[str, str]]]:
    """Run the console script in this process and return its output and its errors."""
    monkeypatch.chdir(tmp_path)

    def run_and_read(*arguments: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["video-calls-server", *arguments])
        with pytest.raises(SystemExit):
            run_script()
        return capsys.readouterr()

    with patch.dict(os.environ):
        yield run_and_read


def user_of(token: str, secret: str = DEVELOPMENT_JWT_SECRET) -> object:
    return jwt.decode(token.strip(), secret, algorithms=["HS256"])["user_id"]


def test_banner_has_addresses_users_and_curl_command(fresh_server: ServerProcess) -> None:
    banner = fresh_server.output
    assert f"{fresh_server.url}/docs/" in banner
    assert "doctor@example.com             doctor 1" in banner
    assert "inactive.doctor@example.com    doctor 3, inactive" in banner
    line = next(line for line in banner.splitlines() if "curl" in line)
    response = subprocess.run(shlex.split(line), capture_output=True, check=True, timeout=30)
    assert json.loads(response.stdout)["results"] == []


def test_banner_repeats_options_without_password(started: list[tuple[Settings, str]], tmp_path: Path) -> None:
    (tmp_path / "people.yaml").write_text(ONE_DOCTOR)
    run("serve", "--database", ":memory:", "--seed", "people.yaml", cwd=tmp_path)
    run("serve", "--database", "postgresql://calls:hidden@127.0.0.1:1/calls", cwd=tmp_path)
    options, without_password = (options for _, options in started)
    assert without_password == ' --database "$VIDEO_CALLS_SERVER_DATABASE"'
    people = load_seed(tmp_path / "people.yaml")
    text = banner(Settings(), "http://127.0.0.1", "", people, options=options)
    assert "a@example.com                  doctor 9" in text
    assert "video-calls-server token EMAIL --database :memory: --seed people.yaml" in text
    assert user_of(run("token", "a@example.com", *options.split(), cwd=tmp_path).stdout) == 7


@pytest.mark.parametrize(
    ("settings", "is_development"),
    [({}, True), (OWN_SECRETS, False)],
)
def test_banner_contains_only_development_tokens(settings: dict[str, Any], *, is_development: bool) -> None:
    text = banner(Settings(**settings), "http://127.0.0.1", "", load_seed(), options="")
    assert ("Bearer eyJ" in text) is is_development
    assert ("Bearer $(video-calls-server token doctor@example.com)" in text) is not is_development
    assert ("Agora's servers will not accept" in text) is is_development


def test_environment_overrides_dotenv_file(script: Callable[..., tuple[str, str]], tmp_path: Path) -> None:
    of_file, of_environment = "f" * 32, "e" * 32
    variables = f"VIDEO_CALLS_SERVER_JWT_SECRET={of_file}\nA_PROGRAM=touch opened %s\n"
    (tmp_path / ".env").write_text(variables, encoding="utf-8-sig")
    assert user_of(script("token", "doctor@example.com")[0], of_file) == 101
    assert "A_PROGRAM" not in os.environ
    os.environ["VIDEO_CALLS_SERVER_JWT_SECRET"] = of_environment
    assert user_of(script("token", "doctor@example.com")[0], of_environment) == 101


def test_unreadable_dotenv_file_is_one_line_error(
    script: Callable[..., tuple[str, str]], tmp_path: Path
) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe\xff")
    _, errors = script("identities")
    assert errors.count("\n") == 1
    assert "cannot read .env" in errors


def test_environment_variables_are_read_as_options(
    started: list[tuple[Settings, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origins = ("https://one.example.com", "https://two.example.com")
    faults = ("status=503; operation=listVideoCalls", "delay=0.001; operation=joinVideoCall")
    monkeypatch.setenv("VIDEO_CALLS_SERVER_RATE_LIMIT", "1/day")
    monkeypatch.setenv("VIDEO_CALLS_SERVER_CORS_ORIGIN", " ".join(origins))
    monkeypatch.setenv("VIDEO_CALLS_SERVER_FAULT", "\n".join(faults))
    run("serve", cwd=tmp_path)
    ((settings, _),) = started
    assert (settings.rate_limit, settings.cors_origin, settings.fault) == ("1/day", origins, faults)


def test_secrets_of_settings_are_not_shown() -> None:
    settings = Settings(
        database="postgresql://calls:hidden@127.0.0.1:1/calls",
        jwt_algorithm="RS256",
        jwt_jwks_url="https://u:hidden@example.com",
        agora_ncs_secret="hidden",
    )
    assert "hidden" not in repr(settings)
    config = contract_toml(Settings(database=settings.database), load_seed(), "http://127.0.0.1:1")
    assert "[identities.expiring]\n# The database URL has a password" in config
    assert "hidden" not in config


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://calls:an@hidden@127.0.0.1:1/calls",
        "postgresql://127.0.0.1:1/calls?user=calls&password=hidden",
    ],
)
def test_database_name_contains_no_credentials(url: str) -> None:
    assert name_of(database_url(url)) == "postgresql://127.0.0.1:1/calls"


def test_new_database_file_is_private(make_api: Callable[..., Api], tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to("private.db")
    assert make_api(database=str(tmp_path / "link.db")).create().status_code == 201
    run("migrate", "--database", f"{tmp_path}/private.db-migrated", cwd=tmp_path)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("private.db*")}
    assert set(modes.values()) == {0o600}, modes


def test_calls_survive_restart(make_api: Callable[..., Api], tmp_path: Path) -> None:
    call = make_api(database=str(tmp_path / "calls.db")).create().json()
    again = make_api(database=f"sqlite:///{tmp_path}/calls.db")
    assert again.get("doctor").json()["results"] == [call]


def test_shutdown_does_not_wait_for_faults(serve: Callable[..., ServerProcess]) -> None:
    process = serve()
    with Control(process.url) as control, ThreadPoolExecutor() as pool:
        control.faults.add(delay=60)
        delayed = pool.submit(httpx.get, process.url + CALLS, headers=process.headers(), timeout=30)
        while not control.faults.list()[0].acted:
            continue
        process.popen.send_signal(signal.SIGINT)
        assert delayed.result().status_code == 200
    assert process.popen.wait(30) == 0


def test_unread_output_does_not_block_server(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    unread, full = os.pipe()
    os.set_blocking(full, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(full, b"x")
    os.set_blocking(full, True)
    command = [sys.executable, "-m", "video_calls_server", "serve", "--port", str(port)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=full, stderr=full) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                while True:
                    try:
                        assert client.get("/healthz").status_code == 200
                        break
                    except httpx.ConnectError:  # the server does not listen yet
                        assert process.poll() is None
                        time.sleep(0.02)
                assert {client.get("/healthz").status_code for _ in range(20)} == {200}
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
    os.close(unread)
    os.close(full)


def test_server_listens_on_ipv6(serve: Callable[..., ServerProcess]) -> None:
    process = serve("--host", "::1")
    assert httpx.get(f"{process.url}/healthz").status_code == 200


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "no such host", *OWN_OPTIONS], ["no such host", "not an address"]),
        (["--host", "0.0.0.0", "--jwt-secret", "x" * 32], ["0.0.0.0", "development secrets"]),  # noqa: S104
        (["--agora-app-id", "abc"], ["AGORA_APP_CERTIFICATE is missing"]),
        (
            ["--agora-app-id", "abc", "--agora-app-certificate", "2" * 32],
            ["app id", "32 hexadecimal digits"],
        ),
        (["--database", "/nowhere/calls.db"], ["/nowhere/calls.db", "cannot open"]),
        (["--database", "mysql://localhost/x"], ["mysql", ":memory:"]),
        (["--database", "postgresql://u:secret@h:abc/db"], ["not the URL"]),
        (["--database", "sqlite:///x.db?timeout=abc"], ["options", "timeout"]),
        (["--jwt-user-claim", "exp"], ["jwt_user_claim", "another meaning"]),
        (["--cors-origin", "https://app.example.com/"], ["cors_origin", "https://app.example.com"]),
        (["--seed", "missing.yaml"], ["missing.yaml", "cannot read"]),
        (["--jwt-secret", "short"], ["jwt_secret", "32 bytes"]),
        (["--jwt-algorithm", "RS256"], ["jwt_public_key or jwt_jwks_url"]),
        (["--jwt-algorithm", "RS256", "--jwt-public-key", "missing.pem"], ["missing.pem", "cannot read"]),
        (["--jwt-algorithm", "RS256", "--jwt-jwks-url", "id.example.com"], ["http or https URL"]),
        (["--jwt-jwks-url", "https://id.example.com/jwks"], ["jwt_algorithm to RS256 or ES256"]),
        (["--rate-limit", "many"], ["100/minute"]),
        (["--static", "missing"], ["missing is not a directory"]),
        (["--port", "70000"], ["70000", "0 to 65535"]),
        (["--pool-size", "0"], ["pool_size", "1 or more"]),
        (["--jwt-algorithm", "RS256", "--jwt-public-key", "private.pem"], ["not the PEM public key"]),
    ],
)
def test_invalid_setting_is_one_line_error(tmp_path: Path, options: list[str], words: list[str]) -> None:
    (tmp_path / "private.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    assert_one_line_error(run("serve", *options, cwd=tmp_path), *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["nobody@example.com"], ["nobody@example.com", "doctor@example.com"]),
        (["doctor@example.com", *IDENTITY_PROVIDER], ["identity provider"]),
    ],
)
def test_invalid_token_request_is_one_line_error(
    tmp_path: Path, options: list[str], words: list[str]
) -> None:
    assert_one_line_error(run("token", *options, cwd=tmp_path), *words)


def test_missing_extra_is_reported_with_install_command(tmp_path: Path) -> None:
    code = "import sys; sys.modules['litestar'] = None; from video_calls_server.command import run; run()"
    result = python("-c", code, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == (
        "video-calls-server: litestar is not installed; "
        'install the server with: pip install "video-calls[server]"\n'
    )


def test_contract_config_needs_every_identity(tmp_path: Path) -> None:
    (tmp_path / "people.yaml").write_text(ONE_DOCTOR)
    options = ["--seed", "people.yaml", "--contract-config", "http://127.0.0.1:8000/api/v1/video"]
    result = run("identities", *options, cwd=tmp_path)
    assert_one_line_error(result, "no user can be patient, other_doctor")


def test_occupied_port_is_one_line_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert_one_line_error(run("serve", "--port", str(port), cwd=tmp_path), f"port {port}", "--port")
    assert list(tmp_path.iterdir()) == []  # no database was created


# -- token and identities ---------------------------------------------------------------------------


def test_token_prints_jwt_of_seeded_user(tmp_path: Path) -> None:
    output = run("token", "Patient@example.com", "--expires-in", "15m", cwd=tmp_path).stdout.strip()
    claims = jwt.decode(output, DEVELOPMENT_JWT_SECRET, algorithms=["HS256"])
    assert (claims["user_id"], claims["exp"] - claims["iat"]) == (102, 900)


def test_token_reads_users_of_database(tmp_path: Path) -> None:
    (tmp_path / "people.yaml").write_text(ONE_DOCTOR)
    store = store_for(str(tmp_path / "video-calls.db"), load_seed(tmp_path / "people.yaml"))
    asyncio.run(store.open())
    asyncio.run(store.close())
    assert user_of(run("token", "a@example.com", cwd=tmp_path).stdout) == 7


def test_invalid_duration_is_refused(tmp_path: Path) -> None:
    result = run("token", "doctor@example.com", "--expires-in", "soon", cwd=tmp_path)
    assert result.exit_code == 2
    assert "'soon' is not a duration" in result.stderr


def test_identities_prints_table_and_json(tmp_path: Path) -> None:
    table = run("identities", cwd=tmp_path).stdout
    assert re.search(r"105\s+inactive\.doctor@example\.com\s+Inactive Doctor\s+no\s+3\s+-", table)
    people = json.loads(run("identities", "--json", cwd=tmp_path).stdout)
    dual_user = {"user": 107, "email": "dual.user@example.com", "full_name": "Dual User"}
    assert people[6] == dual_user | {"active": True, "doctor": 4, "patient": 4}


def test_contract_config_has_working_identities(server: ServerProcess, tmp_path: Path) -> None:
    base_url = f"{server.url}/api/v1/video"
    output = run("identities", "--contract-config", base_url + "/", cwd=tmp_path).stdout
    config = tomllib.loads(output)
    assert config["base_url"] == base_url
    assert set(config["agora"]) == {"app_id", "app_certificate"}
    identities = config["identities"]
    command = identities.pop("expiring")["token_command"]
    expiring = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    claims = jwt.decode(expiring.strip(), DEVELOPMENT_JWT_SECRET, algorithms=["HS256"])
    assert (claims["user_id"], claims["exp"] - claims["iat"]) == (101, 6)
    tokens = {name: identity.pop("token") for name, identity in identities.items()}
    assert identities == {
        "doctor": {"id": 1},
        "patient": {"id": 1},
        "other_doctor": {"id": 2},
        "other_patient": {"id": 2},
        "outsider": {},
        "inactive_doctor": {"id": 3},
        "inactive_patient": {"id": 3},
        "dual_user": {"doctor": 4, "patient": 4},
        "expired": {},
    }
    for name, token in tokens.items():
        answer = httpx.get(server.url + CALLS, headers={"Authorization": f"Bearer {token}"})
        is_refused = name in {"inactive_doctor", "inactive_patient", "expired"}
        assert answer.status_code == (401 if is_refused else 200), name


def test_start_imports_no_unused_package(tmp_path: Path) -> None:
    unused = {
        "pydantic",
        "attrs",
        "rich",
        "httpx",
        "video_calls_sdk",
        "prometheus_client",
        "opentelemetry.sdk",
    }
    code = (
        "import sys; from video_calls_server import Settings, create_app;"
        f"create_app(Settings(database=':memory:')); print({unused} & set(sys.modules))"
    )
    assert python("-c", code, cwd=tmp_path).stdout == "set()\n"
