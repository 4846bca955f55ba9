"""Seed files: the users of a new database, in YAML. The default is `seed.yaml` in this directory.

An invalid file is refused with the line and the reason.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import yaml
from msgspec import Meta, Struct
from video_calls_spec.encoding import EncodingError, decoded

from video_calls_server.domain.people import MAX_UID, Doctor, Patient, Person, User

DEFAULT_SEED = Path(__file__).with_name("seed.yaml")

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Id = Annotated[int, Meta(ge=1, le=2**63 - 1)]
UserId = Annotated[int, Meta(ge=1, le=MAX_UID)]  # it is also the Agora uid
Email = Annotated[str, Meta(pattern=r"^[^@\s\0]+@[^@\s\0]+(?![\s\S])", max_length=254)]
FullName = Annotated[str, Meta(pattern=r"^[^\0]+(?![\s\S])", max_length=300)]  # PostgreSQL cannot store a NUL
Specialization = Annotated[str, Meta(pattern=r"^[^\0]*(?![\s\S])", max_length=200)]


class SeedError(Exception):
    """A seed file cannot be used. The message names the file, the line and the reason."""


@dataclass(frozen=True, slots=True)
class Seed:
    """The users of a database, each as a doctor, a patient, both or neither."""

    people: tuple[Person, ...]


class DoctorEntry(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The data of a user as a doctor, in a seed file."""

    id: Id
    specialization: Specialization | None = None


class PatientEntry(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The data of a user as a patient, in a seed file."""

    id: Id


class UserEntry(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A user in a seed file: a doctor, a patient, both or neither."""

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
        SeedError: if the file cannot be read, is not YAML, or has an invalid value.
    """
    try:
        text = decoded(path.read_bytes())
        _refuse_aliases(path, text)
        root = yaml.compose(text, Loader=_LOADER)
        content = yaml.load(text, Loader=_LOADER)  # noqa: S506 (a safe loader, in C if there is one)
        repeated_key = _repeated_key(root)
    except (OSError, EncodingError) as error:
        raise SeedError(f"{path}: cannot read the seed file: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SeedError(f"{path}:{line}: not YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SeedError(f"{path}: not YAML: {error}") from error
    if repeated_key is not None:
        line = repeated_key.start_mark.line + 1
        raise SeedError(f"{path}:{line}: {repeated_key.value} is given twice")
    try:
        entries = msgspec.convert(content, _SeedFile).users
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `")
        steps = re.findall(r"[A-Za-z_]\w*|\d+", where)
        raise SeedError(f"{path}:{_line(root, steps)}: {_path(steps)}{reason}") from error
    if (repetition := find_repetition(entries)) is not None:
        steps = ["users", *repetition[0]]
        raise SeedError(
            f"{path}:{_line(root, steps)}: {_path(steps)}{repetition[1]} is given to another user too"
        )
    return Seed(tuple(person_of(entry) for entry in entries))


def _refuse_aliases(path: Path, text: str) -> None:
    """Refuse a file with aliases, because a few nested aliases can expand to more than the memory."""
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise SeedError(f"{path}:{line}: an alias; write the value again")


def _repeated_key(node: yaml.Node | None) -> yaml.ScalarNode | None:
    """Return a key that a mapping has twice, or None. YAML would silently use the last one."""
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    return key
                keys.add(key.value)
            children.append(value)
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    return next(filter(None, map(_repeated_key, children)), None)


def person_of(entry: UserEntry) -> Person:
    """Return the user that an entry describes, as a doctor, a patient, both or neither."""
    user = User(entry.id, entry.email, entry.full_name, entry.active)
    doctor = Doctor(entry.doctor.id, user, entry.doctor.specialization) if entry.doctor else None
    patient = Patient(entry.patient.id, user) if entry.patient else None
    return user, doctor, patient


def find_repetition(entries: Sequence[UserEntry]) -> tuple[list[str], int | str] | None:
    """Return the first id or e-mail address that an earlier entry has too, or None. Case is ignored.

    The result is the path to the field in the later entry, and the value.
    """
    fields: dict[tuple[str, ...], list[int | str | None]] = {
        ("id",): [entry.id for entry in entries],
        ("email",): [entry.email.lower() for entry in entries],
        ("doctor", "id"): [entry.doctor.id if entry.doctor else None for entry in entries],
        ("patient", "id"): [entry.patient.id if entry.patient else None for entry in entries],
    }
    for field, values in fields.items():
        earlier: set[int | str] = set()
        for index, value in enumerate(values):
            if value is not None and value in earlier:
                return [str(index), *field], value
            if value is not None:
                earlier.add(value)
    return None


def _path(steps: list[str]) -> str:
    path = "".join(f"[{step}]" if step.isdigit() else f".{step}" for step in steps).lstrip(".")
    return f"{path}: " if steps else ""


def _line(node: yaml.Node | None, steps: list[str]) -> int:
    """Return the line, counted from 1, of the deepest node on this path that the file has."""
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
