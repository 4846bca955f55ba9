"""Backends as processes, and runs of the suite against them, as a team's CI would start both."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import video_calls_server
from mutants import Mutant, build
from variants import Variant

__all__ = ["LONGEST", "Verdict", "command", "reference", "run_suite", "serving", "verdict"]

LONGEST = 240  # seconds of a run of the suite: some variants make it wait

_SERVE = (
    "from video_calls_server.__main__ import run; import video_calls_server as s; print(s.__file__); run()"
)
_OPTIONS = ("--port", "0", "--database", ":memory:", "--log-level", "error")


@dataclass(frozen=True)
class Verdict:
    """What the suite says of a backend.

    Attributes:
        status: its exit status.
        reasons: why, by rule, of every rule that has not simply passed.
        failed, unchecked: those rules.
    """

    status: int
    reasons: dict[str, str]
    failed: frozenset[str]
    unchecked: frozenset[str]
    left: tuple[str, ...]
    output: str


@contextmanager
def serving(command: Iterable[str], directory: Path, ready: str, **environment: str) -> Iterator[str]:
    """A backend as long as the context lasts, and what it printed until a line with `ready` in it."""
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
def reference(variant: Variant, directory: Path) -> Iterator[Path]:
    """The configuration for a variant of the reference server that runs as long as the context lasts."""
    build(Mutant(variant.name, frozenset(), variant.changes), directory)
    with serving(
        ["-c", _SERVE, "serve", *_OPTIONS, *variant.options], directory, "API  ", PYTHONPATH=str(directory)
    ) as said:
        assert Path(said.splitlines()[0]).parent == directory / Path(video_calls_server.__file__).parent.name
        url = re.search(r"API\s+(http://\S+)/", said)
        assert url
        identities = ["-m", "video_calls_server", "identities", "--database", ":memory:"]
        config = directory / "contract.toml"
        config.write_text(
            subprocess.run(
                [sys.executable, *identities, "--contract-config", url[1]],
                capture_output=True,
                check=True,
                cwd=directory,
                text=True,
            ).stdout
        )
        yield config


def command(config: Path, report: Path, *options: str) -> list[str]:
    """The command line of a run."""
    words = ["-m", "video_calls_contract", "run", "--config", str(config), "--json", str(report)]
    return [sys.executable, *words, "--fuzz", "off", *options]


def run_suite(config: Path, *options: str, report: str = "report.json") -> Verdict:
    """What the suite says of the backend of a configuration."""
    file = config.parent / report
    done = subprocess.run(
        command(config, file, *options),
        cwd=config.parent,
        timeout=LONGEST,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return verdict(done.returncode, file, done.stdout)


def verdict(status: int, report: Path, output: str) -> Verdict:
    """What a finished run has said."""
    results: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {"rules": [], "left": []}
    rules = {rule["id"]: rule for rule in results["rules"] if not rule["id"].startswith("fuzz.")}
    return Verdict(
        status,
        {slug: rule["reason"] for slug, rule in rules.items() if rule["outcome"] != "passed"},
        frozenset(slug for slug, rule in rules.items() if rule["outcome"] == "failed"),
        frozenset(slug for slug, rule in rules.items() if rule["outcome"] == "not_checked"),
        tuple(results["left"]),
        output,
    )
