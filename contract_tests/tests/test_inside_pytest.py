"""Tests of `contract_tests()`, which adds a test for each rule to a backend's own pytest run."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.suite_runs import SMALL_BACKEND, backend_process

BACKENDS = Path(__file__).parents[2] / "examples" / "backends"
FRAMEWORKS = {"django": ["-p", "pytest_django.plugin"], "fastapi": []}
"""The examples, with the plugins that their pytest needs."""
NOT_OFFERED = {
    "create.idempotency-key",
    "errors.body-size",
    "join.app-id",
    "list.page-size",
    "tracing.request-id",
}
"""The rules about features that neither example offers, besides events."""
MODULE = """\
from pathlib import Path

import pytest
from video_calls_contract.testing import contract_tests

test_contract = contract_tests("--fuzz=off", "--html=contract.html")


@pytest.fixture(scope="module")
def contract_backend():
    return {}
"""
"""A test module; `{}` stands for what its fixture returns."""


def run_pytest(directory: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    words = ["-p", "no:cacheprovider", "-q", "-rs", *options]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *words, "."],
        cwd=directory,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[Path]:
    """Return a folder with the tests of a backend that lets no patient cancel."""
    (tmp_path / "test_contract.py").write_text(MODULE.format('Path("contract.toml").resolve()'))
    with backend_process(
        [SMALL_BACKEND, '--policy={"may": {"cancel": "the doctor"}}'], tmp_path, "# ready"
    ) as config:
        (tmp_path / "contract.toml").write_text(config)
        yield tmp_path


def test_contract_tests_report_rules_as_pytest_outcomes(broken: Path) -> None:
    slugs = "cancel.cancels or cancel.not-found or tracing.request-id"
    process = run_pytest(broken, "-k", slugs)
    assert re.search(r"1 failed, 1 passed, 1 skipped, \d+ deselected", process.stdout), process.stdout
    assert "cancel.cancels: expected 200" in process.stdout
    assert "curl -sS -i -X POST" in process.stdout
    assert "not checked: not offered" in process.stdout
    assert (broken / "contract.html").exists()


def test_unreachable_backend_fails_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    users = {"doctor": {"id": 1, "token": "a"}, "patient": {"id": 2, "token": "b"}}
    backend = {"base_url": f"http://127.0.0.1:{port}", "identities": users}
    (tmp_path / "test_contract.py").write_text(MODULE.format(repr(backend)))
    process = run_pytest(tmp_path, "-k", "cancel")
    assert re.search(r"1 failed, \d+ skipped", process.stdout), process.stdout
    assert "the contract suite could not do its work" in process.stdout


def test_invalid_configuration_fails_once(tmp_path: Path) -> None:
    (tmp_path / "test_contract.py").write_text(MODULE.format('{"base_url": "x"}'))
    process = run_pytest(tmp_path, "-k", "cancel.cancels or cancel.not-found")
    assert "1 failed, 1 skipped" in process.stdout, process.stdout
    assert "is not an http" in process.stdout or "identities.doctor" in process.stdout


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_example_backend_reports_each_rule(framework: str) -> None:
    process = run_pytest(
        BACKENDS / framework, *FRAMEWORKS[framework], "-k", "cancel.cancels or get.not-found"
    )
    assert re.search(r"2 passed, \d+ deselected", process.stdout), process.stdout + process.stderr


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_example_backend_conforms(framework: str) -> None:
    process = run_pytest(BACKENDS / framework, *FRAMEWORKS[framework], "-v")
    skipped = set(re.findall(r"\[([\w.-]+)\] SKIPPED", process.stdout))
    assert process.returncode == 0, process.stdout
    assert {slug for slug in skipped if not slug.startswith("events.")} == NOT_OFFERED
