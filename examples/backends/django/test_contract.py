"""The contract of the Video Calls API, tested against this project's live server: `pytest` in this folder."""

from datetime import UTC, datetime, timedelta

import jwt
import pytest
from django.conf import settings
from video_calls.models import Doctor, Patient, User
from video_calls_contract.testing import contract_tests

test_contract = contract_tests()


@pytest.fixture(scope="module")
def contract_backend(live_server, django_db_setup, django_db_blocker):
    """Return the address of the backend and its users, as in `contract.toml`."""
    with django_db_blocker.unblock():
        doctor, other_doctor, outsider, dual = (new_doctor(name) for name in ("ada", "bela", "carl", "dora"))
        patient, other_patient = new_patient("pia"), new_patient("rolf")
        dual_patient = Patient.objects.create(user=dual.user)
        inactive_doctor, inactive_patient = (
            new_doctor("adam", is_active=False),
            new_patient("pat", is_active=False),
        )
    return {
        "base_url": f"{live_server.url}/api/v1/video",
        "agora": {"app_id": settings.AGORA_APP_ID, "app_certificate": settings.AGORA_APP_CERTIFICATE},
        "identities": {
            "doctor": {"id": doctor.id, "token": token(doctor.user)},
            "patient": {"id": patient.id, "token": token(patient.user)},
            "other_doctor": {"id": other_doctor.id, "token": token(other_doctor.user)},
            "other_patient": {"id": other_patient.id, "token": token(other_patient.user)},
            "outsider": {"token": token(outsider.user)},
            "dual_user": {"doctor": dual.id, "patient": dual_patient.id, "token": token(dual.user)},
            "inactive_doctor": {"id": inactive_doctor.id, "token": token(inactive_doctor.user)},
            "inactive_patient": {"id": inactive_patient.id, "token": token(inactive_patient.user)},
            "expired": {"token": token(doctor.user, timedelta(hours=-1))},
        },
    }


def new_doctor(name: str, *, is_active: bool = True) -> Doctor:
    return Doctor.objects.create(user=new_user(name, is_active=is_active), specialization="Cardiology")


def new_patient(name: str, *, is_active: bool = True) -> Patient:
    return Patient.objects.create(user=new_user(name, is_active=is_active))


def new_user(name: str, *, is_active: bool) -> User:
    return User.objects.create(email=f"{name}@clinic.example", full_name=name.title(), is_active=is_active)


def token(user: User, expires_in: timedelta = timedelta(hours=1)) -> str:
    claims = {"user_id": user.id, "exp": datetime.now(UTC) + expires_in}
    return jwt.encode(claims, settings.JWT_SIGNING_KEY, "HS256")
