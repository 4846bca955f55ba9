"""The table of the benchmarks, and the end of a run without a result."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("table")


def test_row_has_median_ratio_and_middle_half(table: ModuleType) -> None:
    turns = [(10, 10), (11, 10), (12, 10), (13, 10), (90, 10)]
    row = table.compared("get", "httpx", turns)
    assert (row.ours, row.its, row.ratio) == ("12", "10", "1.20 (1.10-1.30)")


@pytest.mark.parametrize(
    ("bounds", "aim"),
    [
        ({"at_most": 0.5}, "≤ 0.50"),
        ({"at_most": 0.4}, "≤ 0.40, missed"),
        ({"at_least": 0.6}, "≥ 0.60, missed"),
    ],
)
def test_row_says_if_aim_is_missed(table: ModuleType, bounds: dict[str, float], aim: str) -> None:
    assert table.compared("GET", "bare", [(1, 2)], **bounds).aim == aim


def test_server_that_does_not_start_is_named(table: ModuleType) -> None:
    load = import_module("load")
    program = load.Program((sys.executable, "-c", "raise SystemExit"))
    with (
        pytest.raises(table.BenchmarkError, match=r"raise SystemExit .*did not answer"),
        load.running(program, core=None),
    ):
        pass


def test_quick_run_with_write_is_refused() -> None:
    command = [sys.executable, str(BENCHMARKS), "--quick", "--write"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 2
    assert "full run only" in process.stderr
