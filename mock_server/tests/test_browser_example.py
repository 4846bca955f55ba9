"""The document's "Frontend Integration", the docs page and CORS, in real headless Chromium."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from video_calls_server.control.client import Control

from support.chromium import NEEDS_CHROMIUM, TIMEOUT, expect
from support.server_process import ServerProcess, server_processes

pytestmark = NEEDS_CHROMIUM

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "browser"
CALLS = "/api/v1/video/video-calls/"
APP_ID = "0123456789abcdef0123456789abcdef"

HOSTILE = "<img src=x onerror=\"document.title='changed'\"><b>bold</b>"
RECORDING_SDK = """
window.agora = [];
window.AgoraRTC = {
  createClient: (config) => {
    window.agora.push(['createClient', config]);
    return {
      join: async (...credentials) => { window.agora.push(['join', ...credentials]); },
      leave: async () => { window.agora.push(['leave']); }
    };
  }
};
"""


@dataclass
class Tab:
    """A browser tab, with its requests and errors."""

    page: Any
    requests: list[str] = field(default_factory=list)
    console_errors: list[str] = field(default_factory=list)
    page_errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.page_errors.append(str(error)))

    def _on_console(self, message: Any) -> None:
        # Chromium itself reports each response with a status of 400 or more.
        network = message.text.startswith("Failed to load resource") and CALLS in message.location["url"]
        if message.type in ("error", "warning") and not network:
            self.console_errors.append(message.text)

    def origins(self) -> set[str]:
        """Return the origins of the requests, without `data:` URLs."""
        urls = [urlsplit(url) for url in self.requests]
        return {f"{url.scheme}://{url.netloc}" for url in urls if url.scheme != "data"}


@dataclass
class Example:
    """The example page."""

    tab: Tab
    server: ServerProcess

    @property
    def page(self) -> Any:
        return self.tab.page

    def open(self, user: str | None = "doctor") -> None:
        """Open the page, and enter the token of a user if given."""
        self.page.goto(f"{self.server.url}/app/")
        if user is not None:
            self.page.get_by_label("Token").fill(self.server.headers(user)["Authorization"].split()[1])

    def press(self, button: str, call: int | None = None) -> Any:
        """Press a button, after entering a call id if given. Return the server's response."""
        if call is not None:
            self.page.get_by_label("Call id").fill(str(call))
        with self.page.expect_response(lambda response: CALLS in response.url) as response:
            self.page.get_by_role("button", name=button, exact=True).click()
        return response.value

    def expect_status(self, outcome: str, message: str) -> None:
        """Expect this exact outcome and message."""
        status = self.page.get_by_role("status")
        expect(status.locator("#outcome")).to_have_text(outcome)
        expect(status.locator("#message")).to_have_text(message)
        assert status.locator("#message").text_content() == message

    def create_call(self, minutes: float = 10, *actions: str) -> int:
        """Create a call of doctor 1 and patient 1 without the browser. Return its id."""
        time = datetime.now(UTC) + timedelta(minutes=minutes)
        body = {"doctor": 1, "patient": 1, "scheduled_time": time.isoformat()}
        call_id: int = self._post(CALLS, json=body)["id"]
        for action in actions:
            self._post(f"{CALLS}{call_id}/{action}/")
        return call_id

    def get(self, call: int) -> dict[str, Any]:
        """Return the call from the server."""
        call_body: dict[str, Any] = httpx.get(
            f"{self.server.url}{CALLS}{call}/", headers=self.server.headers()
        ).json()
        return call_body

    def _post(self, path: str, **options: Any) -> dict[str, Any]:
        response = httpx.post(f"{self.server.url}{path}", headers=self.server.headers(), **options)
        assert response.is_success, response.text
        body: dict[str, Any] = response.json()
        return body


@pytest.fixture(scope="module")
def example_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server_processes(tmp_path_factory.mktemp("example")) as start:
        yield start("--database", ":memory:", "--static", str(EXAMPLE))


@pytest.fixture
def tab(browser: Any) -> Iterator[Tab]:
    context = browser.new_context(timezone_id="Asia/Kolkata", locale="en-GB")
    context.set_default_timeout(TIMEOUT)
    yield Tab(context.new_page())
    context.close()


@pytest.fixture
def example(tab: Tab, example_server: ServerProcess) -> Iterator[Example]:
    """Yield the example on an empty server. Then check that it had no errors and used no other origin."""
    with Control(example_server.url) as control:
        control.state.reset()
    yield Example(tab, example_server)
    assert tab.page_errors == []
    assert [text for text in tab.console_errors if not re.match(r"Error \w+ video call: Error: ", text)] == []
    assert tab.origins() == {example_server.url}


def test_example_has_functions_of_the_document() -> None:
    document = (ROOT / "docs" / "video-calls-api.md").read_text()
    functions = re.findall(r"^```javascript\n(.*?)^```$", document, re.DOTALL | re.MULTILINE)
    assert len(functions) == 4
    script = (EXAMPLE / "video-calls.js").read_text()
    for function in functions:
        assert re.sub(r" +$", "", function, flags=re.MULTILINE) in script


def test_create_shows_the_call(example: Example) -> None:
    example.open()
    start = (datetime.now(UTC) + timedelta(hours=2)).replace(second=0, microsecond=0)
    local_start = start.astimezone(timezone(timedelta(hours=5, minutes=30)))
    example.page.get_by_label("Time").fill(local_start.strftime("%Y-%m-%dT%H:%M"))
    response = example.press("Create")
    call = response.json()
    assert response.status == 201
    assert datetime.fromisoformat(call["scheduled_time"]) == start
    example.expect_status("Done", f"Call {call['id']} is scheduled")
    expect(example.page.get_by_label("Call id")).to_have_value(str(call["id"]))
    expect(example.page.locator("#call-json")).to_contain_text(call["channel_name"])
    assert example.tab.console_errors == []


def test_join_without_sdk_shows_credentials(example: Example) -> None:
    example.open()
    example.page.get_by_label("Agora app id").fill(APP_ID)
    call = example.press("Create").json()
    example.expect_status("Done", f"Call {call['id']} is scheduled")
    credentials = example.press("Join").json()
    example.expect_status("Done", f"Joined call {call['id']}")
    expect(example.page.get_by_role("heading", name="No video: a stand-in for Agora")).to_be_visible()
    credentials_on_page = {
        name: example.page.locator(f"#agora-{name}").text_content()
        for name in ("app-id", "channel", "token", "uid")
    }
    assert credentials_on_page == {
        "app-id": APP_ID,
        "channel": call["channel_name"],
        "token": credentials["token"],
        "uid": "101",
    }
    assert example.get(call["id"])["status"] == "ongoing"
    assert example.tab.console_errors == []


def test_join_and_end_use_the_agora_sdk(example: Example) -> None:
    example.page.add_init_script(RECORDING_SDK)
    example.open("patient")
    example.page.get_by_label("Agora app id").fill(APP_ID)
    call = example.create_call()
    credentials = example.press("Join", call).json()
    example.expect_status("Done", f"Joined call {call}")
    assert credentials["uid"] == 102
    sdk_calls = [
        ["createClient", {"mode": "rtc", "codec": "vp8"}],
        ["join", APP_ID, example.get(call)["channel_name"], credentials["token"], 102],
    ]
    assert example.page.evaluate("agora") == sdk_calls
    expect(example.page.locator("#stand-in")).to_be_hidden()
    expect(example.page.locator("#connection")).to_be_hidden()
    example.press("End", call)
    example.expect_status("Done", f"Call {call} is completed")
    assert example.page.evaluate("agora") == [*sdk_calls, ["leave"]]


@pytest.mark.parametrize(
    ("button", "action", "user", "status", "error"),
    [
        ("Create", None, "doctor", 400, "There is already a scheduled call within 30 minutes of this time"),
        ("Join", "cancel", "doctor", 400, "This call has been cancelled"),
        ("End", None, "outsider", 403, "You are not authorized to access this call"),
        ("Cancel", None, None, 401, "Authentication credentials were not provided"),
    ],
)
def test_refusal_shows_the_error_text(
    example: Example, *, button: str, action: str | None, user: str | None, status: int, error: str
) -> None:
    call = example.create_call(10, *([action] if action else []))
    before = example.get(call)
    example.open(user)
    response = example.press(button, call)
    assert (response.status, response.json()["error"]) == (status, error)
    example.expect_status("Failed", error)
    expect(example.page.locator("#answer")).to_be_hidden()
    expect(example.page.locator("#connection")).to_be_hidden()
    assert len(example.tab.console_errors) == 1, "the functions of the document log each error once"
    assert example.get(call) == before


def test_call_is_cancelled(example: Example) -> None:
    example.open()
    call = example.create_call()
    example.press("Cancel", call)
    example.expect_status("Done", f"Call {call} is cancelled")
    expect(example.page.locator("#call-json")).to_contain_text('"status": "cancelled"')
    assert example.get(call)["status"] == "cancelled"
    assert example.tab.console_errors == []


@pytest.mark.parametrize(
    ("button", "status", "body"),
    [("Join", 400, {"error": HOSTILE}), ("Create", 201, {"id": 1, "status": "scheduled", "name": HOSTILE})],
)
def test_hostile_text_is_shown_as_text(
    example: Example, button: str, status: int, body: dict[str, object]
) -> None:
    example.open()
    example.page.route(f"**{CALLS}**", lambda route: route.fulfill(status=status, json=body))
    example.press(button, 1)
    expect(example.page.locator("#result")).to_contain_text("<b>bold</b>")
    assert example.page.locator("#result").locator("img, b").count() == 0
    expect(example.page).not_to_have_title("changed")


def test_page_is_accessible_on_a_small_screen(example: Example) -> None:
    example.page.set_viewport_size({"width": 360, "height": 740})
    example.open()
    call = example.create_call()
    example.press("Join", call)
    example.expect_status("Done", f"Joined call {call}")
    assert example.page.evaluate("document.documentElement.scrollWidth") == 360
    count_unnamed = "[...document.querySelectorAll('input')].filter((input) => !input.labels.length).length"
    assert example.page.evaluate(count_unnamed) == 0
    expect(example.page.get_by_role("status")).to_be_in_viewport()


def test_docs_page_runs_an_operation(tab: Tab, example_server: ServerProcess) -> None:
    page = tab.page
    page.goto(f"{example_server.url}/docs/")
    page.get_by_role("button", name="Authorize").first.click()
    dialog = page.locator(".dialog-ux")
    dialog.get_by_role("textbox").fill(example_server.headers()["Authorization"].split()[1])
    dialog.get_by_role("button", name="Apply credentials").click()
    dialog.get_by_role("button", name="Close").click()
    listing = page.locator("[id^=operations-][id$=listVideoCalls]")
    listing.locator(".opblock-summary-control").click()
    listing.get_by_role("button", name="Try it out").click()
    with page.expect_response(f"{example_server.url}{CALLS}**") as response:
        listing.get_by_role("button", name="Execute").click()
    assert response.value.status == 200
    assert tab.origins() == {example_server.url}
    assert tab.page_errors == tab.console_errors == []


def test_page_of_loopback_origin_may_call_the_api(
    tab: Tab, example_server: ServerProcess, plain_server: ServerProcess
) -> None:
    tab.page.goto(f"{plain_server.url}/healthz")  # a page from another port
    fetch = """async ([url, options]) => {
      const response = await fetch(url, options);
      return [response.status, response.headers.get('X-Request-ID'), await response.json()];
    }"""
    headers = example_server.headers() | {"Content-Type": "application/json", "X-Request-ID": "from-the-page"}
    body = '{"doctor": 1, "patient": 1, "scheduled_time": "2020-01-05T10:00:00Z"}'
    options = {"method": "POST", "headers": headers, "body": body, "credentials": "include"}
    status, request_id, refusal = tab.page.evaluate(fetch, [f"{example_server.url}{CALLS}", options])
    assert (status, request_id) == (400, "from-the-page")
    assert refusal["error"] == "Scheduled time must be in the future"
