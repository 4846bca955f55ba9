"""The time of the contract suite beside that of as many raw httpx requests, against the reference server.

`python benchmarks/suite.py` prints its row of the table. What is above 1 is what the suite does beside
asking: it starts, checks each answer against the schemas and rules, and makes the requests of its fuzzing.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from table import BenchmarkError, Row, clear_end, compared, markdown, progress
from video_calls_contract.reference import reference_server

TIME_LIMIT = 300  # seconds for one run of the suite
STOP_LIMIT = 30  # seconds for its end, when it is told to


def rows(directory: Path, *options: str, rounds: int = 1) -> list[Row]:
    """The suite with these options, as a backend team runs it; then as many requests for one list."""
    report = directory / "suite.json"
    command = [sys.executable, "-m", "video_calls_contract", "run", "--reference", "--json", str(report)]
    pairs: list[tuple[float, float]] = []
    for number in range(rounds):
        progress(f"the contract suite, run {number + 1} of {rounds}")
        started = time.perf_counter()
        run([*command, *options], directory)
        took = time.perf_counter() - started
        found = json.loads(report.read_text(encoding="utf-8"))
        pairs.append((took, raw(found["requests"])))
    what = f"contract suite, {len(found['rules'])} rules, {found['requests']:,} requests, s"
    return [compared(what, "as many raw httpx requests", pairs)]


def run(command: list[str], directory: Path) -> None:
    """Run the suite to its end; if it has to end sooner, let it end the server that it started."""
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
    """Seconds for so many requests on one connection, with the answers read as JSON."""
    with reference_server() as config:
        headers = {"Authorization": f"Bearer {config.identities['doctor'].token}"}
        with httpx.Client(headers=headers) as client:
            started = time.perf_counter()
            for _ in range(requests):
                client.get(f"{config.base_url}/video-calls/").raise_for_status().json()
            return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often the suite runs")
    arguments = parser.parse_args()
    with clear_end(), tempfile.TemporaryDirectory() as directory:
        print(markdown(rows(Path(directory), rounds=arguments.rounds)))


if __name__ == "__main__":
    main()
