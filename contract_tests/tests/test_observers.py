"""Tests of the observers, which check every exchange."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from video_calls_contract.clock import BackendClock
from video_calls_contract.config import Agora
from video_calls_contract.observers.registry import Observers

from support.fake_backend import CALL
from support.sample_results import exchange

DETAILS = {"id": 1, "user": {"email": "a@b.example", "full_name": "A B"}}
WHOLE = {
    **CALL,
    "doctor_details": DETAILS,
    "patient_details": DETAILS,
    "started_at": None,
    "ended_at": None,
    "created_at": "2030-01-01T00:00:00Z",
    "updated_at": "2030-01-01T00:00:00Z",
}
JOIN = {
    "channel_name": "call_1",
    "token": "006" + "a" * 60,
    "uid": 7,
    "expiration_time": "2030-01-01T01:00:00Z",
}
PAGE = {"count": 1, "next": None, "previous": None, "results": [WHOLE]}
ANSWERS: dict[str, tuple[int, dict[str, Any]]] = {
    "createVideoCall": (201, WHOLE),
    "getVideoCall": (200, WHOLE),
    "listVideoCalls": (200, PAGE),
    "joinVideoCall": (200, JOIN),
}
OTHER_TYPES: list[Any] = [None, True, 5, 1.5, "x", [], [1], {}, {"id": 1}]


def observers_of(operation: str, body: object) -> Observers:
    observers = Observers(BackendClock(), Agora(), lambda _id: True)
    now = datetime.now(UTC)
    observers.watch(
        exchange(
            json.dumps(body).encode(),
            status=ANSWERS[operation][0],
            operation=operation,
            sent_at=now - timedelta(seconds=1),
            received_at=now,
        )
    )
    return observers


@pytest.mark.parametrize("operation", ANSWERS)
def test_field_of_another_type_is_a_finding(operation: str) -> None:
    _, whole = ANSWERS[operation]
    assert not observers_of(operation, whole).findings["model.schema"]
    for name in whole:
        findings = [observers_of(operation, {**whole, name: value}).findings for value in OTHER_TYPES]
        assert findings[OTHER_TYPES.index({})]["model.schema"], name
