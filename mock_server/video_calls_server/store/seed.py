"""The people that a new database starts with, from a YAML file; `seed.yaml` beside this is the default.

A file that is wrong is refused with its line and the reason.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import yaml
from msgspec import Meta, Struct
from video_calls_spec.encoding import EncodingError, decoded

from video_calls_server.domain.people import MAX_UID, Doctor, Patient, Person, User

DEFAULT_SEED = Path(__file__).with_name("seed.yaml")

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_DEEPEST = 10

Id = Annotated[int, Meta(ge=1, le=2**63 - 1)]
UserId = Annotated[int, Meta(ge=1, le=MAX_UID)]  # it is the Agora uid, too
Email = Annotated[str, Meta(pattern=r"^[^@\s\0]+@[^@\s\0]+(?![\s\S])", max_length=254)]
FullName = Annotated[str, Meta(pattern=r"^[^\0]+(?![\s\S])", max_length=300)]  # PostgreSQL takes no NUL
Specialization = Annotated[str, Meta(pattern=r"^[^\0]*(?![\s\S])", max_length=200)]


class SeedError(Exception):
    """A seed file that cannot be used; the message names the file, the line and the reason."""


@dataclass(frozen=True, slots=True)
class Seed:
    """Users, each with the doctor and the patient that they are."""

    people: tuple[Person, ...]


class DoctorEntry(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The doctor that a user is, as a file writes them."""

    id: Id
    specialization: Specialization | None = None


class PatientEntry(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The patient that a user is, as a file writes them."""

    id: Id


class UserEntry(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A user as a file writes them, with the doctor and the patient that they are."""

    id: UserId
    email: Email
    full_name: FullName
    active: bool = True
    doctor: DoctorEntry | None = None
    patient: PatientEntry | None = None


class _SeedFile(Struct, forbid_unknown_fields=True):
    users: Annotated[list[UserEntry], Meta(min_length=1)]


def load_seed(path: Path = DEFAULT_SEED) -> Seed:
    """Read a seed file.

    Raises:
        SeedError: it cannot be read, is no YAML, or says something that no person can be.
    """
    try:
        text = decoded(path.read_bytes())
        if (line := _too_deep(text)) is not None:
            raise SeedError(f"{path}:{line}: an alias, or nested more deeply than any seed file is")
        root = yaml.compose(text, Loader=_LOADER)
        content = yaml.load(text, Loader=_LOADER)  # noqa: S506 (a safe loader, in C where there is one)
    except (OSError, EncodingError) as error:
        raise SeedError(f"{path}: cannot read the seed file: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SeedError(f"{path}:{line}: not YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise SeedError(f"{path}: not YAML: {error}") from error
    if (repeated_key := _repeated_key(root)) is not None:
        line = repeated_key.start_mark.line + 1
        raise SeedError(f"{path}:{line}: {repeated_key.value} is given twice")
    try:
        entries = msgspec.convert(content, _SeedFile).users
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `")
        steps = re.findall(r"[A-Za-z_]\w*|\d+", where)
        raise SeedError(f"{path}:{_line(root, steps)}: {_where(steps)}{reason}") from error
    if (repetition := given_twice(entries)) is not None:
        steps = ["users", *repetition.steps]
        raise SeedError(
            f"{path}:{_line(root, steps)}: {_where(steps)}{repetition.value} is given to another user too"
        )
    return Seed(tuple(person_of(entry) for entry in entries))


def _too_deep(text: str) -> int | None:
    """Return the line at which the nesting is deeper than any seed needs; `yaml.compose` recurses into it.

    An alias counts as such: a few aliases of aliases stand for more people than fit into the memory.
    """
    try:
        return _line_too_deep(text, _LOADER)
    except yaml.YAMLError:  # the parser in C has a limit of its own, which it can reach while it looks ahead
        return _line_too_deep(text, yaml.SafeLoader)


def _line_too_deep(text: str, loader: type[yaml.SafeLoader]) -> int | None:
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST or isinstance(event, yaml.AliasEvent):
            return event.start_mark.line + 1 if event.start_mark else 1
    return None


def _repeated_key(node: yaml.Node | None) -> yaml.ScalarNode | None:
    """A key that a mapping has twice, of which YAML would silently keep the last."""
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    return key
                seen.add(key.value)
            children.append(value)
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    return next(filter(None, map(_repeated_key, children)), None)


def person_of(entry: UserEntry) -> Person:
    """The person whom an entry writes."""
    user = User(entry.id, entry.email, entry.full_name, entry.active)
    doctor = Doctor(entry.doctor.id, user, entry.doctor.specialization) if entry.doctor else None
    patient = Patient(entry.patient.id, user) if entry.patient else None
    return user, doctor, patient


@dataclass(frozen=True, slots=True)
class Repetition:
    """Where an entry has what is another's: the entry's place among all, and the way to the field in it."""

    steps: tuple[str, ...]
    value: int | str


def given_twice(entries: Sequence[UserEntry]) -> Repetition | None:
    """The first id or e-mail address, in any case, that an earlier entry has too."""
    fields: dict[tuple[str, ...], list[int | str | None]] = {
        ("id",): [entry.id for entry in entries],
        ("email",): [entry.email.lower() for entry in entries],
        ("doctor", "id"): [entry.doctor.id if entry.doctor else None for entry in entries],
        ("patient", "id"): [entry.patient.id if entry.patient else None for entry in entries],
    }
    for field, values in fields.items():
        seen: set[int | str] = set()
        for place, value in enumerate(values):
            if value is not None and value in seen:
                return Repetition((str(place), *field), value)
            if value is not None:
                seen.add(value)
    return None


def _where(steps: list[str]) -> str:
    return (
        "".join(f"[{step}]" if step.isdigit() else f".{step}" for step in steps).lstrip(".") + ": "
        if steps
        else ""
    )


def _line(node: yaml.Node | None, steps: list[str]) -> int:
    """The line, counted from 1, of the deepest node on the way that the file has."""
    line = 1
    for step in [*steps, ""]:
        if node is None:
            break
        line = node.start_mark.line + 1
        if isinstance(node, yaml.SequenceNode) and step.isdigit():
            node = node.value[int(step)]
        elif isinstance(node, yaml.MappingNode):
            node = next((value for key, value in node.value if key.value == step), None)
        else:
            break
    return line


Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Cast:
    """The parts that the contract suite needs people for, each None where the people hold nobody for it."""

    doctor: Doctor | None
    patient: Patient | None
    other_doctor: Doctor | None
    other_patient: Patient | None
    outsider: User | None
    inactive_doctor: Doctor | None
    inactive_patient: Patient | None
    dual_user: tuple[User, Doctor, Patient] | None


def cast(seed: Seed) -> Cast:
    """Give each part to the first person who fits it."""
    doctors = [doctor for _, doctor, patient in seed.people if doctor and not patient]
    patients = [patient for _, doctor, patient in seed.people if patient and not doctor]
    active_doctors = [doctor for doctor in doctors if doctor.user.active]
    active_patients = [patient for patient in patients if patient.user.active]
    neither = [user for user, doctor, patient in seed.people if user.active and not doctor and not patient]
    third = [doctor.user for doctor in active_doctors[2:]] + [patient.user for patient in active_patients[2:]]
    return Cast(
        doctor=_nth(active_doctors, 0),
        patient=_nth(active_patients, 0),
        other_doctor=_nth(active_doctors, 1),
        other_patient=_nth(active_patients, 1),
        outsider=_nth([*neither, *third], 0),
        inactive_doctor=_nth([doctor for doctor in doctors if not doctor.user.active], 0),
        inactive_patient=_nth([patient for patient in patients if not patient.user.active], 0),
        dual_user=_nth([(u, d, p) for u, d, p in seed.people if u.active and d and p], 0),
    )


def _nth(values: list[Value], index: int) -> Value | None:
    return values[index] if index < len(values) else None
