"""Schemathesis against the application, with every check it has, and requests that no schema describes.

Each test has two bounds: one that every run keeps, short and repeatable; and one of minutes, with other
data each time (`nox -s fuzz`).
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar
from urllib.parse import unquote

import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize
from litestar import Litestar
from schemathesis.config import SchemathesisConfig
from schemathesis.core.transport import Response
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.formats import unregister_string_format
from schemathesis.specs.openapi.schemas import OpenApiSchema
from video_calls_server import Settings, create_app
from video_calls_server.api.jwt import make_token
from video_calls_server.store.seed import DEFAULT_SEED, load_seed
from video_calls_spec import RULES, openapi_path

from support.api import CALLS, USERS, FakeClock

T = TypeVar("T")

SHORT = settings(max_examples=10, derandomize=True, deadline=None, database=None)
LONG = settings(max_examples=1100, deadline=None, database=None)

BEARERS = {
    user: f"Bearer {make_token(Settings(), user_id, expires_in=86400)}" for user, user_id in USERS.items()
}
PEOPLE_OF_SEED = {user.id: (doctor, patient) for user, doctor, patient in load_seed(DEFAULT_SEED).people}
PARTS = {
    bearer: tuple(part and part.id for part in PEOPLE_OF_SEED[USERS[user]])
    for user, bearer in BEARERS.items()
}
"""The ids of the doctor and of the patient that the bearer of a token is, or None."""

PEOPLE = st.sampled_from(["doctor", "patient"] * 8 + sorted(USERS))
"""Who asks: mostly those two whose ids `DICTIONARIES` makes the most frequent."""

DICTIONARIES = {
    "participants": {"values": [1] * 8 + [2, 3, 4, 77]},
    "calls": {"values": [1, 2, 3, 4, 5, 77]},
}

ONLY_MALFORMED = {
    RULES[slug].id
    for slug in (
        "auth.required",
        "auth.valid-token",
        "auth.expired-token",
        "create.valid-body",
        "create.aware-time",
        "list.page-size",
        "errors.malformed-json",
        "errors.unknown-path",
        "errors.trailing-slash",
        "errors.method-not-allowed",
        "errors.media-type",
        "errors.body-size",
    )
}
"""The rules that refuse what the schema forbids: no request that keeps the schema may meet one."""

OPERATIONS = {rule.operation for rule in RULES.values()} - {"*"}


# -- Checks beside Schemathesis's own ----------------------------------------------------------------


def refused_by_a_rule(_context: object, response: Response, case: schemathesis.Case) -> None:
    """In place of `positive_data_acceptance`, to which a rule's 400 is a fault, and any 403 or 404 is none.

    Every refusal is that of a rule of this operation, with the rule's status; and one of a request that keeps
    the schema is of a rule that looks at more than the schema.
    """
    if 200 <= response.status_code < 300:
        return
    code = response.json()["code"]
    rule = RULES.get(code)
    assert rule is not None, f"{code} is no rule"
    operation = case.operation.definition.raw["operationId"]
    assert rule.operation in {operation, "*"}, f"{code} is no rule of {operation}"
    assert rule.status == response.status_code, f"{code} is refused with {rule.status}"
    assert rule.error is not None, f"{code} refuses nothing"
    is_valid = case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE
    if is_valid and not names_people_by_text(case.body):
        assert code not in ONLY_MALFORMED, f"valid data was refused by {code}"


def names_people_by_text(body: object) -> bool:
    """Whether a body has ids of the form that this server does not use, and refuses as malformed."""
    return isinstance(body, dict) and any(isinstance(body.get(role), str) for role in ("doctor", "patient"))


def documented_headers(_context: object, response: Response, case: schemathesis.Case) -> None:
    """The contract leaves its headers to the backend; the reference server sends each of them."""
    documented = case.operation.responses.find_by_status_code(response.status_code)
    expected = (
        {name for name, _ in documented.headers.items()} if documented and documented.headers else set()
    )
    missing = {name for name in expected if name.lower() not in response.headers}
    assert missing <= {"Idempotency-Replayed"}, f"without {missing}"


def own_calls_only(_context: object, response: Response, _case: schemathesis.Case) -> None:
    if not response.content or not 200 <= response.status_code < 300:
        return
    body = response.json()
    doctor, patient = PARTS[response.request.headers["Authorization"]]
    for call in body.get("results", [body] if "status" in body else []):
        assert call["doctor"] == doctor or call["patient"] == patient, "the call of other people"


def the_time_asked_for(_context: object, response: Response, _case: schemathesis.Case) -> None:
    if response.status_code == 201:
        asked_and_answered(response.request.body, response.content)


def asked_and_answered(asked: bytes, answered: bytes) -> None:
    """A call that was created is for the instant that was sent, to the microsecond."""
    sent, kept = (
        datetime.fromisoformat(json.loads(body)["scheduled_time"].upper()) for body in (asked, answered)
    )
    assert sent.tzinfo is not None
    assert abs(sent - kept) <= timedelta(microseconds=1)


CHECKS = [refused_by_a_rule, documented_headers, own_calls_only, the_time_asked_for]


# -- The application, the schema and what is drawn ---------------------------------------------------


@dataclass
class Server:
    """The application, and what it answered: each operation's statuses, and the rules that refused."""

    app: Litestar
    clock: FakeClock
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)

    def close(self) -> None:
        """A database in memory ends where it is closed; the next request opens an empty one."""
        asyncio.run(self.app.state.namespaces.default.store.close())

    def begin_again(self, *, ongoing: bool) -> None:
        """Leave one call of doctor 1 and patient 1, ten minutes from now, for the links of the list."""
        self.close()
        self.clock.time = FakeClock().time
        self._post(CALLS, {"doctor": 1, "patient": 1, "scheduled_time": "2024-01-05T08:10:00Z"})
        if ongoing:
            self._post(f"{CALLS}1/join/", {})

    def _post(self, path: str, body: dict[str, object]) -> None:
        headers = [(b"authorization", BEARERS["doctor"].encode()), (b"content-type", b"application/json")]
        exchange = Exchange("POST", path.encode(), headers, json.dumps(body).encode())
        asyncio.run(exchange.run(self.app))
        assert exchange.status in {200, 201}

    def note(self, case: schemathesis.Case, response: Response) -> None:
        self.answers[case.operation.definition.raw["operationId"], response.status_code] += 1
        if response.status_code >= 400:
            self.codes[response.json()["code"]] += 1

    def succeeded(self) -> set[str]:
        return {operation for operation, status in self.answers if 200 <= status < 300}


@pytest.fixture(
    params=[pytest.param(SHORT, id="short"), pytest.param(LONG, id="long", marks=pytest.mark.long)]
)
def bounds(request: pytest.FixtureRequest) -> settings:
    found: settings = request.param
    return found


@pytest.fixture
def server() -> Iterator[Server]:
    clock = FakeClock()
    found = Server(create_app(Settings(database=":memory:"), clock=clock), clock)
    yield found
    found.close()


@pytest.fixture
def schema(bounds: settings, server: Server) -> Iterator[OpenApiSchema]:
    """The contract, drawn from as the server's people would: known ids and future times, mostly."""
    often = {"probability": 0.9}
    config = SchemathesisConfig.from_dict(
        {
            "base-url": "http://testserver/api/v1/video",
            "checks": {"positive_data_acceptance": {"enabled": False}, "max_response_time": 5},
            "generation": {
                "max-examples": bounds.max_examples,
                "deterministic": bounds.derandomize,
                "database": "none",
            },
            "phases": {"stateful": {"generation": {"mode": "positive"}}},  # lives are lived on valid data
            "dictionaries": DICTIONARIES,
            "parameters": {
                "body.doctor": {"dictionary": "participants"} | often,
                "body.patient": {"dictionary": "participants"} | often,
                "path.id": {"dictionary": "calls"} | often,
            },
        }
    )
    loaded = schemathesis.openapi.from_path(openapi_path(), config=config)
    loaded.app = server.app
    loaded.auth(refresh_interval=None)(AsDoctor)
    loaded.hook("flatmap_case")(asked_by_anyone)
    schemathesis.openapi.format("date-time", future_times(server.clock))
    yield loaded
    unregister_string_format("date-time")


class AsDoctor:
    """Signs a request, unless it is meant to lack that; `asked_by_anyone` then puts another name under it."""

    def get(self, _case: schemathesis.Case, _context: object) -> str:
        return BEARERS["doctor"]

    def set(self, case: schemathesis.Case, bearer: str, _context: object) -> None:
        case.headers["Authorization"] = bearer


def asked_by_anyone(_context: object, case: schemathesis.Case) -> st.SearchStrategy[schemathesis.Case]:
    def ask(user: str) -> schemathesis.Case:
        if case.headers.get("Authorization") in PARTS:
            case.headers["Authorization"] = BEARERS[user]
        return case

    return PEOPLE.map(ask)


def future_times(clock: FakeClock) -> st.SearchStrategy[str]:
    """RFC 3339 in its spellings; a third within the join window, the others spread over ten years."""

    def spelt(seconds: int, offset: int, digits: int, zulu: str) -> str:
        zone = timezone(timedelta(minutes=0 if zulu else offset))
        text = (clock.now() + timedelta(seconds=seconds)).astimezone(zone).isoformat()
        fraction = "." + "123456789" * 2 if digits else ""
        return text[:19] + fraction[: digits + 1] + (zulu or text[19:])

    soon = st.integers(1, 15 * 60)
    days = st.integers(1, 10 * 365).map(lambda days: days * 24 * 60 * 60)
    later = st.integers(15 * 60, 10 * 365 * 24 * 60 * 60)
    return st.builds(
        spelt,
        soon | days | later,
        st.integers(-23 * 60 - 59, 23 * 60 + 59),
        st.integers(0, 16),
        st.sampled_from(["", "Z", "z"]),
    )


# -- Single requests ---------------------------------------------------------------------------------

contract = schemathesis.pytest.from_fixture("schema")


@contract.parametrize()
def test_operation_keeps_contract(case: schemathesis.Case, server: Server) -> None:
    response = case.call_and_validate(additional_checks=CHECKS)
    server.note(case, response)


# -- Whole lives, along the contract's links ---------------------------------------------------------


def test_sequence_of_operations_keeps_contract(
    schema: OpenApiSchema, server: Server, bounds: settings
) -> None:
    class Life(schema.as_state_machine()):  # type: ignore[misc]  # its base is made from the contract
        """A few steps: creating and listing, and from there along the links."""

        @initialize(ongoing=st.booleans())
        def begin(self, ongoing: bool) -> None:
            server.begin_again(ongoing=ongoing)

        def after_call(self, response: Response, case: schemathesis.Case) -> None:
            super().after_call(response, case)
            server.note(case, response)
            server.clock.advance(seconds=10)

        def validate_response(self, response: Response, case: schemathesis.Case, **options: Any) -> None:
            super().validate_response(response, case, additional_checks=CHECKS, **options)

    Life.run(settings=settings(bounds, max_examples=bounds.max_examples * 2, stateful_step_count=12))
    assert server.succeeded() == OPERATIONS, server.answers
    assert len(server.codes) >= 10, server.codes


# -- Requests that no schema describes ---------------------------------------------------------------


@dataclass
class Exchange:
    """One request as an ASGI server hands it over, and the answer to it."""

    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    status: int = 0
    answer_headers: dict[bytes, bytes] = field(default_factory=dict)
    answer: bytes = b""

    async def run(self, app: Litestar) -> None:
        path, _, query = self.target.partition(b"?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": [(b"host", b"localhost:8000"), *self.headers],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
        }
        await app(scope, self._receive, self._send)  # type: ignore[arg-type]  # a plain scope, as servers give

    async def _receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.answer_headers = dict(message["headers"])
        else:
            self.answer += message.get("body", b"")


GRAPHIC = st.characters(min_codepoint=33, max_codepoint=126)
RAW = st.binary(max_size=40).map(lambda value: value.translate(None, b"\0\r\n"))
"""What a header can hold after an HTTP server has taken its line apart."""

OPERATION = st.sampled_from(
    [("GET", CALLS), ("POST", CALLS), ("GET", f"{CALLS}1/")]
    + [("POST", f"{CALLS}1/{action}/") for action in ("join", "end", "cancel")]
)
STRANGE_METHOD = st.sampled_from(["HEAD", "OPTIONS", "PUT", "TRACE", "get"]) | st.text(
    "ABCXYZabcxyz!#$%&'*+-.^_`|~019", min_size=1, max_size=20
)

STRANGE_SEGMENT = st.text(GRAPHIC) | st.sampled_from(
    ["", "1", "77", "0", "-1", "join", "..", "%2e%2e", "%2F", "%00", "%ff", "%D9%A3", "%0d%0a", "9" * 400]
)
STRANGE_PATH = st.builds(
    str.__add__,
    st.sampled_from([CALLS, CALLS.rstrip("/"), "/api/v1/video/"]),
    st.lists(STRANGE_SEGMENT, max_size=4).map("/".join),
)
STRANGE_QUERY = st.text(GRAPHIC) | st.builds(
    "{}={}".format,
    st.sampled_from(["page", "page_size", "x"]),
    st.sampled_from(
        ["", "0", "-1", "1e9", "%00", "%ff", "%D9%A1", "9" * 19, "9" * 5000, "1&page=2", "&&=", "[]"]
    ),
)

STRANGE_TOKEN = st.sampled_from(
    [b"a.b.c", b"e30.e30.", b"eyJhbGciOiJub25lIn0.e30.", b"\xff.\xff.\xff", b"." * 9000]
).map(b"Bearer ".__add__)
STRANGE_MEDIA = st.sampled_from([b"", b"text/plain", b"multipart/form-data", b"application/json;" * 99])
STRANGE_HEADER = st.tuples(
    st.sampled_from(
        [b"x-request-id", b"idempotency-key", b"content-length", b"accept", b"origin", b"cookie"]
    ),
    RAW | st.sampled_from([b"9" * 5000, b"-1", b"*/*", b"http://localhost:1"]),
)

STRANGE_NUMBER = st.sampled_from(["0", "-1", "1.5", "1e400", "-0", "NaN", "9" * 19, "9" * 5000, "9" * 70_000])
STRANGE_TIME = st.sampled_from(
    [
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "9999-12-31T23:59:59.9999999Z",
        "0000-00-00T00:00:00Z",
        "2024-02-30T00:00:00Z",
        "2024-12-31T23:59:60Z",
        "2024-01-06T10:00:00",
        "2024-01-06T10:00:00+99:99",
        "2024-01-06T10:00:00." + "9" * 5000 + "Z",
        "-2024-01-06T10:00:00Z",
        "\\u0000",
        "\\ud800",
    ]
).map('"{}"'.format)
NESTED = st.builds(
    lambda pair, depth: pair[0] * depth + pair[1] * depth,
    st.sampled_from([("[", "]"), ('{"a":', "}"), ("[[{}],", "]")]),
    st.integers(0, 10_000),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
).map(json.dumps)
STRANGE_VALUE = STRANGE_NUMBER | STRANGE_TIME | NESTED | JSON
NEW_CALL = '{{"doctor":{},"patient":{},"scheduled_time":{}}}'
STRANGE_TEXT = STRANGE_VALUE | st.builds(NEW_CALL.format, STRANGE_VALUE, STRANGE_VALUE, STRANGE_VALUE)

STRANGE_BODY = {"number", "time", "text", "encoding", "bytes"}
STRANGE = sorted({"method", "path", "query", "token", "media", "headers"} | STRANGE_BODY)


@st.composite
def hostile_requests(draw: st.DrawFn, times: st.SearchStrategy[str]) -> Exchange:
    """A good request but for one part or two, so that it gets as far as those."""
    strange = draw(st.sets(st.sampled_from(STRANGE), max_size=2))

    def part(name: str, hostile: st.SearchStrategy[T], usual: T) -> T:
        return draw(hostile) if name in strange else usual

    method, path = ("POST", CALLS) if strange & STRANGE_BODY else draw(OPERATION)
    method = part("method", STRANGE_METHOD, method)
    path = part("path", STRANGE_PATH, path)
    query = part("query", STRANGE_QUERY, "")
    headers = [
        (b"authorization", part("token", STRANGE_TOKEN | RAW, BEARERS[draw(PEOPLE)].encode())),
        (b"content-type", part("media", STRANGE_MEDIA | RAW, b"application/json")),
        *part("headers", st.lists(STRANGE_HEADER, min_size=1, max_size=3), []),
    ]
    doctor = part("number", STRANGE_VALUE, "1")
    time = part("time", STRANGE_TIME, f'"{draw(times)}"')
    text = part("text", STRANGE_TEXT, NEW_CALL.format(doctor, 1, time))
    body = text.encode(part("encoding", st.sampled_from(["utf-16", "utf-8-sig"]), "utf-8"))
    body = part("bytes", st.binary() | st.binary(min_size=1, max_size=3).map(body.__add__), body)
    return Exchange(method, f"{path}?{query}".encode(), headers, body)


def test_hostile_request_gets_valid_response(server: Server, bounds: settings) -> None:
    answers: Counter[int] = Counter()
    with asyncio.Runner() as runner:

        @settings(bounds, max_examples=bounds.max_examples * 50)
        @given(hostile_requests(future_times(server.clock)))
        def answered(exchange: Exchange) -> None:
            runner.run(exchange.run(server.app))
            answers[exchange.status] += 1
            assert 200 <= exchange.status < 500
            assert exchange.answer_headers[b"x-request-id"]
            if exchange.status == 201:
                asked_and_answered(exchange.body, exchange.answer)
            if exchange.status >= 400 and exchange.method != "HEAD":
                assert exchange.answer_headers[b"content-type"].startswith(b"application/json")
                error = json.loads(exchange.answer)["error"]
                assert isinstance(error, str)
                assert error

        answered()
    assert answers.keys() >= {200, 201, 400, 401, 403, 404, 405, 415}, answers
