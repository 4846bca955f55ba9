"""The whole contract suite against the server on each database: SQLite, PostgreSQL, two workers on it."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from deployments import Server
from test_command import run


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("kind", "options"),
    [("sqlite", []), ("postgresql", []), ("postgresql", ["--workers", "2"])],
    ids=["SQLite", "PostgreSQL", "PostgreSQL with two workers"],
)
def test_the_contract_is_kept(
    request: pytest.FixtureRequest,
    launch: Callable[..., Server],
    tmp_path: Path,
    kind: str,
    options: list[str],
) -> None:
    database = "calls.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    server = launch("--database", database, *options)
    words = ["--contract-config", f"{server.url}/api/v1/video", "--database", database]
    (tmp_path / "contract.toml").write_text(run("identities", *words, cwd=tmp_path).stdout)
    done = subprocess.run(
        [sys.executable, "-m", "video_calls_contract", "run", "--config", "contract.toml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    [figures] = re.findall(r"^\d+ passed.*", done.stdout, re.MULTILINE)
    print(f"{request.node.callspec.id}: {figures}")
    server.assert_no_traceback()
