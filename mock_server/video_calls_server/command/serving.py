"""How the server is served: by this process, or by several workers of it on one listening socket.

One process is uvicorn with our settings. With several, this process only listens: it sees to the database,
starts the workers, says once where the server is, starts a worker again that has died, and has them all stop
in order. uvicorn has a supervisor too; with that, a worker that starts while the database is away stops all
others, and those of a supervisor that was killed go on, and keep the port.
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

FINISHING = 10
"""Seconds that requests in flight have when the server stops."""

_STOPPING = FINISHING + 10.0
"""Seconds until a worker that was asked to stop is killed."""

_PAUSE = 1.0
"""Seconds before a worker is started again that ended before it served."""

_FAILED = 3
"""Exit status of a worker that could not start."""

_STOPS = (signal.SIGINT, signal.SIGTERM)
_SPAWN = get_context("spawn")  # what a fork would copy of this process (event loops, locks) is of no use


def serve(settings: Settings, *, options: str) -> None:
    """Serve until the process is told to stop, by SIGINT or SIGTERM; then return.

    `options` are those of the command that the banner names.

    Raises:
        SeedError: the seed file cannot be used.
        SettingsError: the address cannot be listened on, or a key cannot be read.
        StoreError: the database is none that this server can use.
        UnavailableError: it can be opened, but not read or changed.
    """
    configure_logging(settings)
    app = create_app(settings)
    namespaces: Namespaces = app.state.namespaces
    store = namespaces.default.store
    with contextlib.closing(_listen(settings)) as listener:
        url = _url(listener)
        # Now, so that a database that cannot be opened is told in a line.
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
    """Open the database, add the seed's people if it is new, and return everybody who is in it."""
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
            "%s already has people, other than those of %s: a seed is for a new database",
            store.name,
            settings.seed,
        )
    await store.release()
    return people


# -- one process ------------------------------------------------------------------------------------


class _Server(uvicorn.Server):
    """uvicorn, as every process of this server runs it; `ready` is called once it listens."""

    def __init__(self, settings: Settings, app: Litestar, ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=http_protocol(settings.request_timeout),
                timeout_keep_alive=settings.keep_alive_timeout,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=FINISHING,
                ws="websockets-sansio",
                ws_ping_interval=settings.event_heartbeat,
                ws_ping_timeout=settings.event_heartbeat,
                ws_max_size=LARGEST_MESSAGE,
            )
        )
        self._namespaces: Namespaces = app.state.namespaces
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self._namespaces.default.open()  # which the application does too, but logs a traceback
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._namespaces.stop()
        await super().shutdown(sockets)


def _run(server: _Server, listener: socket.socket) -> None:
    # uvicorn stops in order, then raises the signal once more; by then the server is done, and well.
    for stop in _STOPS:
        signal.signal(stop, _already_stopped)
    server.run(sockets=[listener])


def _already_stopped(_signal: int, _frame: object) -> None:
    """Do nothing more."""


# -- several ----------------------------------------------------------------------------------------


class _Worker:
    """A process that serves for as long as its pipe to this one is open.

    It says through the pipe when it listens. Where the pipe is closed, because the server is to stop or
    because its supervisor has died, it stops in order.
    """

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self.listens = False
        self._heard = False
        self._pipe, its_end = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_work, args=(settings, listener, its_end))
        self._process.start()
        its_end.close()

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid is not None  # noqa: S101 (for the type checkers: it was started)
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, or minus the signal that killed it; None while it runs."""
        return self._process.exitcode

    @property
    def news(self) -> list[Connection | int]:
        """What to wait for: that it has something to say, or has ended."""
        return [self._process.sentinel, *([] if self._heard else [self._pipe])]

    def hear(self) -> bool:
        """Whether it says, for the first time, that it listens."""
        if self._heard or not self._pipe.poll():
            return False
        self._heard = True
        with contextlib.suppress(EOFError, OSError):  # it is about to end
            self._pipe.recv_bytes()
            self.listens = True
        return self.listens

    def stop(self) -> None:
        """Have it stop; it may have ended already."""
        self._pipe.close()

    def join(self, deadline: float) -> None:
        """Wait until it has ended, and kill it at the deadline."""
        self._process.join(max(0.0, deadline - time.monotonic()))
        if self.status is None:
            logger.error("worker %(pid)d does not stop, and is killed", {"pid": self.pid})
            self._process.kill()
            self._process.join()


class _WorkersServer(_Server):
    """The server of a worker, which its supervisor stops.

    From a terminal both get the interrupt, and uvicorn takes one that comes after it was asked to stop for
    impatience: it would leave without closing the database.
    """

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 (uvicorn's names)
        """Stop in order, however often it is asked."""
        self.should_exit = True


def _work(settings: Settings, listener: socket.socket, supervisor: Connection) -> None:
    """What a worker does."""

    def ready() -> None:
        with contextlib.suppress(OSError):  # the supervisor has died, which the thread below sees too
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
        logger.error("a worker cannot start: %s", error)  # noqa: TRY400 (the message says it all)
        raise SystemExit(_FAILED) from None


def _supervise(settings: Settings, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Keep the workers running until the process is told to stop."""
    told = _told_to_stop()
    workers: list[_Worker] = []
    is_ready = False
    try:
        workers += (_Worker(settings, listener) for _ in range(settings.workers))
        while told not in wait([told, *(news for worker in workers for news in worker.news)]):
            for worker in workers:
                if worker.hear():
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
                        wait([told], _PAUSE)
                    workers[index] = _Worker(settings, listener)
    finally:
        listener.close()  # before the workers do, so that nobody waits in vain to be accepted
        for worker in workers:
            worker.stop()
        deadline = time.monotonic() + _STOPPING
        for worker in workers:
            worker.join(deadline)


def _told_to_stop() -> Connection:
    """What can be read from once the process is told to stop."""
    told, teller = _SPAWN.Pipe(duplex=False)

    def stop(_signal: int, _frame: object) -> None:
        with contextlib.suppress(OSError):  # who was told has stopped already
            teller.send_bytes(b"stop")

    for each in _STOPS:
        signal.signal(each, stop)
    return told


# -- the socket -------------------------------------------------------------------------------------


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if os.name == "posix":  # elsewhere it would let two servers share the port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except socket.gaierror as error:
        listener.close()
        raise SettingsError(
            f"host: {settings.host} is no address of this machine: {error.strerror}"
        ) from error
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}; "
            "stop what listens there, or give another --port (0 takes a free one)"
        ) from error
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
