"""A proxy that injects the faults of networks: closed and reset connections, truncation, delay, 429 and 5xx.

It runs on its own event loop in a thread. Of HTTP/1.1 it understands `Content-Length` and keep-alive, enough
to find where messages end. A sequence names the fault of each exchange.
"""

import asyncio
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from email.utils import formatdate
from enum import StrEnum
from http import HTTPStatus
from time import time
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LONGEST_HOLD = 10.0  # seconds


class Fault(StrEnum):
    """A fault of one exchange. `AFTER`: the server has already acted on the request."""

    CLOSE_BEFORE = "closed before the server"
    RESET_BEFORE = "reset before the server"
    CLOSE_AFTER = "closed after the server"
    RESET_AFTER = "reset after the server"
    CUT_HEADERS_AFTER = "headers cut short"
    CUT_BODY_AFTER = "body cut short"
    HOLD_AFTER = "held until the client gives up"
    BAD_GATEWAY_BEFORE = "502 before the server"
    UNAVAILABLE_BEFORE = "503 before the server"
    GATEWAY_TIMEOUT_BEFORE = "504 before the server"
    BAD_GATEWAY_AFTER = "502 after the server"
    GATEWAY_TIMEOUT_AFTER = "504 after the server"
    RATE_LIMITED = "429, now again"
    RATE_LIMITED_SECOND = "429, again in one second"
    RATE_LIMITED_DATE = "429, again at a date"


BEFORE = frozenset(fault for fault in Fault if not fault.name.endswith("_AFTER"))
_SLOW = {Fault.HOLD_AFTER: 3, Fault.RATE_LIMITED_SECOND: 2, Fault.RATE_LIMITED_DATE: 2}
_WEIGHTS = [_SLOW.get(fault, 10) for fault in Fault]  # slow faults are rarer


def seeded_faults(seed: int, share: float = 0.2) -> Iterator[Fault | None]:
    """Yield a fault for this share of exchanges and None for the others, endlessly."""
    chance = random.Random(seed)  # noqa: S311 (has to be reproducible)
    while True:
        yield chance.choices(list(Fault), _WEIGHTS)[0] if chance.random() < share else None


class FaultProxy:
    """A proxy in front of a server that injects faults; `with` starts and stops it.

    Attributes:
        url: the URL at which the proxy listens.
        exchanges: the number of requests.
        injected: the number of each fault.
    """

    def __init__(
        self, server: str, faults: Iterator[Fault | None], *, without_header: bytes | None = None
    ) -> None:
        address = urlsplit(server)
        self._server = (address.hostname, address.port)
        self._faults = faults
        self._without = without_header and re.compile(
            rb"\r\n" + re.escape(without_header) + rb":[^\r]*", re.IGNORECASE
        )
        self.exchanges = 0
        self.injected: Counter[Fault] = Counter()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(),), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._conversations: set[asyncio.Task[None]] = set()
        listening = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = listening.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"
        self._ready.set()
        await self._stop.wait()
        listening.close()
        for conversation in self._conversations:
            conversation.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.create_task(self._converse(reader, writer))
        self._conversations.add(conversation)
        conversation.add_done_callback(self._conversations.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server = await asyncio.open_connection(*self._server)
        try:
            while await self._exchange(reader, writer, server_reader, server):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client or the server has closed
        finally:
            for end in (server, writer):
                end.transport.abort()

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server: asyncio.StreamWriter,
    ) -> bool:
        """Serve one exchange; return whether the connection can be used again."""
        head, body = await _message(reader)
        self.exchanges += 1
        fault = next(self._faults)
        if fault:
            self.injected[fault] += 1
        if self._without:
            head = self._without.sub(b"", head)
        answer = b""
        if fault not in BEFORE:
            server.write(head + body)
            answer = b"".join(await _message(server_reader))
        if fault is Fault.HOLD_AFTER:
            await asyncio.wait_for(reader.read(1), _LONGEST_HOLD)  # returns when the client goes away
            return False
        if fault in {Fault.RESET_BEFORE, Fault.RESET_AFTER}:
            _reset(writer)
            return False
        sent, good = _as_sent(answer, fault)
        writer.write(sent)
        await writer.drain()
        if not good:
            writer.close()
            await writer.wait_closed()
        return good


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read a request or a response: its head and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    assert length or head.startswith((b"GET ", b"POST ")), f"no Content-Length: {head!r}"
    return head, await reader.readexactly(int(length[1])) if length else b""


def _as_sent(answer: bytes, fault: Fault | None) -> tuple[bytes, bool]:
    """Return the bytes that the client gets, and whether the connection can be used again."""
    if fault is None:
        return answer, True
    if fault is Fault.CUT_HEADERS_AFTER:
        return answer[: answer.index(b"\r\n\r\n") // 2], False
    if fault is Fault.CUT_BODY_AFTER:
        return answer[:-1], False
    if fault in {Fault.CLOSE_BEFORE, Fault.CLOSE_AFTER}:
        return b"", False
    return _refusal(int(fault[:3]), _retry_after(fault)), True


def _retry_after(fault: Fault) -> bytes:
    if fault is Fault.RATE_LIMITED_DATE:
        now = time()
        date, then = formatdate(now, usegmt=True), formatdate(now + 1, usegmt=True)
        return f"date: {date}\r\nretry-after: {then}\r\n".encode()
    seconds = {Fault.RATE_LIMITED: 0, Fault.RATE_LIMITED_SECOND: 1}.get(fault)
    return b"" if seconds is None else b"retry-after: %d\r\n" % seconds


def _refusal(status: int, headers: bytes) -> bytes:
    """Return a refusal of a gateway."""
    body = b"<html><body><h1>%d</h1></body></html>" % status
    line = b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode())
    return line + headers + b"content-type: text/html\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other end gets RST."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
