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
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from click.testing import CliRunner
from video_calls_server.__main__ import main
from video_calls_server.command.banner import banner
from video_calls_server.control.client import Control
from video_calls_server.settings import DEVELOPMENT_JWT_SECRET, Settings
from video_calls_server.store import store_for
from video_calls_server.store.database import database_url, name_of
from video_calls_server.store.seed import load_seed

from support.api import CALLS
from support.command import assert_one_line_error, run
from support.process import Process

APP_ID, CERTIFICATE = "0123456789abcdef" * 2, "fedcba9876543210" * 2
OWN_SECRETS = ("--jwt-secret", "x" * 32, "--agora-app-id", APP_ID, "--agora-app-certificate", CERTIFICATE)
IDENTITY_PROVIDER = ("--jwt-algorithm", "RS256", "--jwt-jwks-url", "https://id.example.com")
ONE_DOCTOR = "users: [{id: 7, email: a@example.com, full_name: A, doctor: {id: 9}}]"


def python(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run a Python program in a process of its own."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=30, check=False)


# -- serve ------------------------------------------------------------------------------------------


def test_banner_has_addresses_users_and_request(serve: Callable[..., Process]) -> None:
    process = serve()
    assert f"{process.url}/docs/" in process.banner
    assert "doctor@example.com             doctor 1" in process.banner
    assert "inactive.doctor@example.com    doctor 3, inactive" in process.banner
    line = next(line for line in process.banner.splitlines() if "curl" in line)
    response = subprocess.run(shlex.split(line), capture_output=True, check=True, timeout=10)
    assert json.loads(response.stdout)["results"] == []


def test_environment_overrides_dotenv_file(serve: Callable[..., Process], tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        f"AGORA_APP_ID={APP_ID}\nAGORA_APP_CERTIFICATE={CERTIFICATE}\nAGORA_TOKEN_VERSION=007\n"
    )
    assert join_call(serve("--database", ":memory:"))["token"].startswith("007")
    other = {"AGORA_APP_ID": APP_ID[::-1], "AGORA_TOKEN_VERSION": "006"}
    overridden = serve("--database", ":memory:", env=other)
    assert join_call(overridden)["token"].startswith(f"006{APP_ID[::-1]}")
    overridden.popen.send_signal(signal.SIGTERM)
    assert overridden.popen.stdout
    assert "will not accept" not in overridden.popen.stdout.read()


def test_dotenv_file_sets_only_server_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BROWSER", raising=False)
    (tmp_path / ".env").write_text("BROWSER=touch opened %s\nAGORA_TOKEN_VERSION=2\n")
    code = (
        "import os; from video_calls_server.__main__ import run\n"
        "try: run()\nfinally: print(os.environ.get('BROWSER'))"
    )
    result = python("-c", code, "identities", cwd=tmp_path)
    assert result.stdout == "None\n"
    assert "AGORA_TOKEN_VERSION" in result.stderr


def test_output_contains_no_database_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("video_calls_server.__main__._people", lambda _: load_seed())
    options = ["--database", "postgresql://calls:hidden@127.0.0.1:1/calls"]
    result = run("identities", "--contract-config", "http://127.0.0.1:1", *options, cwd=tmp_path)
    assert "[identities.expiring]\n# The database URL has a password" in result.stdout
    options_of_banner: list[str] = []
    monkeypatch.setattr(
        "video_calls_server.command.serving.serve",
        lambda *_, options, **__: options_of_banner.append(options),
    )
    run("serve", *options, cwd=tmp_path)
    assert options_of_banner == [' --database "$VIDEO_CALLS_SERVER_DATABASE"']
    settings = Settings(
        database=options[1], jwt_algorithm="RS256", jwt_jwks_url="https://u:hidden@example.com"
    )
    assert "hidden" not in result.output + repr(settings)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://calls:hidden@127.0.0.1:1/calls",
        "postgresql://calls:an@hidden@127.0.0.1:1/calls",
        "postgresql://127.0.0.1:1/calls?user=calls&password=hidden",
    ],
)
def test_database_name_contains_no_credentials(url: str) -> None:
    assert name_of(database_url(url)) == "postgresql://127.0.0.1:1/calls"


@pytest.mark.parametrize(
    ("secret", "bearer"), [(None, "eyJ"), ("x" * 32, "$(video-calls-server token doctor@example.com)")]
)
def test_banner_contains_only_development_tokens(secret: str | None, bearer: str) -> None:
    text = banner(Settings(jwt_secret=secret), "http://127.0.0.1", "", load_seed(), options="")
    assert f"Bearer {bearer}" in text


def test_new_database_file_is_private(serve: Callable[..., Process], tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to("private.db")
    process = serve("--database", "link.db")
    httpx.get(process.url + CALLS, headers=process.headers())
    CliRunner().invoke(main, ["migrate", "--database", f"{tmp_path}/private.db-migrated"])
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("private.db*")}
    assert set(modes.values()) == {0o600}, modes


def test_variable_may_hold_several_values(serve: Callable[..., Process]) -> None:
    origins = ("https://one.example.com", "https://two.example.com")
    faults = ("status=503; times=1; operation=listVideoCalls", "delay=0.001; operation=joinVideoCall")
    environment = {
        "VIDEO_CALLS_SERVER_CORS_ORIGIN": " ".join(origins),
        "VIDEO_CALLS_SERVER_FAULT": "\n".join(faults),
    }
    process = serve("--database", ":memory:", env=environment)
    for origin in origins:
        response = httpx.get(f"{process.url}{CALLS}", headers={"Origin": origin})
        assert response.headers["access-control-allow-origin"] == origin
    with Control(process.url) as control:
        assert [fault.operation for fault in control.faults.list()] == ["listVideoCalls", "joinVideoCall"]


def join_call(process: Process) -> dict[str, Any]:
    with httpx.Client(base_url=process.url, headers=process.headers()) as client:
        soon = datetime.now(UTC) + timedelta(minutes=5)
        body = {"doctor": 1, "patient": 1, "scheduled_time": soon.isoformat()}
        call = client.post(CALLS, json=body).raise_for_status().json()
        return client.post(f"{CALLS}{call['id']}/join/").raise_for_status().json()  # type: ignore[no-any-return]


def test_shutdown_does_not_wait_for_faults(serve: Callable[..., Process]) -> None:
    process = serve()
    with Control(process.url) as control, ThreadPoolExecutor() as pool:
        control.faults.add(delay=60)
        delayed = pool.submit(httpx.get, process.url + CALLS, headers=process.headers(), timeout=30)
        while not control.faults.list()[0].acted:
            continue
        process.popen.send_signal(signal.SIGINT)
        assert delayed.result().status_code == 200
    assert process.popen.wait(5) == 0


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_unread_output_does_not_block_server(tmp_path: Path, stream: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    unread, full = os.pipe()
    os.set_blocking(full, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(full, b"x")
    os.set_blocking(full, True)
    command = [sys.executable, "-m", "video_calls_server", "serve", "--port", str(port)]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: full}
    with subprocess.Popen(command, cwd=tmp_path, **streams) as process:  # type: ignore[call-overload]
        try:
            transport = httpx.HTTPTransport(retries=8)  # until the server listens
            with httpx.Client(transport=transport, base_url=f"http://127.0.0.1:{port}") as client:
                assert {client.get("/healthz").status_code for _ in range(20)} == {200}
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
    os.close(unread)
    os.close(full)


def test_calls_survive_restart(serve: Callable[..., Process], tmp_path: Path) -> None:
    first = serve("--database", "calls.db")
    body = {"doctor": 1, "patient": 1, "scheduled_time": "2999-01-01T00:00:00Z"}
    call = httpx.post(first.url + CALLS, json=body, headers=first.headers()).json()
    first.popen.kill()
    first.popen.wait()
    second = serve("--database", f"sqlite:///{tmp_path}/calls.db")
    assert httpx.get(second.url + CALLS, headers=second.headers()).json()["results"] == [call]


def test_server_listens_on_ipv6(serve: Callable[..., Process]) -> None:
    process = serve("--host", "::1")
    assert httpx.get(f"{process.url}/healthz").status_code == 200


def test_option_has_environment_variable(serve: Callable[..., Process], tmp_path: Path) -> None:
    process = serve(env={"VIDEO_CALLS_SERVER_DATABASE": "named.db", "VIDEO_CALLS_SERVER_RATE_LIMIT": "1/day"})
    assert (tmp_path / "named.db").exists()
    statuses = [httpx.get(process.url + CALLS, headers=process.headers()).status_code for _ in range(2)]
    assert statuses == [200, 429]
    help_text = run("serve", "--help", cwd=tmp_path).stdout
    options = re.split(r"^  (?=--)", help_text, flags=re.MULTILINE)[1:]
    assert [option.split()[0] for option in options if "[env" not in option] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "no such host", *OWN_SECRETS], ["no such host", "not an address"]),
        (["--host", "0.0.0.0"], ["0.0.0.0", "development secrets", "VIDEO_CALLS_SERVER_JWT_SECRET"]),  # noqa: S104
        (["--host", "0.0.0.0", "--jwt-secret", "x" * 32], ["development secrets"]),  # noqa: S104
        (["--agora-app-id", "abc"], ["AGORA_APP_CERTIFICATE is missing"]),
        (
            ["--agora-app-id", "abc", "--agora-app-certificate", CERTIFICATE],
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
def test_token_that_cannot_be_made_is_error(tmp_path: Path, options: list[str], words: list[str]) -> None:
    assert_one_line_error(run("token", *options, cwd=tmp_path), *words)


def test_dotenv_file_may_have_byte_order_mark(tmp_path: Path) -> None:
    secret = "of-a-file-with-a-byte-order-mark-in-it"
    (tmp_path / ".env").write_text(f"VIDEO_CALLS_SERVER_JWT_SECRET={secret}\n", encoding="utf-8-sig")
    command = ["-m", "video_calls_server", "token", "doctor@example.com"]
    result = python(*command, cwd=tmp_path)
    assert jwt.decode(result.stdout.strip(), secret, algorithms=["HS256"])["user_id"] == 101
    (tmp_path / ".env").write_bytes(b"\xff\xfe\xff")
    result = python(*command, cwd=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "cannot read .env" in result.stderr


def test_command_without_extra_names_it(tmp_path: Path) -> None:
    code = "import sys; sys.modules['litestar'] = None; from video_calls_server.command import run; run()"
    result = python("-c", code, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == (
        "video-calls-server: litestar is not installed; "
        'install the server with: pip install "video-calls[server]"\n'
    )


def test_banner_uses_seed_and_options(serve: Callable[..., Process], tmp_path: Path) -> None:
    (tmp_path / "people.yaml").write_text(ONE_DOCTOR)
    process = serve("--seed", "people.yaml", "--database", ":memory:")
    assert "a@example.com                  doctor 9" in process.banner
    assert "video-calls-server token EMAIL --database :memory: --seed people.yaml" in process.banner
    options = ["--database", ":memory:", "--seed", "people.yaml"]
    output = run("token", "a@example.com", *options, cwd=tmp_path).stdout.strip()
    response = httpx.get(process.url + CALLS, headers={"Authorization": f"Bearer {output}"})
    assert response.status_code == 200


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
    output = run("token", "a@example.com", cwd=tmp_path).stdout.strip()
    claims = jwt.decode(output, DEVELOPMENT_JWT_SECRET, algorithms=["HS256"])
    assert claims["user_id"] == 7


def test_invalid_duration_is_refused(tmp_path: Path) -> None:
    result = run("token", "doctor@example.com", "--expires-in", "soon", cwd=tmp_path)
    assert result.exit_code == 2
    assert "'soon' is not a duration" in result.stderr


def test_identities_prints_table_and_json(tmp_path: Path) -> None:
    table = run("identities", cwd=tmp_path).stdout
    assert re.search(r"105\s+inactive\.doctor@example\.com\s+Inactive Doctor\s+no\s+3\s+-", table)
    people = json.loads(run("identities", "--json", cwd=tmp_path).stdout)
    assert people[6] == {
        "user": 107,
        "email": "dual.user@example.com",
        "full_name": "Dual User",
        "active": True,
        "doctor": 4,
        "patient": 4,
    }


def test_contract_config_has_working_identities(server: Process, tmp_path: Path) -> None:
    base_url = f"{server.url}/api/v1/video"
    output = run("identities", "--contract-config", base_url + "/", cwd=tmp_path).stdout
    config = tomllib.loads(output)
    assert config["base_url"] == base_url
    assert set(config["agora"]) == {"app_id", "app_certificate"}
    identities = config["identities"]
    ids = {
        name: {key: value for key, value in entry.items() if key != "token"}
        for name, entry in identities.items()
    }
    expiring = subprocess.run(
        ids.pop("expiring")["token_command"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.strip()
    claims = jwt.decode(expiring, DEVELOPMENT_JWT_SECRET, algorithms=["HS256"])
    assert (claims["user_id"], claims["exp"] - claims["iat"]) == (101, 8)
    del identities["expiring"]
    assert ids == {
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
    statuses = {
        name: httpx.get(
            f"{base_url}/video-calls/", headers={"Authorization": f"Bearer {entry['token']}"}
        ).status_code
        for name, entry in identities.items()
    }
    refused_names = {"inactive_doctor", "inactive_patient", "expired"}
    assert statuses == {name: 401 if name in refused_names else 200 for name in identities}


def test_start_imports_no_unused_package(tmp_path: Path) -> None:
    code = (
        "import sys; from video_calls_server import Settings, create_app;"
        "create_app(Settings(database=':memory:'));"
        "print({'pydantic', 'attrs', 'rich', 'httpx', 'video_calls_sdk'} & set(sys.modules))"
    )
    assert python("-c", code, cwd=tmp_path).stdout.strip() == "set()"


def test_version_and_help_are_printed(tmp_path: Path) -> None:
    assert re.search(r"\d+\.\d+\.\d+", run("--version", cwd=tmp_path).stdout)
    assert "identities" in run("--help", cwd=tmp_path).stdout
