"""A program reaches the right results although every fifth exchange has a fault.

The program uses both clients, through `FaultProxy`, against the reference server: once unchanged, and once
without the `Idempotency-Key`, like a backend that does not support it.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from video_calls_sdk import (
    AsyncVideoCallsClient,
    CallCancelledError,
    CallCompletedError,
    CallNotFoundError,
    CallNotOngoingError,
    CallNotScheduledError,
    CallStatus,
    JoinWindowError,
    NotParticipantError,
    Retries,
    ScheduledInPastError,
    SchedulingConflictError,
    VideoCall,
    VideoCallsClient,
    VideoCallsError,
)
from video_calls_server import Settings
from video_calls_server.api.jwt import make_token

from support.fault_proxy import Fault, FaultProxy, seeded_faults

PAIRS = range(1, 9)  # doctor n and patient n
API = "/api/v1/video"
RETRIES = Retries(attempts=12, first_wait=0.01, longest_wait=0.05)
KEY = b"idempotency-key"

Fact = tuple[int, int, datetime, str]
Clients = dict[int, Any]  # pair number -> operations of its doctor, or of its patient


def doctor(pair: int) -> str:
    return make_token(Settings(), 1000 + pair, expires_in=3600)


def patient(pair: int) -> str:
    return make_token(Settings(), 2000 + pair, expires_in=3600)


def seed(path: Path) -> Path:
    users = [
        {"id": first + n, "email": f"{role}{n}@example.com", "full_name": role, role: {"id": n}}
        for first, role in ((1000, "doctor"), (2000, "patient"))
        for n in PAIRS
    ]
    path.write_text(yaml.safe_dump({"users": users}))
    return path


def fact(call: VideoCall) -> Fact:
    return call.doctor, call.patient, call.scheduled_time, str(call.status)


class Awaited:
    """The operations of a synchronous client, as coroutines."""

    def __init__(self, operations: Any) -> None:
        self._operations = operations

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def operation(*args: Any, **kwargs: Any) -> Any:
            return getattr(self._operations, name)(*args, **kwargs)

        return operation


@dataclass
class Program:
    """Schedules, joins, ends and cancels calls, and records the results.

    Attributes:
        blocked: for each pair, a time at which another program has scheduled a call.
        results: the calls as the program knows them.
    """

    of_doctors: Clients
    of_patients: Clients
    blocked: dict[int, datetime]
    chance: random.Random
    results: dict[int, Fact]
    slots: dict[int, int] = field(default_factory=lambda: dict.fromkeys(PAIRS, 0))
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def work(self, rounds: int) -> None:
        for number in range(rounds):
            pair = self.chance.choice(PAIRS)
            calls = self.chance.choice([self.of_doctors, self.of_patients])[pair]
            await self.complete_a_call(calls, pair, with_errors=number % 4 == 0)
            await self.cancel_a_call(calls, pair, with_errors=number % 4 == 1)
            if number % 5 == 0:
                await self.schedule(calls, pair, self.later(pair))
                self.slots[pair] += 1
            if number % 8 == 0:
                await self.try_invalid_requests(calls, pair)

    def later(self, pair: int) -> datetime:
        """Return the next free time of a pair, more than half an hour after its blocked time."""
        return self.began + timedelta(hours=3, minutes=31 * self.slots[pair])

    async def complete_a_call(self, calls: Any, pair: int, *, with_errors: bool) -> None:
        soon = datetime.now(UTC) + timedelta(minutes=self.chance.uniform(1, 14))
        call = await self.schedule(calls, pair, soon)
        credentials = await calls.join(call.id)
        assert credentials.channel_name == call.channel_name
        self.results[call.id] = (*fact(call)[:3], "ongoing")
        if with_errors:
            await self.expect(CallNotScheduledError, calls.cancel(call.id))
            conflicting = soon + timedelta(minutes=self.chance.uniform(-1, 29))
            await self.expect(SchedulingConflictError, self.create(calls, pair, conflicting))
        self.record(await calls.end(call.id), call.id, CallStatus.COMPLETED)
        if with_errors:
            await self.expect(CallCompletedError, calls.join(call.id))

    async def cancel_a_call(self, calls: Any, pair: int, *, with_errors: bool) -> None:
        call = await self.schedule(calls, pair, self.later(pair))
        if with_errors:
            await self.expect(CallNotOngoingError, calls.end(call.id))
            await self.expect(JoinWindowError, calls.join(call.id))
        self.record(await calls.cancel(call.id), call.id, CallStatus.CANCELLED)
        if with_errors:
            await self.expect(CallCancelledError, calls.join(call.id))

    async def try_invalid_requests(self, calls: Any, pair: int) -> None:
        # A call at the same time would look like our own.
        conflicting = self.blocked[pair] + timedelta(minutes=10)
        await self.expect(SchedulingConflictError, self.create(calls, pair, conflicting))
        await self.expect(ScheduledInPastError, self.create(calls, pair, self.began - timedelta(hours=1)))
        await self.expect(NotParticipantError, self.create(calls, pair % len(PAIRS) + 1, self.later(pair)))
        await self.expect(CallNotFoundError, calls.end(10**9))

    async def schedule(self, calls: Any, pair: int, when: datetime) -> VideoCall:
        call = await self.create(calls, pair, when)
        assert call.id not in self.results
        self.record(call, call.id, CallStatus.SCHEDULED)
        assert fact(call) == (pair, pair, when, "scheduled")
        return call

    def create(self, calls: Any, pair: int, when: datetime) -> Awaitable[VideoCall]:
        created: Awaitable[VideoCall] = calls.create(doctor=pair, patient=pair, scheduled_time=when)
        return created

    def record(self, call: VideoCall, call_id: int, status: CallStatus) -> None:
        assert (call.id, call.status) == (call_id, status)
        self.results[call.id] = fact(call)

    async def expect(self, error: type[VideoCallsError], call: Awaitable[Any]) -> None:
        with pytest.raises(VideoCallsError) as raised:
            await call
        assert type(raised.value) is error, repr(raised.value)


def schedule_others(server: str) -> dict[int, Fact]:
    """Schedule a call for each pair, as another program, and return the calls."""
    when = datetime.now(UTC) + timedelta(hours=2)
    calls = {}
    for pair in PAIRS:
        with VideoCallsClient(f"{server}{API}", doctor(pair)) as client:
            call = client.calls.create(doctor=pair, patient=pair, scheduled_time=when)
            calls[call.id] = fact(call)
    return calls


def calls_on(server: str) -> dict[int, Fact]:
    """Return all calls of the server, without the proxy."""
    calls: dict[int, Fact] = {}
    for pair in PAIRS:
        with VideoCallsClient(f"{server}{API}", doctor(pair)) as client:
            calls |= {call.id: fact(call) for call in client.calls.list(page_size=100)}
    return calls


async def run(kind: str, url: str, program: Callable[[Clients, Clients], Awaitable[None]]) -> None:
    """Run a program with clients of one kind, which share connections."""
    options: dict[str, Any] = {"timeout": 0.25, "retries": RETRIES}
    async with httpx.AsyncClient() as http:
        with httpx.Client() as sync_http:

            def client(token: str) -> Any:
                if kind == "async":
                    return AsyncVideoCallsClient(url, token, http_client=http, **options).calls
                return Awaited(VideoCallsClient(url, token, http_client=sync_http, **options).calls)

            await program(*({pair: client(token(pair)) for pair in PAIRS} for token in (doctor, patient)))


def every_fault_in_turn() -> Iterator[Fault | None]:
    """Yield four exchanges without a fault, then one with the next fault, without end."""
    for fault in cycle(Fault):
        yield from (None, None, None, None, fault)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("rounds", "faults"),
    [
        pytest.param(10, every_fault_in_turn, id="in turn"),
        pytest.param(1000, partial(seeded_faults, 2), id="at random", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize(
    ("kind", "without"), [("sync", None), ("async", KEY)], ids=["sync", "async without key"]
)
def test_results_match_server_despite_faults(  # noqa: PLR0917 (two tables)
    serve: Any,
    tmp_path: Path,
    kind: str,
    without: bytes | None,
    rounds: int,
    faults: Callable[[], Iterator[Fault | None]],
) -> None:
    server = serve("--seed", str(seed(tmp_path / "people.yaml")), "--log-level", "error").url
    others = schedule_others(server)
    results: dict[int, Fact] = {}

    async def work(of_doctors: Clients, of_patients: Clients) -> None:
        times = {pair: when for pair, _, when, _ in others.values()}
        chance = random.Random(1)  # noqa: S311 (has to be reproducible)
        await Program(of_doctors, of_patients, times, chance, results).work(rounds)

    with FaultProxy(server, faults(), without_header=without) as proxy:
        asyncio.run(run(kind, f"{proxy.url}{API}", work))
    print(f"{proxy.exchanges} exchanges, {proxy.injected.total()} with a fault: {dict(proxy.injected)}")
    assert set(proxy.injected) == set(Fault)
    assert calls_on(server) == results | others
