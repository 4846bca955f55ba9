"""A call as the API sends it."""

from typing import Any

CALL: dict[str, Any] = {
    "id": 1,
    "channel_name": "call_1704436789_5678",
    "doctor": 1,
    "patient": 1,
    "doctor_details": {"id": 1, "user": {"email": "doctor@example.com", "full_name": "Dr. John Doe"}},
    "patient_details": {"id": 1, "user": {"email": "patient@example.com", "full_name": "Jane Smith"}},
    "status": "scheduled",
    "scheduled_time": "2999-01-05T10:00:00Z",
    "started_at": None,
    "ended_at": None,
    "created_at": "2024-01-05T08:00:00Z",
    "updated_at": "2024-01-05T08:00:00Z",
}
