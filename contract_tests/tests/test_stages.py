"""Tests of the stages of a run: which tests run at the same time."""

from pathlib import Path

import pytest
from video_calls_contract.config import parse_config
from video_calls_contract.pytest_plugin import SuitePlugin
from video_calls_contract.run import Options, Run

from support.fake_backend import fake_backend, scheduling

MODULE = """\
import threading

import pytest

changed = threading.Event()


@pytest.mark.rule("list.pages")
@pytest.mark.lists
def test_list():
    assert not changed.wait(0.3)


@pytest.fixture
def change():
    changed.set()


@pytest.mark.rule("auth.required")
def test_other(change):
    pass
"""


def test_calls_change_only_after_tests_of_lists(tmp_path: Path) -> None:
    (tmp_path / "test_rules.py").write_text(MODULE)
    with fake_backend(scheduling) as backend:
        run = Run(parse_config(backend.toml(), "contract.toml"), Options())
        plugin = SuitePlugin(run, on_start=lambda _: None, on_end=lambda _: None)
        pytest.main(
            [str(tmp_path), "-q", "--noconftest", f"--rootdir={tmp_path}", "-pno:xdist"], plugins=[plugin]
        )
        run.finish()
    assert [(test.name, test.outcome) for test in run.tests] == [("list", "passed"), ("other", "passed")]
