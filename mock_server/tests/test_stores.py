"""The contract suite against the server: on each database, with two workers, and behind nginx."""

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from support.server_command import run
from support.server_process import TIMEOUT, ServerProcess

PAGE = Path(__file__).resolve().parents[2] / "docs/deploying.md"

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("sqlite", []),
        ("sqlite", ["--ids", "uuid"]),
        ("postgresql", []),
        ("postgresql", ["--workers", "2"]),
    ],
    ids=["SQLite", "SQLite with UUIDs", "PostgreSQL", "PostgreSQL with two workers"],
)
def test_contract_suite_passes_on_each_database(
    request: pytest.FixtureRequest,
    serve: Callable[..., ServerProcess],
    tmp_path: Path,
    kind: str,
    options: list[str],
) -> None:
    database = "calls.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    server = serve("--database", database, *options)
    print(f"{request.node.callspec.id}: {summary_of_suite(server.url, database, tmp_path, *options)}")
    server.assert_no_traceback()


@pytest.mark.skipif(not shutil.which("nginx"), reason="needs nginx")
def test_contract_suite_passes_behind_documented_proxy(
    serve: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    server = serve("--database", "calls.db")
    [location] = re.findall(r"^```nginx\n(.+?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    location, count = re.subn(r"http://127.0.0.1:8000\b", server.url, location)
    assert count == 1
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "nginx.conf").write_text(NGINX % (port, location))
    proxy = subprocess.Popen(["nginx", "-p", tmp_path, "-c", "nginx.conf", "-e", "error.log"])
    try:
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as client:
            assert client.get(f"{url}/readyz").status_code == 200
        print(f"nginx: {summary_of_suite(url, 'calls.db', tmp_path)}")
        server.assert_no_traceback()
    finally:
        proxy.terminate()
        proxy.wait(TIMEOUT)


NGINX = """
daemon off;
master_process off;
pid nginx.pid;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {
        listen 127.0.0.1:%d;
        %s
    }
}
"""


def summary_of_suite(url: str, database: str, directory: Path, *options: str) -> str:
    """Run the suite, which must pass, and return its summary."""
    words = ["--contract-config", f"{url}/api/v1/video", "--database", database, *options]
    (directory / "contract.toml").write_text(run("identities", *words, cwd=directory).stdout)
    result = subprocess.run(
        [sys.executable, "-m", "video_calls_contract", "run", "--config", "contract.toml"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    [figures] = re.findall(r"^\d+ passed.*", result.stdout, re.MULTILINE)
    return str(figures)
