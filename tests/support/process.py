"""The command `video-calls-server serve`, in a process of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from video_calls_server import Settings
from video_calls_server.api.jwt import make_token

from support.api import USERS


@dataclass
class Process:
    """A running `video-calls-server serve`."""

    popen: "subprocess.Popen[str]"
    url: str
    banner: str

    def headers(self, user: str = "doctor") -> dict[str, str]:
        return {"Authorization": f"Bearer {make_token(Settings(), USERS[user], expires_in=3600)}"}


@contextmanager
def serving(directory: Path) -> Iterator[Callable[..., Process]]:
    """Yield a function that starts the server on a free port, in this directory; stop all at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str, env: dict[str, str] | None = None) -> Process:
        popen = subprocess.Popen(
            [sys.executable, "-m", "video_calls_server", "serve", "--port", "0", *options],
            cwd=directory,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | (env or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        started.append(popen)
        banner = _banner(popen)
        url = re.search(r"http://(\[\S+\]|[^\s:]+):\d+", banner)
        assert url, f"no banner: {banner!r}"
        return Process(popen, url[0], banner)

    try:
        yield start
    finally:
        for popen in started:
            popen.kill()
            popen.wait()
            assert popen.stdout
            popen.stdout.close()


def _banner(popen: "subprocess.Popen[str]") -> str:
    """Return the output up to the curl line, which the server prints when it listens."""
    lines: list[str] = []
    assert popen.stdout
    for line in popen.stdout:
        lines.append(line)
        if "curl" in line:
            break
    return "".join(lines)
