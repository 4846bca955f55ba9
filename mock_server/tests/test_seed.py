"""Seed files: what they may say, and that a wrong one is refused with its line and the reason."""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection
from video_calls_server.domain.calls import NewCall
from video_calls_server.domain.people import Doctor, Patient, User
from video_calls_server.seed import DEFAULT_SEED, Seed, SeedError, cast, load_seed
from video_calls_server.store import StoreError, queries, store_for
from video_calls_server.store.reseed import SeedChanges, apply_seed

EMAIL = "email: b@example.com"
ENTRY = "  - {}\n    full_name: B\n"
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
        pytest.param("", 1, "", id="empty"),
        pytest.param("users: []\n", 1, "users: ", id="nobody"),
        pytest.param("people: []\n", 1, "people", id="unknown field"),
        pytest.param(HEAD + "  - {id: 2, full_name: B}\n", 3, "users[1]: ", id="missing field"),
        pytest.param(HEAD + ENTRY.format("id: 2\n    email: nobody"), 4, "users[1].email: ", id="pattern"),
        pytest.param(HEAD + ENTRY.format(f"id: two\n    {EMAIL}"), 3, "users[1].id: ", id="type"),
        pytest.param(HEAD + ENTRY.format(f"id: 4294967296\n    {EMAIL}"), 3, "users[1].id: ", id="range"),
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
            HEAD + ENTRY.format("id: 2\n    email: a@example.com"),
            4,
            "a@example.com is given to another",
            id="address twice",
        ),
        pytest.param(
            HEAD + ENTRY.format(f"id: 2\n    {EMAIL}\n    doctor: {{id: 1}}"),
            5,
            "1 is given to another",
            id="doctor twice",
        ),
        pytest.param(HEAD + "  - {id: 2, id: 3}\n", 3, "id is given twice", id="key twice"),
        pytest.param(HEAD + "  - id: 2\n   email: b@example.com\n", 4, "not YAML", id="indent"),
        pytest.param(HEAD + "  - !!python/object:os.system {}\n", 3, "not YAML", id="unsafe tag"),
        pytest.param("users: [\0]\n", None, "not YAML", id="control character"),
        pytest.param("a: &a [1]\nb: &b [*a, *a]\nusers: [*b, *b]", 2, "an alias", id="aliases"),
        pytest.param("users: " + "[" * 200, 1, "nested more deeply", id="200 deep"),
        pytest.param("users: " + "[" * 100_000, 1, "nested more deeply", id="100,000 deep"),
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


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_seed_file_with_a_byte_order_mark_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "people.yaml").write_text(DEFAULT_SEED.read_text(encoding="utf-8"), encoding=encoding)
    assert load_seed(tmp_path / "people.yaml") == load_seed()


def test_an_outsider_may_be_a_third_doctor(tmp_path: Path) -> None:
    entries = [
        f"  - {{id: {number}, email: d{number}@example.com, full_name: D, doctor: {{id: {number}}}}}\n"
        for number in (11, 12, 13)
    ]
    (tmp_path / "people.yaml").write_text("users:\n" + "".join(entries))
    outsider = cast(load_seed(tmp_path / "people.yaml")).outsider
    assert outsider is not None
    assert outsider.id == 13


# -- A changed file for a database that is in use ----------------------------------------------------

BEFORE = """users:
  - {id: 1, email: a@example.com, full_name: A, doctor: {id: 11, specialization: Eyes}}
  - {id: 2, email: b@example.com, full_name: B, patient: {id: 22}}
  - {id: 3, email: c@example.com, full_name: C, doctor: {id: 33}, patient: {id: 34}}
"""


def seed_of(tmp_path: Path, text: str) -> Seed:
    (tmp_path / "people.yaml").write_text(text)
    return load_seed(tmp_path / "people.yaml")


def applied(tmp_path: Path, text: str, *, calls: bool = False) -> tuple[SeedChanges, Seed]:
    """What a changed file does to a database of BEFORE, with calls of doctor 11 and patient 22 or without."""
    store = store_for(":memory:", seed_of(tmp_path, BEFORE))

    def call(connection: Connection) -> None:
        two = User(1, "", "", active=True), User(2, "", "", active=True)
        now = datetime(2024, 1, 5, tzinfo=UTC)
        new = NewCall("channel", Doctor(11, two[0]), Patient(22, two[1]), now, now)
        queries.add_call(connection, new)

    async def work() -> tuple[SeedChanges, Seed]:
        if calls:
            await store.write(call)
        before = await store.people()
        try:
            changes = await store.write(lambda connection: apply_seed(connection, seed_of(tmp_path, text)))
        except StoreError:
            assert await store.people() == before
            raise
        else:
            return changes, await store.people()
        finally:
            await store.close()

    return asyncio.run(work())


def test_a_file_that_has_not_changed_changes_nothing(tmp_path: Path) -> None:
    changes, people = applied(tmp_path, BEFORE, calls=True)
    assert changes == SeedChanges(added=0, changed=0, deactivated=0)
    assert people == seed_of(tmp_path, BEFORE)


def test_people_are_added_changed_and_deactivated(tmp_path: Path) -> None:
    text = """users:
  - {id: 1, email: a.new@example.com, full_name: A New, doctor: {id: 11, specialization: Ears}}
  - {id: 3, email: c@example.com, full_name: C, active: false, doctor: {id: 33}, patient: {id: 34}}
  - {id: 4, email: a@example.com, full_name: D, patient: {id: 44}}
"""
    changes, people = applied(tmp_path, text, calls=True)
    assert changes == SeedChanges(added=1, changed=2, deactivated=1)
    gone = User(2, "b@example.com", "B", active=False)
    expected = [*seed_of(tmp_path, text).people, (gone, None, Patient(22, gone))]
    assert list(people.people) == sorted(expected, key=lambda person: person[0].id)


def test_who_was_not_active_before_is_not_deactivated(tmp_path: Path) -> None:
    without_c = "\n".join(line for line in BEFORE.splitlines() if "c@" not in line)
    before = BEFORE.replace("full_name: C", "full_name: C, active: false")
    store = store_for(":memory:", seed_of(tmp_path, before))
    seed = seed_of(tmp_path, without_c)
    changes = asyncio.run(store.write(lambda connection: apply_seed(connection, seed)))
    assert changes == SeedChanges(added=0, changed=0, deactivated=0)
    asyncio.run(store.close())


def test_two_users_can_swap_their_addresses(tmp_path: Path) -> None:
    text = BEFORE.replace("a@", "x@").replace("b@", "a@").replace("x@", "b@")
    changes, people = applied(tmp_path, text)
    assert changes.changed == 2
    assert people == seed_of(tmp_path, text)


def test_roles_that_no_call_refers_to_change_hands(tmp_path: Path) -> None:
    text = BEFORE.replace("id: 11, specialization: Eyes", "id: 33").replace("C, doctor: {id: 33}", "C")
    changes, people = applied(tmp_path, text)
    assert changes.changed == 2
    assert people == seed_of(tmp_path, text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("A, doctor: {id: 11, specialization: Eyes}", "A, doctor: {id: 12}"),
            "doctor 11 is user 1 in the database and has calls, and the seed gives the id to nobody",
        ),
        (
            ("A, doctor: {id: 11, specialization: Eyes}", "A"),
            "doctor 11 is user 1 in the database and has calls, and the seed gives the id to nobody",
        ),
        (
            ("{id: 2, email: b@example.com", "{id: 4, email: d@example.com"),
            "patient 22 is user 2 in the database and has calls, and the seed gives the id to user 4",
        ),
        (
            (
                "{id: 2, email: b@example.com, full_name: B, patient: {id: 22}",
                "{id: 4, email: b@example.com, full_name: B",
            ),
            "b@example.com is user 4 in the seed file and user 2 in the database; keep the id 2",
        ),
    ],
)
def test_what_cannot_be_is_said_and_nothing_changed(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    with pytest.raises(StoreError, match=re.escape(message)):
        applied(tmp_path, BEFORE.replace(*change), calls=True)


def test_an_address_ends_where_its_line_does(tmp_path: Path) -> None:
    with pytest.raises(SeedError, match="email"):
        seed_of(tmp_path, 'users: [{id: 7, email: "a@example.com\\n", full_name: A}]')
