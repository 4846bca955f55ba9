"""The console at `/`, in real headless Chromium, found by what a person sees and a screen reader says."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from video_calls_server import Settings, create_app
from video_calls_server.domain import calls

from support.chromium import IN_CHROMIUM, PATIENCE, expect

if TYPE_CHECKING:
    from support.process import Process

pytestmark = [*IN_CHROMIUM, pytest.mark.timeout(180)]

CALLS = "/api/v1/video/video-calls/"
KEY = "open-sesame-open-sesame"
TOO_EARLY = "This call is not scheduled to start yet"
NO_CALLS = "This person has no calls yet"
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><b>bold</b>"


@dataclass
class Console:
    """The console in a tab, as a person uses it, and what the browser reports about the tab."""

    page: Any
    url: str
    """The page's address, with the namespace if it has one."""
    headers: dict[str, str]
    """Those of a request to the API as the doctor."""
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """The browser's reports: errors of the page, violations of its policy, failed loads."""

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", self._on_console)
        self.page.on("response", self._on_response)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _on_console(self, message: Any) -> None:
        # Chromium reports each request that fails or is refused. The tests cause such requests.
        of_a_request = re.search("/api/|/_control/", f"{message.location['url']} {message.text}")
        if message.type in ("error", "warning") and not of_a_request:
            self.complaints.append(message.text)

    def _on_response(self, response: Any) -> None:
        if response.status >= 500 and response.status != 503:
            self.complaints.append(f"{response.status} {response.url}")

    def open(self, person: str | None = None) -> "Console":
        """Open the page, as the person of this name if any, and wait until it is connected."""
        self.page.goto(self.url)
        if person is not None:
            self.part("People").get_by_role("radio", name=person).check()
            expect(self.part("People").get_by_text("acting as")).to_contain_text(person)
        self.connected()
        return self

    def connected(self) -> None:
        expect(self.part("Events").get_by_text("connected", exact=True)).to_be_visible()
        expect(self.part("Requests").get_by_text("following", exact=True)).to_be_visible()

    def part(self, name: str) -> Any:
        return self.page.get_by_role("region", name=name, exact=True)

    def unfold(self, name: str) -> Any:
        """Open a part of the page that is closed at first."""
        part = self.part(name)
        part.get_by_role("heading", name=name).click()
        return part

    def press(self, name: str, within: Any = None) -> None:
        (within or self.page).get_by_role("button", name=name, exact=True).click()

    def dialog(self, name: str) -> Any:
        return self.page.get_by_role("dialog", name=name)

    def row(self, call: int) -> Any:
        """The row of a call in the table."""
        button = self.page.get_by_role("button", name=f"Call {call}", exact=True)
        return self.page.get_by_role("row").filter(has=button)

    def look(self, call: int) -> Any:
        """Choose a call. Return the part of the page that is about it."""
        self.press(f"Call {call}", self.page.get_by_role("table"))
        return self.part(f"Call {call}")

    def answers(self, status: str, text: str) -> Any:
        """Return the part of the page with the answer, which shows this status and text."""
        part = self.part("The server's answer")
        expect(part.get_by_role("status")).to_contain_text(status)
        expect(part.get_by_role("status")).to_contain_text(text)
        return part

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

    def has_call(self, minutes: float = 10, *actions: str) -> int:
        """Schedule a call of doctor 1 and patient 1 in so many minutes, without the browser."""
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
    """Open consoles in tabs of their own. Afterwards, none has complained or left its namespace's address."""
    consoles: list[Console] = []

    def make(server: "Process | ServerHere", place: str = "", **context: Any) -> Console:
        options = {"timezone_id": "Asia/Kolkata", "locale": "en-GB", "reduced_motion": "reduce"} | context
        tabs = browser.new_context(permissions=["clipboard-read", "clipboard-write"], **options)
        tabs.set_default_timeout(PATIENCE)
        consoles.append(Console(tabs.new_page(), f"{server.url}/{place}", server.headers()))
        return consoles[-1]

    yield make
    for console in consoles:
        console.page.context.close()
        requests = [url for url in console.requests if urlsplit(url).scheme not in ("blob", "data")]
        assert [url for url in requests if not url.startswith(console.url)] == []
        assert console.complaints == []


@pytest.fixture
def place(request: pytest.FixtureRequest) -> str:
    """The path of a namespace of the test's own."""
    return f"_ns/{sha256(request.node.nodeid.encode()).hexdigest()[:16]}/"


@pytest.fixture
def console(make_console: Callable[..., Console], plain_server: "Process", place: str) -> Console:
    return make_console(plain_server, place)


# -- People -----------------------------------------------------------------------------------------


def test_token_of_a_person_is_copied(console: Console) -> None:
    console.open()
    console.press("Copy token of patient@example.com")
    expect(console.page.locator(".notice")).to_contain_text("patient@example.com")
    headers = {"Authorization": f"Bearer {console.clipboard()}"}
    assert httpx.get(f"{console.url}{CALLS[1:]}", headers=headers).status_code == 200


def test_person_is_added_after_a_refusal_says_why(console: Console) -> None:
    console.open()
    console.press("Add a person")
    dialog = console.dialog("Add a person")
    dialog.get_by_label("Full name").fill("Dr. Ada New")
    dialog.get_by_label("E-mail").fill("doctor@example.com")
    dialog.get_by_label("Specialization").fill("Neurology")
    console.press("Add", dialog)
    expect(dialog.get_by_role("alert")).to_contain_text("doctor@example.com")
    dialog.get_by_label("E-mail").fill("ada@example.com")
    console.press("Add", dialog)
    expect(dialog).to_be_hidden()
    expect(console.part("People").get_by_role("radio", name="Dr. Ada New")).to_be_visible()
    added = console.control("GET", "identities")[-1]
    assert (added["email"], added["doctor"]["specialization"]) == ("ada@example.com", "Neurology")


def test_person_is_deactivated_and_reactivated(console: Console) -> None:
    call = console.has_call()
    console.open("Jane Smith")
    console.press("Deactivate")
    person = console.part("People").get_by_role("radio", name="Jane Smith")
    expect(person).to_have_accessible_description("patient 1 inactive")
    console.press(f"Join call {call}")
    console.answers("401", "The user of this token is unknown or inactive")
    console.press("Reactivate")
    expect(console.page.get_by_role("button", name="Deactivate")).to_be_visible()
    console.press(f"Join call {call}")
    console.answers("200", "done")


def test_expired_token_of_the_chosen_person_is_used(console: Console) -> None:
    call = console.has_call()
    people = console.open("Jane Smith").open().part("People")
    expect(people.get_by_role("radio", name="Jane Smith")).to_be_checked()
    people.get_by_text("Make a token").click()
    people.get_by_label("Kind of token").select_option("Expired")
    console.press("Make the token")
    console.press("Act with it")
    console.press(f"Join call {call}")
    console.answers("401", "The token has expired")
    console.press("Act with the own token again")
    console.press(f"Join call {call}")
    console.answers("200", "done")


def test_token_is_renewed_before_it_expires(console: Console) -> None:
    served: list[str] = []

    def short_lived(route: Any) -> None:
        people = console.control("GET", "identities")
        if not served:
            body = {"expires_in": 60}
            people[0]["token"] = console.control("POST", "identities/101/tokens", body)["token"]
        served.append(people[0]["token"])
        route.fulfill(json=people)

    console.page.route("**/_control/identities", short_lived)
    console.open()
    console.page.wait_for_event("response", lambda response: response.url.endswith("/_control/identities"))
    console.press("Copy token of doctor@example.com")
    assert console.clipboard() == served[-1] != served[0]


# -- Calls ------------------------------------------------------------------------------------------


def test_call_is_scheduled_in_the_persons_own_zone(console: Console) -> None:
    console.open()
    expect(console.part("Calls").get_by_text(NO_CALLS)).to_be_visible()
    console.press("Schedule a call")
    dialog = console.dialog("Schedule a call")
    dialog.get_by_label("Doctor").select_option("1: Dr. John Doe")
    dialog.get_by_label("Patient").select_option("2: Other Patient")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date()
    dialog.get_by_label("Time, in your zone").fill(f"{tomorrow}T15:30")
    console.press("Schedule", dialog)
    expect(dialog).to_be_hidden()
    console.answers("201", "done")
    call = console.control("GET", "calls")[0]
    assert (call["doctor"], call["patient"], call["scheduled_time"]) == (1, 2, f"{tomorrow}T10:00:00Z")
    time = console.row(call["id"]).locator("time")
    expect(time).to_contain_text("15:30")
    expect(time).to_have_attribute("title", f"{tomorrow} 10:00:00 UTC")


def test_refused_schedule_shows_rule_and_sentence(console: Console) -> None:
    console.has_call(25)
    console.open("Jane Smith")
    console.press("Schedule a call")
    dialog = console.dialog("Schedule a call")
    dialog.get_by_label("Doctor").select_option("1: Dr. John Doe")
    console.press("in 20 min", dialog)
    console.press("Schedule", dialog)
    error = "There is already a scheduled call within 30 minutes of this time"
    expect(dialog.get_by_role("alert")).to_have_text(error)
    console.press("Do not schedule", dialog)
    answer = console.answers("400", error)
    expect(answer).to_contain_text("No overlapping calls within 30 minutes for either doctor or patient")
    body = answer.get_by_role("region", name="Body of the answer")
    assert json.loads(body.inner_text())["code"] == "create.no-overlap"


def test_join_shows_the_decoded_token(console: Console) -> None:
    call = console.has_call()
    console.open("Jane Smith")
    console.press(f"Join call {call}")
    answer = console.answers("200", "done")
    channel = console.api("GET", f"{call}/")["channel_name"]
    for name, value in {"Uid": "102", "Channel": channel, "Signature": "✓"}.items():
        expect(answer.locator("dl > div").filter(has_text=re.compile(f"^{name}"))).to_contain_text(value)
    expect(console.row(call)).to_contain_text("ongoing")
    expect(console.row(call)).to_contain_text("patient present")


def test_call_is_ended_and_another_cancelled(console: Console) -> None:
    ended, cancelled = console.has_call(5, "join"), console.has_call(60)
    console.open()
    for action, call, status in (("End", ended, "completed"), ("Cancel", cancelled, "cancelled")):
        console.press(f"{action} call {call}")
        console.answers("200", f"{action} call {call}")
        expect(console.row(call)).to_contain_text(status)
        assert console.status_of(call) == status


def test_outsider_sees_everyones_calls_and_is_refused(console: Console) -> None:
    call = console.has_call()
    console.open("Outsider")
    expect(console.part("Calls").get_by_text(NO_CALLS)).to_be_visible()
    console.page.get_by_role("checkbox", name="Calls of everyone").check()
    console.press(f"Join call {call}")
    console.answers("403", "You are not authorized to access this call")


def test_timeline_shows_calls_and_is_walked_by_keys(console: Console) -> None:
    ended = console.has_call(5, "join", "end")
    cancelled = console.has_call(10, "cancel")
    scheduled = console.has_call(60)
    timeline = console.open().page.get_by_role("group", name="Timeline")
    bars = timeline.get_by_role("button", name=re.compile(r"^Call \d"))
    expect(bars).to_have_count(3)
    for call, status in ((ended, "completed"), (cancelled, "cancelled"), (scheduled, "scheduled")):
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
    """The line that says what would come of an action now, on the part of the page about the call."""
    button = console.page.get_by_role("button", name=f"{action} call {call} now")
    return console.part(f"Call {call}").get_by_role("listitem").filter(has=button)


def test_verdict_follows_the_clock_and_is_tried(console: Console) -> None:
    call = console.has_call(40)
    console.open().look(call)
    join = verdict(console, call, "Join")
    expect(join).to_contain_text(f"refused {TOO_EARLY} join.window")
    join.get_by_text("refused").first.click()
    expect(join).to_contain_text("Call must be scheduled within the next 15 minutes")
    join.get_by_role("button").click()
    console.answers("400", TOO_EARLY)
    expect(console.row(call)).to_contain_text("join opens in")
    expect(console.row(call).get_by_role("button", name="Join")).to_have_count(0)
    for _ in range(2):
        console.press("+15 min")
    expect(join).to_contain_text("allowed")
    expect(console.row(call)).to_contain_text("join is open")
    expect(console.row(call).get_by_role("button", name="Join")).to_be_visible()


def test_page_follows_when_the_join_window_opens_by_itself(console: Console) -> None:
    call = console.has_call(15 + 0.1)
    console.open().look(call)
    expect(verdict(console, call, "Join")).to_contain_text("refused")
    expect(verdict(console, call, "Join")).to_contain_text("allowed")
    expect(console.row(call).get_by_role("button", name="Join")).to_be_visible()


@dataclass
class ServerHere:
    """A server in this process, so that a test can change its rules while a page is open."""

    url: str
    make_headers: Callable[[], dict[str, str]]

    def headers(self) -> dict[str, str]:
        return self.make_headers()


@pytest.fixture
def server_here(plain_server: "Process") -> Iterator[ServerHere]:
    here = uvicorn.Server(
        uvicorn.Config(create_app(Settings(database=":memory:")), port=0, log_level="error")
    )
    started = threading.Event()
    startup = here.startup

    async def signalling_startup(sockets: Any = None) -> None:
        await startup(sockets)
        started.set()

    here.startup = signalling_startup  # type: ignore[method-assign]
    thread = threading.Thread(target=here.run)
    thread.start()
    assert started.wait(30)
    port = here.servers[0].sockets[0].getsockname()[1]
    yield ServerHere(f"http://127.0.0.1:{port}", plain_server.headers)
    here.should_exit = here.force_exit = True
    thread.join()


def test_page_follows_a_rule_that_changes_on_the_server(
    make_console: Callable[..., Console], server_here: ServerHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = make_console(server_here)
    ongoing, far = console.has_call(10, "join"), console.has_call(90)
    console.open().look(ongoing)
    window = console.page.get_by_title("Join window").last
    expect(console.row(ongoing).get_by_role("button", name="Cancel")).to_have_count(0)
    expect(verdict(console, ongoing, "Cancel")).to_contain_text("refused")
    expect(console.row(far)).to_contain_text("join opens in")
    narrow = window.bounding_box()["width"]

    monkeypatch.setitem(calls.NEXT["cancel"], "ongoing", "cancelled")
    monkeypatch.setattr(calls, "JOIN_WINDOW", timedelta(hours=2))
    console.press("+1 min")

    expect(console.row(ongoing).get_by_role("button", name="Cancel")).to_be_visible()
    expect(verdict(console, ongoing, "Cancel")).to_contain_text("allowed")
    expect(console.row(far)).to_contain_text("join is open")
    expect(console.row(far).get_by_role("button", name="Join")).to_be_visible()
    assert window.bounding_box()["width"] > 4 * narrow


def test_participants_leave_and_join_as_agora_would_notify(console: Console) -> None:
    call = console.has_call(10, "join")
    part = console.open().look(call)
    doctor = part.get_by_role("checkbox", name="doctor")
    expect(doctor).to_be_checked()
    doctor.click()
    expect(doctor).not_to_be_checked()
    part.get_by_role("checkbox", name="patient").click()
    expect(part.get_by_role("checkbox", name="patient")).to_be_checked()
    expect(console.part("Events")).to_contain_text(f"participant.leftcall {call}, doctor")
    assert console.control("GET", "calls")[0]["present"] == ["patient"]


# -- Clock ------------------------------------------------------------------------------------------


def test_clock_is_moved_frozen_set_and_returned(console: Console) -> None:
    call = console.has_call(120)
    console.open().look(call)
    clock = console.part("Clock")
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


# -- Events -----------------------------------------------------------------------------------------


def test_two_people_in_two_tabs_see_each_others_events(
    console: Console, make_console: Callable[..., Console], plain_server: "Process", place: str
) -> None:
    call = console.has_call()
    doctor, patient = console.open("Dr. John Doe"), make_console(plain_server, place).open("Jane Smith")
    doctor.press(f"Join call {call}")
    for tab in (doctor, patient):
        expect(tab.part("Events")).to_contain_text(f"participant.joinedcall {call}, doctor")
        expect(tab.row(call)).to_contain_text("ongoing")
    patient.press(f"End call {call}")
    for tab in (doctor, patient):
        expect(tab.part("Events")).to_contain_text(f"call.endedcall {call}")
        expect(tab.row(call)).to_contain_text("completed")


def test_event_is_announced_and_opened(console: Console) -> None:
    call = console.has_call()
    events = console.open().part("Events")
    console.api("POST", f"{call}/cancel/")
    announced = events.get_by_role("status").filter(has_text="call.cancelled")
    expect(announced).to_contain_text(f"call {call}")
    events.get_by_text("call.cancelled", exact=True).click()
    body = events.get_by_role("region", name=re.compile(r"^Event \d+$"))
    assert json.loads(body.inner_text())["data"]["call"]["id"] == call


def test_events_resume_after_the_connection_was_closed(console: Console) -> None:
    call = console.has_call()
    events = console.open().part("Events")
    console.api("POST", f"{call}/join/")
    expect(events).to_contain_text(f"call.startedcall {call}")
    console.press("Disconnect everybody")
    expect(events).to_contain_text("closed with 1012")
    console.api("POST", f"{call}/end/")  # while the page is not connected
    expect(events).to_contain_text(f"call.endedcall {call}")
    console.connected()
    expect(events.get_by_text("call.started", exact=True)).to_have_count(1)


# -- Requests ---------------------------------------------------------------------------------------


def test_request_of_another_client_is_opened_and_copied(console: Console) -> None:
    requests = console.open().part("Requests")
    body = {"doctor": 1, "patient": 1, "scheduled_time": "2001-01-01T00:00:00Z"}
    httpx.post(f"{console.url}{CALLS[1:]}", json=body, headers=console.headers)
    line = requests.get_by_role("listitem").filter(has_text="create.future")
    line.get_by_text("400").click()
    expect(line).to_contain_text("Scheduled time must be in the future")
    for kind, part in (("request", body), ("response", {"code": "create.future"})):
        shown = line.get_by_role("region", name=re.compile(f"Body of {kind}")).inner_text()
        assert json.loads(shown).items() >= part.items()
    line.get_by_role("button", name="Copy curl of request").click()
    expect(console.page.locator(".notice")).to_contain_text("Copied")
    assert console.clipboard().startswith("curl ")


def test_answer_leads_to_its_request_among_the_filtered(console: Console) -> None:
    call = console.has_call()
    requests = console.open().part("Requests")
    console.press(f"Join call {call}")
    expect(requests.get_by_text(f"/{call}/join/")).to_be_visible()
    requests.get_by_role("searchbox").fill("no such thing")
    expect(requests.get_by_role("listitem")).to_have_count(0)
    console.press("Show it among the requests")
    curl = requests.get_by_role("region", name=re.compile("curl of request"))
    expect(curl).to_contain_text(f"{CALLS}{call}/join/")
    console.press("Clear the requests")
    expect(requests.get_by_text("No requests yet")).to_be_visible()
    assert console.control("GET", "requests") == []


# -- Faults -----------------------------------------------------------------------------------------


def test_common_fault_is_added_acts_and_wears_out(console: Console) -> None:
    call = console.has_call()
    faults = console.open().unfold("Faults")
    console.press("Next request: 503", faults)
    expect(faults.get_by_role("listitem")).to_contain_text("1 left")
    console.press(f"Join call {call}")
    expect(console.answers("503", "")).to_contain_text("fault: 503 once")
    expect(faults).to_contain_text("0 left")
    console.press("All faults off", faults)
    expect(faults.get_by_role("listitem")).to_have_count(0)


def test_own_fault_is_added_acts_and_is_removed(console: Console) -> None:
    call = console.has_call()
    faults = console.open().unfold("Faults")
    faults.get_by_text("Another fault").click()
    faults.get_by_label("What happens").select_option("Drop the connection")
    faults.get_by_label("Operation").select_option("joinVideoCall")
    faults.get_by_label("After the request was acted on").check()
    console.press("Switch the fault on", faults)
    expect(faults.get_by_role("listitem")).to_contain_text("after acting, joinVideoCall")
    console.press(f"Join call {call}")
    console.answers("No answer", "")
    expect(console.row(call)).to_contain_text("ongoing")
    faults.get_by_role("button", name=re.compile("^Switch off")).click()
    expect(faults.get_by_role("listitem")).to_have_count(0)
    assert console.control("GET", "faults") == []


# -- State ------------------------------------------------------------------------------------------


def test_snapshot_is_saved_restored_downloaded_and_deleted(console: Console) -> None:
    call = console.has_call()
    world = console.open().unfold("State and snapshots")
    world.get_by_label("Name").fill("before")
    console.press("Save a snapshot", world)
    expect(world.get_by_role("listitem")).to_contain_text("1 calls")
    console.press(f"Cancel call {call}")
    expect(console.row(call)).to_contain_text("cancelled")
    console.press("Restore before", world)
    expect(console.row(call)).to_contain_text("scheduled")
    with console.page.expect_download() as download:
        console.press("Download before", world)
    assert download.value.suggested_filename == "before.json"
    console.press("Delete before", world)
    expect(world.get_by_role("listitem")).to_have_count(0)


def test_state_is_exported_and_imported(console: Console, tmp_path: Path) -> None:
    call = console.has_call()
    world = console.open().unfold("State and snapshots")
    with console.page.expect_download() as download:
        console.press("Export", world)
    kept = tmp_path / download.value.suggested_filename
    download.value.save_as(kept)
    console.press(f"Cancel call {call}")
    expect(console.row(call)).to_contain_text("cancelled")
    file = world.get_by_label("Import the state from a file")
    file.set_input_files(kept)
    expect(console.row(call)).to_contain_text("scheduled")
    kept.write_text("no JSON")
    file.set_input_files(kept)
    expect(console.page.locator(".notice .failed")).to_contain_text(kept.name)


def test_state_is_reset_once_that_is_confirmed(console: Console) -> None:
    call = console.has_call()
    world = console.open().unfold("State and snapshots")
    dialog = console.dialog("Reset the state?")
    console.press("Reset…", world)
    console.press("Keep things as they are", dialog)
    assert console.status_of(call) == "scheduled"
    console.press("Reset…", world)
    console.press("Reset", dialog)
    expect(console.part("Calls").get_by_text(NO_CALLS)).to_be_visible()
    assert console.control("GET", "calls") == []


def test_page_follows_when_another_client_resets_the_state(console: Console) -> None:
    call = console.has_call()
    console.control("POST", "identities", {"full_name": "Somebody New", "patient": True})
    console.open()
    expect(console.row(call)).to_be_visible()
    console.control("POST", "state/reset")
    expect(console.part("Calls").get_by_text(NO_CALLS)).to_be_visible()
    expect(console.part("People").get_by_role("radio", name="Somebody New")).to_have_count(0)
    console.connected()


def test_example_calls_are_added(console: Console) -> None:
    console.open()
    console.page.get_by_role("checkbox", name="Calls of everyone").check()
    console.press("add 20 example calls")
    expect(console.page.get_by_role("table").get_by_role("rowheader")).to_have_count(20)
    world = console.unfold("State and snapshots")
    world.get_by_label("Example calls").fill("5")
    console.press("Add example calls", world)
    expect(console.page.get_by_role("table").get_by_role("rowheader")).to_have_count(25)


# -- Namespaces and the control key -----------------------------------------------------------------


def test_control_key_opens_the_console_and_a_namespace(
    make_console: Callable[..., Console], serve: "Callable[..., Process]"
) -> None:
    console = make_console(serve("--database", ":memory:", "--control-key", KEY))
    console.page.goto(console.url)
    dialog = console.dialog("Control key")
    dialog.get_by_label("Key").fill("wrong")
    console.press("Go on", dialog)
    expect(dialog.get_by_label("Key")).to_have_value("")
    dialog.get_by_label("Key").fill(KEY)
    console.press("Go on", dialog)
    console.connected()
    namespaces = console.unfold("Namespaces")
    namespaces.get_by_label("Name").fill("other")
    console.press("Open the namespace", namespaces)
    expect(console.page).to_have_url(f"{console.url}_ns/other/")
    console.connected()
    console.unfold("Namespaces").get_by_role("link", name="default").click()
    console.connected()
    console.press("Delete namespace other", console.unfold("Namespaces"))
    expect(console.part("Namespaces").get_by_role("listitem")).to_have_count(1)
    assert not any(KEY in url for url in console.requests)


# -- Failures and hostile input ---------------------------------------------------------------------


def test_page_says_when_the_server_is_gone(
    make_console: Callable[..., Console], serve: "Callable[..., Process]"
) -> None:
    server = serve("--database", ":memory:")
    console = make_console(server).open()
    server.popen.kill()
    for part in ("Events", "Requests"):
        expect(console.part(part).get_by_text("not connected")).to_be_visible()
    expect(console.part("Clock").get_by_role("alert")).to_be_visible()


def test_page_that_cannot_begin_says_why_and_tries_again(console: Console) -> None:
    console.page.route(
        "**/_control/server", lambda route: route.fulfill(status=503, json={"error": "Not now"})
    )
    console.page.goto(console.url)
    expect(console.page.get_by_role("alert")).to_contain_text("Not now")
    console.page.unroute("**/_control/server")
    console.press("Try again")
    console.connected()


def test_policy_of_the_page_allows_its_own_server_only(console: Console) -> None:
    policy = httpx.get(console.url).headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy


def test_hostile_name_is_shown_as_text(console: Console) -> None:
    call = console.has_call()
    console.control("PATCH", "identities/doctor@example.com", {"full_name": HOSTILE})
    console.open()
    expect(console.part("People").get_by_role("radio", name=HOSTILE)).to_be_visible()
    expect(console.row(call)).to_contain_text(HOSTILE)
    expect(console.look(call)).to_contain_text(HOSTILE)
    console.press(f"Cancel call {call}")
    console.part("Events").get_by_text("call.cancelled", exact=True).click()
    expect(console.part("Events").get_by_role("region")).to_contain_text("<b>bold</b>")
    assert console.page.locator("#console").locator("img, b").count() == 0
    expect(console.page).not_to_have_title("taken")


# -- Accessibility and layout -----------------------------------------------------------------------


def fill(console: Console) -> None:
    """Show something everywhere: calls in all states, a fault, a snapshot, everything unfolded."""
    console.has_call(5, "join", "end")
    console.has_call(50, "cancel")
    console.control("PUT", "snapshots/one")
    console.control("POST", "faults", {"operation": "getVideoCall", "status": 500, "name": "broken reading"})
    call = console.has_call(10)
    console.open().look(call)
    console.press(f"Join call {call}")
    console.page.get_by_role("heading", name="The Agora token, decoded").wait_for()
    for _ in range(2):  # what opens may have folds of its own
        console.page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
        console.page.get_by_role("heading", name="curl").first.wait_for()


@pytest.mark.parametrize(
    ("width", "scheme"), [(360, "light"), (768, "dark"), (1280, "dark"), (1440, "light")]
)
def test_page_fits_the_screen_and_can_be_read(
    make_console: Callable[..., Console], plain_server: "Process", place: str, width: int, scheme: str
) -> None:
    console = make_console(plain_server, place, viewport={"width": width, "height": 800}, color_scheme=scheme)
    fill(console)
    assert console.page.evaluate("document.documentElement.scrollWidth") == width
    outside = f"""() => [...document.querySelectorAll('button, input, select, h2, pre')]
      .filter((element) => element.checkVisibility() && !element.closest('.scroller, .hidden'))
      .filter((element) => element.getBoundingClientRect().right > {width})
      .map((element) => element.outerHTML.slice(0, 100))"""
    assert console.page.evaluate(outside) == []


def test_every_control_has_a_name_of_its_own(console: Console) -> None:
    fill(console)
    snapshot = console.page.locator("body").aria_snapshot()
    controls = re.findall(
        r"- (button|link|textbox|searchbox|spinbutton|combobox|checkbox|radio|region|table)(.*)", snapshot
    )
    assert len(controls) > 50
    assert [role for role, name in controls if not name.startswith(' "')] == []
    buttons = [name for role, name in controls if role == "button"]
    assert {name for name in buttons if buttons.count(name) > 1} == set()


def test_page_has_landmarks_and_headings_in_order(console: Console) -> None:
    fill(console)
    for landmark in ("banner", "main", "navigation"):
        expect(console.page.get_by_role(landmark)).to_have_count(1)
    levels = console.page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3')].map((heading) => Number(heading.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert console.page.locator("th:not([scope])").count() == 0


@pytest.mark.parametrize("width", [1280, 1366])
def test_each_name_in_the_table_takes_one_line(
    make_console: Callable[..., Console], plain_server: "Process", place: str, width: int
) -> None:
    console = make_console(plain_server, place, viewport={"width": width, "height": 800})
    console.control("POST", "state/calls", {"count": 20})
    console.open()
    console.page.get_by_role("checkbox", name="Calls of everyone").check()
    expect(console.page.get_by_role("table").get_by_role("rowheader")).to_have_count(20)
    lines = """() => [...document.querySelectorAll('tbody td:nth-child(3) > div')].map((name) =>
      Math.round(name.getBoundingClientRect().height / parseFloat(getComputedStyle(name).lineHeight)))"""
    assert set(console.page.evaluate(lines)) == {1}


@dataclass
class Keyboard:
    """The page with nothing but its keys."""

    page: Any

    def to(self, name: str) -> None:
        """Go on from control to control until the one of this name."""
        for _ in range(80):
            self.page.keyboard.press("Tab")
            focused = self.page.locator(":focus")
            if focused.count() and name in focused.aria_snapshot().partition("\n")[0]:
                width = focused.evaluate("element => parseFloat(getComputedStyle(element).outlineWidth)")
                assert width >= 2, f"{name} does not show that it has the focus"
                return
        raise AssertionError(f"no key leads to {name}")

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)


def test_main_actions_are_done_with_the_keyboard_alone(console: Console) -> None:
    console.open()
    keys = Keyboard(console.page)
    keys.to("Skip to the calls")
    keys.press("Enter")
    keys.to("Schedule a call")
    keys.press("Enter")
    expect(console.page.get_by_role("dialog", name="Schedule a call")).to_be_visible()
    keys.to("in 5 min")
    keys.press("Enter")
    keys.to('button "Schedule"')
    keys.press("Enter")
    console.answers("201", "done")
    expect(console.page.get_by_role("button", name="Schedule a call")).to_be_focused()
    keys.to('"Join call 1"')
    keys.press("Enter")
    console.answers("200", "Join call 1")
    keys.to('"End call 1"')
    keys.press("Enter")
    console.answers("200", "End call 1")
    keys.to("Show it among the requests")
    keys.press("Enter")
    expect(console.part("Requests").locator("summary:focus")).to_contain_text("/end/")
    console.page.reload()
    console.connected()
    keys.to("Freeze")
    keys.press("Enter")
    expect(console.part("Clock")).to_contain_text("frozen")
    keys.to('radio "Dr. John Doe')
    keys.press("ArrowDown")
    expect(console.part("People").get_by_text("acting as")).to_contain_text("Jane Smith")
    expect(console.part("People").get_by_role("radio", name="Jane Smith")).to_be_focused()


# -- The meeting page -------------------------------------------------------------------------------

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
    """Join a call and open the meeting page from the answer."""
    call = console.has_call()
    console.open()
    console.press(f"Join call {call}")
    with console.page.context.expect_page() as opened:
        console.press("Open the meeting page")
    page = opened.value
    page.on("pageerror", lambda error: console.complaints.append(str(error)))
    page.on("request", lambda request: console.requests.append(request.url))
    return page


def test_meeting_page_keeps_credentials_and_warns_of_the_development_pair(console: Console) -> None:
    page = open_meeting(console)
    expect(page.get_by_text("AGORA_APP_ID")).to_be_visible()
    assert page.url == f"{console.url}_console/meeting.html", "the credentials are not in the URL"
    assert page.evaluate("Object.keys(sessionStorage)") == ["video-calls-meeting"]
    assert console.page.evaluate("sessionStorage.getItem('video-calls-meeting')") is None


def test_meeting_page_joins_with_the_chosen_sdk(
    make_console: Callable[..., Console], serve: "Callable[..., Process]", tmp_path: Path
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
    joined, published = page.evaluate("agora")
    assert joined[:3] == ["join", app_id, channel]
    assert joined[3].startswith(f"006{app_id}")
    assert joined[4] == 101
    assert published == ["publish", 2]
    page.get_by_role("button", name="Leave the channel").click()
    expect(page.get_by_role("button", name="Join the channel")).to_be_visible()
    assert page.evaluate("agora.at(-1)") == ["leave"]
