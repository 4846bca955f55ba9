"""Serves the reference server, altered from outside, on a free port.

Prints a configuration for the contract suite, then `# ready`. `ALTERATIONS` in its URL stands for the names
of violations or freedoms, joined by `+`; each combination is a server of its own, made at its first request.
"""

import asyncio
import socket
import subprocess
import sys
import tomllib
from datetime import timedelta
from email.utils import formatdate
from functools import partial
from typing import Any

import uvicorn
from video_calls_server import Settings, create_app
from video_calls_server.control.settable_clock import SettableClock
from video_calls_server.domain.clock import SystemClock

from support.alterations import Alteration, Answer, Json, Request, Server, slug
from support.freedoms import SERVERS
from support.violations import VIOLATIONS

IDENTITIES = ("-P", "-m", "video_calls_server", "identities", "--database", ":memory:", "--contract-config")
ALTERATIONS = {slug(one.name): one.how for one in VIOLATIONS if isinstance(one.how, Alteration)}
ALTERATIONS |= {slug(name): how for freedoms in SERVERS for name, how in freedoms.items()}

servers: dict[str, Server] = {}
tokens: dict[str, str] = {}


async def altered(scope: Json, receive: Any, send: Any) -> None:
    """Serve a request, or a WebSocket, with the alterations that its path names."""
    slugs = scope["path"].split("/")[1]
    alterations = [ALTERATIONS[name] for name in slugs.split("+")]
    if slugs not in servers:
        settings = {name: value for one in alterations for name, value in one.settings.items()}
        clock = SettableClock(SystemClock())
        clock.advance(timedelta(seconds=sum(one.clock_ahead for one in alterations)))
        servers[slugs] = Server(create_app(Settings(database=":memory:", **settings), clock=clock), tokens)
    request = Request(
        {**scope, "root_path": f"/{slugs}", "headers": [*scope["headers"]]}, b"", servers[slugs]
    )
    if scope["type"] == "websocket":
        await follow(request, receive, send, alterations)
        return
    while (message := await receive()).get("more_body"):
        request.body += message["body"]
    request.body += message.get("body", b"")
    handler = forward
    for alteration in alterations:
        if alteration.answer:
            handler = partial(alteration.answer, forward=handler)
    answer = await handler(request)
    if scope["method"] != "HEAD":
        answer.headers["content-length"] = str(len(answer.body))
    headers = [(name.encode(), value.encode("latin-1")) for name, value in answer.headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def forward(request: Request) -> Answer:
    """Send a request to the server, and return its response."""
    incoming = [{"type": "http.request", "body": request.body, "more_body": False}]
    sent: list[Json] = []

    async def receive() -> Json:
        return incoming.pop() if incoming else {"type": "http.disconnect"}

    async def send(message: Json) -> None:
        sent.append(message)

    await request.server.app(request.scope_as_altered(), receive, send)
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    headers["date"] = formatdate(usegmt=True)
    return Answer(sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))


async def follow(request: Request, receive: Any, send: Any, alterations: list[Alteration]) -> None:
    """Serve a WebSocket."""
    for alteration in alterations:
        if alteration.connect:
            alteration.connect(request)

    async def send_altered(message: Json) -> None:
        messages = [message]
        for alteration in alterations:
            if alteration.send:
                messages = [new for one in messages for new in alteration.send(one, request)]
        for one in messages:
            await send(one)

    await request.server.app(request.scope_as_altered(), receive, send_altered)


async def main() -> None:
    """Serve until the process is ended."""
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/ALTERATIONS/api/v1/video"
    command = [sys.executable, *IDENTITIES, url]
    config = subprocess.run(command, capture_output=True, check=True, text=True).stdout  # noqa: ASYNC221
    identities = tomllib.loads(config)["identities"]
    tokens.update({name: one["token"] for name, one in identities.items() if "token" in one})
    plain = {"lifespan": "off", "log_level": "error", "date_header": False, "server_header": False}
    print(config, "# ready", sep="\n", flush=True)
    await uvicorn.Server(uvicorn.Config(altered, **plain)).serve(sockets=[listening])


if __name__ == "__main__":
    asyncio.run(main())
