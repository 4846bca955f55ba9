"""The reference server beside a bare Litestar application and Prism: requests per second, and start-up.

`python benchmarks/server.py` prints its rows of the table. Everything runs on loopback and stops by itself.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from load import (
    BARE,
    DOCTOR_USER,
    SERVE,
    Program,
    Server,
    connected,
    pinned,
    request,
    requests_per_second,
    response,
    running,
    store_calls,
)
from peers import BESIDE_PRISM, find_prism, prism_document
from table import BenchmarkError, Row, absent, clear_end, compared, markdown
from video_calls_server import Settings
from video_calls_server.api.tokens import make_token

LEAST_GET = 0.60  # of bare
BESIDE_BARE = "bare Litestar"


def rows(directory: Path, rounds: int, seconds: float, prism: Program | None) -> list[Row]:
    """Rates under load, then start-ups; without Prism its rows say so."""
    token = make_token(Settings(), DOCTOR_USER, expires_in=3600)
    answers = directory / "answers.json"
    stored = SERVE("--database", str(directory / "logging.db"))
    silent = SERVE("--database", str(directory / "quiet.db"), "--log-level", "warning")
    with pinned() as core, ExitStack() as stack:
        servers = [stack.enter_context(running(program, core=core)) for program in (stored, silent)]
        for server in servers:
            call, page = store_calls(server, token)
        answers.write_text(json.dumps({"one": call, "list": page}), encoding="utf-8")
        if prism is not None:
            prism = prism(prism_document(directory, page))
        others = [BARE] if prism is None else [BARE, prism]
        servers += [stack.enter_context(running(other, core=core, answers=answers)) for other in others]
        for server in servers[2:]:
            check_page(server, page, token)
        found: list[Row] = []
        for name, measured in requests_per_second(servers, token, int(str(call["id"])), rounds, seconds):
            aim = LEAST_GET if name.startswith("GET one") else None
            found += [
                compared(f"server: {name}", BESIDE_BARE, ((each[0], each[2]) for each in measured)),
                compared(
                    f"server, no request log: {name}",
                    BESIDE_BARE,
                    ((each[1], each[2]) for each in measured),
                    at_least=aim,
                ),
                absent(f"server, no request log: {name}", BESIDE_PRISM)
                if prism is None
                else compared(
                    f"server, no request log: {name}",
                    BESIDE_PRISM,
                    ((each[1], each[3]) for each in measured),
                ),
            ]
    return found + starts(directory, answers, stored, prism, rounds)


def check_page(server: Server, page: dict[str, object], token: str) -> None:
    """See that a list is the same page of 20 calls there: only then is it as much to send."""
    with connected(server) as connection:
        connection.sendall(request("GET", server.calls, token=token))
        if json.loads(response(connection, 200)) != page:
            raise BenchmarkError(f"{server.process.args!r} answers with another page")


def starts(directory: Path, answers: Path, stored: Program, prism: Program | None, rounds: int) -> list[Row]:
    """Milliseconds from spawning each server to its first answer; they take turns."""
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
    on_its_database, on_a_new_one = "start-up on its database, ms", "start-up on a new database, ms"
    return [
        compared(on_its_database, BESIDE_BARE, ((each[0], each[2]) for each in measured)),
        compared(on_a_new_one, BESIDE_BARE, ((each[1], each[2]) for each in measured)),
        absent(on_its_database, BESIDE_PRISM)
        if prism is None
        else compared(on_its_database, BESIDE_PRISM, ((each[0], each[3]) for each in measured)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often each server has its turn")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one turn under load")
    parser.add_argument("--prism", type=Path, metavar="DIR", help="where npm has, or is to install, Prism")
    arguments = parser.parse_args()
    with clear_end(), tempfile.TemporaryDirectory() as directory:
        prism = find_prism(arguments.prism or Path(directory, "prism"), install=True)
        print(markdown(rows(Path(directory), arguments.rounds, arguments.seconds, prism)))


if __name__ == "__main__":
    main()
