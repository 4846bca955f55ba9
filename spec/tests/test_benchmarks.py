"""What the benchmarks' table says of its figures, and how a run ends whose server does not answer."""

import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("table")


@pytest.fixture
def load(table: ModuleType) -> ModuleType:  # noqa: ARG001 (which it imports)
    return import_module("load")


def test_a_ratio_is_the_median_of_turns_with_the_middle_half(table: ModuleType) -> None:
    turns = [(10, 10), (11, 10), (12, 10), (13, 10), (90, 10)]
    row = table.compared("get", "httpx", turns, at_most=1.1)
    assert (row.ours, row.its, row.ratio) == ("12", "10", "1.20 (1.10-1.30)")
    assert row.aim == "≤ 1.10, missed"


@pytest.mark.parametrize(
    ("bounds", "aim"),
    [({"at_most": 0.5}, "≤ 0.50"), ({"at_least": 0.5}, "≥ 0.50"), ({"at_least": 0.6}, "≥ 0.60, missed")],
)
def test_an_aim_is_met_at_its_bound(table: ModuleType, bounds: dict[str, float], aim: str) -> None:
    assert table.compared("GET", "bare", [(1, 2)], **bounds).aim == aim


def test_what_is_not_there_has_a_row_that_says_so(table: ModuleType) -> None:
    [head, _, line] = table.markdown([table.absent("start-up", "Prism")]).splitlines()
    assert [cell.strip() for cell in head.split("|")[1:-1]] == list(table.HEADS)
    assert [cell.strip() for cell in line.split("|")[1:-1]] == [
        "start-up",
        "",
        "Prism",
        "",
        "not present",
        "",
    ]


def test_a_server_that_does_not_start_is_named(load: ModuleType, table: ModuleType) -> None:
    program = load.Program((sys.executable, "-c", "raise SystemExit"))
    with (
        pytest.raises(table.BenchmarkError, match=r"raise SystemExit .*did not answer"),
        load.running(program, core=None),
    ):
        pass


def test_a_server_that_falls_silent_is_not_awaited_for_ever(
    load: ModuleType, table: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "ANSWER_LIMIT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with load.connected(load.Target(port)) as connection:
            connection.sendall(load.request("GET", "/", token="t"))
            with pytest.raises(table.BenchmarkError, match=f"port {port} gave no answer"):
                load.response(connection, 200)


def test_another_status_than_the_expected_one_is_no_result(load: ModuleType, table: ModuleType) -> None:
    ours, its = socket.socketpair()
    with ours, its:
        its.sendall(b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n")
        with pytest.raises(table.BenchmarkError, match=r"expected 200, got b'HTTP/1\.1 500 Oh"):
            load.response(ours, 200)


def test_a_run_without_a_result_says_why_and_fails() -> None:
    script = "import table\nwith table.clear_end(): raise table.BenchmarkError('the server sleeps')"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=BENCHMARKS, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "no result: the server sleeps\n")


def test_figures_of_a_quick_run_are_not_kept() -> None:
    command = [sys.executable, str(BENCHMARKS), "--quick", "--write"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "not for keeping" in done.stderr
