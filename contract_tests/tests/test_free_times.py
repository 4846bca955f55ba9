"""Tests of the free times for the calls of a run, also with a backend that accepts few times."""

import itertools
import json
from datetime import UTC, datetime, time, timedelta
from email.utils import format_datetime

import httpx
import pytest
from video_calls_contract.backend import Backend
from video_calls_contract.booking_policy import Policy
from video_calls_contract.config import parse_config
from video_calls_contract.free_times import FreeTimes
from video_calls_contract.redaction import Redactor
from video_calls_contract.scheduling import Calls
from video_calls_contract.users import Users

URL = "http://backend.invalid/api/v1/video"
CONFIG = f"""
base_url = "{URL}"
identities.doctor = {{ id = 1, token = "token-of-the-doctor" }}
identities.patient = {{ id = 1, token = "token-of-the-patient" }}
"""
WIDEST_REACH = 75  # minutes that `create.adjacent` needs before and after a call
MONDAY = datetime(2026, 11, 30, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


class Clinic:
    """A backend that accepts calls of one doctor and one patient by a policy, with a frozen clock."""

    def __init__(self, policy: Policy, now: datetime) -> None:
        self.policy, self.now = policy, now
        self.open: dict[int, datetime] = {}
        self.numbers = itertools.count(1)

    def answer(self, request: httpx.Request) -> httpx.Response:
        status, body = self.respond(request.method, request.url.path.split("/")[5:], request.content)
        headers = {"Content-Type": "application/json", "Date": format_datetime(self.now, usegmt=True)}
        return httpx.Response(status, content=iter([json.dumps(body).encode()]), headers=headers)

    def respond(self, method: str, path: list[str], content: bytes) -> tuple[int, object]:
        if method == "GET":
            calls = [self.call(number, at) for number, at in self.open.items()]
            return 200, {"count": len(calls), "next": None, "previous": None, "results": calls}
        if "cancel" in path:
            return 200, self.call(int(path[0]), self.open.pop(int(path[0]))) | {"status": "cancelled"}
        at = datetime.fromisoformat(json.loads(content)["scheduled_time"])
        is_taken = any(abs(at - other) < HOUR / 2 for other in self.open.values())
        if is_taken or at <= self.now or not self.policy.allows(at, self.now):
            return 400, {"error": "no"}
        number = next(self.numbers)
        self.open[number] = at
        return 201, self.call(number, at)

    def call(self, number: int, at: datetime) -> dict[str, object]:
        return {
            "id": number,
            "doctor": 1,
            "patient": 1,
            "status": "scheduled",
            "scheduled_time": at.isoformat(),
            "created_at": self.now.isoformat(),
        }

    def run(self, configured: Policy) -> FreeTimes:
        """Return the free times of a new run whose configuration has this policy."""
        backend = Backend(URL, Redactor(), transport=httpx.MockTransport(self.answer))
        free_times = Calls(
            backend, Users(parse_config(CONFIG, "contract.toml"), backend), configured
        ).free_times
        free_times.prepare()
        return free_times


def week(*hours: int) -> Policy:
    return Policy(7 * DAY, (time(hours[0]), time(hours[1])), frozenset(range(5)), notice_minutes=30)


@pytest.mark.parametrize("hours", [(8, 16), (22, 6)], ids=["day", "night"])
def test_week_has_slots_for_two_runs(hours: tuple[int, int]) -> None:
    policy = week(*hours)
    for offset in range(7 * 24):
        clinic = Clinic(policy, MONDAY + offset * HOUR + timedelta(minutes=10))
        first, second = clinic.run(policy), clinic.run(policy)
        reach = WIDEST_REACH * timedelta(minutes=1)
        times = [first.take(WIDEST_REACH), second.take(WIDEST_REACH)]
        for at in times:
            assert policy.allows(at - reach, clinic.now), clinic.now
            assert policy.allows(at + reach, clinic.now), clinic.now
            assert all(abs(at - other) > reach + HOUR / 2 for other in clinic.open.values()), clinic.now


@pytest.mark.parametrize("offset", [12, 36, 60, 107, 150])
def test_run_reuses_slots_if_times_are_scarce(offset: int) -> None:
    clinic = Clinic(week(8, 16), MONDAY + offset * HOUR + timedelta(minutes=10))
    free_times = clinic.run(Policy())
    assert free_times.scarce
    assert free_times.reuses()
    for _ in range(20):
        free_times.take(WIDEST_REACH)
        free_times.give_back()


def test_slots_of_a_run_spread_over_several_days() -> None:
    policy = week(8, 16)
    clinic = Clinic(policy, MONDAY)
    free_times = clinic.run(policy)
    times = {free_times.take() for _ in range(30)}
    assert len({at.date() for at in times}) >= 3
    assert all(abs(one - other) > HOUR / 2 for one, other in itertools.combinations(times, 2))


def test_slots_of_parallel_runs_do_not_overlap() -> None:
    clinic = Clinic(Policy(), MONDAY)
    runs = [clinic.run(Policy()) for _ in range(3)]
    times = [{run.take() for _ in range(100)} for run in runs]
    for one, other in itertools.combinations(times, 2):
        assert min(abs(at - another) for at in one for another in other) > HOUR
    assert min(min(of_run) for of_run in times) > MONDAY + 30 * DAY


def test_midnight_slot_is_free_on_both_sides() -> None:
    policy = Policy(7 * DAY, notice_minutes=30)
    clinic = Clinic(policy, MONDAY + 9 * HOUR)
    midnight = clinic.run(policy).midnight(10)
    assert midnight is not None
    assert midnight.time() == time(0)
    assert all(abs(midnight - at) > timedelta(minutes=40) for at in clinic.open.values())


@pytest.mark.parametrize("hour", range(0, 24, 3))
def test_slots_are_found_if_every_booking_is_refused(hour: int) -> None:
    """Tests of refusals create no call, but they still need times to send."""
    free_times = Clinic(Policy(timedelta(0)), MONDAY + hour * HOUR).run(Policy())
    assert len({free_times.take() for _ in range(100)}) == 100
