"""The console at `/`, in real headless Chromium, found by what a person sees and a screen reader says."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
from chromium import IN_CHROMIUM, PATIENCE, expect

if TYPE_CHECKING:
    from conftest import Process

pytestmark = [*IN_CHROMIUM, pytest.mark.timeout(180)]

CALLS = "/api/v1/video/video-calls/"
WIDTHS = (360, 768, 1440)
TOO_EARLY = "This call is not scheduled to start yet"
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><b>bold</b>"
HOSTILE_PEOPLE = [
    {
        "id": 101,
        "email": "doctor@example.com",
        "full_name": HOSTILE,
        "doctor": {"id": 1, "specialization": HOSTILE},
    },
    {"id": 102, "email": "patient@example.com", "full_name": "Jane Smith", "patient": {"id": 1}},
]


@dataclass
class Console:
    """The console in a tab, as a person uses it, and what went on in the tab."""

    page: Any
    server: "Process"
    place: str = ""
    """The path of the namespace, such as `_ns/other/`; empty for the server's own."""
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """What the browser complains of: errors of the page, its policy's violations, failed loads."""

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", self._on_console)
        self.page.on("response", self._on_response)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _on_console(self, message: Any) -> None:
        # Chromium itself reports each request that is refused or fails, and names it; these are tried here.
        of_a_request = re.search("/api/|/_control/", f"{message.location['url']} {message.text}")
        if message.type in ("error", "warning") and not of_a_request:
            self.complaints.append(message.text)

    def _on_response(self, response: Any) -> None:
        if response.status >= 500 and response.status != 503:
            self.complaints.append(f"{response.status} {response.url}")

    @property
    def url(self) -> str:
        return f"{self.server.url}/{self.place}"

    def open(self, person: str | None = None) -> "Console":
        """Open the page, as the person of this name if any, and wait until it follows what happens."""
        self.page.goto(self.url)
        if person is not None:
            self.act_as(person)
        self.connected()
        return self

    def connected(self) -> None:
        expect(self.part("Events").get_by_text("connected", exact=True)).to_be_visible()
        expect(self.part("Requests").get_by_text("following", exact=True)).to_be_visible()

    def act_as(self, person: str) -> None:
        self.part("People").get_by_role("radio", name=person).check()
        expect(self.part("People").get_by_text("acting as")).to_contain_text(person)

    def part(self, name: str) -> Any:
        return self.page.get_by_role("region", name=name, exact=True)

    def unfold(self, name: str) -> Any:
        """Open a part of the page that is closed at first."""
        part = self.part(name)
        part.get_by_role("heading", name=name).click()
        return part

    def press(self, name: str, within: Any = None) -> None:
        (within or self.page).get_by_role("button", name=name, exact=True).click()

    def row(self, call: int) -> Any:
        """The row of a call in the table."""
        button = self.page.get_by_role("button", name=f"Call {call}", exact=True)
        return self.page.get_by_role("row").filter(has=button)

    def look(self, call: int) -> Any:
        """Choose a call; gives the part of the page that is about it."""
        self.press(f"Call {call}", self.page.get_by_role("table"))
        return self.part(f"Call {call}")

    def answers(self, status: str, text: str) -> Any:
        """The answer that is shown; gives the part of the page with it."""
        part = self.part("The server's answer")
        expect(part.get_by_role("status")).to_contain_text(status)
        expect(part.get_by_role("status")).to_contain_text(text)
        return part

    def notices(self, text: str) -> None:
        expect(self.page.locator(".notice")).to_contain_text(text)

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """The control API, without the browser."""
        response = httpx.request(method, f"{self.url}_control/{path}", json=body)
        assert response.is_success, response.text
        return response.json() if response.content else None

    def has_call(self, minutes: float = 10, *actions: str) -> int:
        """A call of doctor 1 and patient 1, made without the browser, so many minutes from now."""
        time = datetime.fromisoformat(self.control("GET", "clock")["time"]) + timedelta(minutes=minutes)
        body = {"doctor": 1, "patient": 1, "scheduled_time": time.isoformat()}
        call: int = self.api("POST", "", body)["id"]
        for action in actions:
            self.api("POST", f"{call}/{action}/")
        return call

    def api(self, method: str, path: str, body: Any = None, user: str = "doctor") -> dict[str, Any]:
        """The API, without the browser."""
        url = f"{self.url}{CALLS[1:]}{path}"
        response = httpx.request(method, url, json=body, headers=self.server.headers(user))
        assert response.is_success, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def status_of(self, call: int) -> str:
        status: str = self.api("GET", f"{call}/")["status"]
        return status


@pytest.fixture
def make_console(browser: Any, serve: "Callable[..., Process]") -> Iterator[Callable[..., Console]]:
    """Consoles in tabs of their own; whatever a test does, none complains or asks another server."""
    made: list[Console] = []

    def make(*options: str, of: Console | None = None, place: str = "", **context: Any) -> Console:
        asked = {"timezone_id": "Asia/Kolkata", "locale": "en-GB", "reduced_motion": "reduce"} | context
        tabs = browser.new_context(permissions=["clipboard-read", "clipboard-write"], **asked)
        tabs.set_default_timeout(PATIENCE)
        server = of.server if of else serve("--database", ":memory:", *options)
        made.append(Console(tabs.new_page(), server, of.place if of else place))
        return made[-1]

    yield make
    for console in made:
        console.page.context.close()
    for console in made:
        urls = [urlsplit(url) for url in console.requests]
        assert {url.netloc for url in urls if url.scheme not in ("blob", "data")} <= {
            urlsplit(console.server.url).netloc
        }
        assert console.complaints == []


@pytest.fixture
def console(make_console: Callable[..., Console]) -> Console:
    return make_console()


# -- People -----------------------------------------------------------------------------------------


def test_people_have_tokens_to_copy(console: Console) -> None:
    console.open()
    console.press("Copy token of patient@example.com")
    console.notices("Copied token of patient@example.com")
    token = console.page.evaluate("navigator.clipboard.readText()")
    answer = httpx.get(f"{console.url}{CALLS[1:]}", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200


def test_people_show_what_they_are(console: Console) -> None:
    people = console.open().part("People")
    expect(people.get_by_role("radio")).to_have_count(8)
    expect(people.get_by_role("radio", name="Inactive Doctor")).to_have_accessible_description(
        "doctor 3 inactive"
    )
    expect(people.get_by_role("radio", name="Dual User")).to_have_accessible_description("doctor 4 patient 4")


def test_choice_of_the_person_outlives_a_reload(console: Console) -> None:
    console.open("Jane Smith").open()
    expect(console.part("People").get_by_role("radio", name="Jane Smith")).to_be_checked()


def test_person_is_added(console: Console) -> None:
    console.open()
    console.press("Add a person")
    dialog = console.page.get_by_role("dialog", name="Add a person")
    dialog.get_by_label("Full name").fill("Dr. Ada New")
    dialog.get_by_label("E-mail").fill("ada@example.com")
    dialog.get_by_label("Specialization").fill("Neurology")
    console.press("Add", dialog)
    expect(dialog).to_be_hidden()
    expect(console.part("People").get_by_role("radio", name="Dr. Ada New")).to_be_visible()
    added = console.control("GET", "identities")[-1]
    assert (added["email"], added["doctor"]["specialization"]) == ("ada@example.com", "Neurology")


def test_person_that_cannot_be_added_is_told_why(console: Console) -> None:
    console.open()
    console.press("Add a person")
    dialog = console.page.get_by_role("dialog", name="Add a person")
    dialog.get_by_label("E-mail").fill("doctor@example.com")
    console.press("Add", dialog)
    expect(dialog.get_by_role("alert")).to_contain_text("doctor@example.com")
    console.press("Do not add", dialog)
    expect(dialog).to_be_hidden()


def test_person_is_deactivated_and_reactivated(console: Console) -> None:
    call = console.has_call()
    console.open("Jane Smith")
    console.press("Deactivate")
    expect(console.part("People").get_by_role("radio", name="Jane Smith")).to_have_accessible_description(
        "patient 1 inactive"
    )
    console.press(f"Join call {call}")
    console.answers("401", "The user of this token is unknown or inactive")
    console.press("Reactivate")
    expect(console.page.get_by_role("button", name="Deactivate")).to_be_visible()
    console.press(f"Join call {call}")
    console.answers("200", "done")


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("Expired", "The token has expired"),
        ("Forged signature", "The token is invalid"),
        ("Of an unknown user", "The user of this token is unknown or inactive"),
    ],
)
def test_broken_token_is_made_and_acted_with(console: Console, kind: str, error: str) -> None:
    call = console.has_call()
    people = console.open().part("People")
    people.get_by_text("Make a token").click()
    people.get_by_label("Kind of token").select_option(kind)
    console.press("Make the token")
    console.press("Act with it")
    console.press(f"Join call {call}")
    console.answers("401", error)
    assert console.status_of(call) == "scheduled"
    console.press("Act with the own token again")
    console.press(f"Join call {call}")
    console.answers("200", "done")


def test_tokens_are_fetched_anew_before_they_expire(console: Console) -> None:
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
    assert console.page.evaluate("navigator.clipboard.readText()") == served[-1] != served[0]


# -- Calls ------------------------------------------------------------------------------------------


def test_call_is_scheduled_in_the_persons_own_zone(console: Console) -> None:
    console.open()
    expect(console.part("Calls").get_by_text("This person has no calls yet")).to_be_visible()
    console.press("Schedule a call")
    dialog = console.page.get_by_role("dialog", name="Schedule a call")
    dialog.get_by_label("Doctor").select_option("1: Dr. John Doe")
    dialog.get_by_label("Patient").select_option("2: Other Patient")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date()
    dialog.get_by_label("Time, in your zone").fill(f"{tomorrow}T15:30")
    console.press("Schedule", dialog)
    expect(dialog).to_be_hidden()
    console.answers("201", "Schedule: done")
    call = console.control("GET", "calls")[0]
    assert (call["doctor"], call["patient"], call["scheduled_time"]) == (1, 2, f"{tomorrow}T10:00:00Z")
    time = console.row(call["id"]).locator("time")
    expect(time).to_contain_text("15:30")
    expect(time).to_have_attribute("title", f"{tomorrow} 10:00:00 UTC")


def test_refused_schedule_says_why_with_the_documents_sentence(console: Console) -> None:
    console.has_call(25)
    console.open("Jane Smith")
    console.press("Schedule a call")
    dialog = console.page.get_by_role("dialog", name="Schedule a call")
    dialog.get_by_label("Doctor").select_option("1: Dr. John Doe")
    console.press("in 20 min", dialog)
    console.press("Schedule", dialog)
    error = "There is already a scheduled call within 30 minutes of this time"
    expect(dialog.get_by_role("alert")).to_have_text(error)
    console.press("Do not schedule", dialog)
    answer = console.answers("400", error)
    expect(answer).to_contain_text("No overlapping calls within 30 minutes for either doctor or patient")
    expect(answer).to_contain_text("create.no-overlap")


def test_join_shows_the_decoded_token(console: Console) -> None:
    call = console.has_call()
    console.open("Jane Smith")
    console.press(f"Join call {call}")
    answer = console.answers("200", f"Join call {call}: done")
    expect(answer.get_by_role("heading", name="The Agora token, decoded")).to_be_visible()
    channel = console.api("GET", f"{call}/")["channel_name"]
    for name, value in {"Uid": "102", "Channel": channel, "Signature": "✓ valid"}.items():
        expect(answer.locator("dl > div").filter(has_text=re.compile(f"^{name}"))).to_contain_text(value)
    expect(answer).to_contain_text("join_channel until")
    expect(console.row(call)).to_contain_text("ongoing")
    expect(console.row(call)).to_contain_text("patient present")


def test_refused_join_shows_error_rule_and_body(console: Console) -> None:
    call = console.has_call(60)
    console.open()
    console.press(f"Join call {call}")
    answer = console.answers("400", TOO_EARLY)
    expect(answer).to_contain_text("Call must be scheduled within the next 15 minutes")
    body = answer.get_by_role("region", name="Body of the answer")
    assert json.loads(body.inner_text())["code"] == "join.window"


def test_call_is_ended(console: Console) -> None:
    call = console.has_call(10, "join")
    console.open()
    console.press(f"End call {call}")
    console.answers("200", f"End call {call}: done")
    expect(console.row(call)).to_contain_text("completed")
    assert console.status_of(call) == "completed"


def test_call_is_cancelled(console: Console) -> None:
    call = console.has_call()
    console.open()
    console.press(f"Cancel call {call}")
    console.answers("200", f"Cancel call {call}: done")
    expect(console.row(call)).to_contain_text("cancelled")
    assert console.status_of(call) == "cancelled"


def test_outsider_sees_everyones_calls_and_is_refused(console: Console) -> None:
    call = console.has_call()
    console.open("Outsider")
    expect(console.part("Calls").get_by_text("This person has no calls yet")).to_be_visible()
    console.page.get_by_role("checkbox", name="Calls of everyone").check()
    console.press(f"Join call {call}")
    console.answers("403", "You are not authorized to access this call")


def test_timeline_shows_calls_in_their_states_and_is_walked_by_keys(console: Console) -> None:
    ended = console.has_call(5, "join", "end")
    cancelled = console.has_call(10, "cancel")
    scheduled = console.has_call(60)
    timeline = console.open().page.get_by_role("group", name="Timeline")
    bars = timeline.get_by_role("button", name=re.compile(r"^Call \d"))
    expect(bars).to_have_count(3)
    for call, status in ((ended, "completed"), (cancelled, "cancelled"), (scheduled, "scheduled")):
        expect(bars.filter(has_text=str(call))).to_have_accessible_name(
            re.compile(f"Call {call}, {status}, ")
        )
    expect(timeline.get_by_title("Join window")).to_have_count(1)
    expect(timeline.locator(".now")).to_be_in_viewport()
    bars.first.focus()
    console.page.keyboard.press("ArrowRight")
    expect(bars.nth(1)).to_be_focused()
    console.page.keyboard.press("Enter")
    expect(bars.nth(1)).to_have_attribute("aria-pressed", "true")
    console.press("Day after", timeline)
    expect(bars).to_have_count(0)
    console.press("Now", timeline)
    expect(bars).to_have_count(3)


def test_verdicts_say_what_each_rule_would_say_now(console: Console) -> None:
    call = console.has_call(40)
    part = console.open().look(call)
    join = part.get_by_role("listitem").filter(
        has=console.page.get_by_role("button", name=f"Join call {call} now")
    )
    expect(join).to_contain_text(f"refused {TOO_EARLY} join.window")
    join.get_by_text("refused").first.click()
    expect(join).to_contain_text("Call must be scheduled within the next 15 minutes")
    expect(join.get_by_text("✕ refuses")).to_have_count(1)
    console.press("+15 min")
    expect(console.row(call)).to_contain_text("join opens in")
    console.press("+15 min")
    expect(join).to_contain_text("allowed")
    expect(console.row(call)).to_contain_text("join is open")
    part.get_by_role("button", name=f"End call {call} now").click()
    console.answers("400", "Only an ongoing call can be ended")


def test_verdict_changes_by_itself_when_the_join_window_opens(console: Console) -> None:
    call = console.has_call(15 + 0.1)
    part = console.open().look(call)
    join = part.get_by_role("listitem").filter(
        has=console.page.get_by_role("button", name=f"Join call {call} now")
    )
    expect(join).to_contain_text("refused")
    expect(join).to_contain_text("allowed")


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

    def offset() -> int:
        found: float = console.control("GET", "clock")["offset"]
        return round(found / 60)

    console.press("+1 min", clock)
    expect(clock).to_contain_text("1 min ahead")
    console.press("+15 min", clock)
    expect(clock).to_contain_text("16 min ahead")
    assert offset() == 16
    console.press(f"To the join window of call {call}", clock)
    expect(clock).to_contain_text("1 h 45 min ahead")
    expect(console.row(call)).to_contain_text("join is open")
    console.press("Freeze", clock)
    expect(clock).to_contain_text("frozen")
    assert console.control("GET", "clock")["running"] is False
    console.press("Resume", clock)
    expect(clock).to_contain_text("ahead")
    console.press("Set…", clock)
    dialog = console.page.get_by_role("dialog", name="Set the clock")
    dialog.get_by_label("Time").fill("2030-01-05T15:30:00")
    console.press("Set", dialog)
    expect(clock).to_contain_text("15:30")
    assert console.control("GET", "clock")["time"].startswith("2030-01-05T10:00:")
    console.press("Real time", clock)
    expect(clock).to_contain_text("real time")
    assert offset() == 0


# -- Events -----------------------------------------------------------------------------------------


def test_two_people_in_two_tabs_see_each_others_events(
    console: Console, make_console: Callable[..., Console]
) -> None:
    call = console.has_call()
    doctor, patient = console.open("Dr. John Doe"), make_console(of=console).open("Jane Smith")
    doctor.press(f"Join call {call}")
    for tab in (doctor, patient):
        expect(tab.part("Events")).to_contain_text(f"participant.joinedcall {call}, doctor")
        expect(tab.row(call)).to_contain_text("ongoing")
    patient.press(f"Join call {call}")
    expect(doctor.part("Events")).to_contain_text(f"participant.joinedcall {call}, patient")
    patient.press(f"End call {call}")
    for tab in (doctor, patient):
        expect(tab.part("Events")).to_contain_text(f"call.endedcall {call}")
        expect(tab.row(call)).to_contain_text("completed")


def test_event_is_announced_and_opened(console: Console) -> None:
    call = console.has_call()
    events = console.open().part("Events")
    console.api("POST", f"{call}/cancel/")
    expect(events.get_by_role("status").filter(has_text="Event: ")).to_have_text(
        f"Event: call.cancelled, call {call}"
    )
    events.get_by_text("call.cancelled", exact=True).click()
    body = events.get_by_role("region", name=re.compile(r"^Event \d+$"))
    assert json.loads(body.inner_text())["data"]["call"]["id"] == call


def test_events_go_on_after_the_connection_was_closed(console: Console) -> None:
    call = console.has_call()
    events = console.open().part("Events")
    console.api("POST", f"{call}/join/")
    expect(events).to_contain_text(f"call.startedcall {call}")
    console.press("Disconnect everybody")
    expect(events).to_contain_text("closed with 1012")
    console.api("POST", f"{call}/end/")  # while nobody listens
    expect(events).to_contain_text(f"call.endedcall {call}")
    console.connected()
    expect(events.get_by_text("call.started", exact=True)).to_have_count(1)


# -- Requests ---------------------------------------------------------------------------------------


def test_requests_come_and_are_opened_to_all_that_is_known(console: Console) -> None:
    requests = console.open().part("Requests")
    body = {"doctor": 1, "patient": 1, "scheduled_time": "2001-01-01T00:00:00Z"}
    httpx.post(f"{console.url}{CALLS[1:]}", json=body, headers=console.server.headers())
    line = requests.get_by_role("listitem").filter(has_text="create.future")
    line.get_by_text("400").click()
    expect(line).to_contain_text("Scheduled time must be in the future")
    expect(line).to_contain_text("2. Create Video Call")
    expect(line).to_contain_text("createVideoCall")
    assert json.loads(line.get_by_role("region", name=re.compile("Body of request")).inner_text()) == body
    answer = json.loads(line.get_by_role("region", name=re.compile("Body of response")).inner_text())
    assert answer["code"] == "create.future"
    line.get_by_role("button", name="Copy curl of request").click()
    console.notices("Copied curl of request")
    assert console.page.evaluate("navigator.clipboard.readText()").startswith("curl ")


def test_requests_are_narrowed_and_cleared(console: Console) -> None:
    call = console.has_call(60)
    requests = console.open().part("Requests")
    console.press(f"Join call {call}")
    expect(requests.get_by_text(f"POST …/video-calls/{call}/join/")).to_be_visible()
    requests.get_by_role("searchbox", name="Show only those with").fill("join.window 400")
    expect(requests.get_by_role("listitem")).to_have_count(1)
    requests.get_by_role("searchbox").fill("no such thing")
    expect(requests.get_by_text("No request is like that.")).to_be_visible()
    console.press("Clear the requests")
    expect(requests.get_by_text("No requests yet")).to_be_visible()
    assert console.control("GET", "requests") == []


def test_answer_leads_to_its_request(console: Console) -> None:
    call = console.has_call(60)
    console.open()
    console.press(f"Join call {call}")
    console.press("Show it among the requests")
    curl = console.part("Requests").get_by_role("region", name=re.compile("curl of request"))
    expect(curl).to_contain_text(f"{CALLS}{call}/join/")


# -- Faults -----------------------------------------------------------------------------------------


def test_common_fault_is_switched_on_acts_and_wears_out(console: Console) -> None:
    call = console.has_call()
    faults = console.open().unfold("Faults")
    console.press("Next request: 503", faults)
    expect(faults.get_by_role("listitem")).to_contain_text("1 left")
    console.press(f"Join call {call}")
    expect(console.answers("503", "")).to_contain_text("Spoiled by a fault: 503 once")
    expect(faults).to_contain_text("0 left")
    console.press("All faults off", faults)
    expect(faults.get_by_text("The server behaves.")).to_be_visible()


def test_fault_of_ones_own_is_switched_on_and_off(console: Console) -> None:
    call = console.has_call()
    faults = console.open().unfold("Faults")
    faults.get_by_text("Another fault").click()
    faults.get_by_label("What happens").select_option("Drop the connection")
    faults.get_by_label("Operation").select_option("joinVideoCall")
    faults.get_by_label("After the request was acted on").check()
    console.press("Switch the fault on", faults)
    expect(faults.get_by_role("listitem")).to_contain_text(
        "drops the connection, after acting, joinVideoCall"
    )
    console.press(f"Join call {call}")
    console.answers("No answer", "")
    expect(console.row(call)).to_contain_text("ongoing")
    faults.get_by_role("button", name=re.compile("^Switch off")).click()
    expect(faults.get_by_text("The server behaves.")).to_be_visible()
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
    expect(world.get_by_text("No snapshot yet.")).to_be_visible()


def test_state_is_exported_and_imported(console: Console, tmp_path: Path) -> None:
    call = console.has_call()
    world = console.open().unfold("State and snapshots")
    with console.page.expect_download() as download:
        console.press("Export", world)
    kept = tmp_path / download.value.suggested_filename
    download.value.save_as(kept)
    console.press(f"Cancel call {call}")
    expect(console.row(call)).to_contain_text("cancelled")
    world.get_by_label("Import the state from a file").set_input_files(kept)
    expect(console.row(call)).to_contain_text("scheduled")
    console.connected()  # again, for the state was replaced
    kept.write_text("no JSON")
    world.get_by_label("Import the state from a file").set_input_files(kept)
    console.notices("video-calls-state.json is no JSON")


def test_state_is_reset_once_that_is_confirmed(console: Console) -> None:
    call = console.has_call()
    world = console.open().unfold("State and snapshots")
    dialog = console.page.get_by_role("dialog", name="Reset the state?")
    console.press("Reset…", world)
    console.press("Keep things as they are", dialog)
    assert console.status_of(call) == "scheduled"
    console.press("Reset…", world)
    console.press("Reset", dialog)
    expect(console.part("Calls").get_by_text("This person has no calls yet")).to_be_visible()
    assert console.control("GET", "calls") == []


def test_state_that_another_replaced_is_fetched_anew(console: Console) -> None:
    call = console.has_call()
    console.control("POST", "identities", {"full_name": "Somebody New", "patient": True})
    console.open()
    expect(console.row(call)).to_be_visible()
    expect(console.part("People").get_by_role("radio", name="Somebody New")).to_be_visible()
    console.control("POST", "state/reset")
    expect(console.part("Calls").get_by_text("This person has no calls yet")).to_be_visible()
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


# -- Namespaces -------------------------------------------------------------------------------------


def test_namespaces_are_shown_opened_and_deleted(console: Console) -> None:
    console.has_call()
    namespaces = console.open().unfold("Namespaces")
    expect(namespaces).to_contain_text("here: default")
    namespaces.get_by_label("Name").fill("other")
    console.press("Open the namespace", namespaces)
    expect(console.page).to_have_url(f"{console.server.url}/_ns/other/")
    expect(console.page).to_have_title("other - Video Calls console")
    expect(console.part("Calls").get_by_text("This person has no calls yet")).to_be_visible()
    console.unfold("Namespaces").get_by_role("link", name="default").click()
    expect(console.page.get_by_role("row")).to_have_count(2)
    namespaces = console.unfold("Namespaces")
    console.press("Delete namespace other", namespaces)
    expect(namespaces.get_by_role("listitem")).to_have_count(1)


def test_namespace_is_opened_with_the_control_key(make_console: Callable[..., Console]) -> None:
    console = make_console("--control-key", "open-sesame-open-sesame")
    console.page.goto(console.url)
    dialog = console.page.get_by_role("dialog", name="Control key")
    dialog.get_by_label("Key").fill("open-sesame-open-sesame")
    console.press("Go on", dialog)
    console.connected()
    namespaces = console.unfold("Namespaces")
    namespaces.get_by_label("Name").fill("other")
    console.press("Open the namespace", namespaces)
    expect(console.page).to_have_title("other - Video Calls console")
    console.connected()


def test_everything_of_a_namespaces_console_is_asked_in_its_namespace(
    make_console: Callable[..., Console],
) -> None:
    console = make_console(place="_ns/worker-1/")
    call = console.has_call()
    console.open()
    console.press(f"Join call {call}")
    console.answers("200", "done")
    expect(console.part("Events")).to_contain_text(f"participant.joinedcall {call}, doctor")
    console.press("+15 min")
    expect(console.part("Clock")).to_contain_text("15 min ahead")
    assert {urlsplit(url).path.startswith("/_ns/worker-1/") for url in console.requests} == {True}
    assert httpx.get(f"{console.server.url}/_control/calls").json() == []


# -- What is in the way -----------------------------------------------------------------------------


def test_control_key_is_asked_for_once(make_console: Callable[..., Console]) -> None:
    console = make_console("--control-key", "open-sesame-open-sesame")
    console.page.goto(console.url)
    dialog = console.page.get_by_role("dialog", name="Control key")
    dialog.get_by_label("Key").fill("wrong")
    console.press("Go on", dialog)
    expect(dialog.get_by_label("Key")).to_have_value("")
    dialog.get_by_label("Key").fill("open-sesame-open-sesame")
    console.press("Go on", dialog)
    console.connected()
    console.page.reload()
    console.connected()
    expect(dialog).to_be_hidden()
    assert not any("open-sesame-open-sesame" in url for url in console.requests)


def test_loading_and_a_server_that_is_gone_are_told(console: Console) -> None:
    held: list[Any] = []

    def hold(route: Any) -> None:
        held.append(route)

    console.page.route("**/_control/calls?*", hold, times=1)
    with console.page.expect_request("**/_control/calls?*"):
        console.page.goto(console.url)
    expect(console.part("Calls").get_by_text("Loading…")).to_be_visible()
    held[0].continue_()
    expect(console.part("Calls").get_by_text("This person has no calls yet")).to_be_visible()
    console.connected()
    console.server.popen.kill()
    expect(console.part("Events").get_by_text("not connected")).to_be_visible()
    expect(console.part("Requests").get_by_text("not connected")).to_be_visible()
    expect(console.part("Clock").get_by_role("alert")).to_contain_text("The server does not answer.")


def test_console_that_cannot_begin_says_so_and_tries_again(console: Console) -> None:
    console.page.route(
        "**/_control/server", lambda route: route.fulfill(status=503, json={"error": "Not now"})
    )
    console.page.goto(console.url)
    expect(console.page.get_by_role("alert")).to_contain_text("Not now")
    console.page.unroute("**/_control/server")
    console.press("Try again")
    console.connected()


def test_policy_of_the_page_lets_nothing_in_from_elsewhere(console: Console) -> None:
    policy = httpx.get(console.url).headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy


def test_hostile_names_are_shown_as_text(make_console: Callable[..., Console], tmp_path: Path) -> None:
    seed = tmp_path / "people.yaml"
    seed.write_text(json.dumps({"users": HOSTILE_PEOPLE}))  # JSON is YAML too
    console = make_console("--seed", str(seed))
    call = console.has_call()
    console.open()
    expect(console.part("People").get_by_role("radio", name=HOSTILE)).to_be_visible()
    expect(console.row(call)).to_contain_text(HOSTILE)
    expect(console.look(call)).to_contain_text(HOSTILE)
    console.press(f"Cancel call {call}")
    console.answers("200", "done")
    console.part("Events").get_by_text("call.cancelled", exact=True).click()
    expect(console.part("Events").get_by_role("region")).to_contain_text("<b>bold</b>")
    assert console.page.locator("#console").locator("img, b").count() == 0
    expect(console.page).not_to_have_title("taken")


# -- For everybody ----------------------------------------------------------------------------------

FAINT = """() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => {
    const linear = (c) => (c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
    const [x, y, z] = [r, g, b].map((c) => linear(c / 255));
    return .2126 * x + .7152 * y + .0722 * z;
  };
  const background = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = channels(getComputedStyle(at).backgroundColor);
      if (found.length < 4 || found[3] > .5) return found;
    }
    return [255, 255, 255];
  };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest(':disabled') || !element.checkVisibility()) {
      continue;
    }
    const [a, b] = [luminance(channels(getComputedStyle(element).color)), luminance(background(element))];
    const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (contrast < 4.5) faint.push(`${walker.currentNode.data.trim()}: ${contrast.toFixed(2)}`);
  }
  return faint;
}"""


def lived_in(console: Console) -> None:
    """A console with something everywhere: calls in all states, a fault, a snapshot, everything open."""
    console.has_call(5, "join", "end")
    console.has_call(50, "cancel")
    console.control("PUT", "snapshots/one")
    console.control("POST", "faults", {"operation": "getVideoCall", "status": 500, "name": "broken reading"})
    call = console.has_call(10)
    console.open().look(call)
    console.press(f"Join call {call}")
    console.answers("200", "done")
    console.page.get_by_role("heading", name="The Agora token, decoded").wait_for()
    for _ in range(2):  # what opens may have folds of its own
        console.page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
        console.page.get_by_role("heading", name="curl").first.wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_page_fits_the_screen_and_can_be_read(
    make_console: Callable[..., Console], width: int, scheme: str
) -> None:
    console = make_console(viewport={"width": width, "height": 800}, color_scheme=scheme)
    lived_in(console)
    assert console.page.evaluate("document.documentElement.scrollWidth") == width
    outside = f"""() => [...document.querySelectorAll('button, input, select, h2, pre')]
      .filter((element) => element.checkVisibility() && !element.closest('.scroller, .hidden'))
      .filter((element) => element.getBoundingClientRect().right > {width})
      .map((element) => element.outerHTML.slice(0, 100))"""
    assert console.page.evaluate(outside) == []
    assert console.page.evaluate(FAINT) == []


def test_every_control_has_a_name_of_its_own(console: Console) -> None:
    lived_in(console)
    snapshot = console.page.locator("body").aria_snapshot()
    controls = re.findall(
        r"- (button|link|textbox|searchbox|spinbutton|combobox|checkbox|radio|region|table)(.*)", snapshot
    )
    assert len(controls) > 50
    assert [role for role, name in controls if not name.startswith(' "')] == []
    buttons = [name for role, name in controls if role == "button"]
    assert {name for name in buttons if buttons.count(name) > 1} == set()


def test_page_has_landmarks_and_headings_in_order(console: Console) -> None:
    lived_in(console)
    for landmark in ("banner", "main", "navigation"):
        expect(console.page.get_by_role(landmark)).to_have_count(1)
    levels = console.page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3')].map((heading) => Number(heading.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    expect(console.page.get_by_role("table", name="Calls, latest first")).to_be_visible()
    assert console.page.locator("th:not([scope])").count() == 0


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
    console.open("Dr. John Doe")
    console.page.reload()
    console.connected()
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
    console.answers("201", "Schedule: done")
    expect(console.page.get_by_role("button", name="Schedule a call")).to_be_focused()
    keys.to('"Join call 1"')
    keys.press("Enter")
    console.answers("200", "Join call 1: done")
    keys.to('"End call 1"')
    keys.press("Enter")
    console.answers("200", "End call 1: done")
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


def meeting(console: Console) -> Any:
    """The meeting page that a join leads to."""
    call = console.has_call()
    console.open()
    console.press(f"Join call {call}")
    with console.page.context.expect_page() as opened:
        console.press("Open the meeting page")
    page = opened.value
    page.on("pageerror", lambda error: console.complaints.append(str(error)))
    page.on("request", lambda request: console.requests.append(request.url))
    return page


def test_meeting_page_says_that_agora_will_not_take_the_development_pair(console: Console) -> None:
    page = meeting(console)
    expect(page.get_by_text("Agora will not accept them")).to_contain_text("AGORA_APP_ID")
    assert page.url == f"{console.url}_console/meeting.html", "the credentials are not in the URL"
    assert page.evaluate("Object.keys(sessionStorage)") == ["video-calls-meeting"]
    assert console.page.evaluate("sessionStorage.getItem('video-calls-meeting')") is None


def test_meeting_page_joins_with_the_sdk_that_the_developer_chooses(
    make_console: Callable[..., Console], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app_id = "0123456789abcdef0123456789abcdef"
    monkeypatch.setenv("AGORA_APP_ID", app_id)
    monkeypatch.setenv("AGORA_APP_CERTIFICATE", app_id[::-1])
    (tmp_path / "AgoraRTC_N-production.js").write_text(RECORDING_SDK)
    console = make_console()
    page = meeting(console)
    expect(page.get_by_text("Agora will not accept them")).to_have_count(0)
    page.get_by_label("File on this machine").set_input_files(tmp_path / "AgoraRTC_N-production.js")
    page.get_by_role("button", name="Join the channel").click()
    expect(page.get_by_text("You", exact=True)).to_be_visible()
    channel = console.control("GET", "calls")[0]["channel_name"]
    (joined, published) = page.evaluate("agora")
    assert joined[:3] == ["join", app_id, channel]
    assert joined[3].startswith(f"006{app_id}")
    assert joined[4] == 101
    assert published == ["publish", 2]
    page.get_by_role("button", name="Leave the channel").click()
    expect(page.get_by_role("status")).to_have_text("You left the channel.")


def test_meeting_page_takes_the_sdk_from_a_path_of_this_server(
    make_console: Callable[..., Console], tmp_path: Path
) -> None:
    (tmp_path / "sdk.js").write_text(RECORDING_SDK)
    page = meeting(make_console("--static", str(tmp_path)))
    page.get_by_label("Path on this server").fill("/app/missing.js")
    page.get_by_role("button", name="Load the SDK").click()
    expect(page.get_by_role("status")).to_have_text("That file cannot be loaded")
    page.get_by_label("Path on this server").fill("/app/sdk.js")
    page.get_by_role("button", name="Load the SDK").click()
    expect(page.get_by_role("button", name="Join the channel")).to_be_visible()


def test_meeting_page_without_credentials_says_where_they_come_from(console: Console) -> None:
    console.page.goto(f"{console.url}_console/meeting.html")
    expect(console.page.get_by_text("There are no credentials here.")).to_be_visible()
