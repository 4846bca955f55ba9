"""Calls in the form of the contract's schemas. Times are in UTC, which msgspec writes with `Z`."""

from msgspec.structs import replace

from video_calls_server._structs import DoctorDetails, PatientDetails, User, VideoCall
from video_calls_server.api.ids import INTEGERS, ExternalId, Ids, Kind
from video_calls_server.domain import people
from video_calls_server.domain.calls import Call


def video_call(call: Call) -> VideoCall:
    """Return a call with the ids of the store; see `with_ids`.

    It contains only what each participant may know about the other ("Security Considerations" 6).
    """
    return VideoCall(
        id=call.id,
        channel_name=call.channel_name,
        doctor=call.doctor.id,
        patient=call.patient.id,
        doctor_details=DoctorDetails(
            id=call.doctor.id, user=_user(call.doctor.user), specialization=call.doctor.specialization
        ),
        patient_details=PatientDetails(id=call.patient.id, user=_user(call.patient.user)),
        status=call.status,
        scheduled_time=call.scheduled_time,
        started_at=call.started_at,
        ended_at=call.ended_at,
        created_at=call.created_at,
        updated_at=call.updated_at,
    )


def with_ids(call: VideoCall, ids: Ids) -> VideoCall:
    """Return the call with other ids: those that clients see replace those of the store."""
    if ids is INTEGERS:
        return call
    doctor, patient = _external("doctor", call.doctor, ids), _external("patient", call.patient, ids)
    return replace(
        call,
        id=_external("call", call.id, ids),
        doctor=doctor,
        patient=patient,
        doctor_details=replace(call.doctor_details, id=doctor),
        patient_details=replace(call.patient_details, id=patient),
    )


def _external(kind: Kind, stored: ExternalId, ids: Ids) -> ExternalId:
    return ids.format(kind, stored) if isinstance(stored, int) else stored


def _user(user: people.User) -> User:
    return User(email=user.email, full_name=user.full_name)
