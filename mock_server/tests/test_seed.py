"""Seed files: what they may say, and that a wrong one is refused with its line and the reason."""

from pathlib import Path

import pytest
from video_calls_server.seed import SeedError, cast, load_seed

HEAD = "users:\n  - {id: 1, email: a@example.com, full_name: A, doctor: {id: 1}}\n"


def test_the_default_seed_has_somebody_for_every_part() -> None:
    parts = cast(load_seed())
    assert None not in [getattr(parts, name) for name in parts.__slots__]


def test_user_ids_differ_from_doctor_and_patient_ids() -> None:
    for user, doctor, patient in load_seed().people:
        assert user.id not in {doctor and doctor.id, patient and patient.id}


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", 1, "Expected `object`, got `null`"),
        ("users: []\n", 1, "users: Expected `array` of length >= 1"),
        ("people: []\n", 1, "unknown field `people`"),
        (HEAD + "  - {id: 2, full_name: B}\n", 3, "users[1]: Object missing required field `email`"),
        (
            HEAD + "  - id: 2\n    email: nobody\n    full_name: B\n",
            4,
            "users[1].email: Expected `str` matching",
        ),
        (
            HEAD + "  - id: two\n    email: b@example.com\n    full_name: B\n",
            3,
            "users[1].id: Expected `int`",
        ),
        (
            HEAD + "  - id: 4294967296\n    email: b@example.com\n    full_name: B\n",
            3,
            "users[1].id: Expected `int` <=",
        ),
        (
            HEAD + "  - id: 2\n    email: b@example.com\n    full_name: B\n    doctr: {id: 2}\n",
            3,
            "unknown field `doctr`",
        ),
        (
            HEAD + "  - id: 2\n    email: b@example.com\n    full_name: B\n    doctor:\n      id: 0\n",
            7,
            "doctor.id",
        ),
        (
            HEAD + "  - id: 1\n    email: b@example.com\n    full_name: B\n",
            3,
            "users[1].id: 1 is given to another",
        ),
        (
            HEAD + "  - id: 2\n    email: a@example.com\n    full_name: B\n",
            4,
            "a@example.com is given to another",
        ),
        (
            HEAD + "  - id: 2\n    email: b@example.com\n    full_name: B\n    doctor: {id: 1}\n",
            6,
            "1 is given to another",
        ),
        (HEAD + "  - id: 2\n   email: b@example.com\n", 4, "not YAML"),
        (HEAD + "  - !!python/object:os.system {}\n", 3, "not YAML"),
        ("users: [\0]\n", None, "not YAML"),
        (HEAD + "  - id: 2\n    id: 3\n    email: b@example.com\n    full_name: B\n", 4, "id is given twice"),
        ("users: " + "[" * 100_000, 1, "nested more deeply"),
    ],
)
def test_a_wrong_file_is_refused_with_line_and_reason(
    tmp_path: Path, text: str, line: int | None, reason: str
) -> None:
    path = tmp_path / "people.yaml"
    path.write_text(text)
    with pytest.raises(SeedError) as refusal:
        load_seed(path)
    place = f"{path}: " if line is None else f"{path}:{line}: "
    assert str(refusal.value).startswith(place), refusal.value
    assert reason in str(refusal.value)


def test_a_file_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "people.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(SeedError, match="cannot read"):
        load_seed(tmp_path / "people.yaml")


def test_an_outsider_may_be_a_third_doctor(tmp_path: Path) -> None:
    entries = [
        f"  - {{id: {number}, email: d{number}@example.com, full_name: D, doctor: {{id: {number}}}}}\n"
        for number in (11, 12, 13)
    ]
    (tmp_path / "people.yaml").write_text("users:\n" + "".join(entries))
    outsider = cast(load_seed(tmp_path / "people.yaml")).outsider
    assert outsider is not None
    assert outsider.id == 13
