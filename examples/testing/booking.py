"""A small program to test: it books the first free time, and shows users how to join."""

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
    """None of the times is free."""


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
