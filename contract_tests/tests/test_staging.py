"""That runs fit a shared staging system: they clean up, make room for each other, and do with few people."""

import json
import signal
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.suite_runs import LONGEST, command, reference, run_suite

PEOPLE = ("doctor", "patient", "other_doctor", "other_patient", "dual_user")


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    """The configuration for a reference server that nobody else uses."""
    with reference(tmp_path) as config:
        yield config


def api(config: Path, person: str) -> httpx.Client:
    settings = tomllib.loads(config.read_text())
    token = settings["identities"][person]["token"]
    return httpx.Client(base_url=settings["base_url"], headers={"Authorization": f"Bearer {token}"})


def open_calls(config: Path) -> list[dict[str, Any]]:
    """The calls of the configuration's people that are neither ended nor cancelled."""
    found: dict[int, dict[str, Any]] = {}
    for person in PEOPLE:
        with api(config, person) as client:
            url: str | None = "video-calls/?page_size=100"
            while url:
                page = client.get(url).raise_for_status().json()
                url = page["next"]
                found |= {call["id"]: call for call in page["results"]}
    return [call for call in found.values() if call["status"] in ("scheduled", "ongoing")]


def book(config: Path, minutes: float, person: str = "doctor", number: int = 1) -> int:
    """A call that is none of the suite's, of the doctor and the patient with this number."""
    with api(config, person) as client:
        at = datetime.now(UTC) + timedelta(minutes=minutes)
        body = {"doctor": number, "patient": number, "scheduled_time": at.isoformat()}
        call_id: int = client.post("video-calls/", json=body).raise_for_status().json()["id"]
        return call_id


def leave(config: Path, minutes: float) -> None:
    """Leave a call of the doctor and the patient there that was made hours ago."""
    state_url = tomllib.loads(config.read_text())["base_url"].replace("/api/v1/video", "/_control/state")
    state = httpx.get(state_url).raise_for_status().json()
    now = datetime.now(UTC)
    at, made = now + timedelta(minutes=minutes), now - timedelta(hours=3)
    call = {"scheduled_time": at.isoformat(), "created_at": made.isoformat(), "updated_at": made.isoformat()}
    state["calls"].append({"doctor": 1, "patient": 1, **call})
    httpx.put(state_url, json=state).raise_for_status()


def free_the_next_hour(config: Path) -> None:
    """End and cancel what takes up people's time now."""
    for call in open_calls(config):
        if datetime.fromisoformat(call["scheduled_time"]) < datetime.now(UTC) + timedelta(hours=1):
            with api(config, "doctor" if call["doctor"] == 1 else "other_doctor") as client:
                client.post(f"video-calls/{call['id']}/{'end' if call['status'] == 'ongoing' else 'cancel'}/")


class Begun:
    """A run that goes on, with calls open."""

    def __init__(self, config: Path, *options: str) -> None:
        self.report = config.parent / "begun.json"
        self.process = subprocess.Popen(
            command(config, self.report, *options),
            cwd=config.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        while len(open_calls(config)) < 4:
            assert self.process.poll() is None, "it ended before it had begun"
            threading.Event().wait(0.2)

    def stop(self, number: signal.Signals) -> str:
        self.process.send_signal(number)
        return self.process.communicate(timeout=60)[0]


@pytest.mark.long
@pytest.mark.timeout(2 * LONGEST)
def test_two_runs_at_once_pass_where_another_was_killed(config: Path) -> None:
    Begun(config).stop(signal.SIGKILL)
    free_the_next_hour(config)
    book(config, 12)
    theirs = {call["id"] for call in open_calls(config)}
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(run_suite, config, report=f"{name}.json") for name in ("one", "two")]
        verdicts = [run.result() for run in runs]
    for said in verdicts:
        assert said.failed == set(), said.output
        assert said.unchecked == set(), said.reasons
        assert said.status == 0, said.output
    assert {call["id"] for call in open_calls(config)} == theirs


@pytest.mark.long
@pytest.mark.timeout(LONGEST)
def test_where_nobody_has_time_a_run_says_so_and_blames_nobody(config: Path) -> None:
    book(config, 7)
    ongoing = book(config, 1, "other_doctor", 2)
    with api(config, "other_doctor") as client:
        client.post(f"video-calls/{ongoing}/join/").raise_for_status()
    said = run_suite(config)
    assert said.failed == set(), said.output
    assert said.status == 2, said.output
    assert "run the suite later" in said.reasons["join.credentials"]


def alone(config: Path, *people: str) -> None:
    """Leave nobody else in a configuration."""
    settings = tomllib.loads(config.read_text())
    lines = [f'base_url = "{settings["base_url"]}"']
    for name in people:
        person = settings["identities"][name]
        lines += [f"[identities.{name}]", f"id = {person['id']}", f'token = "{person["token"]}"']
    config.write_text("\n".join(lines))


FAR = ("auth.challenge", "list.envelope", "list.page-size", "model.schema", "errors.body", "privacy.details")
"""Some of the rules that need no call within its join window."""

NEAR = (
    "join.credentials",
    "join.again",
    "join.not-cancelled",
    "join.token-format",
    "end.completes",
)
"""Some of those that do."""


@pytest.mark.timeout(LONGEST)
def test_an_own_call_in_the_way_is_named_and_the_rules_that_need_no_near_call_are_judged(
    config: Path,
) -> None:
    leave(config, 7)
    [theirs] = open_calls(config)
    alone(config, "doctor", "patient")
    said = run_suite(config, *(f"--rule={slug}" for slug in (*FAR, *NEAR)))
    requests = json.loads(config.with_name("report.json").read_text())["requests"]
    at = datetime.fromisoformat(theirs["scheduled_time"])
    reason = (
        f"call {theirs['id']} of doctor 1 and patient 1, scheduled for {at:%Y-%m-%d %H:%M} UTC, takes up the "
        "next quarter of an hour: cancel or end it, or run the suite later"
    )
    assert said.reasons == dict.fromkeys(NEAR, reason), said.output
    assert said.status == 2, said.output
    assert reason in said.output.splitlines()[-2]
    assert requests < 56  # each rule would look for itself otherwise


NEEDS_OTHERS = (
    "auth.active-user",
    "auth.expired-token",
    "cancel.participants-only",
    "create.doctor-active",
    "create.participants-only",
    "create.patient-active",
    "end.participants-only",
    "events.own-calls",
    "events.token-expiry",
    "get.participants-only",
    "join.participants-only",
    "join.token-signature",
)
"""The rules that a doctor and a patient alone cannot show."""


@pytest.mark.timeout(LONGEST)
@pytest.mark.parametrize(
    "others",
    [
        pytest.param(FAR, id="some"),
        pytest.param((), id="all", marks=pytest.mark.long),
    ],
)
def test_with_a_doctor_and_a_patient_alone_the_rest_is_not_checked(
    config: Path, others: tuple[str, ...]
) -> None:
    alone(config, "doctor", "patient")
    selected = [f"--rule={slug}" for slug in (*NEEDS_OTHERS, *others)] if others else []
    verdict = run_suite(config, *selected)
    assert verdict.status == 0, verdict.output
    assert verdict.failed == set()
    assert verdict.unchecked == set(NEEDS_OTHERS)
    for slug in verdict.unchecked:
        assert "configuration has no" in verdict.reasons[slug], verdict.reasons[slug]
