"""The command `video-calls-server`, run in this process."""

import contextlib
from pathlib import Path

from click.testing import CliRunner, Result
from video_calls_server.__main__ import main


def run(*arguments: str, cwd: Path) -> Result:
    """Run the command in this process, which saves the start of an interpreter."""
    with contextlib.chdir(cwd):
        return CliRunner().invoke(main, arguments, env={"COLUMNS": "110"})


def assert_one_line_error(result: Result, *words: str) -> None:
    """Assert that the command failed with one line that contains these words."""
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr
