"""A small backend for the Video Calls API in FastAPI; it keeps everything in memory.

Its ids are UUIDs. The secrets are for development only.
"""

import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import jwt
from agora_token_builder import RtcTokenBuilder
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel, BeforeValidator
from starlette.exceptions import HTTPException as StarletteHTTPException

JWT_KEY = "the-signing-key-of-the-fastapi-example"
AGORA_APP_ID, AGORA_APP_CERTIFICATE = "ab" * 16, "cd" * 16
PAGE_SIZE = 20
HALF_AN_HOUR = timedelta(minutes=30)
QUARTER_OF_AN_HOUR = timedelta(minutes=15)

Status = Literal["scheduled", "ongoing", "completed", "cancelled"]


@dataclass
class User:
    """A user; `uid` is the number that Agora knows the user by."""

    email: str
    full_name: str
    is_active: bool = True
    uid: int = field(default_factory=lambda: secrets.randbelow(2**32 - 1) + 1)


@dataclass
class Profile:
    """A user's profile as a doctor or as a patient."""

    user: User
    id: UUID = field(default_factory=uuid4)

    def details(self) -> dict[str, Any]:
        return {"id": self.id, "user": {"email": self.user.email, "full_name": self.user.full_name}}


@dataclass
class Call:
    """A video call."""

    doctor: Profile
    patient: Profile
    scheduled_time: datetime
    id: UUID = field(default_factory=uuid4)
    status: Status = "scheduled"
    started_at: datetime | None = None
    ended_at: datetime | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    updated_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    channel_name: str = field(default_factory=lambda: f"call_{int(time.time())}_{secrets.randbelow(10**12)}")

    def is_of(self, user: User) -> bool:
        return user in (self.doctor.user, self.patient.user)

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "channel_name": self.channel_name,
            "doctor": self.doctor.id,
            "patient": self.patient.id,
            "doctor_details": self.doctor.details(),
            "patient_details": self.patient.details(),
            "status": self.status,
            "scheduled_time": self.scheduled_time,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }


@dataclass
class Clinic:
    """The data of the backend. The lock lets one request at a time change it."""

    doctors: dict[UUID, Profile] = field(default_factory=dict[UUID, Profile])
    patients: dict[UUID, Profile] = field(default_factory=dict[UUID, Profile])
    users: dict[str, User] = field(default_factory=dict[str, User])
    calls: dict[UUID, Call] = field(default_factory=dict[UUID, Call])
    lock: Lock = field(default_factory=Lock)


def text_only(value: object) -> object:
    """Refuse numbers, which pydantic takes for Unix times."""
    if not isinstance(value, str):
        raise ValueError("must be a text such as 2030-01-05T10:00:00Z")  # noqa: TRY004 (pydantic's way)
    return value


class NewCall(BaseModel):
    """The body of a new call."""

    doctor: UUID
    patient: UUID
    scheduled_time: Annotated[AwareDatetime, BeforeValidator(text_only)]


def clinic_of(request: Request) -> Clinic:
    return request.app.state.clinic


def user_of(request: Request) -> User:
    """Return the user of the JWT."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    try:
        claims = jwt.decode(token, JWT_KEY, algorithms=["HS256"], options={"require": ["exp", "sub"]})
    except jwt.PyJWTError:
        claims = {"sub": ""}
    user = clinic_of(request).users.get(claims["sub"])
    if scheme.lower() != "bearer" or user is None or not user.is_active:
        raise HTTPException(401, "A valid bearer token is needed", {"WWW-Authenticate": "Bearer"})
    return user


TheClinic = Annotated[Clinic, Depends(clinic_of)]
TheUser = Annotated[User, Depends(user_of)]
router = APIRouter(prefix="/api/v1/video/video-calls")


@router.get("/")
def list_calls(request: Request, clinic: TheClinic, user: TheUser, page: int = 1) -> dict[str, Any]:
    calls = [call for call in clinic.calls.values() if call.is_of(user)]
    calls.sort(key=lambda call: (call.scheduled_time, call.id), reverse=True)
    pages = max(1, -(-len(calls) // PAGE_SIZE))
    if not 1 <= page <= pages:
        raise HTTPException(404, "There is no such page")

    def link(number: int) -> str | None:
        return str(request.url.include_query_params(page=number)) if 1 <= number <= pages else None

    page_calls = calls[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
    return {
        "count": len(calls),
        "next": link(page + 1),
        "previous": link(page - 1),
        "results": [call.as_json() for call in page_calls],
    }


@router.post("/", status_code=201)
def create_call(new: NewCall, clinic: TheClinic, user: TheUser) -> dict[str, Any]:
    with clinic.lock:
        doctor, patient = clinic.doctors.get(new.doctor), clinic.patients.get(new.patient)
        if doctor is None or patient is None or not (doctor.user.is_active and patient.user.is_active):
            raise HTTPException(400, "Both doctor and patient must be valid and active users")
        if user not in (doctor.user, patient.user):
            raise HTTPException(403, "You can only schedule your own calls")
        if doctor.user is patient.user:
            raise HTTPException(400, "Doctor and patient cannot be the same user")
        if new.scheduled_time <= datetime.now(UTC):
            raise HTTPException(400, "Scheduled time must be in the future")
        for call in clinic.calls.values():
            shared = call.doctor is doctor or call.patient is patient
            near = abs(call.scheduled_time - new.scheduled_time) < HALF_AN_HOUR
            if shared and near and call.status in ("scheduled", "ongoing"):
                raise HTTPException(400, "There is already a scheduled call within 30 minutes of this time")
        call = Call(doctor, patient, new.scheduled_time.astimezone(UTC))
        clinic.calls[call.id] = call
        return call.as_json()


def call_of(call_id: str, clinic: TheClinic, user: TheUser) -> Call:
    """Return the user's call with this id."""
    try:
        call = clinic.calls.get(UUID(call_id))
    except ValueError:
        call = None
    if call is None or call_id != str(call.id):
        raise HTTPException(404, "There is no such call")
    if not call.is_of(user):
        raise HTTPException(403, "You are not authorized to access this call")
    return call


TheCall = Annotated[Call, Depends(call_of)]


@router.get("/{call_id}/")
def get_call(call: TheCall) -> dict[str, Any]:
    return call.as_json()


@router.post("/{call_id}/join/")
def join_call(call: TheCall, clinic: TheClinic, user: TheUser) -> dict[str, Any]:
    now = datetime.now(UTC)
    with clinic.lock:
        if call.status not in ("scheduled", "ongoing"):
            raise HTTPException(400, f"This call is {call.status}")
        if call.scheduled_time - now > QUARTER_OF_AN_HOUR:
            raise HTTPException(400, "This call is not scheduled to start yet")
        if call.status == "scheduled":
            call.status, call.started_at, call.updated_at = "ongoing", now, now
    expires = int(time.time()) + 3600
    token = RtcTokenBuilder.buildTokenWithUid(
        AGORA_APP_ID, AGORA_APP_CERTIFICATE, call.channel_name, user.uid, 1, expires
    )
    return {
        "channel_name": call.channel_name,
        "token": token,
        "uid": user.uid,
        "expiration_time": datetime.fromtimestamp(expires, UTC),
    }


@router.post("/{call_id}/end/")
def end_call(call: TheCall, clinic: TheClinic) -> dict[str, Any]:
    now = datetime.now(UTC)
    with clinic.lock:
        if call.status != "ongoing":
            raise HTTPException(400, "Only an ongoing call can be ended")
        call.status, call.ended_at, call.updated_at = "completed", now, now
        return call.as_json()


@router.post("/{call_id}/cancel/")
def cancel_call(call: TheCall, clinic: TheClinic) -> dict[str, Any]:
    with clinic.lock:
        if call.status != "scheduled":
            raise HTTPException(400, "Only a scheduled call can be cancelled")
        call.status, call.updated_at = "cancelled", datetime.now(UTC)
        return call.as_json()


def error_response(_request: Request, error: Exception) -> JSONResponse:
    """Return the document's error body for every refusal."""
    if isinstance(error, RequestValidationError):
        problems = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()]
        return JSONResponse({"error": "; ".join(problems)}, 400)
    assert isinstance(error, StarletteHTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def create_app(clinic: Clinic) -> FastAPI:
    """Return the application."""
    app = FastAPI(title="Video calls")
    app.state.clinic = clinic
    app.include_router(router)
    app.add_exception_handler(StarletteHTTPException, error_response)
    app.add_exception_handler(RequestValidationError, error_response)
    return app
