"""Runs the rules in the pytest of a backend's own project: one test for each rule.

A test module needs these lines, with the address and the users of the backend:

    from video_calls_contract.testing import contract_tests

    test_contract = contract_tests()

    @pytest.fixture(scope="module")
    def contract_backend(live_server):
        ...
        return {"base_url": f"{live_server.url}/api/v1/video", "identities": {...}}

The first test runs the suite in a process, for all selected rules. Then each test reports one rule.
"""

import inspect
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest

from video_calls_contract.catalogue import catalogue

__all__ = ["ContractWarning", "contract_tests", "serve"]

_START_SECONDS, _POLL_SECONDS = 30.0, 0.01
_STOP_SECONDS = 60.0  # seconds, because an interrupted run first cancels its calls


class ContractWarning(UserWarning):
    """A violation that does not fail the run: at the default level, one of a rule of level `should`."""


def contract_tests(*arguments: str) -> Callable[..., None]:
    """Return a test function with one case for each rule; assign it to a name that begins with `test`.

    The function needs a fixture `contract_backend` that returns the content of `contract.toml` as a mapping,
    or the path of such a file. A violation fails the test of its rule, and shows the evidence. A rule that
    could not be checked because of a problem of the backend or the suite fails, too. Other rules without a
    check are skipped.

    Args:
        arguments: options of `video-calls-contract run`, such as `--level=should`, `--fuzz=off` or
            `--html=contract.html`. pytest selects the rules: `-k join.window`.
    """
    reports: dict[int, _Report] = {}

    @pytest.mark.parametrize("rule", list(catalogue()))
    def test_contract(
        rule: str, contract_backend: Mapping[str, object] | Path, request: pytest.FixtureRequest
    ) -> None:
        report = reports.get(id(contract_backend))
        if report is None:
            items = [item for item in request.session.items if isinstance(item, pytest.Function)]
            names = [item.name for item in items if item.function is test_contract]
            slugs = [name.partition("[")[2].removesuffix("]") for name in names]
            report = reports[id(contract_backend)] = _run(contract_backend, slugs, arguments)
        report.check(rule)

    return test_contract


class _Report:
    """The JSON report of a run.

    Args:
        stopped: why the run ended early; empty if it checked all its rules.
    """

    def __init__(self, rules: list[dict[str, Any]], stopped: str) -> None:
        self._rules = {rule["id"]: rule for rule in rules}
        self._stopped = stopped
        self._fails = bool(stopped)

    def check(self, slug: str) -> None:
        """Pass, fail, skip or warn by the outcome of a rule. A run that stopped early fails only one test."""
        rule = self._rules.get(slug, {"outcome": "not_checked", "reason": "", "fails": False, "tests": ()})
        reason = f"{slug}: {rule['reason']}"
        if rule["fails"]:
            pytest.fail(_evidence(reason, rule), pytrace=False)
        if rule["outcome"] == "not_checked" and self._fails:
            self._fails = False
            pytest.fail(f"the contract suite could not do its work: {self._stopped}", pytrace=False)
        if any(test["outcome"] in ("blocked", "broken") for test in rule["tests"]):
            pytest.fail(_evidence(f"could not be checked: {reason}", rule), pytrace=False)
        match rule["outcome"]:
            case "failed":
                warnings.warn(ContractWarning(_evidence(reason, rule)), stacklevel=3)
            case "known":
                pytest.xfail(reason)
            case "not_checked":
                pytest.skip(f"not checked: {self._stopped or rule['reason']}")
            case _:
                pass


def _evidence(reason: str, rule: dict[str, Any]) -> str:
    lines = [reason, f'"{rule["statement"]}" ({rule["section"]})']
    for exchange in rule["exchanges"]:
        lines += ["", exchange["request"], "", exchange["response"], "", exchange["curl"]]
    return "\n".join(lines)


def _run(backend: Mapping[str, object] | Path, slugs: list[str], arguments: tuple[str, ...]) -> _Report:
    # The configuration contains tokens, so only this user may read the directory.
    directory = Path(tempfile.mkdtemp(prefix="video-calls-contract-"))
    try:
        config = backend if isinstance(backend, Path) else directory / "contract.toml"
        if not isinstance(backend, Path):
            config.write_text("".join(_toml(backend)), encoding="utf-8")
        report = directory / "report.json"
        selection = [] if len(slugs) == len(catalogue()) else [f"--rule={slug}" for slug in slugs]
        command = [sys.executable, "-m", "video_calls_contract", "run"]
        output = _output([*command, f"--config={config}", f"--json={report}", *selection, *arguments])
        if report.exists():
            content = json.loads(report.read_text(encoding="utf-8"))
            return _Report(content["rules"], content["stopped"])
        return _Report([], (output.strip().splitlines() or ["it printed nothing"])[-1])
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _output(command: list[str]) -> str:
    """Return the output of a run. After an interrupt, give the run time to cancel its calls."""
    with subprocess.Popen(  # noqa: S603 (our own package)
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            return process.communicate()[0]
        except BaseException:
            process.terminate()
            process.communicate(timeout=_STOP_SECONDS)
            raise


def _toml(table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:  # a fixture may return any values
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _toml(cast("Mapping[str, Any]", value), f"{prefix}{key}.")
        else:  # strings, numbers and lists of them look the same in JSON and in TOML
            yield f"{prefix}{key} = {json.dumps(value, ensure_ascii=False)}\n"


# -- Serving an application object ------------------------------------------------------------------


class _ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Print nothing into the output of the tests."""


@contextmanager
def serve(application: Any) -> Generator[str]:  # noqa: ANN401 (each framework types its own)
    """Serve a WSGI or ASGI application on a free port of 127.0.0.1, and yield its URL.

    An ASGI application needs uvicorn.

    Raises:
        RuntimeError: if the application does not start within 30 seconds.
    """
    call = application if inspect.isfunction(application) else type(application).__call__
    serving = _serve_asgi if inspect.iscoroutinefunction(call) else _serve_wsgi
    with serving(application) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _serve_wsgi(application: Any) -> Generator[int]:  # noqa: ANN401
    with make_server("127.0.0.1", 0, application, _ThreadingServer, _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def _serve_asgi(application: Any) -> Generator[int]:  # noqa: ANN401
    import uvicorn  # only an ASGI backend needs it

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    deadline = time.monotonic() + _START_SECONDS
    try:
        while not server.started:
            thread.join(_POLL_SECONDS)
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the application did not start; its log says why")
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(_STOP_SECONDS)
        listener.close()
