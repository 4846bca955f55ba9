"""The models of the Video Calls API, generated from its contract."""

from video_calls._models import (
    DoctorDetails,
    Error,
    JoinCredentials,
    PatientDetails,
    User,
    VideoCall,
    VideoCallCreate,
    VideoCallPage,
)

__all__ = [
    "DoctorDetails",
    "Error",
    "JoinCredentials",
    "PatientDetails",
    "User",
    "VideoCall",
    "VideoCallCreate",
    "VideoCallPage",
]
