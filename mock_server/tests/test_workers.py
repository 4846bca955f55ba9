"""Several workers on one PostgreSQL, as people run them: what is true of one process is true of all of them,
and nothing that was acknowledged is lost when one is killed or all are stopped.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from conftest import CALLS, USERS, on_postgres
from sqlalchemy import make_url
from test_command import assert_told, run
from test_events_cut import LIVES, Subscriber, seed
from video_calls_server import Settings
from video_calls_server.api.tokens import make_token
from video_calls_server.settings import SettingsError
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

PATIENCE = 30.0  # seconds: for what takes one or two where nobody else uses the machine
SOMEWHERE = "postgresql://127.0.0.1/calls"
TOGETHER = 100


# -- a server with workers --------------------------------------------------------------------------


@dataclass
class Server:
    """A running `serve --workers 2`, and what it has printed and logged until now."""

    popen: "subprocess.Popen[str]"
    lines: list[str] = field(default_factory=list)
    more: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.popen.stdout
        for line in self.popen.stdout:
            with self.more:
                self.lines.append(line)
                self.more.notify_all()

    def says(self, pattern: str, times: int = 1) -> list[str]:
        """What the pattern finds, once it is found so many times."""

        def found() -> list[str]:
            return [match for line in self.lines for match in re.findall(pattern, line)]

        with self.more:
            assert self.more.wait_for(lambda: len(found()) >= times, PATIENCE), "".join(self.lines[-40:])
            return found()

    @property
    def url(self) -> str:
        return self.says(r"API +(http://[^/]+)")[0]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def workers(self, ever: int = 2) -> list[int]:
        """The workers that serve, when so many have since the start."""
        listen = self.says(r"worker (\d+) listens", ever)
        ended = re.findall(r"worker (\d+) has ended", "".join(self.lines))
        return [int(pid) for pid in listen if pid not in ended]

    def stop(self) -> tuple[int, float]:
        """Ask it to stop: its exit status, and the seconds that it took."""
        asked = time.monotonic()
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(PATIENCE), time.monotonic() - asked


@pytest.fixture
def start(tmp_path: Path, postgres_url: str) -> Iterator[Callable[..., Server]]:
    """Starts the real command with two workers, and kills it afterwards."""
    started: list[Server] = []

    def start(*options: str) -> Server:
        words = ["serve", "--port", "0", "--database", postgres_url, "--workers", "2", *options]
        popen = subprocess.Popen(
            [sys.executable, "-m", "video_calls_server", *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        server = Server(popen)
        started.append(server)
        server.says("curl")
        return server

    yield start
    for server in started:
        server.popen.kill()
        server.popen.wait()
        server.reader.join(PATIENCE)
        assert server.popen.stdout
        server.popen.stdout.close()


def headers(user_id: int) -> dict[str, str]:
    return {"Authorization": f"Bearer {make_token(Settings(), user_id, expires_in=3600)}"}


DOCTOR, PATIENT = headers(USERS["doctor"]), headers(USERS["patient"])


def soon(minutes: float) -> str:
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()


def call_of(server: Server, *, joined: bool = False) -> str:
    """The path of a new call of doctor 1 and patient 1, which one of them may have joined."""
    body = {"doctor": 1, "patient": 1, "scheduled_time": soon(10)}
    made = httpx.post(server.url + CALLS, json=body, headers=DOCTOR).raise_for_status().json()
    path = f"{CALLS}{made['id']}/"
    if joined:
        httpx.post(f"{server.url}{path}join/", headers=DOCTOR).raise_for_status()
    return path


# -- settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--workers", "0"], ["workers: 0", "1 to 64"]),
        (["--workers", "65", "--database", SOMEWHERE], ["workers: 65", "1 to 64"]),
        (["--workers", "2"], ["workers", "PostgreSQL", "--database postgresql://"]),
        (["--workers", "2", "--database", ":memory:"], ["workers", "PostgreSQL"]),
        (
            ["--workers", "2", "--database", SOMEWHERE, "--clock", "2030-01-05T10:00:00Z"],
            ["clock", "one worker"],
        ),
        (["--workers", "2", "--database", SOMEWHERE, "--fault", "status=503"], ["fault", "one worker"]),
        (["--workers", "2", "--database", SOMEWHERE, "--seed-calls", "5"], ["seed_calls", "one worker"]),
        (["--workers", "2", "--database", SOMEWHERE, "--snapshot", "state.json"], ["snapshot", "one worker"]),
        (["--pool-size", "0"], ["pool_size: 0"]),
        (["--pool-wait", "0"], ["pool_wait: 0", "0.001 to 3600 seconds"]),
        (["--statement-timeout", "-1"], ["statement_timeout: -1"]),
        (["--lock-timeout", "nan"], ["lock_timeout: nan"]),
        (["--lock-timeout", "0.0001"], ["lock_timeout: 0.0001"]),
        (["--lock-timeout", "inf"], ["lock_timeout: inf"]),
    ],
)
def test_what_workers_and_pools_cannot_be_is_told_in_a_line(
    tmp_path: Path, options: list[str], words: list[str]
) -> None:
    assert_told(run("serve", *options, cwd=tmp_path), *words)


def test_several_workers_have_no_control_layer() -> None:
    assert Settings(database=SOMEWHERE).has_control
    assert not Settings(database=SOMEWHERE, workers=2).has_control
    with pytest.raises(SettingsError, match="PostgreSQL"):
        Settings(database="calls.db", workers=2)


# -- workers ----------------------------------------------------------------------------------------


def test_each_worker_serves_and_the_banner_is_printed_once(start: Callable[..., Server]) -> None:
    server = start()
    assert "Workers           2, therefore without the control API and the console" in "".join(server.lines)
    assert "Console  " not in "".join(server.lines)
    assert httpx.get(f"{server.url}/_control/server").status_code == 404
    first, second = server.workers()
    for one, other in [(first, second), (second, first)]:
        os.kill(one, signal.SIGSTOP)  # which leaves all there is to do to the other one
        try:
            assert httpx.get(server.url + CALLS, headers=DOCTOR).status_code == 200, other
        finally:
            os.kill(one, signal.SIGCONT)
    assert server.stop()[0] == 0
    assert "".join(server.lines).count("A first request") == 1


def test_a_seed_is_applied_once_and_a_new_one_on_request(
    start: Callable[..., Server], tmp_path: Path, postgres_url: str
) -> None:
    people = tmp_path / "people.yaml"
    people.write_text(seed(1))
    assert start("--seed", "people.yaml").stop()[0] == 0
    third = "  - {id: 3, email: third@example.com, full_name: Third, doctor: {id: 3}}"
    people.write_text(f"{seed(1)}\n{third}")
    server = start("--seed", "people.yaml", "--reload-seed")
    server.workers()
    assert server.stop()[0] == 0
    assert [row[0] for row in asyncio.run(on_postgres(postgres_url, "SELECT count(*) FROM users"))] == [3]
    said = "".join(server.lines)
    assert said.count("third@example.com ") == 1
    assert "already has people" not in said


def test_workers_do_not_outlive_a_server_that_is_killed(start: Callable[..., Server]) -> None:
    server = start()
    url, workers = server.url, server.workers()
    server.popen.kill()
    server.reader.join(PATIENCE)  # as it does when both have ended, for they write to the same pipe
    assert not server.reader.is_alive(), workers
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz")


def test_a_worker_that_dies_while_the_database_is_away_is_started_until_it_serves(
    start: Callable[..., Server], postgres_url: str, postgres: str
) -> None:
    server = start()
    worker, _ = server.workers()
    with away(postgres_url, postgres):
        os.kill(worker, signal.SIGKILL)
        server.says("a worker cannot start: cannot open the database", 2)
    assert len(server.workers(ever=3)) == 2
    assert server.stop()[0] == 0


@contextlib.contextmanager
def away(postgres_url: str, postgres: str) -> Iterator[None]:
    """A database that takes no connections, and ends those that there are."""
    name = make_url(postgres_url).database
    ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"  # noqa: S608
    asyncio.run(on_postgres(postgres, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false", ended))
    try:
        yield
    finally:
        asyncio.run(on_postgres(postgres, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))


def test_readyz_says_whether_the_database_answers_and_healthz_whether_the_server_does(
    start: Callable[..., Server], postgres_url: str, postgres: str
) -> None:
    server = start()
    ready = httpx.get(f"{server.url}/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    with away(postgres_url, postgres):
        not_ready = httpx.get(f"{server.url}/readyz", timeout=PATIENCE)
        assert (not_ready.status_code, not_ready.json()["code"]) == (503, "unavailable")
        assert int(not_ready.headers["retry-after"]) >= 1
        assert httpx.get(f"{server.url}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{server.url}/readyz", timeout=PATIENCE).json() == {"status": "ready"}


def test_the_metrics_of_all_workers_are_told_and_none_of_what_a_killed_one_had_open(
    start: Callable[..., Server],
) -> None:
    server = start("--metrics")
    assert len(rounds_of_lists(server)) == 2

    async def open_until_killed() -> None:
        events = server.url.replace("http", "ws", 1) + "/api/v1/video/events/"
        async with contextlib.AsyncExitStack() as stack:
            sockets = [
                await stack.enter_async_context(connect(events, additional_headers=DOCTOR)) for _ in range(20)
            ]
            assert metric(server, "video_calls_event_connections") == 20
            os.kill(server.workers()[0], signal.SIGKILL)
            await asyncio.to_thread(server.workers, 3)
            left = 0
            for each in sockets:
                with contextlib.suppress(ConnectionClosed):
                    await (await each.ping())
                    left += 1
            assert 0 < left < 20
            assert metric(server, "video_calls_event_connections") == left

    asyncio.run(open_until_killed())
    assert metric(server, "video_calls_requests_total") == 40
    assert server.stop()[0] == 0


def rounds_of_lists(server: Server) -> Counter[int]:
    """Forty lists, and how many connections for them each worker has accepted."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(httpx.Client()) for _ in range(40)]
        for client in clients:
            client.get(server.url + CALLS, headers=DOCTOR).raise_for_status()
        return +Counter({worker: connections(worker, server.port) for worker in server.workers()})


def metric(server: Server, name: str) -> float:
    """What the metrics say of the API, summed over its labels."""
    lines = httpx.get(f"{server.url}/metrics").raise_for_status().text.splitlines()
    of_name = [line for line in lines if re.match(rf"{name}[{{ ]", line) and "/metrics" not in line]
    return sum(float(line.rpartition(" ")[2]) for line in of_name)


# -- at once ----------------------------------------------------------------------------------------

Request = tuple[str, dict[str, str], dict[str, Any] | None]


async def at_once(server: Server, client: httpx.AsyncClient, requests: list[Request]) -> list[httpx.Response]:
    """The answers to these requests (path, headers, body), all of them sent at once."""
    begin = asyncio.Event()

    async def send(path: str, who: dict[str, str], body: dict[str, Any] | None) -> httpx.Response:
        await begin.wait()
        return await client.post(server.url + path, json=body, headers=who)

    sending = [asyncio.create_task(send(*request)) for request in requests]
    await asyncio.sleep(0)
    begin.set()
    return await asyncio.gather(*sending)


def rounds_of(
    server: Server, rounds: int, round_: Callable[[httpx.AsyncClient, int], Awaitable[None]]
) -> None:
    """So many rounds, each on new connections, which both workers accept some of."""
    shares: Counter[int] = Counter()

    async def all_rounds() -> None:
        limits = httpx.Limits(max_connections=TOGETHER, max_keepalive_connections=TOGETHER)
        for index in range(rounds):
            async with httpx.AsyncClient(limits=limits, timeout=PATIENCE) as client:
                await round_(client, index)
                shares.update({worker: connections(worker, server.port) for worker in server.workers()})

    asyncio.run(all_rounds())
    print("connections of the workers:", list(shares.values()))
    assert len(shares) == len(+shares) == 2


def connections(worker: int, port: int) -> int:
    """How many TCP connections to this port the process has."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = {row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"}
    links = [str(link.readlink()) for link in Path(f"/proc/{worker}/fd").iterdir() if link.is_symlink()]
    return sum(link.removeprefix("socket:[").removesuffix("]") in ours for link in links)


ROUNDS = pytest.mark.parametrize("rounds", [4, pytest.param(50, marks=pytest.mark.long)])


@ROUNDS
@pytest.mark.timeout(300)
@pytest.mark.rule("create.no-race", "create.no-overlap")
def test_of_conflicting_creates_exactly_one_is_accepted(start: Callable[..., Server], rounds: int) -> None:
    server = start("--log-level", "info")

    async def round_(client: httpx.AsyncClient, index: int) -> None:
        body = {"doctor": 1, "patient": 1, "scheduled_time": soon(60 * (index + 1))}
        requests = [(CALLS, PATIENT if number % 3 else DOCTOR, body) for number in range(TOGETHER)]
        answers = await at_once(server, client, requests)
        assert Counter(answer.status_code for answer in answers) == {201: 1, 400: TOGETHER - 1}
        assert {answer.json()["code"] for answer in answers if answer.is_error} == {"create.no-overlap"}

    rounds_of(server, rounds, round_)
    assert httpx.get(server.url + CALLS, headers=DOCTOR).json()["count"] == rounds


@ROUNDS
@pytest.mark.timeout(300)
@pytest.mark.rule("join.started-once")
def test_simultaneous_joins_start_the_call_once(
    start: Callable[..., Server], postgres_url: str, rounds: int
) -> None:
    server = start()

    async def round_(client: httpx.AsyncClient, _index: int) -> None:
        path = await asyncio.to_thread(call_of, server)
        requests = [(f"{path}join/", PATIENT if number % 3 else DOCTOR, None) for number in range(TOGETHER)]
        answers = await at_once(server, client, requests)
        assert Counter(answer.status_code for answer in answers) == {200: TOGETHER}
        call = (await client.get(server.url + path, headers=DOCTOR)).json()
        assert call["started_at"] is not None
        (await client.post(f"{server.url}{path}end/", headers=DOCTOR)).raise_for_status()
        after = (await client.get(server.url + path, headers=DOCTOR)).json()
        assert after["started_at"] == call["started_at"]

    rounds_of(server, rounds, round_)
    told = asyncio.run(events_of(postgres_url))
    assert len(told) == rounds
    assert all(Counter(events) == Counter(LIVES["completed"]) for events in told.values())


async def events_of(postgres_url: str) -> dict[int, list[str]]:
    """What has happened to each call, in order, as the outbox has it."""
    events = defaultdict(list)
    for row in await on_postgres(postgres_url, "SELECT type, data FROM events ORDER BY id"):
        events[json.loads(row["data"])["call"]["id"]].append(row["type"])
    return dict(events)


@ROUNDS
@pytest.mark.timeout(300)
def test_a_call_is_either_joined_or_cancelled(
    start: Callable[..., Server], postgres_url: str, rounds: int
) -> None:
    server = start()
    ended: Counter[str] = Counter()

    async def round_(client: httpx.AsyncClient, index: int) -> None:
        path = await asyncio.to_thread(call_of, server)
        actions = ["join", "cancel"] * (TOGETHER // 2)
        random.Random(index).shuffle(actions)  # noqa: S311 (no secret)
        answers = await at_once(server, client, [(f"{path}{action}/", DOCTOR, None) for action in actions])
        done = Counter(
            action for action, answer in zip(actions, answers, strict=True) if answer.status_code == 200
        )
        assert done in ({"join": TOGETHER // 2}, {"cancel": 1})
        assert {answer.status_code for answer in answers} == {200, 400}
        call = (await client.get(server.url + path, headers=DOCTOR)).json()
        assert call["status"] == ("ongoing" if "join" in done else "cancelled")
        ended[call["status"]] += 1
        if call["status"] == "ongoing":
            (await client.post(f"{server.url}{path}end/", headers=DOCTOR)).raise_for_status()

    rounds_of(server, rounds, round_)
    print("the calls became:", dict(ended))
    told = Counter(events[0] for events in asyncio.run(events_of(postgres_url)).values())
    assert told == Counter({"call.started": ended["ongoing"], "call.cancelled": ended["cancelled"]})


@ROUNDS
@pytest.mark.timeout(300)
def test_of_simultaneous_ends_exactly_one_acts(
    start: Callable[..., Server], postgres_url: str, rounds: int
) -> None:
    server = start()

    async def round_(client: httpx.AsyncClient, _index: int) -> None:
        path = await asyncio.to_thread(lambda: call_of(server, joined=True))
        requests = [(f"{path}end/", PATIENT if number % 3 else DOCTOR, None) for number in range(TOGETHER)]
        answers = await at_once(server, client, requests)
        assert Counter(answer.status_code for answer in answers) == {200: 1, 400: TOGETHER - 1}

    rounds_of(server, rounds, round_)
    told = asyncio.run(events_of(postgres_url))
    assert len(told) == rounds
    assert {events.count("call.ended") for events in told.values()} == {1}


# -- killed and stopped under load ------------------------------------------------------------------

PAIRS = 8


@dataclass
class Load:
    """Pairs of people who make calls and live them, each on connections of their own, until they are stopped.

    What was not answered is asked again: a create with its `Idempotency-Key`, so that it is made once; of an
    end or a cancel that is asked again, a refusal says that the first one was done.
    """

    url: str
    acknowledged: defaultdict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    pairs: dict[int, int] = field(default_factory=dict)
    answers: int = 0
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    lost: int = 0
    stopping: bool = False
    gone: bool = False

    async def run(self) -> None:
        await asyncio.gather(*(self._live(pair) for pair in range(1, PAIRS + 1)))

    async def _live(self, pair: int) -> None:
        chance = random.Random(pair)  # noqa: S311 (no secret)
        doctor, patient = headers(pair), headers(PAIRS + pair)
        async with httpx.AsyncClient(base_url=self.url, timeout=PATIENCE) as client:
            number = 0
            while not self.stopping:
                number += 1
                body = {"doctor": pair, "patient": pair, "scheduled_time": soon(10)}
                key = {"Idempotency-Key": f"{pair}-{number}"}
                made = await self._post(client, CALLS, doctor | key, json=body)
                if made is None:
                    return
                call_id = made.json()["id"]
                self.pairs[call_id] = pair
                self.acknowledged[call_id].append("created")
                ways = [[(doctor, "cancel")], [(doctor, "join"), (patient, "join"), (patient, "end")]]
                for who, action in chance.choice(ways):
                    done = await self._post(client, f"{CALLS}{call_id}/{action}/", who)
                    if done is None:
                        return
                    self.acknowledged[call_id].append(action)

    async def _post(
        self, client: httpx.AsyncClient, path: str, who: dict[str, str], **options: Any
    ) -> httpx.Response | None:
        """The answer, None where there is nobody any longer who would give one."""
        asked_before = False
        while True:
            try:
                answer = await client.post(path, headers=who, **options)
            except httpx.TransportError:
                if self.gone:
                    return None
                self.lost += 1
                asked_before = True
                await asyncio.sleep(0.01)
                continue
            if answer.status_code == 503 and not self.gone:
                await asyncio.sleep(0.1)
                continue
            repeated = asked_before and answer.status_code == 400 and path.endswith(("/end/", "/cancel/"))
            assert answer.is_success or repeated, f"{path}: {answer.status_code} {answer.text}"
            self.answers += 1
            self.answered.set()
            return answer

    async def has(self, answers: int) -> None:
        """Until there were so many answers."""
        while self.answers < answers:
            self.answered.clear()
            await asyncio.wait_for(self.answered.wait(), PATIENCE)


STATUS_AFTER = {"created": "scheduled", "cancel": "cancelled", "join": "ongoing", "end": "completed"}
AFTER = {"scheduled": {"ongoing", "cancelled"}, "ongoing": {"completed"}}


async def assert_kept(load: Load, postgres_url: str, *, finished: bool) -> dict[int, list[str]]:
    """Every acknowledged change is there, and every change with all of its events; those, by call."""
    rows = {row["id"]: row for row in await on_postgres(postgres_url, "SELECT * FROM calls")}
    told = await events_of(postgres_url)
    keys = await on_postgres(
        postgres_url, "SELECT count(*) AS all, count(DISTINCT call_id) AS calls FROM idempotency_keys"
    )
    assert keys[0]["all"] == keys[0]["calls"] == len(rows)
    assert set(load.acknowledged) <= set(rows)
    for call_id, done in load.acknowledged.items():
        status, known = rows[call_id]["status"], STATUS_AFTER[done[-1]]
        later = set() if finished else AFTER.get(known, set())
        assert status == known or status in later, f"{call_id}: {status} after {done}"
    for call_id, row in rows.items():
        events = told.get(call_id, [])
        assert (row["started_at"] is not None) == (row["status"] in {"ongoing", "completed"})
        assert (row["ended_at"] is not None) == (row["status"] == "completed")
        match row["status"]:
            case "scheduled":
                assert events == []
            case "ongoing":
                joined = events.count("participant.joined")
                assert events == ["call.started", *["participant.joined"] * joined]
                assert joined in {1, 2}
            case status:
                assert events == LIVES[status], call_id
    return told


@pytest.mark.timeout(400)
@pytest.mark.rule("events.resume", "events.order", "events.own-calls")
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.long)])
def test_nothing_is_lost_with_a_worker_that_is_killed_under_load(
    start: Callable[..., Server], postgres_url: str, tmp_path: Path, kills: int
) -> None:
    (tmp_path / "people.yaml").write_text(seed(PAIRS))
    server = start("--seed", "people.yaml")
    asyncio.run(killed_under_load(server, postgres_url, kills))
    assert server.stop()[0] == 0


async def killed_under_load(server: Server, postgres_url: str, kills: int) -> None:
    chance = random.Random(kills)  # noqa: S311 (no secret)
    load = Load(server.url)
    subscribers = {user: Subscriber(user) for user in range(1, 2 * PAIRS + 1)}
    following = [asyncio.create_task(one.follow(server.port)) for one in subscribers.values()]
    working = asyncio.create_task(load.run())
    for kill in range(kills):
        workers = await asyncio.to_thread(server.workers, 2 + kill)
        await load.has(load.answers + 3 * PAIRS)
        os.kill(chance.choice(workers), signal.SIGKILL)
    await asyncio.to_thread(server.workers, 2 + kills)
    load.stopping = True
    await working
    told = await assert_kept(load, postgres_url, finished=True)
    for user, subscriber in subscribers.items():
        pair = (user - 1) % PAIRS + 1
        own = {call_id: events for call_id, events in told.items() if load.pairs[call_id] == pair}
        await subscriber.has(sum(map(len, own.values())))
        heard = defaultdict(list)
        for event in subscriber.events:
            heard[event["data"]["call"]["id"]].append(event["type"])
        assert dict(heard) == own, f"user {user}"
        ids = [int(event["id"]) for event in subscriber.events]
        assert ids == sorted(set(ids)), f"user {user}"
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    print(f"{kills} kills, {load.answers} answers, {load.lost} lost connections, {len(told)} calls")
    assert load.lost >= kills


@pytest.mark.timeout(120)
@pytest.mark.parametrize("time_", range(2))
def test_nothing_that_was_acknowledged_is_lost_at_a_stop_under_load(
    start: Callable[..., Server], postgres_url: str, tmp_path: Path, time_: int
) -> None:
    (tmp_path / "people.yaml").write_text(seed(PAIRS))
    server = start("--seed", "people.yaml")
    seconds = asyncio.run(stopped_under_load(server, postgres_url, after=100 + 37 * time_))
    print(f"stopped in {seconds:.1f} seconds")
    assert seconds < 15
    assert not [line for line in server.lines if "Traceback" in line], "".join(server.lines[-60:])


async def stopped_under_load(server: Server, postgres_url: str, *, after: int) -> float:
    load = Load(server.url)
    sockets = [
        await connect(f"ws://127.0.0.1:{server.port}/api/v1/video/events/", additional_headers=headers(user))
        for user in range(1, 2 * PAIRS + 1)
    ]
    working = asyncio.create_task(load.run())
    await load.has(after)
    load.gone = True
    status, seconds = await asyncio.to_thread(server.stop)
    await working
    assert status == 0
    await assert_kept(load, postgres_url, finished=False)
    for socket in sockets:
        with contextlib.suppress(ConnectionClosed):
            async for _ in socket:
                pass
        assert socket.close_code == 1012
    return seconds


def test_a_request_in_flight_finishes_when_the_server_stops(
    start: Callable[..., Server], postgres_url: str
) -> None:
    server = start("--lock-timeout", str(PATIENCE), "--statement-timeout", str(PATIENCE))
    path = call_of(server)

    async def in_flight() -> tuple[httpx.Response, tuple[int, float]]:
        other = await asyncpg.connect(postgres_url)
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            async with other.transaction():
                await other.execute("SELECT * FROM calls FOR UPDATE")
                joining = asyncio.create_task(client.post(f"{path}join/", headers=DOCTOR))
                locked = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                while not await on_postgres(postgres_url, locked):  # noqa: ASYNC110 (nothing tells)
                    await asyncio.sleep(0.01)
                stopping = asyncio.create_task(asyncio.to_thread(server.stop))
                while await listens(server):  # noqa: ASYNC110 (nothing tells)
                    await asyncio.sleep(0.01)
                assert not joining.done()
            answer = await joining
        await other.close()
        return answer, await stopping

    answer, (status, seconds) = asyncio.run(in_flight())
    assert (answer.status_code, status) == (200, 0)
    assert seconds < 8  # which is less than the longest that it would wait
    assert asyncio.run(on_postgres(postgres_url, "SELECT status FROM calls"))[0]["status"] == "ongoing"


async def listens(server: Server) -> bool:
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.close()
        return True
    return False


# -- the contract -----------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_workers_keep_the_contract(
    start: Callable[..., Server], postgres_url: str, tmp_path: Path
) -> None:
    server = start()
    config = run(
        "identities",
        "--contract-config",
        f"{server.url}/api/v1/video",
        "--database",
        postgres_url,
        cwd=tmp_path,
    )
    (tmp_path / "contract.toml").write_text(config.stdout)
    done = subprocess.run(
        [sys.executable, "-m", "video_calls_contract", "run", "--config", "contract.toml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    print(done.stdout[-1500:])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
