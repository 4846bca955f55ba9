"""Pairs of a doctor and a patient who can have calls with each other."""

from dataclasses import dataclass
from typing import Any

from video_calls_contract.exceptions import Missing
from video_calls_contract.exchange import Exchange
from video_calls_contract.users import User, Users, wire_time


@dataclass(frozen=True, slots=True)
class Pair:
    """A doctor and a patient who can have calls with each other, and `others`: all other users."""

    doctor: User
    patient: User
    others: tuple[User, ...]

    @property
    def outsiders(self) -> tuple[User, ...]:
        """The users who are in no call of the pair.

        Raises:
            Missing: if the configuration has no such user.
        """
        if not self.others:
            raise Missing("the configuration has no [identities.outsider], nor a second doctor or patient")
        return self.others

    @property
    def participants(self) -> tuple[User, User]:
        """The doctor and the patient."""
        return self.doctor, self.patient

    def body(self, scheduled_time: object) -> dict[str, Any]:
        """Return the body of a request that creates a call of the pair."""
        return {
            "doctor": self.doctor.doctor,
            "patient": self.patient.patient,
            "scheduled_time": wire_time(scheduled_time),
        }

    def create(self, by: User, scheduled_time: object, **options: Any) -> Exchange:  # noqa: ANN401 (passed on)
        """Send a request that creates a call of the pair."""
        return by.create(self.doctor.doctor, self.patient.patient, scheduled_time, **options)


def pairs_of(users: Users) -> list[Pair]:
    """Return the pairs without `dual_user` (a doctor and patient); `doctor` and `patient` come first."""
    everybody = users.present("doctor", "patient", "other_doctor", "other_patient", "outsider", "dual_user")
    doctors = users.present("doctor", "other_doctor")
    patients = users.present("patient", "other_patient")
    both = [(doctor, patient) for doctor in doctors for patient in patients]
    both.sort(key=lambda pair: (pair[0].name == "doctor") != (pair[1].name == "patient"))
    return [
        Pair(doctor, patient, tuple(user for user in everybody if user not in (doctor, patient)))
        for doctor, patient in both
    ]


def with_dual_user(users: Users, pairs: list[Pair]) -> list[Pair]:
    """Return the pairs, followed by the pairs in which `dual_user` is the doctor or the patient."""
    if not users.has("dual_user"):
        return pairs
    dual, more = users["dual_user"], list[Pair]()
    for pair in pairs:
        for doctor, patient in ((dual, pair.patient), (pair.doctor, dual)):
            others = {*pair.participants, *pair.others} - {doctor, patient}
            more.append(Pair(doctor, patient, tuple(others)))
    return pairs + more
