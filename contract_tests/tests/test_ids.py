"""Tests of the form of ids."""

import pytest
from video_calls_contract.ids import absent, is_id, is_uuid

UUID = "9f0c2b7e-5d1a-4c3b-8a60-1e2f3a4b5c6d"


@pytest.mark.parametrize("like", [7, UUID, UUID.upper(), "17", "c-1", "01HZX3"])
def test_generated_absent_id_has_form_of_example(like: int | str) -> None:
    absent_id = absent(like)
    assert is_id(absent_id)
    assert absent_id != like
    assert (type(absent_id), is_uuid(absent_id)) == (type(like), is_uuid(like))
    if isinstance(like, str):
        assert str(absent_id).isdigit() == like.isdigit()


@pytest.mark.parametrize("value", [True, 0, -1, 2**63, 1.0, None, "", ".", "..", "a/b", "a b", "a" * 65])
def test_invalid_value_is_no_id(value: object) -> None:
    assert not is_id(value)
