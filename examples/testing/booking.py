"""A small program to be tested: it books the first time that is free, and lets people in."""

from collections.abc import Iterable
from datetime import datetime

from video_calls_sdk import (
    Id,
    JoinWindowError,
    SchedulingConflictError,
    UnavailableError,
    VideoCall,
    VideoCallsClient,
)


class NothingFreeError(Exception):
    """Each of the times is taken."""


def book_first_free(
    client: VideoCallsClient, *, doctor: Id, patient: Id, times: Iterable[datetime]
) -> VideoCall:
    for time in times:
        try:
            return client.calls.create(doctor=doctor, patient=patient, scheduled_time=time)
        except SchedulingConflictError:
            continue
    raise NothingFreeError


def door(client: VideoCallsClient, call_id: Id) -> str:
    """Return what the page of a call shows a user who wants to join."""
    try:
        credentials = client.calls.join(call_id)
    except JoinWindowError:
        return "You are early: the call opens a quarter of an hour before its time."
    except UnavailableError:
        return "Video calls are being repaired. Please try again in a few minutes."
    return f"Welcome to {credentials.channel_name}."
