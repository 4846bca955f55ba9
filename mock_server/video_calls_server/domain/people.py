"""Users, doctors, patients, and the user who sends a request.

Users, doctors and patients have separate id ranges: equal ids of a doctor and a patient mean nothing. The
types are named tuples because a list of calls creates dozens of them: a named tuple is created in a quarter
of the time of a frozen dataclass.
"""

from typing import Literal, NamedTuple

Role = Literal["doctor", "patient"]

MAX_UID = 2**32 - 1
"""The largest Agora uid, and so the largest user id."""


class User(NamedTuple):
    """A user account. `id` is also the Agora uid, 1 to `MAX_UID`."""

    id: int
    email: str
    full_name: str
    active: bool


class Doctor(NamedTuple):
    """A doctor, with the user account."""

    id: int
    user: User
    specialization: str | None = None


class Patient(NamedTuple):
    """A patient, with the user account."""

    id: int
    user: User


class Actor(NamedTuple):
    """The authenticated user of a request. A user can be a doctor, a patient, both, or neither."""

    user_id: int
    doctor_id: int | None
    patient_id: int | None


Person = tuple[User, Doctor | None, Patient | None]
"""A user, and the same user as a doctor and as a patient, or None."""
