"""Alterations of the reference server from outside, such as `alter.status(404, "get.not-found")`."""

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

Json = dict[str, Any]
OPERATIONS = {
    "list": r"GET .*/video-calls/",
    "create": r"POST .*/video-calls/",
    "get": r"GET .*/video-calls/[^/]+/",
    **{action: rf"POST .*/video-calls/[^/]+/{action}/" for action in ("join", "end", "cancel")},
}


@dataclass
class Server:
    """A reference server, the token of each user, and the state of its alterations."""

    app: Any
    tokens: dict[str, str]
    memory: Json = field(default_factory=dict)


@dataclass
class Request:
    """A request, or the handshake of a WebSocket."""

    scope: Json
    body: bytes
    server: Server

    def __post_init__(self) -> None:
        self.query: str = self.scope["query_string"].decode("latin-1")
        self.path: str = self.scope["path"].removeprefix(self.scope["root_path"])

    def scope_as_altered(self) -> Json:
        """Return the scope with the current path and query."""
        path = self.scope["root_path"] + self.path
        query = self.query.encode("latin-1")
        raw_path = self.scope["raw_path"] if path == self.scope["path"] else path.encode()
        return {**self.scope, "path": path, "raw_path": raw_path, "query_string": query}

    @property
    def operation(self) -> str:
        """One of list, create, get, join, end and cancel; empty for anything else."""
        request = f"{self.scope.get('method')} {self.path}"
        return next((name for name, form in OPERATIONS.items() if re.fullmatch(form, request)), "")

    def header(self, name: str) -> str:
        """Return the value of a header; empty if there is none."""
        return next(
            (value.decode("latin-1") for key, value in self.scope["headers"] if key == name.encode()), ""
        )

    def set_header(self, name: str, value: str) -> None:
        """Replace a header."""
        others = [(key, other) for key, other in self.scope["headers"] if key != name.encode()]
        self.scope["headers"] = [*others, (name.encode(), value.encode())]

    @property
    def token(self) -> str:
        """The bearer token in the header."""
        return self.header("authorization").removeprefix("Bearer ")

    @property
    def user(self) -> str:
        """The name of the user whose token the request has; empty for another token."""
        return next((name for name, token in self.server.tokens.items() if token == self.token), "")

    def authenticate_as(self, user: str) -> "Request":
        """Replace the token of the request by the token of this user."""
        self.set_header("authorization", f"Bearer {self.server.tokens[user]}")
        return self


@dataclass
class Answer:
    """A response. Assigning to `json` changes its body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body; an empty object if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return {}

    @json.setter
    def json(self, value: object) -> None:
        self.body = json.dumps(value).encode()

    @property
    def is_success(self) -> bool:
        """Whether the server accepted the request."""
        return self.status in (200, 201)

    @property
    def code(self) -> str:
        """The rule by which the server refused; empty if it did not."""
        return "" if self.is_success else str(self.json.get("code", ""))


Forward = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True)
class Alteration:
    """What is altered: the response, the handshake and messages of a WebSocket, settings, or the clock."""

    answer: Callable[[Request, Forward], Awaitable[Answer]] | None = None
    connect: Callable[[Request], object] | None = None
    send: Callable[[Json, Request], list[Json]] | None = None
    settings: Json = field(default_factory=dict)
    clock_ahead: float = 0  # seconds


def slug(name: str) -> str:
    """Return a name in the form that a URL has."""
    return re.sub(r"\W+", "-", name.lower()).strip("-")


def move_time(time: str, **by: float) -> str:
    """Return a time of a response, moved by this much."""
    return (datetime.fromisoformat(time) + timedelta(**by)).isoformat().replace("+00:00", "Z")


def answers(change: Callable[[Request, Answer], object], *operations: str) -> Alteration:
    """Change the responses to these operations, or all responses."""

    async def answer(request: Request, forward: Forward) -> Answer:
        response = await forward(request)
        if not operations or request.operation in operations:
            change(request, response)
        return response

    return Alteration(answer)


def bodies(change: Callable[[Json], object], *operations: str) -> Alteration:
    """Change the body of successful responses to these operations."""

    def in_answer(_: Request, answer: Answer) -> None:
        if answer.is_success:
            body = answer.json
            change(body)
            answer.json = body

    return answers(in_answer, *operations)


def calls(change: Callable[[Json], object]) -> Alteration:
    """Change each call in each response."""

    def in_body(body: Json) -> None:
        for call in body.get("results", [body]):
            change(call)

    return bodies(in_body, "list", "create", "get", "end", "cancel")


def value(name: str, change: Callable[[Any], object]) -> Alteration:
    """Change the value of a field of each call."""
    return calls(lambda call: call.update({name: change(call[name])}))


def move_expiration(**by: float) -> Alteration:
    """Move the `expiration_time` of each join."""
    return bodies(lambda body: body.update(expiration_time=move_time(body["expiration_time"], **by)), "join")


def refusals(change: Callable[[Answer], object], *codes: str) -> Alteration:
    """Change refusals by these rules, or all refusals."""

    def in_answer(_: Request, answer: Answer) -> None:
        if not answer.is_success and (not codes or answer.code in codes):
            change(answer)

    return answers(in_answer)


def status(status: int, *codes: str) -> Alteration:
    """Change the status of refusals by these rules."""
    return refusals(lambda answer: setattr(answer, "status", status), *codes)


def remove_header(header: str) -> Alteration:
    """Remove a header from each response."""
    return answers(lambda _, answer: answer.headers.pop(header, None))


def requests(change: Callable[[Request], object], *operations: str) -> Alteration:
    """Change a request before the server reads it."""

    async def answer(request: Request, forward: Forward) -> Answer:
        if not operations or request.operation in operations:
            change(request)
            request.set_header("content-length", str(len(request.body)))
        return await forward(request)

    return Alteration(answer)


def events(change: Callable[[Json, Request], list[Json]]) -> Alteration:
    """Replace each event by the events that `change` returns."""

    def send(message: Json, request: Request) -> list[Json]:
        if message["type"] != "websocket.send":
            return [message]
        events = change(json.loads(message["text"]), request)
        return [{"type": "websocket.send", "text": json.dumps(event)} for event in events]

    return Alteration(send=send)
