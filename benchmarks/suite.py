"""The time of the contract suite and that of as many raw httpx requests, against the reference server.

The difference is what the suite does besides sending requests: it starts, checks each answer against the
schemas and rules, and generates the requests of its fuzzing.
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
from table import BenchmarkError, Row, compared
from video_calls_contract.reference import reference_server

TIME_LIMIT = 300  # seconds for one run of the suite
STOP_LIMIT = 30  # seconds to stop


def rows(directory: Path, options: tuple[str, ...]) -> list[Row]:
    """Return the row of one run with these options, and of as many requests for one list."""
    report = directory / "suite.json"
    command = [sys.executable, "-m", "video_calls_contract", "run", "--reference", "--json", str(report)]
    started = time.perf_counter()
    run([*command, *options], directory)
    seconds = time.perf_counter() - started
    found = json.loads(report.read_text(encoding="utf-8"))
    what = f"contract suite, {len(found['rules'])} rules, {found['requests']:,} requests, s"
    return [compared(what, "as many raw httpx requests", [(seconds, raw(found["requests"]))])]


def run(command: list[str], directory: Path) -> None:
    """Run the suite; if it has to stop early, let it stop the server that it started."""
    with (directory / "suite.log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=subprocess.STDOUT)
        try:
            process.wait(TIME_LIMIT)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(STOP_LIMIT)
        if process.returncode:
            log.seek(0)
            raise BenchmarkError(f"the contract suite ended with {process.returncode}: {log.read()[-300:]}")


def raw(requests: int) -> float:
    """Return the seconds of so many requests on one connection, with the answers read as JSON."""
    with reference_server() as config:
        headers = {"Authorization": f"Bearer {config.identities['doctor'].token}"}
        with httpx.Client(headers=headers) as client:
            started = time.perf_counter()
            for _ in range(requests):
                client.get(f"{config.base_url}/video-calls/").raise_for_status().json()
            return time.perf_counter() - started
