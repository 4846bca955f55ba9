"""Runs the installed reference server as a process for one run. The suite uses it over HTTP."""

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

START_SECONDS = 30.0
STOP_SECONDS = 15.0
_URL = re.compile(r"Video Calls API\s+(https?://\S+?)/api/")
_COMMAND = (sys.executable, "-c", "from video_calls_server.command import run; run()")
_DATABASE = ("--database", ":memory:")
_SETTINGS = ("VIDEO_CALLS_SERVER_", "AGORA_")  # prefixes of the server's environment variables


class ReferenceServerError(Exception):
    """The reference server cannot be used; the message says why."""


@contextmanager
def reference_server(*options: str) -> Generator[Config]:
    """Start a reference server, yield the configuration for it, and stop it.

    Args:
        options: options of its command, such as `--ids uuid`.

    Raises:
        ReferenceServerError: if the server is not installed or does not start.
    """
    with (
        _environment(),
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
            start_new_session=True,  # so that Ctrl-C stops the server only after the cleanup
        )
        try:
            yield _config(_url(server, log), directory, options)
        finally:
            _stop(server)


@contextmanager
def _environment() -> Generator[None]:
    """Hide the settings of the user's own server, also from the commands that print tokens."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(_SETTINGS):
            del os.environ[name]
    os.environ |= {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _url(server: "subprocess.Popen[str]", log: IO[bytes]) -> str:
    urls: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        # Read to the end: if the pipe fills up, the server blocks.
        for line in server.stdout or ():
            if match := _URL.search(line):
                urls.put(match[1])
        urls.put(None)

    threading.Thread(target=read, name="reference", daemon=True).start()
    try:
        url = urls.get(timeout=START_SECONDS)
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
        identities = subprocess.run(  # noqa: S603 (our own package)
            [*_COMMAND, "identities", "--contract-config", f"{url}{API_PATH}", *_DATABASE, *options],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=START_SECONDS,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise ReferenceServerError("the reference server did not print its users in time") from None
    if identities.returncode:
        raise ReferenceServerError(
            f"the reference server did not print its users: {_last_line(identities.stderr)}"
        )
    try:
        config = parse_config(identities.stdout, "the reference server's configuration")
    except ConfigError as error:
        raise ReferenceServerError(str(error)) from None
    return replace(config, use_proxy=False)  # a proxy cannot reach the loopback of this machine


def _last_line(text: str) -> str:
    line = (text.strip().splitlines() or ["it printed nothing"])[-1].strip()
    if "No module named 'video_calls_server'" in line:
        return 'it is not installed; install it with: pip install "video-calls[server]"'
    return line.removeprefix("video-calls-server: ")


def _stop(server: "subprocess.Popen[str]") -> None:
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
