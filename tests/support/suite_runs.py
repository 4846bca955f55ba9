"""Backends as processes, and runs of the suite against them, as in a team's CI."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["LONGEST", "SMALL", "Verdict", "command", "reference", "run_suite", "serving", "verdict"]

LONGEST = 240  # seconds of a run of the suite; some servers make it wait

SMALL = str(Path(__file__).with_name("small_backend.py"))

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


@contextmanager
def serving(command: Iterable[str], directory: Path, ready: str, **environment: str) -> Iterator[str]:
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
def reference(directory: Path) -> Iterator[Path]:
    """Run a reference server; yield the path of a configuration for it."""
    with serving([*_SERVER, "serve", *_OPTIONS], directory, "API  ") as printed:
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


def command(config: Path, report: Path, *options: str) -> list[str]:
    """Return the command line of a run."""
    words = ["-m", "video_calls_contract", "run", "--config", str(config), "--json", str(report)]
    return [sys.executable, *words, "--fuzz", "off", *options]


def run_suite(config: Path, *options: str, report: str = "report.json") -> Verdict:
    """Run the suite against the backend of a configuration."""
    file = config.parent / report
    process = subprocess.run(
        command(config, file, *options),
        cwd=config.parent,
        timeout=LONGEST,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return verdict(process.returncode, file, process.stdout)


def verdict(status: int, report: Path, output: str) -> Verdict:
    """Read the result of a finished run."""
    nothing: dict[str, Any] = {"rules": [], "left": [], "seconds": 0.0}
    results = json.loads(report.read_text()) if report.exists() else nothing
    rules = {rule["id"]: rule for rule in results["rules"] if not rule["id"].startswith("fuzz.")}
    return Verdict(
        status,
        {slug: rule["reason"] for slug, rule in rules.items() if rule["outcome"] != "passed"},
        frozenset(slug for slug, rule in rules.items() if rule["outcome"] == "failed"),
        frozenset(slug for slug, rule in rules.items() if rule["outcome"] == "noted"),
        frozenset(slug for slug, rule in rules.items() if rule["outcome"] == "not_checked"),
        tuple(results["left"]),
        results["seconds"],
        output,
    )
