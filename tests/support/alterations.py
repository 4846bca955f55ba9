"""Alterations of the reference server from outside: of its requests, answers and events."""

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
    """A reference server, the token of each person, and what its alterations remember."""

    app: Any
    people: dict[str, str]
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

    def altered(self) -> Json:
        """The scope, with the path and the query that the request has by now."""
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
        """The value of a header; empty if there is none."""
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
    def person(self) -> str:
        """The name of the person whose token the request has; empty for another token."""
        return next((name for name, token in self.server.people.items() if token == self.token), "")

    def become(self, person: str) -> "Request":
        """Give the request the token of a person."""
        self.set_header("authorization", f"Bearer {self.server.people[person]}")
        return self


@dataclass
class Answer:
    """An answer; what is assigned to `json` becomes its body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body; an empty object if it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return {}

    @json.setter
    def json(self, value: object) -> None:
        self.body = json.dumps(value).encode()

    @property
    def is_success(self) -> bool:
        """Whether the server did what it was asked for."""
        return self.status in (200, 201)

    @property
    def code(self) -> str:
        """The rule by which the server refused; empty if it did not."""
        return "" if self.is_success else str(self.json.get("code", ""))

    def is_refused_by(self, codes: tuple[str, ...]) -> bool:
        """Whether the server refused by one of these rules; by any if there are none."""
        return not self.is_success and (not codes or self.code in codes)


Forward = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True)
class Alteration:
    """What is altered: the answer to a request, the handshake and messages of a WebSocket, the settings."""

    answer: Callable[[Request, Forward], Awaitable[Answer]] | None = None
    connect: Callable[[Request], object] | None = None
    send: Callable[[Json, Request], list[Json]] | None = None
    settings: Json = field(default_factory=dict)


def slug(name: str) -> str:
    """A name as a URL has it."""
    return re.sub(r"\W+", "-", name.lower()).strip("-")


def later(time: str, **by: float) -> str:
    """A time of an answer, moved."""
    return (datetime.fromisoformat(time) + timedelta(**by)).isoformat().replace("+00:00", "Z")


def answered(change: Callable[[Request, Answer], object], *operations: str) -> Alteration:
    """Change the answers to these operations, or all answers."""

    async def answer(request: Request, forward: Forward) -> Answer:
        found = await forward(request)
        if not operations or request.operation in operations:
            change(request, found)
        return found

    return Alteration(answer)


def body_of(change: Callable[[Request, Json], object], *operations: str) -> Alteration:
    """Change the body with which these operations succeed."""

    def in_answer(request: Request, answer: Answer) -> None:
        if answer.is_success:
            body = answer.json
            change(request, body)
            answer.json = body

    return answered(in_answer, *operations)


def each_call(change: Callable[[Json], object]) -> Alteration:
    """Change each call in each answer."""

    def in_body(_: Request, body: Json) -> None:
        for call in body.get("results", [body]):
            change(call)

    return body_of(in_body, "list", "create", "get", "end", "cancel")


def value_of(name: str, change: Callable[[Any], object]) -> Alteration:
    """Show a field of each call as something else."""
    return each_call(lambda call: call.update({name: change(call[name])}))


def refusal(change: Callable[[Answer], object], *codes: str) -> Alteration:
    """Change refusals by these rules, or all refusals."""
    return answered(lambda _, answer: change(answer) if answer.is_refused_by(codes) else None)


def restated(status: int, *codes: str) -> Alteration:
    """Answer refusals by these rules with another status."""
    return refusal(lambda answer: setattr(answer, "status", status), *codes)


def without(header: str) -> Alteration:
    """Leave out a header."""
    return answered(lambda _, answer: answer.headers.pop(header, None))


def before(change: Callable[[Request], object], *operations: str) -> Alteration:
    """Change a request before the server reads it."""

    async def answer(request: Request, forward: Forward) -> Answer:
        if not operations or request.operation in operations:
            change(request)
            request.set_header("content-length", str(len(request.body)))
        return await forward(request)

    return Alteration(answer)


def told(tell: Callable[[Json, Request], list[Json]]) -> Alteration:
    """Send other events in place of each."""

    def send(message: Json, request: Request) -> list[Json]:
        if message["type"] != "websocket.send":
            return [message]
        events = tell(json.loads(message["text"]), request)
        return [{"type": "websocket.send", "text": json.dumps(event)} for event in events]

    return Alteration(send=send)
