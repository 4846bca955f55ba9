"""Tests of runs on a shared staging system: cleanup, parallel runs, occupied slots, few users."""

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

from support.suite_runs import SUITE_TIMEOUT, command_of_run, reference_server, run_suite

USERS = ("doctor", "patient", "other_doctor", "other_patient", "dual_user")


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    """Yield the configuration for a new reference server."""
    with reference_server(tmp_path) as config:
        yield config


def api(config: Path, user: str) -> httpx.Client:
    settings = tomllib.loads(config.read_text())
    token = settings["identities"][user]["token"]
    return httpx.Client(base_url=settings["base_url"], headers={"Authorization": f"Bearer {token}"})


def open_calls(config: Path) -> list[dict[str, Any]]:
    """Return the open calls of the users of a configuration."""
    calls: dict[int, dict[str, Any]] = {}
    for user in USERS:
        with api(config, user) as client:
            url: str | None = "video-calls/?page_size=100"
            while url:
                page = client.get(url).raise_for_status().json()
                url = page["next"]
                calls |= {call["id"]: call for call in page["results"]}
    return [call for call in calls.values() if call["status"] in ("scheduled", "ongoing")]


def book(config: Path, minutes: float, user: str = "doctor", number: int = 1) -> int:
    """Create a call between the doctor and the patient with this number, and return its id."""
    with api(config, user) as client:
        at = datetime.now(UTC) + timedelta(minutes=minutes)
        body = {"doctor": number, "patient": number, "scheduled_time": at.isoformat()}
        call_id: int = client.post("video-calls/", json=body).raise_for_status().json()["id"]
        return call_id


def add_old_call(config: Path, minutes: float) -> None:
    """Add a call of the doctor and the patient that was created hours ago."""
    state_url = tomllib.loads(config.read_text())["base_url"].replace("/api/v1/video", "/_control/state")
    state = httpx.get(state_url).raise_for_status().json()
    now = datetime.now(UTC)
    at, created_at = now + timedelta(minutes=minutes), now - timedelta(hours=3)
    call = {
        "scheduled_time": at.isoformat(),
        "created_at": created_at.isoformat(),
        "updated_at": created_at.isoformat(),
    }
    state["calls"].append({"doctor": 1, "patient": 1, **call})
    httpx.put(state_url, json=state).raise_for_status()


def close_near_calls(config: Path) -> None:
    """End or cancel the calls of the next hour."""
    for call in open_calls(config):
        if datetime.fromisoformat(call["scheduled_time"]) < datetime.now(UTC) + timedelta(hours=1):
            with api(config, "doctor" if call["doctor"] == 1 else "other_doctor") as client:
                client.post(f"video-calls/{call['id']}/{'end' if call['status'] == 'ongoing' else 'cancel'}/")


class RunningSuite:
    """A run of the suite that has open calls."""

    def __init__(self, config: Path, *options: str) -> None:
        self.report = config.parent / "running.json"
        self.process = subprocess.Popen(
            command_of_run(config, self.report, *options),
            cwd=config.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        while len(open_calls(config)) < 4:
            assert self.process.poll() is None, "the run ended before it had open calls"
            threading.Event().wait(0.2)

    def stop(self, number: signal.Signals) -> str:
        self.process.send_signal(number)
        return self.process.communicate(timeout=60)[0]


@pytest.mark.long
@pytest.mark.timeout(2 * SUITE_TIMEOUT)
def test_parallel_runs_pass_after_a_killed_run(config: Path) -> None:
    RunningSuite(config).stop(signal.SIGKILL)
    close_near_calls(config)
    book(config, 12)
    other_calls = {call["id"] for call in open_calls(config)}
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(run_suite, config, report=f"{name}.json") for name in ("one", "two")]
        verdicts = [run.result() for run in runs]
    for verdict in verdicts:
        assert verdict.failed == set(), verdict.output
        assert verdict.unchecked == set(), verdict.reasons
        assert verdict.status == 0, verdict.output
    assert {call["id"] for call in open_calls(config)} == other_calls


@pytest.mark.long
@pytest.mark.timeout(SUITE_TIMEOUT)
def test_run_without_free_slots_exits_with_2(config: Path) -> None:
    book(config, 7)
    ongoing = book(config, 1, "other_doctor", 2)
    with api(config, "other_doctor") as client:
        client.post(f"video-calls/{ongoing}/join/").raise_for_status()
    verdict = run_suite(config)
    assert verdict.failed == set(), verdict.output
    assert verdict.status == 2, verdict.output
    assert "run the suite later" in verdict.reasons["join.credentials"]


def keep_identities(config: Path, *users: str) -> None:
    """Remove all other identities from a configuration."""
    settings = tomllib.loads(config.read_text())
    lines = [f'base_url = "{settings["base_url"]}"']
    for name in users:
        user = settings["identities"][name]
        lines += [f"[identities.{name}]", f"id = {user['id']}", f'token = "{user["token"]}"']
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
"""Some of the rules that need a call within its join window."""


@pytest.mark.timeout(SUITE_TIMEOUT)
def test_old_call_blocks_only_rules_needing_join_window(
    config: Path,
) -> None:
    add_old_call(config, 7)
    [other_call] = open_calls(config)
    keep_identities(config, "doctor", "patient")
    verdict = run_suite(config, *(f"--rule={slug}" for slug in (*FAR, *NEAR)))
    requests = json.loads(config.with_name("report.json").read_text())["requests"]
    at = datetime.fromisoformat(other_call["scheduled_time"])
    call_id = other_call["id"]
    reason = (
        f"call {call_id} of doctor 1 and patient 1, scheduled for {at:%Y-%m-%d %H:%M} UTC, takes up the "
        "next quarter of an hour: cancel or end it, or run the suite later"
    )
    assert verdict.reasons == dict.fromkeys(NEAR, reason), verdict.output
    assert verdict.status == 2, verdict.output
    assert reason in verdict.output.splitlines()[-2]
    assert requests < 56  # there would be more if each rule looked for a slot


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
"""The rules that need more users than a doctor and a patient."""


@pytest.mark.timeout(SUITE_TIMEOUT)
@pytest.mark.parametrize(
    "others",
    [
        pytest.param(FAR, id="some"),
        pytest.param((), id="all", marks=pytest.mark.long),
    ],
)
def test_missing_identities_leave_rules_not_checked(config: Path, others: tuple[str, ...]) -> None:
    keep_identities(config, "doctor", "patient")
    selected = [f"--rule={slug}" for slug in (*NEEDS_OTHERS, *others)] if others else []
    verdict = run_suite(config, *selected)
    assert verdict.status == 0, verdict.output
    assert verdict.failed == set()
    assert verdict.unchecked == set(NEEDS_OTHERS)
    for slug in verdict.unchecked:
        assert "configuration has no" in verdict.reasons[slug], verdict.reasons[slug]
