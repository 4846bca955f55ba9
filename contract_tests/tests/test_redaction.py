"""Tests of redaction of secrets that a backend sends encoded or in pieces."""

import base64
import html
import json
import time
import urllib.parse

import jwt
import pytest
from video_calls_contract.redaction import Redactor

from support.sample_results import REPORTS, exchange, failed_rule, tree

TOKEN = jwt.encode(
    {"user_id": 101, "exp": 1_900_000_000}, "a secret of the tests alone, of 32 bytes and more"
)
MIDDLE = len(TOKEN) // 2
FORMS = {
    "percent": "".join(f"%{ord(one):02x}" for one in TOKEN),
    "percent twice": urllib.parse.quote("".join(f"%{ord(one):02X}" for one in TOKEN)),
    "JSON escapes": "".join(f"\\u{ord(one):04x}" for one in TOKEN),
    "HTML": "".join(f"&#{ord(one)};" if n % 2 else f"&#x{ord(one):x};" for n, one in enumerate(TOKEN)),
    "HTML of percent": html.escape("".join(f"&#37;{ord(one):02x}" for one in TOKEN)),
    "base64": base64.b64encode(f"Bearer {TOKEN}".encode()).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(f"a=b&token={TOKEN}".encode()).decode(),
    "hexadecimal": TOKEN.encode().hex(),
    "upper case": TOKEN.upper(),
    "two pieces": f"{TOKEN[:MIDDLE]}\nx-more: {TOKEN[MIDDLE:]}",
    "many pieces": " ".join(TOKEN[at : at + 5] for at in range(0, len(TOKEN), 5)),
    "characters apart": ".".join(TOKEN),
    "coloured": "".join(f"{one}\x1b[31m" for one in TOKEN),
}


def without_replacements(text: str) -> str:
    """Return the letters and digits of a redacted text."""
    return "".join(one for one in text.replace("(redacted)", "") if one.isalnum()).lower()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_token_is_redacted_in_every_form(form: str) -> None:
    redactor = Redactor()
    redactor.learn(TOKEN, "DOCTOR_TOKEN")
    text = redactor.redact(f"X-Request-ID: {form} (of the backend)")
    assert "(redacted)" in text
    assert text.startswith("X-Request-ID: ")
    assert text.endswith("(of the backend)")
    assert len(without_replacements(text)) < len("xrequestidofthebackend") + 16 + len("xmore")


def test_text_without_secret_is_unchanged() -> None:
    redactor = Redactor()
    redactor.learn(TOKEN, "DOCTOR_TOKEN")
    text = 'GET /api/v1/video/video-calls/?page=2&x=%41%42 {"note": "\\u0041 &#65; eyJhbGci", "id": 7}\x1b[0m'
    assert redactor.redact(text) == text


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_token_in_response_header_is_redacted(report: object) -> None:
    text = exchange(
        json.dumps({"error": FORMS["percent"]}).encode(),
        headers={"x-request-id": FORMS["base64"], "date": FORMS["two pieces"]},
    )
    text.redactor.learn(TOKEN, "DOCTOR_TOKEN")
    text = report(tree(failed_rule("join.window", "400", text)))  # type: ignore[operator]
    for secret in (FORMS["percent"][30:90], FORMS["base64"][20:60], TOKEN[:MIDDLE], TOKEN[MIDDLE:]):
        assert secret not in text


def test_longest_body_is_redacted_in_time() -> None:
    redactor = Redactor()
    redactor.learn(TOKEN, "DOCTOR_TOKEN")
    text = exchange(b'{"a": "' + b"%41" * 600_000 + b'"}', redactor=redactor)
    start = time.perf_counter()
    assert "1,800,009 bytes" in text.response_text
    assert time.perf_counter() - start < 2
