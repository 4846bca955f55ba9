"""The contract of the Video Calls API, tested against this application: `pytest` in this folder."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from app import AGORA_APP_CERTIFICATE, AGORA_APP_ID, JWT_KEY, Clinic, Profile, User, create_app
from video_calls_contract.testing import contract_tests, serve

test_contract = contract_tests()


@pytest.fixture(scope="module")
def contract_backend() -> Iterator[dict[str, Any]]:
    """Serve the application, and yield its address and its users, as in `contract.toml`."""
    clinic = Clinic()
    names = ("ada", "bela", "carl", "dora", "adam", "pia", "rolf", "pat")
    ada, bela, carl, dora, adam, pia, rolf, pat = (new_user(clinic, name) for name in names)
    adam.is_active = pat.is_active = False
    doctors = [new_profile(clinic.doctors, user) for user in (ada, bela, carl, dora, adam)]
    patients = [new_profile(clinic.patients, user) for user in (pia, rolf, dora, pat)]
    with serve(create_app(clinic)) as url:
        yield {
            "base_url": f"{url}/api/v1/video",
            "agora": {"app_id": AGORA_APP_ID, "app_certificate": AGORA_APP_CERTIFICATE},
            "identities": {
                "doctor": {"id": doctors[0], "token": token(ada)},
                "patient": {"id": patients[0], "token": token(pia)},
                "other_doctor": {"id": doctors[1], "token": token(bela)},
                "other_patient": {"id": patients[1], "token": token(rolf)},
                "outsider": {"token": token(carl)},
                "dual_user": {"doctor": doctors[3], "patient": patients[2], "token": token(dora)},
                "inactive_doctor": {"id": doctors[4], "token": token(adam)},
                "inactive_patient": {"id": patients[3], "token": token(pat)},
                "expired": {"token": token(ada, timedelta(hours=-1))},
            },
        }


def new_user(clinic: Clinic, name: str) -> User:
    user = User(f"{name}@clinic.example", name.title())
    clinic.users[user.email] = user
    return user


def new_profile(profiles: dict[Any, Profile], user: User) -> str:
    profile = Profile(user)
    profiles[profile.id] = profile
    return str(profile.id)


def token(user: User, expires_in: timedelta = timedelta(hours=1)) -> str:
    return jwt.encode({"sub": user.email, "exp": datetime.now(UTC) + expires_in}, JWT_KEY, "HS256")
