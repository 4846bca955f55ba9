"""Test with the reference server in the process of the test: its rules, its clock, its faults.

python -m pip install -c constraints.txt -e ".[testing]"   (in a clone of the repository)
pytest examples/testing/test_booking.py
"""

from datetime import datetime, timedelta

import pytest
from booking import NothingFreeError, book_first_free, door
from video_calls_sdk.testing import VideoCallsServer


def half_hours(server: VideoCallsServer, count: int) -> list[datetime]:
    """Return this many times of tomorrow."""
    return [server.clock.now() + timedelta(days=1, minutes=30 * number) for number in range(count)]


def test_first_free_time_is_booked(video_calls_server: VideoCallsServer) -> None:
    times = half_hours(video_calls_server, 3)
    other_patient = video_calls_server.client("other.patient@example.com")
    other_patient.calls.create(doctor=1, patient=2, scheduled_time=times[0])

    call = book_first_free(video_calls_server.patient, doctor=1, patient=1, times=times)

    assert call.scheduled_time == times[1]
    assert video_calls_server.doctor.calls.get(call.id) == call


def test_booking_without_free_time_is_an_error(video_calls_server: VideoCallsServer) -> None:
    times = half_hours(video_calls_server, 2)
    for time in times:
        video_calls_server.doctor.calls.create(doctor=1, patient=1, scheduled_time=time)

    with pytest.raises(NothingFreeError):
        book_first_free(video_calls_server.patient, doctor=1, patient=1, times=times)
    assert video_calls_server.patient.calls.list().count == 2


def test_door_opens_at_join_window(video_calls_server: VideoCallsServer) -> None:
    server = video_calls_server
    call = book_first_free(server.patient, doctor=1, patient=1, times=half_hours(server, 1))
    assert door(server.patient, call.id).startswith("You are early")

    server.clock.advance(days=1, minutes=-15)

    assert door(server.patient, call.id) == f"Welcome to {call.channel_name}."


def test_door_reports_an_outage(video_calls_server: VideoCallsServer) -> None:
    server = video_calls_server
    call = book_first_free(server.patient, doctor=1, patient=1, times=half_hours(server, 1))
    server.clock.to_join_window(call.id)

    with server.control.faults.active(operation="joinVideoCall", status=503, retry_after=0):
        assert "being repaired" in door(server.patient, call.id)
    assert server.patient.calls.get(call.id).started_at is None
    assert door(server.patient, call.id).startswith("Welcome")
