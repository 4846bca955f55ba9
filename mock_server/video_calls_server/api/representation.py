"""Calls as the contract's schemas write them. Times are in UTC, and msgspec writes those with `Z`."""

from msgspec.structs import replace

from video_calls_server._structs import DoctorDetails, PatientDetails, User, VideoCall
from video_calls_server.api.ids import INTEGERS, ExternalId, Ids, Kind
from video_calls_server.domain import people
from video_calls_server.domain.calls import Call


def video_call(call: Call) -> VideoCall:
    """A call, with what each participant may know of the other and no more ("Security Considerations" 6).

    Its ids are those of the store; see `with_ids`.
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
    """Return a call with ids as clients see them in place of those of the store."""
    if ids is INTEGERS:
        return call
    doctor, patient = _shown("doctor", call.doctor, ids), _shown("patient", call.patient, ids)
    return replace(
        call,
        id=_shown("call", call.id, ids),
        doctor=doctor,
        patient=patient,
        doctor_details=replace(call.doctor_details, id=doctor),
        patient_details=replace(call.patient_details, id=patient),
    )


def _shown(kind: Kind, written: ExternalId, ids: Ids) -> ExternalId:
    return ids.format(kind, written) if isinstance(written, int) else written


def _user(user: people.User) -> User:
    return User(email=user.email, full_name=user.full_name)
