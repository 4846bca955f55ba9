from typing import Any

import pytest
from video_calls_contract.private_data import in_body, in_error

CERTIFICATE = "5CFd2fd1755d40ecb72977518be15d3b"


def call(**details: Any) -> dict[str, Any]:
    user = {"email": "doctor@example.com", "full_name": "Dr. John Doe"}
    return {
        "id": 1,
        "channel_name": "call_4539148803436467_1",
        "doctor_details": {"id": 1, "user": user, **details},
        "scheduled_time": "2024-01-05T10:00:00Z",
    }


@pytest.mark.parametrize(
    "details",
    [
        {"specialization": {"id": 1, "name": "Secretary of surgery"}, "rating": 4.8},
        {"avatar_url": "https://cdn.example.com/4f3c2b1a-0000-4000-8000-123456789012.png"},
        {"has_password": True, "password_changed": False, "secretary": "Ms. Miller", "ssn": None},
        {"license_number": "GMC 1234567", "npi": "1234567893", "certificates": ["Board certified"]},
        {"card_number": "•••• •••• ••••", "created": 1704436789123456, "tokens_of_appreciation": None},
        {"description": "Sees patients with allergies, and their tokens of thanks."},
    ],
)
def test_harmless_field_is_no_finding(details: dict[str, Any]) -> None:
    assert list(in_body(call(**details), [CERTIFICATE])) == []


@pytest.mark.parametrize(
    "details",
    [
        {"password": "pbkdf2_sha256$600000$abc$def"},
        {"passwordHash": "x1y2"},
        {"auth": {"reset_token": "abc"}},
        {"national_id": "AB123456C"},
        {"medical_history": ["asthma"]},
        {"creditCard": {"brand": "visa"}},
        {"note": "$2b$12$EixZaYVK1fsbw1ZfbX3OXePaWxn96p36WQoeG6Lruj3vjPGga31lW"},
        {"note": "078-05-1120"},
        {"note": "4539 1488 0343 6467"},
        {"note": "DE89 3704 0044 0532 0130 00"},
        {"note": "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjoxMDF9.c2lnbmF0dXJl"},
        {"note": "-----BEGIN RSA PRIVATE KEY-----"},
        {"note": f"signed with {CERTIFICATE}"},
    ],
    ids=lambda details: str(details)[:40],
)
def test_sensitive_field_is_a_finding(details: dict[str, Any]) -> None:
    assert list(in_body(call(**details), [CERTIFICATE])) != []


@pytest.mark.parametrize(
    "text",
    [
        '{"error": "This call is not scheduled to start yet"}',
        '{"error": "Not Found: /api/v1/video/video-calls/1/nothing/"}',
        '{"error": "Select a doctor from the list", "fields": {"doctor": ["invalid"]}}',
        '{"error": "Method \\"PUT\\" not allowed."}',
        '{"error": "/usr/bin/oops"}',
        '{"error": "No call 4539148803436468", "account": "DE88370400440532013000"}',
    ],
)
def test_plain_error_is_no_finding(text: str) -> None:
    assert list(in_error(text, 'sent {"doctor": "/usr/bin/oops"}', {"jane@example.com"}, [CERTIFICATE])) == []


@pytest.mark.parametrize(
    "text",
    [
        'Traceback (most recent call last):\\n  File "x.py", line 3',
        '{"error": "SELECT id FROM video_calls WHERE id = 1"}',
        '{"error": "psycopg2.errors.UniqueViolation"}',
        '{"error": "no such file: /home/app/db.sqlite3"}',
        '{"error": "the doctor is busy with Jane@example.com"}',
        '{"error": "postgres://user:pw@db/app is down"}',
        f'{{"error": "{CERTIFICATE}"}}',
        '{"error": "Card 4539 1488 0343 6467 was declined"}',
        '{"error": "DE89 3704 0044 0532 0130 00 has no credit"}',
    ],
)
def test_error_with_internal_details_is_a_finding(text: str) -> None:
    assert list(in_error(text, "", {"jane@example.com"}, [CERTIFICATE])) != []
