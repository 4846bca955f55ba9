"""The time of the contract suite compared with as many raw httpx requests, and of a request through `watch`.

The difference is what the suite does besides sending requests: it starts, checks each answer against the
schemas and rules, and generates the requests of its fuzzing.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import httpx
from table import BenchmarkError, Row, compared
from video_calls_contract.reference import reference_server

TIME_LIMIT = 300  # seconds for one run of the suite
REQUESTS = 200  # of a turn
STOP_LIMIT = 30  # seconds to stop


def rows(directory: Path, options: tuple[str, ...], rounds: int) -> list[Row]:
    """Return the rows of one run with these options, and of so many turns of the proxy."""
    report = directory / "suite.json"
    command = [sys.executable, "-m", "video_calls_contract", "run", "--reference", "--json", str(report)]
    started = time.perf_counter()
    run([*command, *options], directory)
    seconds = time.perf_counter() - started
    report_json = json.loads(report.read_text(encoding="utf-8"))
    what = f"contract suite, {len(report_json['rules'])} rules, {report_json['requests']:,} requests, s"
    suite = compared(what, "as many raw httpx requests", [(seconds, raw(report_json["requests"]))])
    watch = compared("list through `watch`, ms a request", "without the proxy", watch_latencies(rounds))
    return [suite, watch]


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


def watch_latencies(rounds: int) -> list[tuple[float, float]]:
    """Return the median milliseconds of a list through `watch` and without it, in turns."""
    with reference_server() as config:
        command = ["watch", "--target", config.base_url, "--listen", "127.0.0.1:0"]
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "video_calls_contract", *command],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        line = process.stdout.readline() if process.stdout else ""
        through = re.search(r"send requests to (\S+);", line)
        if through is None:
            raise BenchmarkError("`video-calls-contract watch` did not start")
        try:
            headers = {"Authorization": f"Bearer {config.identities['doctor'].token}"}
            with httpx.Client(headers=headers) as client:
                urls = [f"{root}/video-calls/" for root in (through[1], config.base_url)]
                turns = [tuple(median(milliseconds(client, url)) for url in urls) for _ in range(rounds + 1)]
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=STOP_LIMIT)
    return [(ours, plain) for ours, plain in turns[1:]]


def milliseconds(client: httpx.Client, url: str) -> list[float]:
    """Return the duration of each of some requests."""
    durations: list[float] = []
    for _ in range(REQUESTS):
        started = time.perf_counter()
        client.get(url).raise_for_status()
        durations.append((time.perf_counter() - started) * 1000)
    return durations
