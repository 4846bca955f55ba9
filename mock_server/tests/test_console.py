"""The console at `/` in headless Chromium. The tests find elements by their visible text and ARIA roles."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from support.chromium import NEEDS_CHROMIUM, TIMEOUT, expect
from support.server_process import ServerProcess

pytestmark = [*NEEDS_CHROMIUM, pytest.mark.timeout(180)]

CALLS = "/api/v1/video/video-calls/"
KEY = "open-sesame-open-sesame"
TOO_EARLY = "This call is not scheduled to start yet"
NO_CALLS = "This user has no calls yet"
HOSTILE = "<img src=x onerror=\"document.title='changed'\"><b>bold</b>"


@dataclass
class Console:
    """The console in a tab, and what the browser reports about the tab."""

    page: Any
    url: str
    """The URL of the page, with the namespace if it has one."""
    headers: dict[str, str]
    """The headers of a request to the API as the doctor."""
    requests: list[str] = field(default_factory=list)
    reported_errors: list[str] = field(default_factory=list)
    """Errors of the page, violations of its policy, and failed loads."""

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", self._on_console)
        self.page.on("response", self._on_response)
        self.page.on("pageerror", lambda error: self.reported_errors.append(str(error)))

    def _on_console(self, message: Any) -> None:
        # Chromium reports each request that fails or is refused. The tests cause such requests.
        is_of_request = re.search("/api/|/_control/", f"{message.location['url']} {message.text}")
        if message.type in ("error", "warning") and not is_of_request:
            self.reported_errors.append(message.text)

    def _on_response(self, response: Any) -> None:
        if response.status >= 500 and response.status != 503:
            self.reported_errors.append(f"{response.status} {response.url}")

    def open(self, user: str | None = None) -> "Console":
        """Open the page, select a user if given, and wait until it is connected."""
        self.page.goto(self.url)
        if user is not None:
            self.panel("Users").get_by_role("radio", name=user).check()
            expect(self.panel("Users").get_by_text("acting as")).to_contain_text(user)
        self.expect_connected()
        return self

    def expect_connected(self) -> None:
        expect(self.panel("Events").get_by_text("connected", exact=True)).to_be_visible()
        expect(self.panel("Requests").get_by_text("following", exact=True)).to_be_visible()

    def panel(self, name: str) -> Any:
        return self.page.get_by_role("region", name=name, exact=True)

    def unfold(self, name: str) -> Any:
        """Open a panel that is closed at first."""
        panel = self.panel(name)
        panel.get_by_role("heading", name=name).click()
        return panel

    def press(self, name: str, within: Any = None) -> None:
        (within or self.page).get_by_role("button", name=name, exact=True).click()

    def dialog(self, name: str) -> Any:
        return self.page.get_by_role("dialog", name=name)

    def row(self, call: int) -> Any:
        """Return the row of a call in the table."""
        button = self.page.get_by_role("button", name=f"Call {call}", exact=True)
        return self.page.get_by_role("row").filter(has=button)

    def select(self, call: int) -> Any:
        """Select a call. Return its panel."""
        self.press(f"Call {call}", self.page.get_by_role("table"))
        return self.panel(f"Call {call}")

    def expect_response(self, status: str, text: str) -> Any:
        """Expect a response with this status and text. Return its panel."""
        panel = self.panel("Response")
        expect(panel.get_by_role("status")).to_contain_text(status)
        expect(panel.get_by_role("status")).to_contain_text(text)
        return panel

    def clipboard(self) -> str:
        text: str = self.page.evaluate("navigator.clipboard.readText()")
        return text

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Use the control API, without the browser."""
        return self._json(httpx.request(method, f"{self.url}_control/{path}", json=body))

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Use the API as the doctor, without the browser."""
        url = f"{self.url}{CALLS[1:]}{path}"
        return self._json(httpx.request(method, url, json=body, headers=self.headers))

    def _json(self, response: httpx.Response) -> Any:
        assert response.is_success, response.text
        return response.json() if response.content else None

    def create_call(self, minutes: float = 10, *actions: str) -> int:
        """Schedule a call of doctor 1 and patient 1 this many minutes from now, without the browser."""
        time = datetime.fromisoformat(self.control("GET", "clock")["time"]) + timedelta(minutes=minutes)
        body = {"doctor": 1, "patient": 1, "scheduled_time": time.isoformat()}
        call: int = self.api("POST", "", body)["id"]
        for action in actions:
            self.api("POST", f"{call}/{action}/")
        return call

    def status_of(self, call: int) -> str:
        status: str = self.api("GET", f"{call}/")["status"]
        return status


@pytest.fixture
def make_console(browser: Any) -> Iterator[Callable[..., Console]]:
    """Yield a function that opens a console in a new tab. Then check for errors and for foreign URLs."""
    consoles: list[Console] = []

    def make(server: ServerProcess, place: str = "", **context: Any) -> Console:
        options = {"timezone_id": "Asia/Kolkata", "locale": "en-GB", "reduced_motion": "reduce"} | context
        tabs = browser.new_context(permissions=["clipboard-read", "clipboard-write"], **options)
        tabs.set_default_timeout(TIMEOUT)
        consoles.append(Console(tabs.new_page(), f"{server.url}/{place}", server.headers()))
        return consoles[-1]

    yield make
    for console in consoles:
        console.page.context.close()
        requests = [url for url in console.requests if urlsplit(url).scheme not in ("blob", "data")]
        assert [url for url in requests if not url.startswith(console.url)] == []
        assert console.reported_errors == []


@pytest.fixture
def place(request: pytest.FixtureRequest) -> str:
    """Return the path of a namespace for this test."""
    return f"_ns/{sha256(request.node.nodeid.encode()).hexdigest()[:16]}/"


@pytest.fixture
def console(make_console: Callable[..., Console], plain_server: ServerProcess, place: str) -> Console:
    return make_console(plain_server, place)


# -- Users -------------------------------------------------------------------------------------------


def test_token_of_user_is_copied(console: Console) -> None:
    console.open()
    console.press("Copy token of patient@example.com")
    expect(console.page.locator(".notice")).to_contain_text("patient@example.com")
    headers = {"Authorization": f"Bearer {console.clipboard()}"}
    assert httpx.get(f"{console.url}{CALLS[1:]}", headers=headers).status_code == 200


def test_user_is_added_after_a_refusal(console: Console) -> None:
    console.open()
    console.press("Add a user")
    dialog = console.dialog("Add a user")
    dialog.get_by_label("Full name").fill("Dr. Ada New")
    dialog.get_by_label("E-mail").fill("doctor@example.com")
    dialog.get_by_label("Specialization").fill("Neurology")
    console.press("Add", dialog)
    expect(dialog.get_by_role("alert")).to_contain_text("doctor@example.com")
    dialog.get_by_label("E-mail").fill("ada@example.com")
    console.press("Add", dialog)
    expect(dialog).to_be_hidden()
    expect(console.panel("Users").get_by_role("radio", name="Dr. Ada New")).to_be_visible()
    user = console.control("GET", "identities")[-1]
    assert (user["email"], user["doctor"]["specialization"]) == ("ada@example.com", "Neurology")


def test_user_is_deactivated_and_reactivated(console: Console) -> None:
    call = console.create_call()
    console.open("Jane Smith")
    console.press("Deactivate")
    user = console.panel("Users").get_by_role("radio", name="Jane Smith")
    expect(user).to_have_accessible_description("patient 1 inactive")
    console.press(f"Join call {call}")
    console.expect_response("401", "The user of this token is unknown or inactive")
    console.press("Reactivate")
    expect(console.page.get_by_role("button", name="Deactivate")).to_be_visible()
    console.press(f"Join call {call}")
    console.expect_response("200", "done")


def test_expired_token_of_selected_user_is_used(console: Console) -> None:
    call = console.create_call()
    users = console.open("Jane Smith").open().panel("Users")
    expect(users.get_by_role("radio", name="Jane Smith")).to_be_checked()
    users.get_by_text("Issue a token").click()
    users.get_by_label("Kind of token").select_option("Expired")
    console.press("Issue the token")
    console.press("Use it")
    console.press(f"Join call {call}")
    console.expect_response("401", "The token has expired")
    console.press("Use the user's own token")
    console.press(f"Join call {call}")
    console.expect_response("200", "done")


def test_token_is_renewed_before_it_expires(console: Console) -> None:
    tokens: list[str] = []

    def short_lived(route: Any) -> None:
        users = console.control("GET", "identities")
        if not tokens:
            body = {"expires_in": 60}
            users[0]["token"] = console.control("POST", "identities/101/tokens", body)["token"]
        tokens.append(users[0]["token"])
        route.fulfill(json=users)

    console.page.route("**/_control/identities", short_lived)
    console.open()
    console.page.wait_for_event("response", lambda response: response.url.endswith("/_control/identities"))
    console.press("Copy token of doctor@example.com")
    assert console.clipboard() == tokens[-1] != tokens[0]


# -- Calls -------------------------------------------------------------------------------------------


def test_call_is_scheduled_in_local_time_zone(console: Console) -> None:
    console.open()
    expect(console.panel("Calls").get_by_text(NO_CALLS)).to_be_visible()
    console.press("Schedule a call")
    dialog = console.dialog("Schedule a call")
    dialog.get_by_label("Doctor").select_option("1: Dr. John Doe")
    dialog.get_by_label("Patient").select_option("2: Other Patient")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date()
    dialog.get_by_label("Time in your time zone").fill(f"{tomorrow}T15:30")
    console.press("Schedule", dialog)
    expect(dialog).to_be_hidden()
    console.expect_response("201", "done")
    call = console.control("GET", "calls")[0]
    assert (call["doctor"], call["patient"], call["scheduled_time"]) == (1, 2, f"{tomorrow}T10:00:00Z")
    time = console.row(call["id"]).locator("time")
    expect(time).to_contain_text("15:30")
    expect(time).to_have_attribute("title", f"{tomorrow} 10:00:00 UTC")


def test_refused_schedule_shows_error_and_rule_statement(console: Console) -> None:
    console.create_call(25)
    console.open("Jane Smith")
    console.press("Schedule a call")
    dialog = console.dialog("Schedule a call")
    dialog.get_by_label("Doctor").select_option("1: Dr. John Doe")
    console.press("in 20 min", dialog)
    console.press("Schedule", dialog)
    error = "There is already a scheduled call within 30 minutes of this time"
    expect(dialog.get_by_role("alert")).to_have_text(error)
    console.press("Cancel", dialog)
    response = console.expect_response("400", error)
    expect(response).to_contain_text("No overlapping calls within 30 minutes for either doctor or patient")
    body = response.get_by_role("region", name="Body of the response")
    assert json.loads(body.inner_text())["code"] == "create.no-overlap"


def test_join_shows_decoded_token(console: Console) -> None:
    call = console.create_call()
    console.open("Jane Smith")
    console.press(f"Join call {call}")
    response = console.expect_response("200", "done")
    channel = console.api("GET", f"{call}/")["channel_name"]
    for name, value in {"Uid": "102", "Channel": channel, "Signature": "✓"}.items():
        expect(response.locator("dl > div").filter(has_text=re.compile(f"^{name}"))).to_contain_text(value)
    expect(console.row(call)).to_contain_text("ongoing")
    expect(console.row(call)).to_contain_text("patient present")


def test_console_ends_one_call_and_cancels_another(console: Console) -> None:
    to_end, to_cancel = console.create_call(5, "join"), console.create_call(60)
    console.open()
    for action, call, status in (("End", to_end, "completed"), ("Cancel", to_cancel, "cancelled")):
        console.press(f"{action} call {call}")
        console.expect_response("200", f"{action} call {call}")
        expect(console.row(call)).to_contain_text(status)
        assert console.status_of(call) == status


def test_outsider_sees_all_calls_and_is_refused(console: Console) -> None:
    call = console.create_call()
    console.open("Outsider")
    expect(console.panel("Calls").get_by_text(NO_CALLS)).to_be_visible()
    console.page.get_by_role("checkbox", name="Calls of all users").check()
    console.press(f"Join call {call}")
    console.expect_response("403", "You are not authorized to access this call")


def test_timeline_shows_calls_and_supports_the_keyboard(console: Console) -> None:
    console.control("PUT", "clock", {"time": "2030-01-05T06:00:00Z"})
    completed_call = console.create_call(5, "join", "end")
    cancelled_call = console.create_call(10, "cancel")
    scheduled_call = console.create_call(60)
    timeline = console.open().page.get_by_role("group", name="Timeline")
    bars = timeline.get_by_role("button", name=re.compile(r"^Call \d"))
    expect(bars).to_have_count(3)
    for call, status in (
        (completed_call, "completed"),
        (cancelled_call, "cancelled"),
        (scheduled_call, "scheduled"),
    ):
        bar = bars.filter(has_text=str(call))
        expect(bar).to_have_accessible_name(re.compile(f"Call {call}, {status}, "))
    expect(timeline.get_by_title("Join window")).to_have_count(1)
    expect(timeline.locator(".now")).to_be_in_viewport()
    bars.first.focus()
    console.page.keyboard.press("ArrowRight")
    console.page.keyboard.press("Enter")
    expect(bars.nth(1)).to_have_attribute("aria-pressed", "true")
    console.press("Day after", timeline)
    expect(bars).to_have_count(0)
    console.press("Now", timeline)
    expect(bars).to_have_count(3)


def verdict(console: Console, call: int, action: str) -> Any:
    """Return the line with the outcome of an action, in the panel of the call."""
    button = console.page.get_by_role("button", name=f"{action} call {call} now")
    return console.panel(f"Call {call}").get_by_role("listitem").filter(has=button)


def test_verdict_follows_the_clock(console: Console) -> None:
    call = console.create_call(40)
    console.open().select(call)
    join = verdict(console, call, "Join")
    expect(join).to_contain_text(f"refused {TOO_EARLY} join.window")
    join.get_by_text("refused").first.click()
    expect(join).to_contain_text("Call must be scheduled within the next 15 minutes")
    join.get_by_role("button").click()
    console.expect_response("400", TOO_EARLY)
    expect(console.row(call)).to_contain_text("join opens in")
    expect(console.row(call).get_by_role("button", name="Join")).to_have_count(0)
    for _ in range(2):
        console.press("+15 min")
    expect(join).to_contain_text("allowed")
    expect(console.row(call)).to_contain_text("join is open")
    expect(console.row(call).get_by_role("button", name="Join")).to_be_visible()


def test_page_updates_when_join_window_opens(console: Console) -> None:
    call = console.create_call(15 + 0.02)
    console.control("PUT", "clock", {"time": console.control("GET", "clock")["time"], "running": False})
    console.open().select(call)
    expect(verdict(console, call, "Join")).to_contain_text("refused")
    console.press("Resume")
    expect(verdict(console, call, "Join")).to_contain_text("allowed")
    expect(console.row(call).get_by_role("button", name="Join")).to_be_visible()


def test_page_shows_the_actions_that_the_server_allows(console: Console) -> None:
    ongoing, far = console.create_call(10, "join"), console.create_call(90)

    def change(route: Any) -> None:
        calls = route.fetch().json()
        for call in calls:
            call["allowed"] = ["cancel"] if call["id"] == ongoing else ["join"]
            call["join_opens_at"] = call["created_at"]
        route.fulfill(json=calls)

    console.page.route(re.compile(r"/_control/calls\?"), change)
    console.open()
    expect(console.row(ongoing).get_by_role("button", name="Cancel")).to_be_visible()
    expect(console.row(ongoing).get_by_role("button", name="End")).to_have_count(0)
    expect(console.row(far).get_by_role("button", name="Join")).to_be_visible()
    expect(console.row(far)).to_contain_text("join is open")


def test_participants_leave_and_join_the_channel(console: Console) -> None:
    call = console.create_call(10, "join")
    panel = console.open().select(call)
    doctor = panel.get_by_role("checkbox", name="doctor")
    expect(doctor).to_be_checked()
    doctor.click()
    expect(doctor).not_to_be_checked()
    panel.get_by_role("checkbox", name="patient").click()
    expect(panel.get_by_role("checkbox", name="patient")).to_be_checked()
    expect(console.panel("Events")).to_contain_text(f"participant.leftcall {call}, doctor")
    assert console.control("GET", "calls")[0]["present"] == ["patient"]


# -- Clock -------------------------------------------------------------------------------------------


def test_clock_is_advanced_frozen_set_and_reset(console: Console) -> None:
    call = console.create_call(120)
    console.open().select(call)
    clock = console.panel("Clock")
    console.press("+1 min", clock)
    expect(clock).to_contain_text("1 min ahead")
    console.press("+15 min", clock)
    expect(clock).to_contain_text("16 min ahead")
    console.press(f"To the join window of call {call}", clock)
    expect(console.row(call)).to_contain_text("join is open")
    console.press("Freeze", clock)
    expect(clock).to_contain_text("frozen")
    assert console.control("GET", "clock")["running"] is False
    console.press("Resume", clock)
    console.press("Set…", clock)
    dialog = console.dialog("Set the clock")
    dialog.get_by_label("Time").fill("2030-01-05T15:30:00")
    console.press("Set", dialog)
    expect(clock).to_contain_text("15:30")
    assert console.control("GET", "clock")["time"].startswith("2030-01-05T10:00:")
    console.press("Real time", clock)
    expect(clock).to_contain_text("real time")
    assert abs(console.control("GET", "clock")["offset"]) < 1


# -- Events ------------------------------------------------------------------------------------------


def test_event_of_another_client_is_announced_and_opened(console: Console) -> None:
    call = console.create_call()
    events = console.open("Jane Smith").panel("Events")
    console.api("POST", f"{call}/cancel/")
    announcement = events.get_by_role("status").filter(has_text="call.cancelled")
    expect(announcement).to_contain_text(f"call {call}")
    expect(console.row(call)).to_contain_text("cancelled")
    events.get_by_text("call.cancelled", exact=True).click()
    body = events.get_by_role("region", name=re.compile(r"^Event \d+$"))
    assert json.loads(body.inner_text())["data"]["call"]["id"] == call


def test_events_resume_after_reconnect(console: Console) -> None:
    call = console.create_call()
    events = console.open().panel("Events")
    console.api("POST", f"{call}/join/")
    expect(events).to_contain_text(f"call.startedcall {call}")
    console.press("Disconnect all clients")
    expect(events).to_contain_text("closed with 1012")
    console.api("POST", f"{call}/end/")  # while the page is not connected
    expect(events).to_contain_text(f"call.endedcall {call}")
    console.expect_connected()
    expect(events.get_by_text("call.started", exact=True)).to_have_count(1)


# -- Requests ----------------------------------------------------------------------------------------


def test_console_opens_and_copies_request_of_another_client(console: Console) -> None:
    requests = console.open().panel("Requests")
    body = {"doctor": 1, "patient": 1, "scheduled_time": "2001-01-01T00:00:00Z"}
    httpx.post(f"{console.url}{CALLS[1:]}", json=body, headers=console.headers)
    line = requests.get_by_role("listitem").filter(has_text="create.future")
    line.get_by_text("400").click()
    expect(line).to_contain_text("Scheduled time must be in the future")
    for kind, expected in (("request", body), ("response", {"code": "create.future"})):
        text = line.get_by_role("region", name=re.compile(f"Body of {kind}")).inner_text()
        assert json.loads(text).items() >= expected.items()
    line.get_by_role("button", name="Copy curl of request").click()
    expect(console.page.locator(".notice")).to_contain_text("Copied")
    assert console.clipboard().startswith("curl ")


def test_response_links_to_its_request(console: Console) -> None:
    call = console.create_call()
    requests = console.open().panel("Requests")
    console.press(f"Join call {call}")
    expect(requests.get_by_text(f"/{call}/join/")).to_be_visible()
    requests.get_by_role("searchbox").fill("no such thing")
    expect(requests.get_by_role("listitem")).to_have_count(0)
    console.press("Show in the request log")
    curl = requests.get_by_role("region", name=re.compile("curl of request"))
    expect(curl).to_contain_text(f"{CALLS}{call}/join/")
    console.press("Clear requests")
    expect(requests.get_by_text("No requests yet")).to_be_visible()
    assert console.control("GET", "requests") == []


# -- Faults ------------------------------------------------------------------------------------------


def test_preset_fault_is_added_and_acts(console: Console) -> None:
    call = console.create_call()
    faults = console.open().unfold("Faults")
    console.press("Next request: 503", faults)
    expect(faults.get_by_role("listitem")).to_contain_text("1 left")
    console.press(f"Join call {call}")
    expect(console.expect_response("503", "")).to_contain_text("Fault: 503 once")
    expect(faults).to_contain_text("0 left")
    console.press("Remove all faults", faults)
    expect(faults.get_by_role("listitem")).to_have_count(0)


def test_custom_fault_is_added_acts_and_is_removed(console: Console) -> None:
    call = console.create_call()
    faults = console.open().unfold("Faults")
    faults.get_by_text("Custom fault").click()
    faults.get_by_label("Effect").select_option("Drop the connection")
    faults.get_by_label("Operation").select_option("joinVideoCall")
    faults.get_by_label("After the request is handled").check()
    console.press("Add the fault", faults)
    expect(faults.get_by_role("listitem")).to_contain_text("after the operation, joinVideoCall")
    console.press(f"Join call {call}")
    console.expect_response("No response", "")
    expect(console.row(call)).to_contain_text("ongoing")
    faults.get_by_role("button", name=re.compile("^Remove .*, fault")).click()
    expect(faults.get_by_role("listitem")).to_have_count(0)
    assert console.control("GET", "faults") == []


# -- State -------------------------------------------------------------------------------------------


def test_snapshot_is_saved_restored_downloaded_and_deleted(console: Console) -> None:
    call = console.create_call()
    panel = console.open().unfold("State and snapshots")
    panel.get_by_label("Name").fill("before")
    console.press("Save a snapshot", panel)
    expect(panel.get_by_role("listitem")).to_contain_text("1 calls")
    console.press(f"Cancel call {call}")
    expect(console.row(call)).to_contain_text("cancelled")
    console.press("Restore before", panel)
    expect(console.row(call)).to_contain_text("scheduled")
    with console.page.expect_download() as download:
        console.press("Download before", panel)
    assert download.value.suggested_filename == "before.json"
    console.press("Delete before", panel)
    expect(panel.get_by_role("listitem")).to_have_count(0)


def test_state_is_exported_and_imported(console: Console, tmp_path: Path) -> None:
    call = console.create_call()
    panel = console.open().unfold("State and snapshots")
    with console.page.expect_download() as download:
        console.press("Export", panel)
    export = tmp_path / download.value.suggested_filename
    download.value.save_as(export)
    console.press(f"Cancel call {call}")
    expect(console.row(call)).to_contain_text("cancelled")
    file = panel.get_by_label("Import the state from a file")
    file.set_input_files(export)
    expect(console.row(call)).to_contain_text("scheduled")
    export.write_text("not JSON")
    file.set_input_files(export)
    expect(console.page.locator(".notice .failed")).to_contain_text(export.name)


def test_state_is_reset_after_confirmation(console: Console) -> None:
    call = console.create_call()
    panel = console.open().unfold("State and snapshots")
    dialog = console.dialog("Reset the state?")
    console.press("Reset…", panel)
    console.press("Cancel", dialog)
    assert console.status_of(call) == "scheduled"
    console.press("Reset…", panel)
    console.press("Reset", dialog)
    expect(console.panel("Calls").get_by_text(NO_CALLS)).to_be_visible()


def test_page_follows_reset_by_another_client(console: Console) -> None:
    call = console.create_call()
    console.control("POST", "identities", {"full_name": "New Patient", "patient": True})
    console.open()
    expect(console.row(call)).to_be_visible()
    console.control("POST", "state/reset")
    expect(console.panel("Calls").get_by_text(NO_CALLS)).to_be_visible()
    expect(console.panel("Users").get_by_role("radio", name="New Patient")).to_have_count(0)
    console.expect_connected()


def test_sample_calls_show_each_name_in_one_line(console: Console) -> None:
    console.open()
    console.page.get_by_role("checkbox", name="Calls of all users").check()
    console.press("add 20 sample calls")
    expect(console.page.get_by_role("table").get_by_role("rowheader")).to_have_count(20)
    lines_of_names = """() => [...document.querySelectorAll('tbody td:nth-child(3) > div')].map((name) =>
      Math.round(name.getBoundingClientRect().height / parseFloat(getComputedStyle(name).lineHeight)))"""
    assert set(console.page.evaluate(lines_of_names)) == {1}
    panel = console.unfold("State and snapshots")
    panel.get_by_label("Number of calls").fill("5")
    console.press("Add sample calls", panel)
    expect(console.page.get_by_role("table").get_by_role("rowheader")).to_have_count(25)


# -- Namespaces and the control key ------------------------------------------------------------------


def test_control_key_opens_the_console_and_a_namespace(
    make_console: Callable[..., Console], serve: Callable[..., ServerProcess]
) -> None:
    console = make_console(serve("--database", ":memory:", "--control-key", KEY))
    console.page.goto(console.url)
    dialog = console.dialog("Control key")
    dialog.get_by_label("Key").fill("wrong")
    console.press("Continue", dialog)
    expect(dialog.get_by_label("Key")).to_have_value("")
    dialog.get_by_label("Key").fill(KEY)
    console.press("Continue", dialog)
    console.expect_connected()
    namespaces = console.unfold("Namespaces")
    namespaces.get_by_label("Name").fill("other")
    console.press("Open the namespace", namespaces)
    expect(console.page).to_have_url(f"{console.url}_ns/other/")
    console.expect_connected()
    console.unfold("Namespaces").get_by_role("link", name="default").click()
    console.expect_connected()
    console.press("Delete namespace other", console.unfold("Namespaces"))
    expect(console.panel("Namespaces").get_by_role("listitem")).to_have_count(1)
    assert not any(KEY in url for url in console.requests)


# -- Failures and hostile input ----------------------------------------------------------------------


def test_page_says_when_the_server_is_gone(
    make_console: Callable[..., Console], serve: Callable[..., ServerProcess]
) -> None:
    server = serve("--database", ":memory:")
    console = make_console(server).open()
    server.popen.kill()
    for part in ("Events", "Requests"):
        expect(console.panel(part).get_by_text("not connected")).to_be_visible()
    expect(console.panel("Clock").get_by_role("alert")).to_be_visible()


def test_page_says_why_it_cannot_start_and_retries(console: Console) -> None:
    console.page.route(
        "**/_control/server", lambda route: route.fulfill(status=503, json={"error": "Not now"})
    )
    console.page.goto(console.url)
    expect(console.page.get_by_role("alert")).to_contain_text("Not now")
    console.page.unroute("**/_control/server")
    console.press("Try again")
    console.expect_connected()


def test_hostile_name_is_shown_as_text(console: Console) -> None:
    call = console.create_call()
    console.control("PATCH", "identities/doctor@example.com", {"full_name": HOSTILE})
    console.open()
    expect(console.panel("Users").get_by_role("radio", name=HOSTILE)).to_be_visible()
    expect(console.row(call)).to_contain_text(HOSTILE)
    expect(console.select(call)).to_contain_text(HOSTILE)
    console.press(f"Cancel call {call}")
    console.panel("Events").get_by_text("call.cancelled", exact=True).click()
    expect(console.panel("Events").get_by_role("region")).to_contain_text("<b>bold</b>")
    assert console.page.locator("#console").locator("img, b").count() == 0
    expect(console.page).not_to_have_title("changed")


# -- Accessibility and layout ------------------------------------------------------------------------


def fill(console: Console) -> None:
    """Fill and open all panels: calls in all statuses, a fault, a snapshot."""
    console.create_call(5, "join", "end")
    console.create_call(50, "cancel")
    console.control("PUT", "snapshots/one")
    console.control("POST", "faults", {"operation": "getVideoCall", "status": 500, "name": "broken reading"})
    call = console.create_call(10)
    console.open().select(call)
    console.press(f"Join call {call}")
    console.page.get_by_role("heading", name="Decoded Agora token").wait_for()
    for _ in range(2):  # an open panel can contain closed ones
        console.page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
        console.page.get_by_role("heading", name="curl").first.wait_for()


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1440, "dark")])
def test_page_fits_the_screen(
    make_console: Callable[..., Console], plain_server: ServerProcess, place: str, width: int, scheme: str
) -> None:
    console = make_console(plain_server, place, viewport={"width": width, "height": 800}, color_scheme=scheme)
    fill(console)
    assert console.page.evaluate("document.documentElement.scrollWidth") == width
    elements_outside = f"""() => [...document.querySelectorAll('button, input, select, h2, pre')]
      .filter((element) => element.checkVisibility() && !element.closest('.scroller, .hidden'))
      .filter((element) => element.getBoundingClientRect().right > {width})
      .map((element) => element.outerHTML.slice(0, 100))"""
    assert console.page.evaluate(elements_outside) == []


def test_page_is_accessible(console: Console) -> None:
    fill(console)
    snapshot = console.page.locator("body").aria_snapshot()
    controls = re.findall(
        r"- (button|link|textbox|searchbox|spinbutton|combobox|checkbox|radio|region|table)(.*)", snapshot
    )
    assert len(controls) > 50
    assert [role for role, name in controls if not name.startswith(' "')] == []
    buttons = [name for role, name in controls if role == "button"]
    assert {name for name in buttons if buttons.count(name) > 1} == set()
    for landmark in ("banner", "main", "navigation"):
        expect(console.page.get_by_role(landmark)).to_have_count(1)
    levels = console.page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3')].map((heading) => Number(heading.tagName[1]))"
    )
    assert (levels[0], levels.count(1)) == (1, 1)
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert console.page.locator("th:not([scope])").count() == 0


FOCUS = """() => {
  const element = document.activeElement;
  const name = element.ariaLabel || element.labels?.[0]?.textContent || element.textContent;
  return [name.trim(), parseFloat(getComputedStyle(element).outlineWidth)];
}"""


@dataclass
class Keyboard:
    """The page, used with the keyboard only."""

    page: Any

    def move_to(self, name: str) -> None:
        """Press Tab until the control whose name starts with this has the focus."""
        for _ in range(80):
            self.page.keyboard.press("Tab")
            focus_name, outline_width = self.page.evaluate(FOCUS)
            if focus_name.startswith(name):
                assert outline_width >= 2, f"{name} does not show that it has the focus"
                return
        raise AssertionError(f"no key leads to {name}")

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)


def test_main_actions_work_with_the_keyboard(console: Console) -> None:
    console.open()
    keys = Keyboard(console.page)
    keys.move_to("Skip to the calls")
    keys.press("Enter")
    keys.move_to("Schedule a call")
    keys.press("Enter")
    expect(console.page.get_by_role("dialog", name="Schedule a call")).to_be_visible()
    keys.move_to("in 5 min")
    keys.press("Enter")
    keys.move_to("Schedule")
    keys.press("Enter")
    console.expect_response("201", "done")
    expect(console.page.get_by_role("button", name="Schedule a call")).to_be_focused()
    keys.move_to("Join call 1")
    keys.press("Enter")
    console.expect_response("200", "Join call 1")
    keys.move_to("End call 1")
    keys.press("Enter")
    console.expect_response("200", "End call 1")
    keys.move_to("Show in the request log")
    keys.press("Enter")
    expect(console.panel("Requests").locator("summary:focus")).to_contain_text("/end/")


# -- The meeting page --------------------------------------------------------------------------------

RECORDING_SDK = """
window.agora = [];
window.AgoraRTC = {
  createClient: (config) => ({
    remoteUsers: [],
    on: () => undefined,
    join: async (...credentials) => { window.agora.push(['join', ...credentials]); },
    publish: async (tracks) => { window.agora.push(['publish', tracks.length]); },
    leave: async () => { window.agora.push(['leave']); },
  }),
  createMicrophoneAndCameraTracks: async () => [{close() {}, play() {}}, {close() {}, play() {}}],
};
"""


def open_meeting(console: Console) -> Any:
    """Join a call and open the meeting page from its response."""
    call = console.create_call()
    console.open()
    console.press(f"Join call {call}")
    with console.page.context.expect_page() as new_page:
        console.press("Open the meeting page")
    page = new_page.value
    page.on("pageerror", lambda error: console.reported_errors.append(str(error)))
    page.on("request", lambda request: console.requests.append(request.url))
    return page


def test_meeting_page_warns_of_development_credentials(console: Console) -> None:
    page = open_meeting(console)
    expect(page.get_by_text("AGORA_APP_ID")).to_be_visible()
    assert page.url == f"{console.url}_console/meeting.html", "the credentials are not in the URL"
    assert page.evaluate("Object.keys(sessionStorage)") == ["video-calls-meeting"]
    assert console.page.evaluate("sessionStorage.getItem('video-calls-meeting')") is None


def test_meeting_page_joins_with_the_chosen_sdk(
    make_console: Callable[..., Console], serve: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    app_id = "0123456789abcdef0123456789abcdef"
    (tmp_path / "sdk.js").write_text(RECORDING_SDK)
    pair = {"AGORA_APP_ID": app_id, "AGORA_APP_CERTIFICATE": app_id[::-1]}
    console = make_console(serve("--database", ":memory:", "--static", str(tmp_path), env=pair))
    page = open_meeting(console)
    page.get_by_label("Path on this server").fill("/app/missing.js")
    page.get_by_role("button", name="Load the SDK").click()
    expect(page.get_by_role("status")).to_have_class("failed")
    page.get_by_label("File on this machine").set_input_files(tmp_path / "sdk.js")
    page.get_by_role("button", name="Join the channel").click()
    expect(page.get_by_text("You", exact=True)).to_be_visible()
    channel = console.control("GET", "calls")[0]["channel_name"]
    join_call, publish_call = page.evaluate("agora")
    assert join_call[:3] == ["join", app_id, channel]
    assert join_call[3].startswith(f"006{app_id}")
    assert join_call[4] == 101
    assert publish_call == ["publish", 2]
    page.get_by_role("button", name="Leave the channel").click()
    expect(page.get_by_role("button", name="Join the channel")).to_be_visible()
    assert page.evaluate("agora.at(-1)") == ["leave"]
