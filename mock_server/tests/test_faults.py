"""Faults: how they are written, on which requests they act, and what they do to those."""

import json
import pickle
from typing import Any, get_args

import msgspec
import pytest
import yaml
from video_calls_server._structs import JoinCredentials, VideoCall, VideoCallPage
from video_calls_server.control.faults import (
    EVENTS,
    Asked,
    Fault,
    FaultError,
    Faults,
    Operation,
    parse_fault,
    read_fault,
    spoiled,
)
from video_calls_spec import openapi_path

CALL_BODY = b'{"id":7,"channel_name":"call_1_2","doctor":1}'

# -- How they are written ---------------------------------------------------------------------------


def test_a_text_and_a_json_object_say_the_same_fault() -> None:
    text = (
        "name=slow join; operation=joinVideoCall; identity=doctor@example.com; call=3; times=2;"
        ' probability=0.5; Random-Seed=-7; delay=0.1-0.5; status=503; error="Down; really"; code=away;'
        " retry-after=2; after"
    )
    assert parse_fault(text) == read_fault(
        {
            "name": "slow join",
            "operation": "joinVideoCall",
            "identity": "doctor@example.com",
            "call": 3,
            "times": 2,
            "probability": 0.5,
            "random_seed": -7,
            "delay": [0.1, 0.5],
            "status": 503,
            "error": "Down; really",
            "code": "away",
            "retry_after": 2,
            "after": True,
        }
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("drop", Fault(drop=True)),
        (" drop ; after; ", Fault(drop=True, after=True)),
        ("drop=true; after=FALSE", Fault(drop=True)),
        ("delay=2", Fault(delay=2.0)),
        ("delay = 0.5 - 1", Fault(delay=(0.5, 1.0))),
        ("body=null", Fault(body="null")),
        ("status=429;call=9223372036854775807", Fault(status=429, call=2**63 - 1)),
    ],
)
def test_a_text_says_a_fault(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "field", "allowed"),
    [
        ("", "status", "give a status, drop, a body or a delay"),
        ("times=1", "status", "give a status, drop, a body or a delay"),
        ("status", "status", "whole number from 400 to 599"),
        ("status=200", "status", "whole number from 400 to 599"),
        ("status=5o3", "status", "whole number from 400 to 599"),
        ("status=503.0", "status", "whole number from 400 to 599"),
        ("drop; times=0", "times", "1 or more"),
        ("drop; probability=1.1", "probability", "from 0 to 1"),
        ("drop; probability=nan", "probability", "from 0 to 1"),
        ("drop; call=x", "call", "id of a call"),
        ("drop; call=3; operation=listVideoCalls", "call", "leave out one"),
        ("drop; operation=joinCall", "operation", "joinVideoCall, "),
        ("drop; identity=doctor", "identity", "e-mail"),
        ("drop; name=a, b", "name", "letters"),
        ("drop=perhaps", "drop", "true or false"),
        ("drop; drop", "drop", "twice"),
        ("drop; random-seed=1", "random_seed", "probability or a range"),
        ("delay=0.5-0.1", "delay", "least and the most"),
        ("delay=-1", "delay", "from 0 to 3600"),
        ("delay=3601", "delay", "from 0 to 3600"),
        ("delay=inf", "delay", "from 0 to 3600"),
        ("body=rotten", "body", "truncated, corrupted"),
        ("body=null; after", "after", "in any case"),
        ("status=503; drop", "drop", "one of status, drop, body"),
        ("drop; body=null", "body", "one of status, drop, body"),
        ("drop; error=Down", "error", "give a status"),
        ("drop; retry-after=1", "retry_after", "give a status"),
        ("status=503; retry-after=soon", "retry_after", "seconds"),
        ("operation=events; body=null", "body", "handshake"),
        ("operation=events; drop; after", "after", "handshake"),
        ("stats=503", "stats", "there are name, operation"),
        ("status=503, times=1", "status", "whole number"),
        ('status=503; error="Down', 'error="Down', "must be like status=503"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_with_its_field_and_what_is_allowed(
    text: str, field: str, allowed: str
) -> None:
    with pytest.raises(FaultError) as caught:
        parse_fault(text)
    assert caught.value.field == field
    assert allowed in caught.value.reason
    assert str(caught.value) == f"{field}: {caught.value.reason}"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 (our own)


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"status": "503"}, "status"),
        ({"status": True}, "status"),
        ({"drop": 1}, "drop"),
        ({"delay": [1]}, "delay"),
        ({"delay": [1, "x"]}, "delay"),
        ({"delay": float("nan")}, "delay"),
        ({"drop": True, "id": 3}, "id"),
        ([], "fault"),
    ],
)
def test_a_json_object_is_read_strictly(sent: Any, field: str) -> None:
    with pytest.raises(FaultError) as caught:
        read_fault(sent)
    assert caught.value.field == field


def test_the_operations_are_those_of_the_contract_and_the_events() -> None:
    contract = yaml.safe_load(openapi_path().read_text(encoding="utf-8"))
    operations = {
        operation["operationId"]
        for methods in contract["paths"].values()
        for operation in methods.values()
        if "operationId" in operation
    }
    assert set(get_args(Operation)) == operations | {EVENTS}


# -- On which requests they act ---------------------------------------------------------------------


def acting(faults: Faults, operation: str = "getVideoCall", call: int | None = 3, *identities: str) -> str:
    return faults.act(Asked(operation, call, frozenset(identities))).names


def test_a_fault_acts_on_what_it_matches_alone() -> None:
    faults = Faults([parse_fault("operation=getVideoCall; call=3; identity=doctor@example.com; drop")])
    assert acting(faults, "joinVideoCall", 3, "doctor@example.com") == ""
    assert acting(faults, "getVideoCall", 4, "doctor@example.com") == ""
    assert acting(faults, "getVideoCall", None, "doctor@example.com") == ""
    assert acting(faults, "getVideoCall", 3, "patient@example.com") == ""
    assert acting(faults, "getVideoCall", 3, "doctor@example.com") == "drop"


def test_only_identities_that_matter_for_a_request_are_asked_for() -> None:
    faults = Faults([parse_fault("identity=a@example.com; call=3; drop"), parse_fault("drop")])
    also = [parse_fault("identity=b@example.com; delay=1")]
    assert faults.identities("getVideoCall", 3, also) == {"a@example.com", "b@example.com"}
    assert faults.identities("getVideoCall", 4) == frozenset()


def test_a_fault_acts_so_many_times_and_is_kept_with_its_count() -> None:
    faults = Faults()
    fault = faults.add(parse_fault("status=503; times=2"))
    assert (fault.id, fault.name, fault.acted, fault.left) == (1, "status=503", 0, 2)
    assert [acting(faults) for _ in range(4)] == ["status=503", "status=503", "", ""]
    assert [(fault.acted, fault.left) for fault in faults] == [(2, 0)]
    assert not faults


def test_faults_act_in_order_and_none_after_one_has_answered() -> None:
    delay, error, drop = (parse_fault(text) for text in ("delay=1; times=9", "status=500; times=1", "drop"))
    faults = Faults([delay, error, drop])
    first = faults.act(Asked("getVideoCall", 3, frozenset()))
    assert (first.names, first.answer, first.seconds_before) == ("delay=1, status=500", error, 1.0)
    assert [fault.acted for fault in faults] == [1, 1, 0]
    assert acting(faults) == "delay=1, drop"


def test_the_fault_of_a_request_itself_comes_first() -> None:
    faults = Faults([parse_fault("drop; times=1")])
    assert (
        faults.act(Asked("getVideoCall", 3, frozenset()), [parse_fault("status=500")]).names == "status=500"
    )
    assert [fault.left for fault in faults] == [1]


def test_delays_add_up_on_either_side_of_the_request() -> None:
    texts = ("delay=1", "delay=2; after", "delay=4; drop; after")
    both = Faults(map(parse_fault, texts)).act(Asked("getVideoCall", 3, frozenset()))
    assert (both.seconds_before, both.seconds_after) == (1.0, 6.0)


def test_a_body_that_there_is_not_spoils_no_count() -> None:
    faults = Faults([parse_fault("delay=1"), parse_fault("body=null; times=1")])
    spared = faults.act(Asked("getVideoCall", 3, frozenset()))
    assert not faults.act(Asked("events", None, frozenset())).answer
    spared.spare()
    assert (spared.names, spared.answer) == ("delay=1", None)
    assert [fault.left for fault in faults] == [None, 1]
    assert acting(faults) == "delay=1, body=null"


def sequence(seed: int | None) -> list[tuple[str, float]]:
    fault = Fault(probability=0.5, delay=(0.0, 1.0), random_seed=seed, drop=True)
    faults = Faults([fault, parse_fault("delay=0")])
    acted = [faults.act(Asked("getVideoCall", 3, frozenset())) for _ in range(64)]
    return [(each.names, each.seconds_before) for each in acted]


def test_the_same_seed_means_the_same_sequence() -> None:
    assert sequence(7) == sequence(7)
    assert sequence(7) != sequence(8)
    assert sequence(None) != sequence(None)
    drops = [seconds for names, seconds in sequence(7) if names == "drop"]
    assert 16 < len(drops) < 48
    assert all(0 < seconds < 1 for seconds in drops)


def test_a_probability_is_never_at_0_and_always_at_1() -> None:
    assert {acting(Faults([parse_fault("drop; probability=0")])) for _ in range(32)} == {""}
    assert {acting(Faults([parse_fault("drop; probability=1")])) for _ in range(32)} == {"drop"}


def test_faults_are_removed_and_come_back_as_they_were_at_the_start() -> None:
    faults = Faults([parse_fault("drop; times=1")])
    assert acting(faults) == "drop"
    added = faults.add(parse_fault("delay=1"))
    assert added.id == 2
    assert (faults.remove(added.id), faults.remove(added.id)) == (True, False)
    faults.clear()
    assert (list(faults), bool(faults), faults.add(parse_fault("drop")).id) == ([], False, 3)
    faults.reset()
    assert [(fault.id, fault.name, fault.left) for fault in faults] == [(1, "drop", 1)]


def test_the_names_fit_a_header_whatever_the_fault() -> None:
    for text, name in [
        ("delay=0.25", "delay=0.25"),
        ("delay=1-2; after", "delay=1-2 after"),
        ("drop; after; delay=1", "drop after"),
        ("body=wrong_type", "body=wrong_type"),
        ("drop; name=it rains", "it rains"),
    ]:
        assert parse_fault(text).label == name


# -- Spoiled bodies -----------------------------------------------------------------------------------


def test_a_truncated_body_is_half_of_it_and_a_corrupted_one_is_no_json() -> None:
    assert spoiled(CALL_BODY, "truncated") == CALL_BODY[: len(CALL_BODY) // 2]
    corrupted = spoiled(CALL_BODY, "corrupted")
    assert len(corrupted) == len(CALL_BODY)
    with pytest.raises(json.JSONDecodeError):
        json.loads(corrupted)


@pytest.mark.parametrize(
    ("body", "first"),
    [
        (CALL_BODY, {"id": 7}),
        (b'{"channel_name":"call_1_2","token":"006"}', {"channel_name": "call_1_2"}),
        (b'{"count":0,"next":null,"previous":null,"results":[]}', {"count": 0}),
    ],
)
def test_a_field_is_missing_of_another_type_or_null(body: bytes, first: dict[str, object]) -> None:
    whole = json.loads(body)
    (field, value), *_ = first.items()
    assert json.loads(spoiled(body, "missing_field")) == {k: v for k, v in whole.items() if k != field}
    assert json.loads(spoiled(body, "null")) == whole | {field: None}
    wrong = json.loads(spoiled(body, "wrong_type"))
    assert type(wrong[field]) is not type(value)
    assert wrong | {field: value} == whole


def test_of_a_page_the_first_call_breaks_the_contract() -> None:
    page = json.loads(spoiled(b'{"count":2,"results":[{"id":1,"doctor":1},{"id":2}]}', "missing_field"))
    assert page == {"count": 2, "results": [{"doctor": 1}, {"id": 2}]}


@pytest.mark.parametrize("body", [VideoCall, VideoCallPage, JoinCredentials])
def test_the_first_field_of_every_body_is_a_required_one_that_cannot_be_null(body: type[Any]) -> None:
    first = msgspec.structs.fields(body)[0]
    assert first.required
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(None, first.type)
