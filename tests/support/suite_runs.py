"""Backends as processes, and runs of the suite against them, as in a team's CI."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

SUITE_TIMEOUT = 240  # seconds for a run of the suite, because some servers are slow

SMALL_BACKEND = str(Path(__file__).with_name("small_backend.py"))

_SERVER = ("-P", "-m", "video_calls_server")
_OPTIONS = ("--port", "0", "--database", ":memory:", "--log-level", "error")
_SOMEWHERE = "http://somewhere"


@dataclass(frozen=True)
class Verdict:
    """The result of a run of the suite.

    Attributes:
        status: its exit status.
        reasons: the reason of every rule that did not pass.
        failed, noted, unchecked: the rules with each outcome.
        left: the calls that the run could not close.
        seconds: how long the run took.
    """

    status: int
    reasons: dict[str, str]
    failed: frozenset[str]
    noted: frozenset[str]
    unchecked: frozenset[str]
    left: tuple[str, ...]
    seconds: float
    output: str


def suite_command(*words: str) -> list[str]:
    return [sys.executable, "-m", "video_calls_contract", *words]


def run_suite_command(
    *words: str, cwd: Path, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run the command as a process in this directory."""
    return subprocess.run(
        suite_command(*words), cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=50
    )


@contextmanager
def backend_process(command: Iterable[str], directory: Path, ready: str, **environment: str) -> Iterator[str]:
    """Run a backend; yield its output up to a line that contains `ready`."""
    with (directory / "backend.log").open("w") as log:
        backend = subprocess.Popen(
            [sys.executable, *command],
            cwd=directory,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert backend.stdout
    try:
        lines: list[str] = []
        for line in backend.stdout:
            lines.append(line)
            if ready in line:
                break
        else:
            raise AssertionError((directory / "backend.log").read_text())
        yield "".join(lines)
    finally:
        backend.kill()
        backend.communicate()


@contextmanager
def reference_server(directory: Path) -> Iterator[Path]:
    """Run a reference server; yield the path of a configuration for it."""
    with backend_process([*_SERVER, "serve", *_OPTIONS], directory, "API  ") as printed:
        url = re.search(r"API\s+(http://\S+)/", printed)
        assert url
        config = directory / "contract.toml"
        config.write_text(_configuration().replace(_SOMEWHERE, url[1]))
        yield config


@cache
def _configuration() -> str:
    """Return a configuration with the users of the reference server; their tokens outlive all tests."""
    words = [*_SERVER, "identities", "--database", ":memory:", "--contract-config", _SOMEWHERE]
    return subprocess.run([sys.executable, *words], capture_output=True, check=True, text=True).stdout


def command_of_run(config: Path, report: Path, *options: str) -> list[str]:
    """Return the command line of a run without generated requests."""
    return suite_command("run", f"--config={config}", f"--json={report}", "--fuzz=off", *options)


def run_suite(config: Path, *options: str, report: str = "report.json") -> Verdict:
    """Run the suite against the backend of a configuration."""
    file = config.parent / report
    process = subprocess.run(
        command_of_run(config, file, *options),
        cwd=config.parent,
        timeout=SUITE_TIMEOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    nothing: dict[str, Any] = {"rules": [], "left": [], "seconds": 0.0}
    results = json.loads(file.read_text()) if file.exists() else nothing
    outcomes = {
        rule["id"]: (rule["outcome"], rule["reason"])
        for rule in results["rules"]
        if not rule["id"].startswith("fuzz.")
    }

    def rules_with(outcome: str) -> frozenset[str]:
        return frozenset(slug for slug, (other, _) in outcomes.items() if other == outcome)

    return Verdict(
        process.returncode,
        {slug: reason for slug, (outcome, reason) in outcomes.items() if outcome != "passed"},
        rules_with("failed"),
        rules_with("noted"),
        rules_with("not_checked"),
        tuple(results["left"]),
        results["seconds"],
        process.stdout,
    )


def run_on_small_backend(directory: Path, words: Iterable[str], *options: str) -> Verdict:
    """Run the suite against the small backend, which gets these arguments."""
    config = directory / "contract.toml"
    with backend_process([SMALL_BACKEND, *words], directory, "# ready") as small_config:
        config.write_text(small_config)
        return run_suite(config, *options)
