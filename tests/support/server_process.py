"""The command `video-calls-server serve`, in processes of its own: their output, connections and end."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support.api import USERS, auth_headers

TIMEOUT = 30.0  # seconds, for a busy machine


@dataclass
class ServerProcess:
    """A running `video-calls-server serve`, and its output so far."""

    popen: "subprocess.Popen[str]"
    lines: list[str] = field(default_factory=list)
    has_more: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.popen.stdout
        for line in self.popen.stdout:
            with self.has_more:
                self.lines.append(line)
                self.has_more.notify_all()

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def wait_for_output(self, pattern: str, times: int = 1) -> list[str]:
        """Wait until the output matches a pattern so many times; return the matches."""

        def matches() -> list[str]:
            return [match for line in self.lines for match in re.findall(pattern, line)]

        with self.has_more:
            assert self.has_more.wait_for(lambda: len(matches()) >= times, TIMEOUT), self.output[-4000:]
            return matches()

    @property
    def url(self) -> str:
        return self.wait_for_output(r"API +(http://[^/]+)")[0]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def headers(self, user: str = "doctor") -> dict[str, str]:
        return auth_headers(USERS[user])

    def token(self, user: str = "doctor") -> str:
        return self.headers(user)["Authorization"].removeprefix("Bearer ")

    @property
    def base_url(self) -> str:
        return f"{self.url}/api/v1/video"

    def environment(self) -> dict[str, str]:
        """Return the variables of a program that uses the SDK as the doctor."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return os.environ | {
            "PATH": path,
            "VIDEO_CALLS_BASE_URL": self.base_url,
            "VIDEO_CALLS_TOKEN": self.token(),
        }

    def workers(self, ever: int = 2) -> list[int]:
        """Return the workers' pids once `ever` workers have started; without workers, the server's pid."""
        if "--workers" not in self.popen.args:
            return [self.popen.pid]
        listen = self.wait_for_output(r"worker (\d+) listens", ever)
        ended = re.findall(r"worker (\d+) has ended", self.output)
        return [int(pid) for pid in listen if pid not in ended]

    def connections(self) -> dict[int, set[int]]:
        """Return the remote ports of the TCP connections of each process that serves."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        here, established = f":{self.port:04X}", "01"
        remote = {
            row[9]: int(row[2].rpartition(":")[2], 16)
            for row in rows
            if row[1].endswith(here) and row[3] == established
        }
        connections: dict[int, set[int]] = {}
        for worker in self.workers():
            links = [
                str(link.readlink()) for link in Path(f"/proc/{worker}/fd").iterdir() if link.is_symlink()
            ]
            sockets = {link.removeprefix("socket:[").removesuffix("]") for link in links}
            connections[worker] = {port for inode, port in remote.items() if inode in sockets}
        return connections

    def stop(self) -> tuple[int, float]:
        """Send SIGTERM; return the exit status and the seconds until the end."""
        start = time.monotonic()
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(TIMEOUT), time.monotonic() - start

    def assert_no_traceback(self) -> None:
        """Fail if the output has a traceback."""
        assert "Traceback" not in self.output, self.output[-6000:]


@contextmanager
def server_processes(directory: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Yield a function that starts the server in this directory; kill all of them at the end."""
    started: list[ServerProcess] = []

    def serve(*options: str, port: int = 0, env: dict[str, str] | None = None) -> ServerProcess:
        popen = subprocess.Popen(
            [sys.executable, "-m", "video_calls_server", "serve", "--port", str(port), *options],
            cwd=directory,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | (env or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,  # a test can interrupt the whole group, as a terminal does
        )
        server = ServerProcess(popen)
        started.append(server)
        server.wait_for_output("curl")
        return server

    try:
        yield serve
    finally:
        for server in started:
            server.popen.kill()
            server.popen.wait()
            server.reader.join(TIMEOUT)
            assert server.popen.stdout
            server.popen.stdout.close()
