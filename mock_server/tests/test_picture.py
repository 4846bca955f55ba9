"""The picture of the console for the README, taken of the real page in the midst of a morning's calls.

`nox -s picture` writes docs/console.webp; among the tests it goes to a directory that is thrown away.
"""

import base64
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from chromium import IN_CHROMIUM, PATIENCE, expect
from video_calls_sdk import NotParticipantError, SchedulingConflictError, VideoCallsClient
from video_calls_server.testing import Control

if TYPE_CHECKING:
    from conftest import Process

pytestmark = [*IN_CHROMIUM, pytest.mark.timeout(180)]

WIDTH, HEIGHT, SHARPNESS, QUALITY = 1440, 960, 1.5, 80
LARGEST = 150_000  # bytes
SATURDAY = 5


def a_working_morning() -> datetime:
    """When the seeded calls stand close together: the last working day's, or today's, twenty past nine."""
    today = datetime.now(UTC).replace(hour=9, minute=20, second=0, microsecond=0)
    return today - timedelta(days=max(0, today.weekday() - SATURDAY + 1))


def a_few_minutes(control: Control, *, joined: int, taken: datetime) -> None:
    """What others than the reader do: join, are refused, meet a fault and try again."""
    people = ("patient@example.com", "doctor@example.com", "outsider@example.com")
    patient, doctor, outsider = (VideoCallsClient(control.base_url, control.token(who)) for who in people)
    with patient, doctor, outsider:
        patient.calls.list()
        with control.faults.active(operation="joinVideoCall", status=503, retry_after=0, times=1):
            patient.calls.join(joined)
        doctor.calls.join(joined)
        with pytest.raises(NotParticipantError):
            outsider.calls.get(joined)
        with pytest.raises(SchedulingConflictError):
            patient.calls.create(doctor=2, patient=1, scheduled_time=taken)


def test_the_console_is_pictured(browser: Any, serve: "Callable[..., Process]", tmp_path: Path) -> None:
    server = serve("--database", ":memory:", "--seed-calls", "12", "--clock", a_working_morning().isoformat())
    window = browser.new_context(
        viewport={"width": WIDTH, "height": HEIGHT},
        device_scale_factor=SHARPNESS,
        color_scheme="light",
        locale="en-GB",
        timezone_id="UTC",
        reduced_motion="reduce",
    )
    window.set_default_timeout(PATIENCE)
    page = window.new_page()
    page.goto(server.url)
    events, requests = (page.get_by_role("region", name=name, exact=True) for name in ("Events", "Requests"))
    expect(events.get_by_text("connected", exact=True)).to_be_visible()
    expect(requests.get_by_text("following", exact=True)).to_be_visible()
    with Control(server.url) as control:
        coming = [each for each in control.calls.list("doctor@example.com") if each.status == "scheduled"]
        soon, later = sorted(coming, key=lambda call: call.scheduled_time)
        a_few_minutes(control, joined=soon.id, taken=soon.scheduled_time)
    page.get_by_role("checkbox", name="Calls of everyone").check()
    page.get_by_role("table").get_by_role("button", name=f"Call {later.id}", exact=True).click()
    page.get_by_role("button", name=f"Join call {later.id}", exact=True).click()
    expect(page.get_by_text("join.window").first).to_be_visible()
    expect(events).to_contain_text("participant.joined")
    expect(page.locator(".notice p")).to_have_count(0)
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.mouse.move(0, 0)

    taken = window.new_cdp_session(page).send(
        "Page.captureScreenshot", {"format": "webp", "quality": QUALITY}
    )
    picture = Path(os.environ.get("VIDEO_CALLS_TEST_PICTURE", tmp_path / "console.webp"))
    picture.write_bytes(base64.b64decode(taken["data"]))
    window.close()
    assert picture.stat().st_size < LARGEST
