"""That the suite catches violations: every mutant of the reference server fails, by the right rule.

Each runs as a process of its own, and so does the suite against it, as a team's CI would run it. All of them
take forty minutes and are `nox -s mutants`; the default run has a few, judged by the rules that they break.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from mutants import MUTANTS, PACKAGE, Mutant, build
from video_calls_spec import RULES

_SERVE = """\
import video_calls_server
print(video_calls_server.__file__)
from video_calls_server.__main__ import run
run()
"""
_OPTIONS = ("--port", "0", "--database", ":memory:", "--log-level", "error")
_LONGEST = 200  # seconds of a run of the suite; a mutant may make it wait
_VIOLATIONS, _CONFORMS = 1, 0

_QUICK = (
    "auth: reading a call needs no token",
    "list: a call between two pages is missed",
    "create: overlap with later calls alone",
    "join: the token is signed with another certificate",
    "errors: a cancelled call is told of before who may know",
)
"""What the default run takes: one of each kind of thing that the suite stands on."""


@dataclass(frozen=True)
class Verdict:
    """What the suite says of a server: its exit status, and the rules that failed."""

    status: int
    failed: tuple[str, ...]
    seconds: float
    output: str


@contextmanager
def serving(mutant: Mutant, directory: Path) -> Iterator[str]:
    """The base URL of a mutant that runs as long as the context lasts."""
    build(mutant, directory)
    with (directory / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", _SERVE, "serve", *_OPTIONS, *mutant.options],
            cwd=directory,
            env=os.environ | {"PYTHONPATH": str(directory), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert server.stdout
    try:
        assert Path(server.stdout.readline().strip()).parent == directory / PACKAGE.name
        banner = iter(server.stdout.readline, "")
        yield next(found[1] for line in banner if (found := re.search(r"API\s+(http://\S+)/", line)))
    finally:
        server.kill()
        server.communicate()


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration with the reference server's people; where it is, a run is told."""
    file = tmp_path_factory.mktemp("config") / "contract.toml"
    command = [sys.executable, "-m", "video_calls_server", "identities", "--database", ":memory:"]
    command += ["--contract-config", "http://127.0.0.1:1/api/v1/video"]
    file.write_text(
        subprocess.run(command, capture_output=True, check=True, text=True, cwd=file.parent).stdout
    )
    return file


@pytest.fixture
def judge(config: Path, tmp_path: Path) -> Callable[..., Verdict]:
    """Runs the suite against a mutant."""

    def run(mutant: Mutant, *selection: str) -> Verdict:
        report = tmp_path / "report.json"
        command = [sys.executable, "-m", "video_calls_contract", "run", "--config", str(config)]
        command += ["--json", str(report), "--fuzz", "off", *selection]
        with serving(mutant, tmp_path) as url:
            began = time.monotonic()
            done = subprocess.run(
                [*command, "--base-url", url],
                cwd=tmp_path,
                timeout=_LONGEST,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            seconds = time.monotonic() - began
        rules = json.loads(report.read_text())["rules"] if report.exists() else []
        failed = tuple(rule["id"] for rule in rules if rule["outcome"] == "failed")
        return Verdict(done.returncode, failed, seconds, done.stdout)

    return run


def assert_caught(mutant: Mutant, verdict: Verdict) -> None:
    """The suite names a rule that the mutant breaks, and fails the run for what must not be broken."""
    assert mutant.rules & set(verdict.failed), verdict.output
    must = any(RULES[rule].level != "should" for rule in mutant.rules)
    assert verdict.status == (_VIOLATIONS if must else _CONFORMS), verdict.output


@pytest.mark.parametrize("name", _QUICK)
def test_a_mutant_is_caught_by_its_rule(name: str, judge: Callable[..., Verdict]) -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == name)
    selection = [word for rule in sorted(mutant.rules) for word in ("--rule", rule)]
    assert_caught(mutant, judge(mutant, *selection))


@pytest.mark.long
@pytest.mark.timeout(_LONGEST + 40)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_is_caught(
    mutant: Mutant, judge: Callable[..., Verdict], record_property: Callable[[str, object], None]
) -> None:
    record_property("mutant", mutant.name)
    verdict = judge(mutant)
    record_property("caught by", ", ".join(rule for rule in verdict.failed if rule in mutant.rules))
    record_property("also blamed", ", ".join(rule for rule in verdict.failed if rule not in mutant.rules))
    record_property("seconds", f"{verdict.seconds:.1f}")
    assert_caught(mutant, verdict)


def test_every_mutant_fits_the_server() -> None:
    drifted: list[str] = []
    for mutant in MUTANTS:
        texts = {change.module: (PACKAGE / change.module).read_text() for change in mutant.changes}
        for change in mutant.changes:
            if texts[change.module].count(change.old) != 1:
                drifted.append(f"{mutant.name}: not once in {change.module}: {change.old!r}")
            texts[change.module] = texts[change.module].replace(change.old, change.new)
        for module, text in texts.items():
            compile(text, f"{mutant.name}: {module}", "exec")
    assert drifted == []


def test_mutants_have_names_of_their_own() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names)


def test_every_rule_has_a_mutant() -> None:
    assert {rule for mutant in MUTANTS for rule in mutant.rules} == set(RULES)
