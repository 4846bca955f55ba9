"""Seed files: valid ones are read, and invalid ones are refused with the line and the reason."""

from pathlib import Path

import pytest
from video_calls_server.command.contract_config import contract_identities
from video_calls_server.store.seed import DEFAULT_SEED, SeedError, load_seed

EMAIL = "email: b@example.com"
ENTRY = "  - {}\n    full_name: B\n"
HEAD = "users:\n  - {id: 1, email: a@example.com, full_name: A, doctor: {id: 1}}\n"


def test_default_seed_has_every_contract_identity() -> None:
    assert len(contract_identities(load_seed())) == 8


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        pytest.param("", 1, "", id="empty"),
        pytest.param("users: []\n", 1, "users: ", id="no user"),
        pytest.param(HEAD + "  - {id: 2, full_name: B}\n", 3, "users[1]: ", id="missing field"),
        pytest.param(HEAD + ENTRY.format("id: 2\n    email: nobody"), 4, "users[1].email: ", id="pattern"),
        pytest.param(HEAD + ENTRY.format('id: 2\n    email: "b@x\\n"'), 4, "users[1].email", id="newline"),
        pytest.param(
            HEAD + ENTRY.format(f"id: 2\n    {EMAIL}\n    doctor:\n      id: 0"),
            6,
            "users[1].doctor.id: ",
            id="nested",
        ),
        pytest.param(
            HEAD + ENTRY.format(f"id: 1\n    {EMAIL}"), 3, "users[1].id: 1 is given to another", id="id twice"
        ),
        pytest.param(
            HEAD + ENTRY.format(f"id: 2\n    {EMAIL}\n    doctor: {{id: 1}}"),
            5,
            "1 is given to another",
            id="doctor twice",
        ),
        pytest.param(HEAD + "  - {id: 2, id: 3}\n", 3, "id is given twice", id="key twice"),
        pytest.param(HEAD + "  - !!python/object:os.system {}\n", 3, "not YAML", id="unsafe tag"),
        pytest.param("users: [\0]\n", None, "not YAML", id="control character"),
        pytest.param("a: &a [1]\nb: &b [*a, *a]\nusers: [*b, *b]", 2, "an alias", id="aliases"),
        pytest.param("users: " + "[" * 5000 + "]" * 5000, 1, "not YAML", id="too deep"),
    ],
)
def test_invalid_file_is_refused_with_line(tmp_path: Path, text: str, line: int | None, reason: str) -> None:
    path = tmp_path / "people.yaml"
    path.write_text(text)
    with pytest.raises(SeedError) as refusal:
        load_seed(path)
    place = f"{path}: " if line is None else f"{path}:{line}: "
    assert str(refusal.value).startswith(place), refusal.value
    assert reason in str(refusal.value)


def test_file_with_invalid_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "people.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(SeedError, match="cannot read"):
        load_seed(tmp_path / "people.yaml")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_file_with_byte_order_mark_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "people.yaml").write_text(DEFAULT_SEED.read_text(encoding="utf-8"), encoding=encoding)
    assert load_seed(tmp_path / "people.yaml") == load_seed()


def test_contract_outsider_may_be_a_third_doctor(tmp_path: Path) -> None:
    entries = [
        f"  - {{id: {number}, email: d{number}@example.com, full_name: D, doctor: {{id: {number}}}}}\n"
        for number in (11, 12, 13)
    ]
    (tmp_path / "people.yaml").write_text("users:\n" + "".join(entries))
    outsider, _, _ = contract_identities(load_seed(tmp_path / "people.yaml"))["outsider"]
    assert outsider.id == 13
