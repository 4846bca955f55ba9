"""Agora tokens, read and verified: held against tokens that Agora's own packages made."""

import base64
import copy
import doctest
import itertools
import json
import pickle
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from video_calls_sdk import NaiveDatetimeError, VideoCallsError, agora
from video_calls_sdk.agora import InvalidTokenError, Privilege, ServiceType, TokenInfo, inspect_token

VECTORS = json.loads((Path(__file__).parent / "data" / "agora_vectors.json").read_text(encoding="utf-8"))
EDGE = VECTORS["v006_edge_cases"]
ALL = VECTORS["v006"] + VECTORS["v007"]

FUZZ = settings(max_examples=200, derandomize=True, deadline=None, database=None)


def vector_of(name: str) -> dict[str, Any]:
    return next(vector for vector in ALL if vector["id"] == name)


REPRESENTATIVES = {
    "006-pub-uid-123": "the usual",
    "006-pub-uid-0": "any uid",
    "006-mixed-privileges": "privileges that lapse at different times",
    "007-pub-uid-123": "the usual",
    "007-published-rtc-rtm": "two services",
}

every = pytest.mark.parametrize("vector", ALL, ids=lambda vector: vector["id"])
some = pytest.mark.parametrize("vector", [*map(vector_of, REPRESENTATIVES)], ids=lambda vector: vector["id"])
every_006 = pytest.mark.parametrize("vector", VECTORS["v006"], ids=lambda vector: vector["id"])
every_007 = pytest.mark.parametrize("vector", VECTORS["v007"], ids=lambda vector: vector["id"])


def account(vector: dict[str, Any]) -> str:
    """The uid as it is signed: an integer 0 stands for any uid and is signed as nothing."""
    return "" if vector["uid"] == 0 and vector["uid_type"] == "int" else str(vector["uid"])


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def verified(info: TokenInfo, vector: dict[str, Any]) -> bool:
    return info.verify(vector["app_certificate"], channel_name=vector["channel"], uid=vector["uid"])


def flips(data: bytes) -> Iterator[bytes]:
    """The data with each of its bits flipped in turn."""
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
    granted = b"".join(struct.pack("<HI", key, seconds) for key, seconds in privileges.items())
    return struct.pack("<HH", number, len(privileges)) + granted + b"".join(string(n.encode()) for n in names)


RTC = service(1, {1: 3600}, "call_1", "123")


@every_006
def test_006_tokens_are_read_as_they_were_made(vector: dict[str, Any]) -> None:
    info = inspect_token(vector["token"])
    if "privileges" in vector:
        granted = {int(key): lapse for key, lapse in vector["privileges"].items()}
    else:
        keys = [1] if vector["role_name"] == "subscriber" else [1, 2, 3, 4]
        granted = dict.fromkeys(keys, vector["privilege_expire_ts"])
    assert (info.version, info.app_id, info.salt) == ("006", vector["app_id"], vector["salt"])
    assert (info.issued_at, info.expires_at) == (None, at(vector["ts"]))
    assert info.privileges == {key: at(lapse or vector["ts"]) for key, lapse in granted.items()}
    assert all(isinstance(key, Privilege) for key in info.privileges)
    assert info.channel_crc == zlib.crc32(vector["channel"].encode())
    assert info.uid_crc == zlib.crc32(account(vector).encode())
    assert (info.channel_name, info.account, info.services, info.unread_services) == (None, None, (), b"")


@every_007
def test_007_tokens_are_read_as_they_were_made(vector: dict[str, Any]) -> None:
    info = inspect_token(vector["token"])
    issued, expires = vector["issue_ts"], vector["issue_ts"] + vector["expire"]
    assert (info.version, info.app_id, info.salt) == ("007", vector["app_id"], vector["salt"])
    assert (info.issued_at, info.expires_at) == (at(issued), at(expires))
    assert (info.channel_name, info.account) == (vector["channel"], account(vector))
    assert (info.channel_crc, info.uid_crc, info.unread_services) == (None, None, b"")
    assert len(info.services) == len(vector["services"])
    for read, made in zip(info.services, vector["services"], strict=True):
        seconds = {int(key): value for key, value in made["privileges"].items()}
        assert read.type == made["type"]
        assert read.privileges == {
            k: at(issued + value) if value else at(expires) for k, value in seconds.items()
        }
        assert read.account == made.get("user_id", account(vector))
        assert read.channel_name == (vector["channel"] if read.type is ServiceType.RTC else None)
    assert info.privileges == info.services[0].privileges
    assert all(isinstance(key, Privilege) for key in info.privileges)


@every
def test_token_is_verified_for_its_channel_and_uid_alone(vector: dict[str, Any]) -> None:
    info = inspect_token(vector["token"])
    assert verified(info, vector)
    assert info.is_for_channel(vector["channel"])
    assert info.is_for_uid(vector["uid"])
    assert info.is_for_uid(account(vector))
    assert not info.is_for_channel(vector["channel"] + "x")
    assert not info.is_for_uid(account(vector) + "1")
    assert info.is_for_uid(0) == (account(vector) == "")
    assert info.is_for_uid("0") == (vector["uid"] == "0")


@some
def test_no_other_certificate_channel_or_uid_verifies(vector: dict[str, Any]) -> None:
    info = inspect_token(vector["token"])
    certificate, channel, uid = vector["app_certificate"], vector["channel"], account(vector)
    for other in flips(certificate.encode()):
        assert not info.verify(other.decode("latin-1"), channel_name=channel, uid=uid)
    for other in flips(channel.encode()):
        assert not info.verify(certificate, channel_name=other.decode("latin-1"), uid=uid)
    for other in flips(uid.encode() or b"0"):
        assert not info.verify(certificate, channel_name=channel, uid=other.decode("latin-1"))


@some
def test_no_token_with_a_flipped_bit_verifies(vector: dict[str, Any]) -> None:
    token = vector["token"]
    if vector["version"] == "006":
        contents = flips(base64.b64decode(token[35:]))
        damaged = [token_006(content, vector["app_id"]) for content in contents]
        damaged += [
            f"006{app_id.decode('latin-1')}{token[35:]}" for app_id in flips(vector["app_id"].encode())
        ]
    else:
        damaged = [token_007(content) for content in flips(bytes.fromhex(vector["inflated_hex"]))]
    for other in damaged:
        try:
            info = inspect_token(other)
        except InvalidTokenError:
            continue
        assert not verified(info, vector)


def test_a_007_token_verifies_without_channel_and_uid() -> None:
    vector = vector_of("007-pub-uid-123")
    info = inspect_token(vector["token"])
    assert info.verify(vector["app_certificate"])
    assert not info.verify(vector["app_certificate"][::-1])


@pytest.mark.parametrize("names", [{}, {"channel_name": "call_1704436789_5678"}, {"uid": 123}], ids=str)
def test_a_006_token_cannot_be_verified_without_channel_and_uid(names: dict[str, Any]) -> None:
    vector = vector_of("006-pub-uid-123")
    with pytest.raises(ValueError, match="give channel_name and uid"):
        inspect_token(vector["token"]).verify(vector["app_certificate"], **names)


def test_a_006_signature_is_not_taken_for_another_cut_between_channel_and_uid() -> None:
    vector = vector_of("006-pub-uid-123")
    info = inspect_token(vector["token"])
    assert not info.verify(vector["app_certificate"], channel_name=vector["channel"] + "1", uid=23)


@pytest.mark.parametrize("case", EDGE["cases"], ids=lambda case: case["case"])
def test_odd_inputs_of_agoras_packages_are_read_as_what_they_wrote(case: dict[str, Any]) -> None:
    signed = {
        "uid null/None": ["null", "None"],
        "uid false": ["false", 0],
        "uid true": ["true", "True"],
        "uid 1.0": [1, "1.0"],
        "uid 0.0": [0, 0],
        "uid -1": [-1, -1],
        "uid 2**32": [2**32, 2**32],
        "uid 1e21": ["1e+21", 10**21],
    }.get(case["case"], [123, 123])
    channel = {"empty channel": "", "long channel 2000": "c" * 2000}.get(case["case"], "ch")
    tokens = [case["npm agora-access-token@2.0.4"], case["PyPI agora-token-builder 1.0.0"]]
    for token, uid in zip(tokens, signed, strict=True):
        if not token.startswith("006" + EDGE["fixed"]["app_id"]):
            with pytest.raises(InvalidTokenError):  # an app id that is none, or the package's own refusal
                inspect_token(token)
            continue
        info = inspect_token(token)
        assert info.expires_at == at(EDGE["fixed"]["ts"])
        assert dict(info.privileges) == dict.fromkeys(Privilege, at(EDGE["fixed"]["privilege_expire_ts"]))
        assert info.is_for_uid(uid)
        nameable, signed_with_ours = "surrogate" not in case["case"], case["case"] != "empty cert"
        assert info.is_for_channel(channel) == nameable
        verifies = info.verify(EDGE["fixed"]["app_certificate"], channel_name=channel, uid=uid)
        assert verifies == (nameable and signed_with_ours)


def test_an_empty_certificate_is_refused_for_anybody_could_sign_with_it() -> None:
    case = next(case for case in EDGE["cases"] if case["case"] == "empty cert")
    info = inspect_token(case["PyPI agora-token-builder 1.0.0"])
    with pytest.raises(ValueError, match="empty"):
        info.verify("", channel_name="ch", uid=123)


@pytest.mark.parametrize("name", ["006-pub-uid-123", "007-pub-uid-123"])
def test_a_name_that_no_token_can_hold_is_not_its_channel(name: str) -> None:
    vector = vector_of(name)
    info = inspect_token(vector["token"])
    assert not info.is_for_channel("call_\ud83d")
    assert not info.is_for_uid("\ud83d")
    assert not info.verify("\ud83d" * 32, channel_name=vector["channel"], uid=vector["uid"])


@pytest.mark.parametrize("uid", [None, True, False, 1.0, b"1"])
def test_a_uid_is_an_int_or_a_str(uid: Any) -> None:
    with pytest.raises(TypeError, match="a uid is an int or a str"):
        inspect_token(vector_of("006-pub-uid-1")["token"]).is_for_uid(uid)


def test_a_token_lapses_at_its_second() -> None:
    vector = vector_of("006-pub-uid-123")
    info = inspect_token(vector["token"])
    lapse = at(vector["ts"])
    assert not info.expired(lapse - timedelta(microseconds=1))
    assert info.expired(lapse)
    assert info.expired(lapse.astimezone(timezone(timedelta(hours=-5))))


def test_without_now_the_present_counts() -> None:
    long_ago, last_second = vector_of("006-published-publisher"), vector_of("006-max-salt-ts-expire")
    assert inspect_token(long_ago["token"]).expired()
    assert not inspect_token(long_ago["token"]).allows(Privilege.JOIN_CHANNEL)
    assert not inspect_token(last_second["token"]).expired()
    assert inspect_token(last_second["token"]).allows(Privilege.JOIN_CHANNEL)


def test_each_privilege_lapses_at_its_own_second() -> None:
    info = inspect_token(vector_of("006-mixed-privileges")["token"])
    now = at(1704437689)
    assert [privilege.name for privilege in Privilege if info.allows(privilege, now)] == [
        "JOIN_CHANNEL",
        "PUBLISH_AUDIO_STREAM",
    ]
    assert info.allows(Privilege.PUBLISH_VIDEO_STREAM, now - timedelta(seconds=1))


def test_what_is_not_granted_is_not_allowed() -> None:
    info = inspect_token(vector_of("007-sub-uid-123")["token"])
    now = at(1704436789)
    assert info.allows(Privilege.JOIN_CHANNEL, now)
    assert not info.allows(Privilege.PUBLISH_AUDIO_STREAM, now)
    assert not info.allows(1000, now)


def test_no_privilege_outlasts_its_token() -> None:
    info = inspect_token(vector_of("006-published-join-only")["token"])
    assert info.privileges[Privilege.JOIN_CHANNEL] > info.expires_at
    assert not info.allows(Privilege.JOIN_CHANNEL, info.expires_at)


def test_the_last_second_that_a_007_token_can_tell_is_read() -> None:
    latest = 2**32 - 1
    content = string(bytes(32)) + string(b"0" * 32) + struct.pack("<IIIH", latest, latest, 1, 1)
    info = inspect_token(token_007(content + service(1, {1: latest}, "call_1", "123")))
    assert info.expires_at == info.privileges[1] == at(2 * latest)


@pytest.mark.parametrize("ask", [TokenInfo.expired, lambda info, now: info.allows(1, now)])
def test_a_naive_now_is_refused(ask: Any) -> None:
    info = inspect_token(vector_of("006-pub-uid-1")["token"])
    with pytest.raises(NaiveDatetimeError, match="no time zone"):
        ask(info, datetime(2024, 1, 5))  # noqa: DTZ001 (naive is what this is about)


def test_a_privilege_of_no_known_name_keeps_its_number() -> None:
    info = inspect_token(token_007(content_007(service(1, {1: 0, 9: 60}, "call_1", "123"))))
    assert info.privileges == {Privilege.JOIN_CHANNEL: info.expires_at, 9: at(1704436789 + 60)}


def test_a_token_without_a_channel_is_for_none() -> None:
    info = inspect_token(token_007(content_007(service(2, {1: 60}, "test_user"))))
    assert (info.channel_name, info.account, info.privileges) == (None, None, {})
    assert not info.is_for_channel("")
    assert not info.is_for_uid(0)
    assert [service.account for service in info.services] == ["test_user"]


def test_services_that_cannot_be_read_are_kept_as_bytes() -> None:
    chat = service(5, {1: 3600}, "a user of chat")
    info = inspect_token(token_007(content_007(RTC, chat)))
    assert info.channel_name == "call_1"
    assert [service.type for service in info.services] == [ServiceType.RTC]
    assert info.unread_services == chat


@some
def test_a_token_cut_off_anywhere_is_refused(vector: dict[str, Any]) -> None:
    token = vector["token"]
    for length in range(len(token)):
        with pytest.raises(InvalidTokenError):
            inspect_token(token[:length])


@some
def test_content_cut_off_anywhere_is_refused(vector: dict[str, Any]) -> None:
    if vector["version"] == "006":
        content = base64.b64decode(vector["token"][35:])
        cut = [token_006(content[:length]) for length in range(len(content))]
    else:
        content = bytes.fromhex(vector["inflated_hex"])
        cut = [token_007(content[:length]) for length in range(len(content))]
    for token in cut:
        with pytest.raises(InvalidTokenError):
            inspect_token(token)


@some
def test_more_behind_a_token_is_refused(vector: dict[str, Any]) -> None:
    for more in (" ", "\n", "=", "A", "AA==", "AAAA"):
        with pytest.raises(InvalidTokenError):
            inspect_token(vector["token"] + more)


SIGNATURE = string(bytes(32))
CRCS = bytes(8)
MESSAGE = struct.pack("<IIHHI", 1, 1704523189, 1, 1, 1704440389)


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "starts with 006 or 007"),
        ("005" + "0" * 32, "starts with 006 or 007"),
        ("eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "starts with 006 or 007"),
        ("006" + "g" * 32, "app id"),
        ("006" + "\N{ARABIC-INDIC DIGIT ONE}" * 32, "app id"),
        ("006" + "0" * 32 + "IAA*", "not base64"),
        ("006" + "0" * 32 + "café", "not base64"),
        ("006" + "0" * 32 + "\ud83d", "not base64"),
        ("006" + "0" * 32 + "IB==", "not base64"),
        (token_006(b""), "cut off"),
        (token_006(string(bytes(31)) + CRCS + string(MESSAGE)), "signature has 31 bytes"),
        (token_006(SIGNATURE + CRCS + struct.pack("<H", 65535) + MESSAGE), "a length in it"),
        (token_006(SIGNATURE + CRCS + string(MESSAGE + b"\0")), "more behind its end"),
        (token_006(SIGNATURE + CRCS + string(MESSAGE) + b"\0"), "more behind its end"),
        (token_006(SIGNATURE + CRCS + string(struct.pack("<IIH", 1, 2, 65535))), "a length in it"),
        (token_006(SIGNATURE + CRCS + string(struct.pack("<IIHHIHI", 1, 2, 2, 1, 3, 1, 4))), "1 twice"),
        ("007" + base64.b64encode(b"no zlib").decode(), "not compressed"),
        ("007" + base64.b64encode(zlib.compress(content_007(RTC)) + b"\0").decode(), "more behind its end"),
        ("007" + base64.b64encode(zlib.compress(content_007(RTC))[:-1]).decode(), "cut off"),
        (token_007(content_007(RTC) + b"\0"), "more behind its end"),
        (token_007(content_007(RTC, count=0)), "more behind its end"),
        (token_007(content_007(RTC, count=2)), "cut off"),
        (token_007(content_007(RTC, RTC)), "two services of type RTC"),
        (token_007(content_007(RTC, app_id=b"0" * 31)), "app id"),
        (token_007(content_007(RTC, app_id=b"0" * 33)), "app id"),
        (token_007(content_007(RTC, app_id=b"\xff" * 32)), "not UTF-8"),
    ],
    ids=itertools.count(),
)
def test_what_is_no_token_is_refused_with_the_reason(token: str, reason: str) -> None:
    with pytest.raises(InvalidTokenError, match=reason) as caught:
        inspect_token(token)
    assert isinstance(caught.value, VideoCallsError)
    assert isinstance(caught.value, ValueError)
    assert len(token) < 4 or token[3:] not in str(caught.value)


@pytest.mark.parametrize("token", [None, 7, b"006", ["006"]])
def test_a_token_is_a_str(token: Any) -> None:
    with pytest.raises(InvalidTokenError, match=f"not {type(token).__name__}"):
        inspect_token(token)


def test_what_inflates_without_end_takes_no_memory() -> None:
    bomb = token_007(bytes(64 * 1024 * 1024))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidTokenError, match="more than 65536 bytes"):
            inspect_token(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


def test_the_largest_content_is_read_and_one_byte_more_is_not() -> None:
    room = 64 * 1024 - len(content_007(struct.pack("<H", 9)))
    assert (
        len(inspect_token(token_007(content_007(struct.pack("<H", 9) + bytes(room)))).unread_services)
        == room + 2
    )
    with pytest.raises(InvalidTokenError, match="more than 65536 bytes"):
        inspect_token(token_007(content_007(struct.pack("<H", 9) + bytes(room + 1))))


@some
def test_the_repr_shows_neither_token_nor_signature(vector: dict[str, Any]) -> None:
    info = inspect_token(vector["token"])
    if vector["version"] == "006":
        signature = base64.b64decode(vector["token"][35:])[2:34]
    else:
        signature = bytes.fromhex(vector["inflated_hex"])[2:34]
    assert info._signature == signature
    for secret in (vector["token"], vector["token"][35:], repr(signature)[2:-1], signature.hex()):
        assert secret not in repr(info)
    assert "_message" not in repr(info)


@pytest.mark.parametrize("name", ["006-pub-uid-123", "007-published-rtc-rtm"])
def test_what_was_read_is_a_value(name: str) -> None:
    vector = vector_of(name)
    info = inspect_token(vector["token"])
    same = pickle.loads(pickle.dumps(copy.deepcopy(info)))  # noqa: S301 (our own bytes)
    assert same == info
    assert len({same, info}) == 1
    assert verified(same, vector)
    with pytest.raises(AttributeError):
        info.app_id = "0" * 32  # type: ignore[misc]


mutated = st.builds(
    lambda token, index, character, cut: (token[:index] + character + token[index + 1 :])[:cut],
    st.sampled_from([vector["token"] for vector in ALL]),
    st.integers(0, 250),
    st.characters(),
    st.none() | st.integers(0, 250),
)
contents = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda rest: SIGNATURE + CRCS + string(rest), st.binary(max_size=100)),
    st.builds(
        lambda count, rest: content_007(rest, count=count), st.integers(0, 65535), st.binary(max_size=100)
    ),
    st.builds(
        lambda content, index, byte: content[:index] + bytes([byte]) + content[index + 1 :],
        st.sampled_from([bytes.fromhex(vector["inflated_hex"]) for vector in VECTORS["v007"]]),
        st.integers(0, 200),
        st.integers(0, 255),
    ),
)
compressed = st.binary(max_size=200).map(lambda data: "007" + base64.b64encode(data).decode())
anything = st.one_of(
    st.text(),
    st.sampled_from(["006", "007", "006" + "0" * 32]).flatmap(lambda head: st.text().map(head.__add__)),
    mutated,
    contents.map(token_006),
    contents.map(token_007),
    compressed,
)


@FUZZ
@given(token=anything, channel=st.text(), uid=st.integers() | st.text(), certificate=st.text(min_size=1))
def test_whatever_is_given_is_read_or_refused(
    token: str, channel: str, uid: int | str, certificate: str
) -> None:
    try:
        info = inspect_token(token)
    except InvalidTokenError:
        return
    assert repr(info)
    assert isinstance(info.expired(), bool)
    assert isinstance(info.allows(Privilege.JOIN_CHANNEL), bool)
    assert not info.verify(certificate, channel_name=channel, uid=uid)


@FUZZ
@given(vector=st.sampled_from(ALL), index=st.integers(0, 250), bit=st.integers(0, 6))
def test_a_damaged_token_says_the_same_or_does_not_verify(
    vector: dict[str, Any], index: int, bit: int
) -> None:
    token = vector["token"]
    index %= len(token)
    damaged = token[:index] + chr(ord(token[index]) ^ 1 << bit) + token[index + 1 :]
    try:
        info = inspect_token(damaged)
    except InvalidTokenError:
        return
    assert info == inspect_token(token) or not verified(info, vector)


def test_the_examples_in_the_docstrings_run() -> None:
    outcome = doctest.testmod(agora)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_each_public_name_has_a_docstring_with_an_example() -> None:
    assert all(">>>" in getattr(agora, name).__doc__ for name in agora.__all__)
