"""Who takes part: users, the doctors and patients that they are, and the one who is asking.

Three separate id ranges: a doctor's id says nothing about a user's or a patient's. All are named tuples:
immutable, and made in a quarter of the time of a frozen dataclass, which a list of calls makes by the dozen.
"""

from typing import Literal, NamedTuple

Role = Literal["doctor", "patient"]


class User(NamedTuple):
    """A person with an account. `id` is also their Agora uid, 1 to 2^32-1."""

    id: int
    email: str
    full_name: str
    active: bool


class Doctor(NamedTuple):
    """A user in the role of a doctor."""

    id: int
    user: User
    specialization: str | None = None


class Patient(NamedTuple):
    """A user in the role of a patient."""

    id: int
    user: User


class Actor(NamedTuple):
    """The authenticated user of a request, with the doctor and the patient that they are, if any."""

    user_id: int
    doctor_id: int | None
    patient_id: int | None
