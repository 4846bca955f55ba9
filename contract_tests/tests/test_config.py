"""Tests of the configuration."""

import re
import sys
from datetime import time, timedelta
from pathlib import Path

import pytest
from video_calls_contract.config import TEMPLATE, ConfigError, parse_config, read_config

TWO = """
[identities.doctor]
id = 1
token = "d"
[identities.patient]
id = 2
token = "p"
"""
URL = 'base_url = "https://x.example/api/v1/video"\n'


def test_template_is_valid_with_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCTOR_TOKEN", "one")
    monkeypatch.setenv("PATIENT_TOKEN", "two")
    config = parse_config(TEMPLATE, "template")
    assert [identity.token for identity in config.identities.values()] == ["one", "two"]


def test_uncommented_template_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = TEMPLATE.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("base_url"))
    settings = [
        line.removeprefix("# ") for line in lines[start:] if "=" in line or line.startswith(("[", "# ["))
    ]
    for variable in re.findall(r"\$\{(\w+)\}", "\n".join(settings)):
        monkeypatch.setenv(variable, "a" * 32)
    config = parse_config("\n".join(settings), "template")
    assert len(config.identities) == 10
    assert config.agora.app_id == "a" * 32
    assert config.booking.furthest == timedelta(days=90)


def test_booking_hours_are_strings_or_times() -> None:
    for hours in ('["08:00", "16:30"]', "[08:00:00, 16:30:00]"):
        booking = parse_config(f"{URL}{TWO}[booking]\nhours = {hours}", "c").booking
        assert booking.hours == (time(8), time(16, 30))


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ('hours = ["08:00"]', "first and the last start"),
        ('weekdays = ["monday"]', "from mon, tue, wed"),
        ('timezone = "Berlin"', "unknown time zone 'Berlin'"),
        ("days_ahead = 0", "an integer from 1"),
        ("step_minutes = true", "an integer from 1"),
        ("opens = 8", "unknown"),
    ],
)
def test_invalid_booking_setting_is_named(setting: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        parse_config(f"{URL}{TWO}[booking]\n{setting}", "c")
    assert f"booking.{setting.split(maxsplit=1)[0]}" in str(caught.value)


def test_id_may_be_an_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCTOR", "9f0c2b7e-5d1a-4c3b-8a60-1e2f3a4b5c6d")
    config = parse_config(URL + TWO.replace("id = 1", 'id = "${DOCTOR}"').replace("id = 2", 'id = "2"'), "c")
    assert config.identities["doctor"].doctor == "9f0c2b7e-5d1a-4c3b-8a60-1e2f3a4b5c6d"
    assert config.identities["patient"].patient == "2"


def token_of_command(command: str) -> str | None:
    """Return the doctor's token if `token_command` has this TOML value."""
    text = URL + TWO.replace('token = "d"', f"token_command = {command}")
    return parse_config(text, "c").identities["doctor"].token


def test_environment_variables_in_token_command_are_expanded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEST_USER", "it's-$HOME")
    monkeypatch.delenv("NOT_SET_ANYWHERE", raising=False)
    assert token_of_command('["printf", "%s", "of-${TEST_USER}"]') == "of-it's-$HOME"
    assert token_of_command('"echo of-${TEST_USER}${NOT_SET_ANYWHERE}"') == "of-it's-$HOME"
    assert token_of_command("\"printf %s '${TEST_USER}'\"") == "${TEST_USER}"


def test_missing_variable_in_token_command_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"identities\.expiring\.token_command: .*NOT_SET_ANYWHERE is not set"
    ):
        parse_config(expiring("print('${NOT_SET_ANYWHERE}')"), "c")


def expiring(*words: str) -> str:
    return f"{URL}{TWO}[identities.expiring]\ntoken_command = {[sys.executable, '-c', *words]!r}"


def test_expiring_token_command_runs_on_demand(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    config = parse_config(expiring(f"open({str(marker)!r}, 'a').write('x'); print('of-now')"), "c")
    assert not marker.exists()
    identity = config.identities["expiring"]
    assert identity.token is None
    assert identity.command
    assert identity.command.token() == "of-now"
    assert marker.read_text() == "x"


def test_base_url_option_replaces_configuration() -> None:
    assert parse_config(URL + TWO, "c", base_url="http://y.example/").base_url == "http://y.example"
    assert parse_config(TWO, "c", base_url="http://y.example/").base_url == "http://y.example"


def test_repr_has_no_secrets() -> None:
    text = repr(parse_config(URL + f'agora.app_certificate = "{"c" * 32}"\n' + TWO, "c"))
    assert "'d'" not in text
    assert "c" * 32 not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base_url = ", "not valid TOML"),
        (TWO, "base_url is missing"),
        (URL, r"no \[identities.doctor\]"),
        ('base_url = "ftp://x"' + TWO, "'ftp://x' is not an http"),
        ('base_url = "https://x:port/"' + TWO, "is not an http"),
        ('base_url = "https://me:secret@x/"' + TWO, "user name or password"),
        (URL + TWO + "[identities.doktor]\nid = 1", "identities.doktor: unknown"),
        (URL + TWO.replace('token = "d"', 'token = "${NOT_SET_ANYWHERE}"'), "NOT_SET_ANYWHERE is not set"),
        (URL + TWO.replace('token = "d"', ""), "identities.doctor.token: is missing"),
        (URL + TWO.replace('token = "d"', 'token = "two words"'), "has characters that no token has"),
        (URL + TWO.replace('token = "d"', 'token = "x"\ntoken_command = "y"'), "not both"),
        (URL + TWO.replace('token = "d"', 'token_command = "echo no >&2; exit 3"'), "status 3: no"),
        (URL + TWO.replace('token = "d"', 'token_command = ["/no/such/command"]'), "could not be run"),
        (URL + TWO + '[identities.expiring]\ntoken = "x"', "token_command: is missing"),
        (URL + TWO + "[identities.expiring]\ntoken_command = []", "a shell command, or a list"),
        (URL + TWO.replace("id = 1", "id = true"), "must be a positive integer, or a string"),
        (URL + TWO.replace("id = 1", 'id = "../1"'), "must be a positive integer, or a string"),
        (URL + TWO.replace("id = 1", ""), "identities.doctor.id: is missing"),
        (URL + 'agora.app_id = "short"' + TWO, "32 hexadecimal digits"),
    ],
)
def test_invalid_configuration_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(text, "c")


def test_error_has_no_password_of_the_url() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config('base_url = "https://me:secret@x/"' + TWO, "c")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_configuration_with_byte_order_mark_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "contract.toml").write_text(URL + TWO + "# Zoë", encoding=encoding)
    assert read_config(tmp_path / "contract.toml").identities["doctor"].token == "d"


def test_configuration_in_other_encoding_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "contract.toml").write_text(URL + TWO, encoding="utf-16-le")
    with pytest.raises(ConfigError, match=r"contract\.toml: .*UTF-16.*save it as UTF-8"):
        read_config(tmp_path / "contract.toml")
