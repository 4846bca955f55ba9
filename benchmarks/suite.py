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

import httpx
from table import BenchmarkError, Row, compared
from video_calls_contract.reference_server import reference_server

TIME_LIMIT = 300  # seconds for one run of the suite
REQUESTS = 200  # requests in a turn
STOP_LIMIT = 30  # seconds to stop


def rows(directory: Path, options: tuple[str, ...], rounds: int) -> list[Row]:
    """Return the rows of one run with these options, and of so many turns of the proxy."""
    report = directory / "suite.json"
    command = [sys.executable, "-m", "video_calls_contract", "run", "--reference", "--json", str(report)]
    started = time.perf_counter()
    process = subprocess.run(
        [*command, *options], timeout=TIME_LIMIT, check=False, capture_output=True, text=True
    )
    seconds = time.perf_counter() - started
    if process.returncode:
        raise BenchmarkError(f"the contract suite ended with {process.returncode}: {process.stdout[-300:]}")
    content = json.loads(report.read_text(encoding="utf-8"))
    raw, latencies = baselines(content["requests"], rounds)
    what = f"contract suite, {len(content['rules'])} rules, {content['requests']:,} requests, s"
    return [
        compared(what, "as many raw httpx requests", [(seconds, raw)]),
        compared("list through `watch`, ms a request", "without the proxy", latencies),
    ]


def seconds_of(client: httpx.Client, url: str, requests: int) -> float:
    """Return the seconds of so many requests, with the answers read as JSON."""
    started = time.perf_counter()
    for _ in range(requests):
        client.get(url).raise_for_status().json()
    return time.perf_counter() - started


def baselines(requests: int, rounds: int) -> tuple[float, list[tuple[float, float]]]:
    """Return the seconds of the raw requests, and the milliseconds of a request with and without `watch`."""
    with reference_server() as config:
        command = (sys.executable, "-m", "video_calls_contract", "watch", "--target", config.base_url)
        process = subprocess.Popen(
            [*command, "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        line = process.stdout.readline() if process.stdout else ""
        through = re.search(r"send requests to (\S+);", line)
        if through is None:
            raise BenchmarkError("`video-calls-contract watch` did not start")
        headers = {"Authorization": f"Bearer {config.identities['doctor'].token}"}
        try:
            with httpx.Client(headers=headers) as client:
                through_watch, plain = (f"{root}/video-calls/" for root in (through[1], config.base_url))
                turns = [
                    [seconds_of(client, url, REQUESTS) * 1000 / REQUESTS for url in (through_watch, plain)]
                    for _ in range(rounds + 1)
                ]
                return seconds_of(client, plain, requests), [(ours, its) for ours, its in turns[1:]]
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=STOP_LIMIT)
