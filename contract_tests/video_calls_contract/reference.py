"""The installed reference server, started for one run: a process, reached like any other backend."""

import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO

from video_calls_contract.config import API_PATH, Config, ConfigError, parse_config

__all__ = ["ReferenceServerError", "reference_server"]

START_SECONDS = 30.0
STOP_SECONDS = 15.0
_URL = re.compile(r"Video Calls API\s+(https?://\S+?)/api/")
_COMMAND = (sys.executable, "-c", "from video_calls_server.command import run; run()")
_DATABASE = ("--database", ":memory:")
_SETTINGS = ("VIDEO_CALLS_SERVER_", "AGORA_")  # what the names of the server's variables begin with


class ReferenceServerError(Exception):
    """The reference server cannot be used; the message says why."""


@contextmanager
def reference_server(*options: str) -> Generator[Config]:
    """The configuration for a reference server that runs as long as the context lasts.

    `options` are those of its command, such as `--ids uuid`.

    Raises:
        ReferenceServerError: it is not installed, or does not start.
    """
    with (
        _without_own_settings(),
        tempfile.TemporaryDirectory(prefix="video-calls-contract-") as directory,
        tempfile.TemporaryFile(dir=directory) as log,
    ):
        server = subprocess.Popen(  # noqa: S603 (our own package)
            [*_COMMAND, "serve", "--host", "127.0.0.1", "--port", "0", *_DATABASE, *options],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=_environment(),
            start_new_session=True,  # a Ctrl-C is for the suite, which still has to clean up
        )
        try:
            yield _config(_url(server, log), directory, options)
        finally:
            _stop(server)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}


@contextmanager
def _without_own_settings() -> Generator[None]:
    """Hide the settings of a server of the user's own, from commands that make tokens too."""
    own = [name for name in os.environ if name.startswith(_SETTINGS)]
    hidden = {name: os.environ.pop(name) for name in own}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _url(server: "subprocess.Popen[str]", log: IO[bytes]) -> str:
    found: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        # To the end, so that the pipe never fills up.
        for line in server.stdout or ():
            if match := _URL.search(line):
                found.put(match[1])
        found.put(None)

    threading.Thread(target=read, name="reference", daemon=True).start()
    try:
        url = found.get(timeout=START_SECONDS)
    except queue.Empty:
        raise ReferenceServerError(
            f"the reference server did not start within {START_SECONDS:.0f} seconds"
        ) from None
    if url is None:
        log.seek(0)
        raise ReferenceServerError(
            f"the reference server did not start: {_last_line(log.read().decode(errors='replace'))}"
        )
    return url


def _config(url: str, directory: str, options: tuple[str, ...]) -> Config:
    try:
        told = subprocess.run(  # noqa: S603 (our own package)
            [*_COMMAND, "identities", "--contract-config", f"{url}{API_PATH}", *_DATABASE, *options],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=_environment(),
            timeout=START_SECONDS,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise ReferenceServerError("the reference server did not tell who its people are") from None
    if told.returncode:
        raise ReferenceServerError(
            f"the reference server did not tell who its people are: {_last_line(told.stderr)}"
        )
    try:
        config = parse_config(told.stdout, "the reference server's configuration")
    except ConfigError as error:
        raise ReferenceServerError(str(error)) from None
    return replace(config, proxied=False)  # a proxy would not find this machine's loopback


def _last_line(text: str) -> str:
    line = (text.strip().splitlines() or ["it said nothing"])[-1].strip()
    if "No module named 'video_calls_server'" in line:
        return 'it is not installed; install it with: pip install "video-calls[server]"'
    return line.removeprefix("video-calls-server: ")


def _stop(server: "subprocess.Popen[str]") -> None:
    """Stop it in order, if it will."""
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
