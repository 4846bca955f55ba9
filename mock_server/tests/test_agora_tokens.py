"""Agora tokens, compared byte by byte with those of Agora's own packages."""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from video_calls_server.agora.tokens import (
    DEVELOPMENT_PROJECT,
    PUBLISHER,
    AgoraProject,
    mint,
    pack_006,
    pack_007,
)

FILE = Path(__file__).parents[2] / "sdk/tests/data/agora_vectors.json"
VECTORS = json.loads(FILE.read_text(encoding="utf-8"))
# The server mints tokens of one service: voice and video calls.
VECTORS_OF_CALLS = [
    vector for vector in VECTORS["v007"] if [service["type"] for service in vector["services"]] == [1]
]


def account(vector: dict[str, Any]) -> str:
    """Return the uid as it is signed. An integer 0 means any uid and is signed as an empty text."""
    return "" if vector["uid"] == 0 and vector["uid_type"] == "int" else str(vector["uid"])


def privileges_006(vector: dict[str, Any]) -> dict[int, int]:
    if "privileges" in vector:
        return {int(key): expiry for key, expiry in vector["privileges"].items()}
    privileges = [1] if vector["role_name"] == "subscriber" else PUBLISHER
    return dict.fromkeys(privileges, vector["privilege_expire_ts"])


@pytest.mark.rule("join.token-format", "join.token-signature")
@pytest.mark.parametrize("vector", VECTORS["v006"], ids=lambda vector: vector["id"])
def test_006_token_equals_token_of_agora_package(vector: dict[str, Any]) -> None:
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


@pytest.mark.parametrize("vector", VECTORS_OF_CALLS, ids=lambda vector: vector["id"])
def test_007_token_content_equals_content_of_agora_package(vector: dict[str, Any]) -> None:
    token = pack_007(
        AgoraProject(vector["app_id"], vector["app_certificate"]),
        vector["channel"],
        account(vector),
        {int(key): expiry for key, expiry in vector["services"][0]["privileges"].items()},
        salt=vector["salt"],
        issued_at=vector["issue_ts"],
        lifetime=vector["expire"],
    )
    assert token.startswith("007")
    assert zlib.decompress(base64.b64decode(token[3:])).hex() == vector["inflated_hex"]


@pytest.mark.parametrize(
    ("app_id", "certificate"),
    [
        ("g" * 32, "0" * 32),
        ("0" * 32, "0" * 31 + "\n"),
        ("0" * 31 + "\N{ARABIC-INDIC DIGIT ONE}", "0" * 32),
    ],
)
def test_malformed_agora_project_is_refused(app_id: str, certificate: str) -> None:
    with pytest.raises(ValueError, match="32 hexadecimal digits"):
        AgoraProject(app_id, certificate)


@pytest.mark.parametrize(
    ("channel", "uid", "name"),
    [(channel, 1, "channel") for channel in ("", "a" * 64, "café", "line\n", "slash/")]
    + [("call_1", uid, "uid") for uid in (0, 2**32)],
)
def test_mint_with_invalid_channel_or_uid_is_refused(channel: str, uid: int, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        mint(DEVELOPMENT_PROJECT, "006", channel=channel, uid=uid)


def test_mint_accepts_every_allowed_character() -> None:
    mint(DEVELOPMENT_PROJECT, "006", channel=" !#$%&()+-:;<=.>?@[]^_{}|~,", uid=2**32 - 1)


def test_repr_hides_token_and_certificate() -> None:
    minted = mint(DEVELOPMENT_PROJECT, "006", channel="call_1", uid=1)
    assert minted.token not in repr(minted)
    assert DEVELOPMENT_PROJECT.app_certificate not in repr(DEVELOPMENT_PROJECT)
