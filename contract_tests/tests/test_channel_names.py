import hashlib
import secrets
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from video_calls_contract.channel_names import how_predictable

NOW = datetime(2024, 1, 5, 8, 0, tzinfo=UTC)


def calls(name: Callable[[dict[str, Any]], str], count: int = 24) -> list[dict[str, Any]]:
    """Return calls created one after the other, with these channel names."""
    created: list[dict[str, Any]] = []
    for number in range(count):
        call: dict[str, Any] = {
            "id": 500 + 3 * number,
            "doctor": 1,
            "patient": 7,
            "number": number,
            "created_at": (NOW + timedelta(milliseconds=35 * number)).isoformat(),
            "scheduled_time": (NOW + timedelta(days=40, hours=3 * number)).isoformat(),
        }
        created.append(call | {"channel_name": name(call)})
    return created


def distinct(name: Callable[[dict[str, Any]], str]) -> Callable[[dict[str, Any]], str]:
    """Return a function that draws again if a name exists, as a backend with short random parts must."""
    names: set[str] = set()

    def draw(call: dict[str, Any]) -> str:
        while (text := name(call)) in names:
            pass
        names.add(text)
        return text

    return draw


def second(call: dict[str, Any], name: str = "created_at") -> int:
    return int(datetime.fromisoformat(call[name]).timestamp())


def micros(call: dict[str, Any]) -> int:
    return int(datetime.fromisoformat(call["created_at"]).timestamp() * 1_000_000)


@pytest.mark.parametrize(
    "name",
    [
        lambda call: f"call_{second(call)}_{secrets.randbelow(9000) + 1000}",
        lambda call: f"call_{call['id']}_{secrets.token_hex(4)}",
        lambda _: f"call-{secrets.token_urlsafe(12)}",
        lambda _: str(uuid.uuid4()),
        lambda call: f"{second(call)}{secrets.randbelow(10**6):06d}",
        lambda call: f"room-{call['doctor']}-{call['patient']}-{secrets.token_hex(3)}",
        lambda call: f"{micros(call):x}-{secrets.token_hex(4)}",
    ],
    ids=[
        "document",
        "id and hex",
        "urlsafe",
        "uuid",
        "one number",
        "pair",
        "time hex",
    ],
)
def test_random_channel_names_are_not_predictable(name: Callable[[dict[str, Any]], str]) -> None:
    assert how_predictable(calls(distinct(name))) == ""


@pytest.mark.parametrize(
    "name",
    [
        lambda call: f"call_{call['id']}",
        lambda call: f"call_{call['number']:08x}",
        lambda call: f"call_{second(call)}_{call['id']}",
        lambda call: f"call_{second(call, 'scheduled_time')}_{call['doctor']}_{call['patient']}",
        lambda call: f"call_{micros(call)}",
        lambda call: hashlib.md5(str(call["number"]).encode(), usedforsecurity=False).hexdigest(),
        lambda call: f"call_{hashlib.sha256(str(call['id']).encode()).hexdigest()[:12]}",
        lambda call: "call_" + hashlib.sha1(b"call_%d" % call["id"], usedforsecurity=False).hexdigest(),
        lambda _: "consultation",
        lambda call: f"call_{call['created_at'][:10].replace('-', '')}_{call['id']}",
    ],
    ids=[
        "id", "hex counter", "time and id", "slot and pair", "microseconds", "md5 of counter", "sha256 cut",
        "sha1", "constant", "date and id",
    ],
)  # fmt: skip
def test_derived_channel_names_are_predictable(name: Callable[[dict[str, Any]], str]) -> None:
    assert how_predictable(calls(name)) != ""
