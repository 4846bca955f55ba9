"""Reading and verifying Agora tokens, compared with tokens of Agora's own packages."""

import base64
import copy
import doctest
import itertools
import json
import pickle
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from video_calls_sdk import NaiveDatetimeError, VideoCallsError, agora
from video_calls_sdk.agora import InvalidTokenError, Privilege, TokenInfo, inspect_token

VECTORS = json.loads((Path(__file__).parent / "data" / "agora_vectors.json").read_text(encoding="utf-8"))
ALL = VECTORS["v006"] + VECTORS["v007"]


def vector_of(name: str) -> dict[str, Any]:
    return next(vector for vector in ALL if vector["id"] == name)


REPRESENTATIVES = ["006-pub-uid-123", "006-pub-uid-0", "007-pub-uid-123", "007-published-rtc-rtm"]

some = pytest.mark.parametrize("vector", [*map(vector_of, REPRESENTATIVES)], ids=lambda vector: vector["id"])


def account(vector: dict[str, Any]) -> str:
    """Return the uid as it is signed. An integer 0 means any uid and is signed as an empty text."""
    return "" if vector["uid"] == 0 and vector["uid_type"] == "int" else str(vector["uid"])


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def verified(info: TokenInfo, vector: dict[str, Any]) -> bool:
    return info.verify(vector["app_certificate"], channel_name=vector["channel"], uid=vector["uid"])


def flips(data: bytes) -> Iterator[bytes]:
    """Yield the data with one bit flipped, for each bit."""
    for index in range(len(data)):
        for bit in range(8):
            yield data[:index] + bytes([data[index] ^ 1 << bit]) + data[index + 1 :]


def string(data: bytes) -> bytes:
    return struct.pack("<H", len(data)) + data


def token_006(content: bytes, app_id: str = "0" * 32) -> str:
    return "006" + app_id + base64.b64encode(content).decode()


def token_007(content: bytes) -> str:
    return "007" + base64.b64encode(zlib.compress(content)).decode()


def content_007(*services: bytes, count: int | None = None, app_id: bytes = b"0" * 32) -> bytes:
    head = string(bytes(32)) + string(app_id) + struct.pack("<III", 1704436789, 3600, 1)
    return head + struct.pack("<H", len(services) if count is None else count) + b"".join(services)


def service(number: int, privileges: dict[int, int], *names: str) -> bytes:
    allowed = b"".join(struct.pack("<HI", key, seconds) for key, seconds in privileges.items())
    return struct.pack("<HH", number, len(privileges)) + allowed + b"".join(string(n.encode()) for n in names)


RTC = service(1, {1: 3600}, "call_1", "123")
RTM = service(2, {1: 60}, "test_user")
CHAT = service(5, {1: 3600}, "a user of chat")


# -- Reading ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS["v006"], ids=lambda vector: vector["id"])
def test_006_token_has_values_of_test_vector(vector: dict[str, Any]) -> None:
    info = inspect_token(vector["token"])
    if "privileges" in vector:
        allowed = {int(key): expiry for key, expiry in vector["privileges"].items()}
    else:
        keys = [1] if vector["role_name"] == "subscriber" else [1, 2, 3, 4]
        allowed = dict.fromkeys(keys, vector["privilege_expire_ts"])
    assert (info.version, info.app_id, info.salt) == ("006", vector["app_id"], vector["salt"])
    assert (info.issued_at, info.expires_at) == (None, at(vector["ts"]))
    assert info.privileges == {key: at(expiry or vector["ts"]) for key, expiry in allowed.items()}
    assert info.channel_crc == zlib.crc32(vector["channel"].encode())
    assert info.uid_crc == zlib.crc32(account(vector).encode())
    assert (info.channel_name, info.account) == (None, None)


@pytest.mark.parametrize("vector", VECTORS["v007"], ids=lambda vector: vector["id"])
def test_007_token_has_values_of_test_vector(vector: dict[str, Any]) -> None:
    info = inspect_token(vector["token"])
    issued, expires = vector["issue_ts"], vector["issue_ts"] + vector["expire"]
    allowed = {int(key): value for key, value in vector["services"][0]["privileges"].items()}
    assert (info.version, info.app_id, info.salt) == ("007", vector["app_id"], vector["salt"])
    assert (info.issued_at, info.expires_at) == (at(issued), at(expires))
    assert (info.channel_name, info.account) == (vector["channel"], account(vector))
    assert (info.channel_crc, info.uid_crc) == (None, None)
    assert info.privileges == {key: at(issued + n) if n else at(expires) for key, n in allowed.items()}
    assert all(isinstance(key, Privilege) for key in info.privileges)


@pytest.mark.parametrize("services", [(RTC, CHAT), (RTM, RTC)])
def test_rtc_service_is_read_among_other_services(services: tuple[bytes, ...]) -> None:
    info = inspect_token(token_007(content_007(*services)))
    assert (info.channel_name, info.account) == ("call_1", "123")
    assert info.allows(Privilege.JOIN_CHANNEL, at(1704436789))


@pytest.mark.parametrize("other", [RTM, CHAT])
def test_token_without_rtc_has_no_channel(other: bytes) -> None:
    info = inspect_token(token_007(content_007(other)))
    assert (info.channel_name, info.account, info.privileges) == (None, None, {})
    assert not info.is_for_channel("")
    assert not info.is_for_uid(0)


def test_unknown_privilege_is_read_as_its_number() -> None:
    info = inspect_token(token_007(content_007(service(1, {1: 0, 9: 60}, "call_1", "123"))))
    assert info.privileges == {Privilege.JOIN_CHANNEL: info.expires_at, 9: at(1704436789 + 60)}


def test_007_token_with_latest_expiry_is_read() -> None:
    latest = 2**32 - 1
    content = string(bytes(32)) + string(b"0" * 32) + struct.pack("<IIIH", latest, latest, 1, 1)
    info = inspect_token(token_007(content + service(1, {1: latest}, "call_1", "123")))
    assert info.expires_at == info.privileges[1] == at(2 * latest)


# -- Verifying --------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", ALL, ids=lambda vector: vector["id"])
def test_token_verifies_only_its_channel_and_uid(vector: dict[str, Any]) -> None:
    info = inspect_token(vector["token"])
    certificate, channel = vector["app_certificate"], vector["channel"]
    assert verified(info, vector)
    assert info.is_for_channel(channel)
    assert info.is_for_uid(vector["uid"])
    assert not info.verify(certificate[::-1], channel_name=channel, uid=vector["uid"])
    assert not info.verify(certificate, channel_name=f"{channel}x", uid=vector["uid"])
    assert not info.verify(certificate, channel_name=channel, uid=f"{account(vector)}1")
    assert info.is_for_uid(0) == (account(vector) == "")
    assert info.is_for_uid("0") == (vector["uid"] == "0")


@some
def test_token_with_a_flipped_bit_does_not_verify(vector: dict[str, Any]) -> None:
    token = vector["token"]
    if vector["version"] == "006":
        damaged = [token_006(each, vector["app_id"]) for each in flips(base64.b64decode(token[35:]))]
        damaged += [f"006{each.decode('latin-1')}{token[35:]}" for each in flips(vector["app_id"].encode())]
    else:
        damaged = [token_007(each) for each in flips(bytes.fromhex(vector["inflated_hex"]))]
    for other in damaged:
        try:
            info = inspect_token(other)
        except InvalidTokenError:
            continue
        assert not verified(info, vector)


def test_007_token_verifies_without_channel_and_uid() -> None:
    vector = vector_of("007-pub-uid-123")
    info = inspect_token(vector["token"])
    assert info.verify(vector["app_certificate"])
    assert not info.verify(vector["app_certificate"][::-1])


def test_006_digit_moved_to_channel_does_not_verify() -> None:
    vector = vector_of("006-pub-uid-123")
    info = inspect_token(vector["token"])
    assert not info.verify(vector["app_certificate"], channel_name=vector["channel"] + "1", uid=23)


@pytest.mark.parametrize(
    ("use", "error", "words"),
    [
        (lambda info: info.verify("0" * 32), ValueError, "pass channel_name and uid"),
        (lambda info: info.verify("0" * 32, uid=1), ValueError, "pass channel_name and uid"),
        (lambda info: info.verify("", channel_name="call_1", uid=1), ValueError, "empty"),
        (lambda info: info.is_for_uid(True), TypeError, "a uid is an int or a str"),
        (lambda info: info.expired(datetime(2024, 1, 5)), NaiveDatetimeError, "no time zone"),  # noqa: DTZ001
    ],
)
def test_invalid_arguments_of_token_info_are_refused(
    use: Callable[[TokenInfo], bool], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        use(inspect_token(vector_of("006-pub-uid-1")["token"]))


@pytest.mark.parametrize("name", ["006-pub-uid-123", "007-pub-uid-123"])
def test_lone_surrogate_matches_no_token(name: str) -> None:
    vector = vector_of(name)
    info = inspect_token(vector["token"])
    assert not info.is_for_channel("call_\ud83d")
    assert not info.is_for_uid("\ud83d")
    assert not info.verify("\ud83d" * 32, channel_name=vector["channel"], uid=vector["uid"])


# -- Time -------------------------------------------------------------------------------------------


def test_token_expires_at_exactly_its_expiry_time() -> None:
    info = inspect_token(vector_of("006-pub-uid-123")["token"])
    assert not info.expired(info.expires_at - timedelta(microseconds=1))
    assert info.expired(info.expires_at)


def test_allows_uses_current_time_by_default() -> None:
    past, future = vector_of("006-published-publisher"), vector_of("006-max-salt-ts-expire")
    assert not inspect_token(past["token"]).allows(Privilege.JOIN_CHANNEL)
    assert inspect_token(future["token"]).allows(Privilege.JOIN_CHANNEL)


def test_privilege_expires_at_exactly_its_expiry_time() -> None:
    info = inspect_token(vector_of("006-mixed-privileges")["token"])
    now = at(1704437689)
    assert [privilege for privilege in Privilege if info.allows(privilege, now)] == [1, 2]
    assert info.allows(Privilege.PUBLISH_VIDEO_STREAM, now - timedelta(seconds=1))
    assert not info.allows(1000, now)


def test_no_privilege_outlasts_its_token() -> None:
    info = inspect_token(vector_of("006-published-join-only")["token"])
    assert info.privileges[Privilege.JOIN_CHANNEL] > info.expires_at
    assert not info.allows(Privilege.JOIN_CHANNEL, info.expires_at)


# -- Refusals --------------------------------------------------------------------------------------


@some
def test_truncated_token_is_refused(vector: dict[str, Any]) -> None:
    token = vector["token"]
    cut = [token[:length] for length in range(len(token))]
    if vector["version"] == "006":
        content = base64.b64decode(token[35:])
        cut += [token_006(content[:length]) for length in range(len(content))]
    else:
        content = bytes.fromhex(vector["inflated_hex"])
        cut += [token_007(content[:length]) for length in range(len(content))]
    for each in cut:
        with pytest.raises(InvalidTokenError):
            inspect_token(each)


SIGNATURE = string(bytes(32))
CRCS = bytes(8)
MESSAGE = struct.pack("<IIHHI", 1, 1704523189, 1, 1, 1704440389)


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "starts with 006 or 007"),
        ("006" + "\N{ARABIC-INDIC DIGIT ONE}" * 32, "app id"),
        ("006" + "0" * 32 + "IAA*", "not base64"),
        (vector_of("006-pub-uid-1")["token"] + "\n", "not base64"),
        (token_006(string(bytes(31)) + CRCS + string(MESSAGE)), "signature has 31 bytes"),
        (token_006(SIGNATURE + CRCS + string(MESSAGE + b"\0")), "more after its end"),
        (token_006(SIGNATURE + CRCS + string(MESSAGE) + b"\0"), "more after its end"),
        ("007" + base64.b64encode(b"no zlib").decode(), "not compressed"),
        ("007" + base64.b64encode(zlib.compress(content_007(RTC)) + b"\0").decode(), "more after its end"),
        (token_007(content_007(RTC) + b"\0"), "more after its end"),
        (token_007(content_007(RTC, count=2)), "cut off"),
        (token_007(content_007(RTC, app_id=b"0" * 33)), "app id"),
        (token_007(content_007(RTC, app_id=b"\xff" * 32)), "not UTF-8"),
    ],
    ids=itertools.count(),
)
def test_invalid_token_is_refused_with_reason(token: str, reason: str) -> None:
    with pytest.raises(InvalidTokenError, match=reason) as caught:
        inspect_token(token)
    assert isinstance(caught.value, VideoCallsError)
    assert isinstance(caught.value, ValueError)
    assert token[3:] not in str(caught.value)


def test_decompression_bomb_takes_little_memory() -> None:
    bomb = token_007(bytes(64 * 1024 * 1024))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidTokenError, match="more than 65536 bytes"):
            inspect_token(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


# -- A value ----------------------------------------------------------------------------------------


@some
def test_repr_shows_neither_token_nor_signature(vector: dict[str, Any]) -> None:
    info = inspect_token(vector["token"])
    for secret in (vector["token"][35:], repr(info._signature)[2:-1], "_message"):
        assert secret not in repr(info)


@some
def test_token_info_can_be_copied_pickled_and_hashed(vector: dict[str, Any]) -> None:
    info = inspect_token(vector["token"])
    same = pickle.loads(pickle.dumps(copy.deepcopy(info)))  # noqa: S301 (our own bytes)
    assert len({same, info}) == 1
    assert verified(same, vector)


def test_examples_in_the_docstrings_run() -> None:
    outcome = doctest.testmod(agora)
    assert (outcome.attempted > 0, outcome.failed) == (True, 0)
    assert all(">>>" in getattr(agora, name).__doc__ for name in agora.__all__)
