"""Check that the shown parts of requests and responses contain no secret, in whatever form."""

import json

import pytest
from video_calls_spec.redaction import is_secret, redact

SECRET = "s3cr3t-value"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjoxMDF9.c2lnbmF0dXJl"
AGORA = f"006{'0123456789abcdef' * 2}IAB/x+y=="
ENCODED_JWT = JWT.replace("eyJ", "%65%79J", 1).replace(".", "%2E")


@pytest.mark.parametrize(
    "text",
    [
        f"/calls/?access_token={SECRET}&page=2",
        f"/calls/?%61pi%5Fkey={SECRET}",
        f"/calls/{ENCODED_JWT}/?page=2",
        JWT.replace(".", "%2E"),
        f"/calls/?x={ENCODED_JWT.replace('%', '%25')}",
        f"https://example.com/?state={AGORA.replace('/', '%2F')}",
        f'{{"client_secret": "{SECRET}", "doctor": 1}}',
        f'{{"t\\u006fken": "{SECRET}"}}',
        f'{{"tokens": ["{SECRET}", "{SECRET}"]}}',
        f'{{"note": "{JWT}"}}',
        f'{{"note": "\\u0065{JWT[1:]}"}}',
        f'{{"note": "{AGORA.replace("/", chr(92) + "/")}"}}',
        f'{{"password": "{SECRET}',
        f"username=jane&password={SECRET}",
        f"Bearer {JWT}",
        f'{{"note": "not bearer {SECRET}"}}',
        JWT.rpartition(".")[0],
    ],
)
def test_secrets_of_every_form_are_redacted(text: str) -> None:
    redacted = redact(text)
    assert "(redacted)" in redacted
    for secret in (SECRET, JWT, JWT[10:], JWT[-8:], ENCODED_JWT, AGORA[:40], AGORA[-6:]):
        assert secret not in redacted


@pytest.mark.parametrize(
    "text",
    [
        '{"doctor": 1, "note": "it\'s \\"quoted\\" \\u00e9 $HOME", "scheduled_time": "2030-01-05T10:00:00Z"}',
        '{"expiration_time": 1704453600, "uid": 101, "channel_name": "call_1704447600_8273645"}',
        "/api/v1/video/video-calls/?page_size=1&x={a,b}[1-3]&q=100%25",
        '\x00\ufffd not json: "open',
        'Bearer realm="api"',
    ],
)
def test_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


def test_redacted_json_is_still_json() -> None:
    body = {"token": SECRET, "pin_token": 1234, "uid": 7, "keys": [SECRET], "jwt": None}
    redacted = redact(json.dumps(body))
    assert json.loads(redacted) == {
        "token": "(redacted)",
        "pin_token": "(redacted)",
        "uid": 7,
        "keys": ["(redacted)"],
        "jwt": None,
    }


def test_names_of_secrets_are_known() -> None:
    for name in (
        "Authorization", "Proxy-Authorization", "X-Api-Key", "Set-Cookie", "X-CSRF-Token", "clientSecret",
        "password", "refresh", "sessionid", "Video-Calls-Control-Key",
    ):  # fmt: skip
        assert is_secret(name), name
    for name in (
        "Idempotency-Key",
        "idempotency_key",
        "Sec-WebSocket-Key",
        "keyword",
        "author",
        "Content-Type",
        "doctor",
        "uid",
    ):
        assert not is_secret(name), name


def test_long_text_is_redacted_in_linear_time() -> None:
    for unit in ("a", '"', "\\", "=", "%", "eyJ", "eyJ.", '"a":', "00" + "6"):
        text = unit * (65_536 // len(unit))
        assert len(redact(text)) <= len(text) * 12
