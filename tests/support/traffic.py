"""Calls, events and tokens for tests with recorded traffic."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from support.payloads import CALL

NOW = datetime.now(UTC).replace(microsecond=0)
DETAILS = CALL["patient_details"]


def iso(seconds: float = 0) -> str:
    return (NOW + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def jwt(user: int = 1, lasts: float = 3600) -> str:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'HS256'})}.{part({'user_id': user, 'exp': NOW.timestamp() + lasts})}.signature"


def call(call_id: int = 7, **changes: Any) -> dict[str, Any]:
    times = {"scheduled_time": iso(600), "created_at": iso(), "updated_at": iso()}
    return {**CALL, "id": call_id, "channel_name": f"call_{call_id}_8362910475", **times, **changes}


ONGOING = {"status": "ongoing", "started_at": iso(2), "updated_at": iso(2)}


def event(kind: str = "call.started", number: str = "1", **changes: Any) -> str:
    record = call(**{**ONGOING, **changes})
    return json.dumps({"id": number, "type": kind, "created_at": iso(2), "data": {"call": record}})
