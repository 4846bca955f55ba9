"""Who takes part: users, the doctors and patients that they are, and the one who is asking.

Three separate id ranges: a doctor's id says nothing about a user's or a patient's.
"""

from dataclasses import dataclass
from typing import Literal

Role = Literal["doctor", "patient"]


@dataclass(frozen=True, slots=True)
class User:
    """A person with an account. `id` is also their Agora uid, 1 to 2^32-1."""

    id: int
    email: str
    full_name: str
    active: bool


@dataclass(frozen=True, slots=True)
class Doctor:
    """A user in the role of a doctor."""

    id: int
    user: User
    specialization: str | None = None


@dataclass(frozen=True, slots=True)
class Patient:
    """A user in the role of a patient."""

    id: int
    user: User


@dataclass(frozen=True, slots=True)
class Actor:
    """The authenticated user of a request, with the doctor and the patient that they are, if any."""

    user_id: int
    doctor_id: int | None
    patient_id: int | None
