"""Simultaneous requests, over real sockets, to one server and to two on one database file."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from conftest import CALLS, Process

TOGETHER = 30
ROUNDS = 5


@pytest.fixture(params=["one server", "two servers on one file"])
def servers(request: pytest.FixtureRequest, serve: Callable[..., Process]) -> list[Process]:
    count = 1 if request.param == "one server" else 2
    return [serve("--database", "shared.db", "--log-level", "error") for _ in range(count)]


async def together(
    servers: list[Process], path: str, body: dict[str, object] | None = None
) -> list[httpx.Response]:
    """The same request, many times at once, by doctor and patient in turn."""
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=TOGETHER), timeout=30) as client:
        return await asyncio.gather(
            *(
                client.post(
                    servers[index % len(servers)].url + path,
                    json=body,
                    headers=servers[0].headers("doctor" if index % 3 else "patient"),
                )
                for index in range(TOGETHER)
            )
        )


def soon(minutes: float) -> str:
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()


def created(server: Process, minutes: float) -> int:
    body = {"doctor": 1, "patient": 1, "scheduled_time": soon(minutes)}
    call_id: int = (
        httpx.post(server.url + CALLS, json=body, headers=server.headers()).raise_for_status().json()["id"]
    )
    return call_id


@pytest.mark.rule("create.no-race")
def test_of_conflicting_creates_exactly_one_is_accepted(servers: list[Process]) -> None:
    for index in range(ROUNDS):
        body = {"doctor": 1, "patient": 1, "scheduled_time": soon(60 * (index + 1))}
        answers = asyncio.run(together(servers, CALLS, body))
        assert Counter(answer.status_code for answer in answers) == {201: 1, 400: TOGETHER - 1}
        assert {answer.json()["code"] for answer in answers if answer.is_error} == {"create.no-overlap"}
    listed = httpx.get(servers[-1].url + CALLS, headers=servers[0].headers()).json()
    assert listed["count"] == ROUNDS


@pytest.mark.rule("join.started-once")
def test_simultaneous_joins_start_the_call_once(servers: list[Process]) -> None:
    for _ in range(ROUNDS):
        call_id = created(servers[0], 10)
        answers = asyncio.run(together(servers, f"{CALLS}{call_id}/join/"))
        assert {answer.status_code for answer in answers} == {200}
        call = httpx.get(f"{servers[0].url}{CALLS}{call_id}/", headers=servers[0].headers()).json()
        assert call["started_at"] == call["updated_at"]
        httpx.post(f"{servers[0].url}{CALLS}{call_id}/end/", headers=servers[0].headers()).raise_for_status()


@pytest.mark.parametrize("action", ["end", "cancel"])
def test_of_simultaneous_ends_or_cancels_exactly_one_acts(servers: list[Process], action: str) -> None:
    call_id = created(servers[0], 10)
    if action == "end":
        httpx.post(f"{servers[0].url}{CALLS}{call_id}/join/", headers=servers[0].headers()).raise_for_status()
    answers = asyncio.run(together(servers, f"{CALLS}{call_id}/{action}/"))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 400: TOGETHER - 1}


def test_one_key_makes_one_call_however_often_it_is_sent_at_once(servers: list[Process]) -> None:
    async def send() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=30) as client:
            body = {"doctor": 1, "patient": 1, "scheduled_time": soon_fixed}
            headers = servers[0].headers() | {"Idempotency-Key": "once"}
            return await asyncio.gather(
                *(
                    client.post(servers[i % len(servers)].url + CALLS, json=body, headers=headers)
                    for i in range(20)
                )
            )

    soon_fixed = soon(60)
    answers = asyncio.run(send())
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
