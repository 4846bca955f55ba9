"""The reference server, a bare Litestar application and Prism: requests per second, and start-up."""

import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path

from load import BARE, SERVE, Program, Server, connected, creation, pinned, request, response, running
from peers import PRISM, prism_document
from table import BenchmarkError, Row, absent, compared
from video_calls_server import Settings
from video_calls_server.api.jwt import make_token

DOCTOR_USER = 101  # the user of doctor 1 in the default seed
LEAST_GET = 0.50  # the ratio to bare Litestar that the server aims at
BARE_LITESTAR = "bare Litestar"
STORED_CALLS = 40  # two pages, so that the first has a link to the next
CONNECTIONS = 8


def rows(directory: Path, rounds: int, seconds: float, prism: Program | None) -> list[Row]:
    """Return the rows of the rates, then of the start-ups. Without Prism, its rows say "not present"."""
    token = make_token(Settings(), DOCTOR_USER, expires_in=3600)
    answers = directory / "answers.json"
    # Without a log on the console, because the bare application logs nothing either.
    stored = SERVE("--database", str(directory / "calls.db"), "--log-level", "warning")
    with pinned() as core, ExitStack() as stack:
        # The control API records each request, so the rates are measured without it.
        servers = [stack.enter_context(running(stored("--no-control"), core=core))]
        call, page = store_calls(servers[0], token)
        answers.write_text(json.dumps({"one": call, "list": page}), encoding="utf-8")
        if prism is not None:
            prism = prism(prism_document(directory, page))
        for other in [BARE] if prism is None else [BARE, prism]:
            servers.append(stack.enter_context(running(other, core=core, answers=answers)))
            check_page(servers[-1], page, token)
        table: list[Row] = []
        for name, measured in rates(servers, token, int(str(call["id"])), rounds, seconds):
            pairs = ((ours, bare) for ours, bare, *_ in measured)
            aim = LEAST_GET if name.startswith("GET one") else None
            table += [
                compared(f"server: {name}", BARE_LITESTAR, pairs, at_least=aim),
                beside_prism(f"server: {name}", [(ours, *its) for ours, _, *its in measured]),
            ]
    return table + starts(directory, answers, stored, prism, rounds)


def beside_prism(what: str, measured: list[tuple[float, ...]]) -> Row:
    """Return the row that compares our figures with Prism's; without Prism, it says "not present"."""
    if len(measured[0]) < 2:
        return absent(what, PRISM)
    return compared(what, PRISM, ((ours, its) for ours, its in measured))


# -- Requests per second ----------------------------------------------------------------------------


def store_calls(server: Server, token: str) -> tuple[dict[str, object], dict[str, object]]:
    """Create the calls that are read later; return the last of them, and the first page."""
    with connected(server) as connection:
        for _ in range(STORED_CALLS):
            connection.sendall(creation(server, token))
            call = json.loads(response(connection, 201))
        connection.sendall(request("GET", server.calls, token=token))
        return call, json.loads(response(connection, 200))


def check_page(server: Server, page: dict[str, object], token: str) -> None:
    """Check that this server lists the same page of 20 calls, so that all servers send the same amount."""
    with connected(server) as connection:
        connection.sendall(request("GET", server.calls, token=token))
        if json.loads(response(connection, 200)) != page:
            raise BenchmarkError(f"{server.process.args!r} answers with another page")


def rates(
    servers: list[Server], token: str, call_id: int, rounds: int, seconds: float
) -> Iterator[tuple[str, list[list[float]]]]:
    """Yield each operation with its rates at the servers, round by round; the servers take turns."""
    operations: list[tuple[str, int, Callable[[Server], bytes]]] = [
        ("GET one", 200, lambda server: request("GET", f"{server.calls}{call_id}/", token=token)),
        ("GET list, 20 calls", 200, lambda server: request("GET", server.calls, token=token)),
        ("POST create", 201, lambda server: creation(server, token)),
    ]
    for name, status, make in operations:
        measured = [
            [rate(server, partial(make, server), status, seconds) for server in servers]
            for _ in range(rounds + 1)
        ]
        yield f"{name}, requests/s", measured[1:]  # the first round has warmed the servers up


def rate(server: Server, make: Callable[[], bytes], status: int, seconds: float) -> float:
    """Return the requests per second over 8 connections, each of which always has one request under way.

    The responses are read in the order of the requests. Meanwhile the server works on the other seven, so it
    is never idle, and the load costs a fraction of an event loop's.
    """
    with ExitStack() as stack:
        connections = deque(stack.enter_context(connected(server)) for _ in range(CONNECTIONS))
        started = time.perf_counter()
        for connection in connections:
            connection.sendall(make())
        responses = 0
        while time.perf_counter() - started < seconds:
            response(connections[0], status)
            responses += 1
            connections[0].sendall(make())
            connections.rotate(-1)
        elapsed = time.perf_counter() - started
        for connection in connections:
            response(connection, status)
    return responses / elapsed


# -- Start-up ---------------------------------------------------------------------------------------


def starts(directory: Path, answers: Path, stored: Program, prism: Program | None, rounds: int) -> list[Row]:
    """Return the milliseconds from spawning each server to its first answer; they take turns."""
    fresh = count()
    programs: list[Callable[[], Program]] = [
        lambda: stored,
        lambda: SERVE("--database", str(directory / f"new-{next(fresh)}.db")),
        lambda: BARE,
    ]
    if prism is not None:
        programs.append(lambda: prism)
    with pinned() as core:

        def once(program: Program) -> float:
            started = time.perf_counter()
            with running(program, core=core, answers=answers):
                return (time.perf_counter() - started) * 1000

        measured = [[once(program()) for program in programs] for _ in range(rounds + 1)][1:]
    again = "start-up on its database, ms"
    return [
        compared(again, BARE_LITESTAR, ((ours, bare) for ours, _, bare, *_ in measured)),
        compared(
            "start-up on a new database, ms", BARE_LITESTAR, ((new, bare) for _, new, bare, *_ in measured)
        ),
        beside_prism(again, [(ours, *its) for ours, _, _, *its in measured]),
    ]
