"""What the tests of all folders start with: short ids, and the command of the server as a process."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from video_calls_server.control.client import Control

from support.server_process import ServerProcess, server_processes

_LONGEST_ID = 20

# A job in the background of a shell inherits an ignored SIGINT, and so would each process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Return the first characters of a long value, so that a test's id can be read."""
    if not isinstance(val, str | bytes | int):
        return None
    text = ascii(val).lstrip("b").strip("'\"")
    return f"{text[: _LONGEST_ID - 3]}..." if len(text) > _LONGEST_ID else None


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Start the server as a process on a free port, in the directory of the test; stop it afterwards."""
    with server_processes(tmp_path) as start:
        yield start


@pytest.fixture(scope="session")
def plain_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Start a process that tests share, with no option but its database."""
    with server_processes(tmp_path_factory.mktemp("plain-server")) as start:
        yield start("--database", ":memory:")


@pytest.fixture
def fresh_server(plain_server: ServerProcess) -> ServerProcess:
    """Return the shared server process, reset to its initial state."""
    with Control(plain_server.url) as control:
        control.state.reset()
        control.requests.clear()
    return plain_server
