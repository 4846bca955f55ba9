"""Secrets that a backend reflects in other forms: encoded, in pieces, or with something in between."""

import base64
import html
import json
import time
import urllib.parse

import jwt
import pytest
from video_calls_contract.exchange import Redactor

from support.made_results import REPORTS, exchange, failed, tree

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


def remains(shown: str) -> str:
    """What is left of a text without what takes the place of secrets."""
    return "".join(one for one in shown.replace("(redacted)", "") if one.isalnum()).lower()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_reflected_token_is_redacted_in_every_form(form: str) -> None:
    redactor = Redactor()
    redactor.learn(TOKEN, "DOCTOR_TOKEN")
    shown = redactor.redact(f"X-Request-ID: {form} (of the backend)")
    assert "(redacted)" in shown
    assert shown.startswith("X-Request-ID: ")
    assert shown.endswith("(of the backend)")
    assert len(remains(shown)) < len("xrequestidofthebackend") + 16 + len("xmore")


def test_text_without_a_secret_stays_as_it_is() -> None:
    redactor = Redactor()
    redactor.learn(TOKEN, "DOCTOR_TOKEN")
    text = 'GET /api/v1/video/video-calls/?page=2&x=%41%42 {"note": "\\u0041 &#65; eyJhbGci", "id": 7}\x1b[0m'
    assert redactor.redact(text) == text


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_token_reflected_in_a_header_is_in_no_report(report: object) -> None:
    shown = exchange(
        json.dumps({"error": FORMS["percent"]}).encode(),
        headers={"x-request-id": FORMS["base64"], "date": FORMS["two pieces"]},
    )
    shown.redactor.learn(TOKEN, "DOCTOR_TOKEN")
    text = report(tree(failed("join.window", "400", shown)))  # type: ignore[operator]
    for secret in (FORMS["percent"][30:90], FORMS["base64"][20:60], TOKEN[:MIDDLE], TOKEN[MIDDLE:]):
        assert secret not in text


def test_longest_body_is_redacted_quickly() -> None:
    redactor = Redactor()
    redactor.learn(TOKEN, "DOCTOR_TOKEN")
    shown = exchange(b'{"a": "' + b"%41" * 600_000 + b'"}', redactor=redactor)
    begun = time.perf_counter()
    assert "1,800,009 bytes" in shown.response_text
    assert time.perf_counter() - begun < 2
