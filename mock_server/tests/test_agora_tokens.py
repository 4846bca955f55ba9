"""Tokens, held byte for byte against those that Agora's own packages make."""

import base64
import json
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from video_calls_server.agora.tokens import (
    DEVELOPMENT_PROJECT,
    PUBLISHER,
    AgoraProject,
    Service,
    mint,
    pack_006,
    pack_007,
)

FILE = Path(__file__).parents[2] / "sdk/tests/data/agora_vectors.json"
VECTORS = json.loads(FILE.read_text(encoding="utf-8"))


def account(vector: dict[str, Any]) -> str:
    """The uid as it is signed: an integer 0 stands for any uid and is signed as nothing."""
    return "" if vector["uid"] == 0 and vector["uid_type"] == "int" else str(vector["uid"])


def privileges_006(vector: dict[str, Any]) -> dict[int, int]:
    if "privileges" in vector:
        return {int(key): lapse for key, lapse in vector["privileges"].items()}
    granted = [1] if vector["role_name"] == "subscriber" else PUBLISHER
    return dict.fromkeys(granted, vector["privilege_expire_ts"])


@pytest.mark.rule("join.token-format", "join.token-signature")
@pytest.mark.parametrize("vector", VECTORS["v006"], ids=lambda vector: vector["id"])
def test_006_tokens_are_those_of_agoras_packages(vector: dict[str, Any]) -> None:
    project = AgoraProject(vector["app_id"], vector["app_certificate"])
    token = pack_006(
        project,
        vector["channel"],
        account(vector),
        privileges_006(vector),
        salt=vector["salt"],
        ts=vector["ts"],
    )
    assert token == vector["token"]


@pytest.mark.parametrize("vector", VECTORS["v007"], ids=lambda vector: vector["id"])
def test_007_tokens_hold_what_agoras_packages_write(vector: dict[str, Any]) -> None:
    services = [
        Service(
            service["type"],
            {int(key): lapse for key, lapse in service["privileges"].items()},
            (service["user_id"],) if "user_id" in service else (vector["channel"], account(vector)),
        )
        for service in vector["services"]
    ]
    token = pack_007(
        AgoraProject(vector["app_id"], vector["app_certificate"]),
        services,
        salt=vector["salt"],
        issued_at=vector["issue_ts"],
        lifetime=vector["expire"],
    )
    assert token.startswith("007")
    assert zlib.decompress(base64.b64decode(token[3:])).hex() == vector["inflated_hex"]


@pytest.mark.parametrize("version", ["006", "007"])
def test_a_minted_token_lapses_in_an_hour_of_real_time(version: Any) -> None:
    before = int(time.time())
    minted = mint(DEVELOPMENT_PROJECT, version, channel="call_1704436789_5678", uid=123)
    assert before + 3600 <= minted.expires_at.timestamp() <= int(time.time()) + 3600
    assert minted.token.startswith(version)


@pytest.mark.parametrize(
    ("app_id", "certificate"),
    [
        ("g" * 32, "0" * 32),
        ("0" * 32, "0" * 33),
        ("0" * 32, "0" * 31 + "\n"),
        ("0" * 31 + "\N{ARABIC-INDIC DIGIT ONE}", "0" * 32),
    ],
)
def test_a_malformed_agora_project_is_refused(app_id: str, certificate: str) -> None:
    with pytest.raises(ValueError, match="32 hexadecimal digits"):
        AgoraProject(app_id, certificate)


@pytest.mark.parametrize("channel", ["", "a" * 64, "café", "line\n", "slash/"])
def test_a_channel_that_agora_would_not_take_is_refused(channel: str) -> None:
    with pytest.raises(ValueError, match="channel"):
        mint(DEVELOPMENT_PROJECT, "006", channel=channel, uid=1)


@pytest.mark.parametrize("uid", [0, 2**32])
def test_a_uid_that_agora_would_not_take_is_refused(uid: int) -> None:
    with pytest.raises(ValueError, match="uid"):
        mint(DEVELOPMENT_PROJECT, "006", channel="call_1", uid=uid)


def test_every_character_that_agora_allows_can_be_in_a_channel() -> None:
    mint(DEVELOPMENT_PROJECT, "006", channel=" !#$%&()+-:;<=.>?@[]^_{}|~,", uid=2**32 - 1)


def test_secrets_stay_out_of_reprs() -> None:
    minted = mint(DEVELOPMENT_PROJECT, "006", channel="call_1", uid=1)
    assert minted.token not in repr(minted)
    assert DEVELOPMENT_PROJECT.app_certificate not in repr(DEVELOPMENT_PROJECT)
