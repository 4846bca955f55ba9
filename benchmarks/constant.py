"""A server whose answer is always the same bytes: beside it, what is measured is the client."""

import asyncio
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from table import BenchmarkError

API = "/api/v1/video"
START_LIMIT = 30  # seconds


class Constant(asyncio.Protocol):
    """Answers every GET of a call with the same bytes, anything else with 404."""

    answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with nothing received."""
        self.transport: Any = transport  # a socket's, which can also write
        self.received = b""

    def data_received(self, data: bytes) -> None:
        """Answer each request of which the head is here."""
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, self.received = self.received.split(b"\r\n\r\n", 1)
            found = head.startswith(f"GET {API}/video-calls/".encode())
            self.transport.write(
                self.answer if found else b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
            )


def serve(body: bytes, core: set[int] | None, started: "Connection[int, None]") -> None:
    """Serve on a free port, which is told to `started`, until the process is ended."""
    if core is not None:
        os.sched_setaffinity(0, core)
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    Constant.answer = head.encode() + body

    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(Constant, "127.0.0.1", 0)
        started.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(forever())


@contextmanager
def running(body: bytes, core: set[int] | None) -> Iterator[str]:
    """The base URL of a server in another process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=serve, args=(body, core, theirs), daemon=True)
    process.start()
    try:
        if not ours.poll(START_LIMIT):
            raise BenchmarkError("the server of constant answers did not start")
        yield f"http://127.0.0.1:{ours.recv()}{API}"
    finally:
        process.kill()
        process.join()
