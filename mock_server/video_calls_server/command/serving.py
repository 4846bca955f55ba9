"""Run the server in this process, or in several workers that share one listening socket.

A single process is uvicorn with the settings of this server. With several workers, this process is their
supervisor: it prepares the database, starts the workers, prints the banner, replaces workers that died, and
stops all of them. It replaces uvicorn's own supervisor for two reasons. If a worker starts while the database
is unavailable, uvicorn's supervisor stops all workers. If uvicorn's supervisor is killed, its workers keep
running and keep the port.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from types import FrameType

import anyio
import uvicorn
from litestar import Litestar

from video_calls_server.api.events import LARGEST_MESSAGE
from video_calls_server.api.protocol import http_protocol
from video_calls_server.app import create_app
from video_calls_server.command.banner import banner
from video_calls_server.control.namespaces import Namespace, Namespaces
from video_calls_server.observability import forget_worker
from video_calls_server.observability.logs import Output, configure_logging
from video_calls_server.settings import Settings, SettingsError
from video_calls_server.store import StoreError, UnavailableError
from video_calls_server.store.database import check_writable
from video_calls_server.store.seed import Seed, SeedError, load_seed

logger = logging.getLogger("video_calls_server")

SHUTDOWN_TIMEOUT = 10
"""Seconds for the requests in progress when the server stops."""

_KILL_TIMEOUT = SHUTDOWN_TIMEOUT + 10.0
"""Seconds until a worker that does not stop is killed."""

_RESTART_DELAY = 1.0
"""Seconds before a worker that ended before it listened is replaced."""

_START_FAILED = 3
"""Exit status of a worker that could not start."""

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SPAWN = get_context("spawn")  # a fork would copy event loops and locks


def serve(settings: Settings, *, options: str) -> None:
    """Serve until the process receives SIGINT or SIGTERM.

    Args:
        settings: the settings of the server.
        options: the options of the command, for the banner.

    Raises:
        SeedError: if the seed file is invalid.
        SettingsError: if the server cannot listen on the address, or a key cannot be read.
        StoreError: if the server cannot use the database.
        UnavailableError: if the database can be opened, but not read or changed.
    """
    configure_logging(settings)
    app = create_app(settings)
    namespaces: Namespaces = app.state.namespaces
    store = namespaces.default.store
    with contextlib.closing(_listen(settings)) as listener:
        url = _url(listener)
        # The database is opened here, so that its errors are printed in one line.
        people = anyio.run(_open, namespaces.default, settings)

        def ready() -> None:
            if sys.__stdout__ is not None:
                Output(sys.__stdout__.fileno()).write(
                    banner(settings, url, store.name, people, options=options) + "\n"
                )

        if settings.workers == 1:
            _run(_Server(settings, app, ready), listener)
        else:
            _supervise(settings, listener, ready)


async def _open(namespace: Namespace, settings: Settings) -> Seed:
    """Open the database and return all its users. A new database gets the users of the seed."""
    store = namespace.store
    try:
        await namespace.open()
        await store.write(check_writable)
        people = await store.people()
    except BaseException:
        await namespace.close()
        raise
    if settings.seed is not None and people != load_seed(settings.seed):
        logger.warning(
            "%s already has other users than %s; a seed is only for a new database",
            store.name,
            settings.seed,
        )
    await store.release()
    return people


# -- one process ------------------------------------------------------------------------------------


class _Server(uvicorn.Server):
    """uvicorn with the settings of this server. It calls `ready` when it listens."""

    def __init__(self, settings: Settings, app: Litestar, ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=http_protocol(settings.request_timeout),
                timeout_keep_alive=settings.keep_alive_timeout,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=SHUTDOWN_TIMEOUT,
                ws="websockets-sansio",
                ws_ping_interval=settings.event_heartbeat,
                ws_ping_timeout=settings.event_heartbeat,
                ws_max_size=LARGEST_MESSAGE,
            )
        )
        self._namespaces: Namespaces = app.state.namespaces
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # Open the database here, because the application would log a traceback if this fails.
        await self._namespaces.default.open()
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._namespaces.stop()
        await super().shutdown(sockets)


def _run(server: _Server, listener: socket.socket) -> None:
    # When uvicorn has stopped, it raises the signal again, which would change the exit status. So ignore it.
    for stop in _STOP_SIGNALS:
        signal.signal(stop, signal.SIG_IGN)
    server.run(sockets=[listener])


# -- several processes ------------------------------------------------------------------------------


class _Worker:
    """A process that serves while its pipe to the supervisor is open.

    It reports through the pipe that it listens. It stops when the supervisor closes the pipe or dies.
    """

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self.listens = False
        self._has_reported = False
        self._pipe, worker_end = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_work, args=(settings, listener, worker_end))
        self._process.start()
        worker_end.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None  # noqa: S101 (for the type checkers: it was started)
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status, or minus the signal that killed the process; None while it runs."""
        return self._process.exitcode

    @property
    def events(self) -> list[Connection | int]:
        """The events to `wait` for: the end of the process and, until the worker has reported, its report."""
        return [self._process.sentinel, *([] if self._has_reported else [self._pipe])]

    def read_report(self) -> bool:
        """Return whether the worker has just reported that it listens."""
        if self._has_reported or not self._pipe.poll():
            return False
        self._has_reported = True
        with contextlib.suppress(EOFError, OSError):  # the process ended without a report
            self._pipe.recv_bytes()
            self.listens = True
        return self.listens

    def stop(self) -> None:
        """Ask the process to stop. It may have ended already."""
        self._pipe.close()

    def join(self, deadline: float) -> None:
        """Wait until the process has ended, and kill it at the deadline (of `time.monotonic`)."""
        self._process.join(max(0.0, deadline - time.monotonic()))
        if self.status is None:
            logger.error("worker %(pid)d did not stop in time; killing it", {"pid": self.pid})
            self._process.kill()
            self._process.join()


class _WorkersServer(_Server):
    """The server in a worker, which the supervisor stops.

    Ctrl-C in a terminal interrupts the supervisor and the worker. If the interrupt comes after the supervisor
    has asked the worker to stop, uvicorn's own handler would exit at once, without closing the database.
    """

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 (uvicorn's names)
        self.should_exit = True


def _work(settings: Settings, listener: socket.socket, supervisor: Connection) -> None:
    """Serve in a worker process until the pipe to the supervisor is closed."""

    def ready() -> None:
        with contextlib.suppress(OSError):  # the supervisor has died; `until_closed` notices it
            supervisor.send_bytes(b"listens")

    def until_closed() -> None:
        with contextlib.suppress(EOFError, OSError):
            supervisor.recv_bytes()
        server.should_exit = True

    configure_logging(settings)
    try:
        server = _WorkersServer(settings, create_app(settings), ready)
        threading.Thread(target=until_closed, daemon=True).start()
        _run(server, listener)
    except (SettingsError, SeedError, StoreError, UnavailableError) as error:
        logger.error("a worker cannot start: %s", error)  # noqa: TRY400 (the message suffices)
        raise SystemExit(_START_FAILED) from None


def _supervise(settings: Settings, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Keep the workers running until the process receives a stop signal."""
    stop_requests = _stop_requests()
    workers: list[_Worker] = []
    is_ready = False
    try:
        workers += (_Worker(settings, listener) for _ in range(settings.workers))
        # Wait for an event of a worker or a stop signal.
        while stop_requests not in wait(
            [stop_requests, *(event for each in workers for event in each.events)]
        ):
            for worker in workers:
                if worker.read_report():
                    logger.info("worker %(pid)d listens", {"pid": worker.pid})
            if not is_ready and all(worker.listens for worker in workers):
                is_ready = True
                ready()
            for index, worker in enumerate(workers):
                if worker.status is not None:
                    logger.warning(
                        "worker %(pid)d has ended (%(status)d); another one starts",
                        {"pid": worker.pid, "status": worker.status},
                    )
                    worker.stop()
                    forget_worker(settings, worker.pid)
                    if not worker.listens:
                        wait([stop_requests], _RESTART_DELAY)
                    workers[index] = _Worker(settings, listener)
    finally:
        listener.close()  # first, so that no client connects while the workers stop
        for worker in workers:
            worker.stop()
        deadline = time.monotonic() + _KILL_TIMEOUT
        for worker in workers:
            worker.join(deadline)


def _stop_requests() -> Connection:
    """Return a connection that becomes readable when the process receives a stop signal."""
    reader, writer = _SPAWN.Pipe(duplex=False)

    def stop(_signal: int, _frame: object) -> None:
        with contextlib.suppress(OSError):  # the reader was closed: the server has stopped already
            writer.send_bytes(b"stop")

    for number in _STOP_SIGNALS:
        signal.signal(number, stop)
    return reader


# -- the socket -------------------------------------------------------------------------------------


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if os.name == "posix":  # on Windows, it would let two servers share the port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        text = (
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}; "
            "stop the program that listens there, or give another --port (0 chooses a free one)"
        )
        if isinstance(error, socket.gaierror):
            text = f"host: {settings.host} is not an address of this machine: {error.strerror}"
        raise SettingsError(text) from error
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
