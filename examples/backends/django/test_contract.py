"""Migrate, populate and serve on a free port."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from django.conf import settings
from django.core.management import call_command
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application
from django.utils import timezone

from clinic.models import Doctor, Patient, User, VideoCall


def user(name: str, *, active: bool = True) -> User:
    email = f"{name.lower().replace(' ', '.')}@clinic.example"
    return User.objects.create(email=email, full_name=name, is_active=active)


def token(user: User, expires_in: timedelta = timedelta(hours=3)) -> str:
    return jwt.encode(
        {"user_id": user.id, "exp": datetime.now(UTC) + expires_in}, settings.JWT_SIGNING_KEY, "HS256"
    )


def populate() -> dict[str, dict[str, Any]]:
    """The people, some calls that they had or have, and who is who for the contract suite."""
    User.objects.bulk_create(
        User(email=f"staff.{number}@clinic.example", full_name="Staff") for number in range(40)
    )
    doctors = [
        Doctor.objects.create(user=user(name, active=name != "Adam Gone"), specialization="Cardiology")
        for name in ("Ada Hart", "Bela Lung", "Adam Gone", "Dora Both", "Carl Third")
    ]
    patients = [
        Patient.objects.create(user=person)
        for person in (user("Pia Well"), user("Rolf Fine"), user("Pat Gone", active=False), doctors[3].user)
    ]
    now, minutes = timezone.now(), timedelta(minutes=1)
    for number, (status, distance) in enumerate(
        [("completed", -3000), ("cancelled", -900), ("scheduled", -500), ("ongoing", -55), ("cancelled", 5)]
        + [("scheduled", 100 + 61 * number) for number in range(12)]
        + [("scheduled", 60 * 24 * day) for day in (41, 75, 76, 200, 400)]
    ):
        start = now + distance * minutes
        VideoCall.objects.create(
            channel_name=f"earlier_{number}",
            doctor=doctors[0] if number % 3 else doctors[1],
            patient=patients[0] if number % 2 else patients[1],
            status=status,
            scheduled_time=start,
            started_at=start if status in ("ongoing", "completed") else None,
            ended_at=start + 20 * minutes if status == "completed" else None,
        )
    return {
        "doctor": {"id": doctors[0].id, "token": token(doctors[0].user)},
        "patient": {"id": patients[0].id, "token": token(patients[0].user)},
        "other_doctor": {"id": doctors[1].id, "token": token(doctors[1].user)},
        "other_patient": {"id": patients[1].id, "token": token(patients[1].user)},
        "outsider": {"token": token(doctors[4].user)},
        "dual_user": {"doctor": doctors[3].id, "patient": patients[3].id, "token": token(doctors[3].user)},
        "inactive_doctor": {"id": doctors[2].id, "token": token(doctors[2].user)},
        "inactive_patient": {"id": patients[2].id, "token": token(patients[2].user)},
        "expired": {"token": token(doctors[0].user, timedelta(hours=-1))},
    }


class Handler(WSGIRequestHandler):
    disable_nagle_algorithm = True  # head and body of an answer are two writes

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing."""


def main() -> None:
    call_command("migrate", run_syncdb=True, verbosity=0)
    identities = populate()
    server = ThreadedWSGIServer(("127.0.0.1", 0), Handler)
    server.set_app(get_wsgi_application())
    print(f'base_url = "http://127.0.0.1:{server.server_port}/api/v1/video"\n')
    print(
        f'[agora]\napp_id = "{settings.AGORA_APP_ID}"\napp_certificate = "{settings.AGORA_APP_CERTIFICATE}"'
    )
    for name, fields in identities.items():
        print(
            f"\n[identities.{name}]",
            *(f"{key} = {json.dumps(value)}" for key, value in fields.items()),
            sep="\n",
        )
    print("# ready", flush=True)
    server.serve_forever()
