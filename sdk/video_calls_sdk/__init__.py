"""A typed client of the Video Calls API, synchronous and asynchronous.

```python
from datetime import datetime, timedelta, timezone
from video_calls_sdk import VideoCallsClient

with VideoCallsClient("https://api.example.com/api/v1/video", token=jwt) as client:
    tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
    call = client.calls.create(doctor=1, patient=1, scheduled_time=tomorrow)
```

`video_calls_sdk.agora` reads Agora tokens. `video_calls_sdk.testing` helps test programs that use this
client.
"""

import logging

from video_calls_sdk._async_client import AsyncCalls, AsyncCallsWithResponse, AsyncVideoCallsClient
from video_calls_sdk._async_events import AsyncEventStream
from video_calls_sdk._configuration import Retries
from video_calls_sdk._errors import (
    AnsweredError,
    AuthenticationError,
    BadRequestError,
    CallCancelledError,
    CallCompletedError,
    CallNotFoundError,
    CallNotOngoingError,
    CallNotScheduledError,
    ConfigurationError,
    ConflictError,
    ConnectionFailedError,
    DeadlineExceededError,
    EventsClosedError,
    EventsExpiredError,
    EventsNotOfferedError,
    IdempotencyKeyReusedError,
    InactiveParticipantError,
    InvalidEventIdError,
    InvalidFieldsError,
    InvalidResponseError,
    JoinWindowError,
    NaiveDatetimeError,
    NotFoundError,
    NotParticipantError,
    PageNotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    RedirectError,
    SameUserError,
    ScheduledInPastError,
    SchedulingConflictError,
    ServerError,
    StatusError,
    TimedOutError,
    TokenExpiredError,
    UnavailableError,
    UnknownParticipantError,
    UnprocessableError,
    UnreadableFieldError,
    VideoCallsError,
)
from video_calls_sdk._ids import Id
from video_calls_sdk._models import (
    CallStatus,
    DoctorDetails,
    Event,
    EventData,
    EventType,
    JoinCredentials,
    Participant,
    PatientDetails,
    Role,
    User,
    VideoCall,
    VideoCallPage,
)
from video_calls_sdk._paging import AsyncCallList, AsyncCallPage, CallPage
from video_calls_sdk._responses import APIResponse
from video_calls_sdk._sync_client import Calls, CallsWithResponse, VideoCallsClient
from video_calls_sdk._sync_events import EventStream

__all__ = [
    "APIResponse",
    "AnsweredError",
    "AsyncCallList",
    "AsyncCallPage",
    "AsyncCalls",
    "AsyncCallsWithResponse",
    "AsyncEventStream",
    "AsyncVideoCallsClient",
    "AuthenticationError",
    "BadRequestError",
    "CallCancelledError",
    "CallCompletedError",
    "CallNotFoundError",
    "CallNotOngoingError",
    "CallNotScheduledError",
    "CallPage",
    "CallStatus",
    "Calls",
    "CallsWithResponse",
    "ConfigurationError",
    "ConflictError",
    "ConnectionFailedError",
    "DeadlineExceededError",
    "DoctorDetails",
    "Event",
    "EventData",
    "EventStream",
    "EventType",
    "EventsClosedError",
    "EventsExpiredError",
    "EventsNotOfferedError",
    "Id",
    "IdempotencyKeyReusedError",
    "InactiveParticipantError",
    "InvalidEventIdError",
    "InvalidFieldsError",
    "InvalidResponseError",
    "JoinCredentials",
    "JoinWindowError",
    "NaiveDatetimeError",
    "NotFoundError",
    "NotParticipantError",
    "PageNotFoundError",
    "Participant",
    "PatientDetails",
    "PermissionDeniedError",
    "RateLimitedError",
    "RedirectError",
    "Retries",
    "Role",
    "SameUserError",
    "ScheduledInPastError",
    "SchedulingConflictError",
    "ServerError",
    "StatusError",
    "TimedOutError",
    "TokenExpiredError",
    "UnavailableError",
    "UnknownParticipantError",
    "UnprocessableError",
    "UnreadableFieldError",
    "User",
    "VideoCall",
    "VideoCallPage",
    "VideoCallsClient",
    "VideoCallsError",
]

logging.getLogger("video_calls_sdk").addHandler(logging.NullHandler())
