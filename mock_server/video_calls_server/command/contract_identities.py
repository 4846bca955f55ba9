"""The users of a database that the contract suite can use as its identities."""

from dataclasses import dataclass
from typing import TypeVar

from video_calls_server.domain.people import Doctor, Patient, User
from video_calls_server.store.seed import Seed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ContractIdentities:
    """The identities of the contract suite. An identity is None if no user fits it."""

    doctor: Doctor | None
    patient: Patient | None
    other_doctor: Doctor | None
    other_patient: Patient | None
    outsider: User | None
    inactive_doctor: Doctor | None
    inactive_patient: Patient | None
    dual_user: tuple[User, Doctor, Patient] | None


def contract_identities(seed: Seed) -> ContractIdentities:
    """Return the first user that fits each identity."""
    doctors = [doctor for _, doctor, patient in seed.people if doctor and not patient]
    patients = [patient for _, doctor, patient in seed.people if patient and not doctor]
    active_doctors = [doctor for doctor in doctors if doctor.user.active]
    active_patients = [patient for patient in patients if patient.user.active]
    neither = [user for user, doctor, patient in seed.people if user.active and not doctor and not patient]
    third = [doctor.user for doctor in active_doctors[2:]] + [patient.user for patient in active_patients[2:]]
    return ContractIdentities(
        doctor=_nth(active_doctors, 0),
        patient=_nth(active_patients, 0),
        other_doctor=_nth(active_doctors, 1),
        other_patient=_nth(active_patients, 1),
        outsider=_nth([*neither, *third], 0),
        inactive_doctor=_nth([doctor for doctor in doctors if not doctor.user.active], 0),
        inactive_patient=_nth([patient for patient in patients if not patient.user.active], 0),
        dual_user=_nth([(u, d, p) for u, d, p in seed.people if u.active and d and p], 0),
    )


def _nth(values: list[T], index: int) -> T | None:
    return values[index] if index < len(values) else None
