"""Fuzz the application with Schemathesis and all its checks, and with requests that break the schema.

The default run of each test is short, and its data is the same each time. `nox -s fuzz` runs each test
longer, with random data.
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
SEED = {user.id: (doctor, patient) for user, doctor, patient in load_seed(DEFAULT_SEED).people}
ROLE_IDS = {bearer: tuple(role and role.id for role in SEED[USERS[user]]) for user, bearer in BEARERS.items()}
"""The doctor id and the patient id of the user of each token, or None."""

CALLERS = st.sampled_from(["doctor", "patient"] * 8 + sorted(USERS))
"""The users who send requests, mostly the two whose ids are the most frequent in `DICTIONARIES`."""

DICTIONARIES = {
    "participants": {"values": [1] * 8 + [2, 3, 4, 77]},
    "calls": {"values": [1, 2, 3, 4, 5, 77]},
}

SCHEMA_RULES = {
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
"""The rules that only refuse requests that break the schema."""

OPERATIONS = {rule.operation for rule in RULES.values()} - {"*"}


# -- Further checks ---------------------------------------------------------------------------------


def check_refusal(_context: object, response: Response, case: schemathesis.Case) -> None:
    """Check that a refusal is by a rule of the operation, and by a schema rule only if the data is invalid.

    This replaces `positive_data_acceptance`, which allows no 400 for valid data, but each 403 and 404.
    """
    if 200 <= response.status_code < 300:
        return
    code = response.json()["code"]
    rule = RULES.get(code)
    assert rule is not None, f"{code} is not a rule"
    operation = case.operation.definition.raw["operationId"]
    assert rule.operation in {operation, "*"}, f"{code} is not a rule of {operation}"
    assert rule.status == response.status_code, f"{code} has status {rule.status}"
    assert rule.error is not None, f"{code} does not refuse"
    is_valid = case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE
    if is_valid and not has_text_ids(case.body):
        assert code not in SCHEMA_RULES, f"valid data was refused by {code}"


def has_text_ids(body: object) -> bool:
    """Return whether ids in a body are texts, which this server refuses although the schema allows them."""
    return isinstance(body, dict) and any(isinstance(body.get(role), str) for role in ("doctor", "patient"))


def check_own_calls(_context: object, response: Response, _case: schemathesis.Case) -> None:
    if not response.content or not 200 <= response.status_code < 300:
        return
    body = response.json()
    doctor, patient = ROLE_IDS[response.request.headers["Authorization"]]
    for call in body.get("results", [body] if "status" in body else []):
        assert call["doctor"] == doctor or call["patient"] == patient, "the call of other users"


def check_time(_context: object, response: Response, _case: schemathesis.Case) -> None:
    if response.status_code == 201:
        assert_same_time(response.request.body, response.content)


def assert_same_time(request: bytes, response: bytes) -> None:
    """Assert that both bodies have the same `scheduled_time`, to the microsecond."""
    time, stored_time = (
        datetime.fromisoformat(json.loads(body)["scheduled_time"].upper()) for body in (request, response)
    )
    assert time.tzinfo is not None
    assert abs(time - stored_time) <= timedelta(microseconds=1)


CHECKS = [check_refusal, check_own_calls, check_time]


# -- The application, the schema and the data -------------------------------------------------------


@dataclass
class Server:
    """The application, and counts of its responses by operation and status, and by code."""

    app: Litestar
    clock: FakeClock
    responses: Counter[tuple[str, int]] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)

    def close(self) -> None:
        """Close the database in memory. The next request opens an empty one."""
        asyncio.run(self.app.state.namespaces.default.store.close())

    def reset(self, *, ongoing: bool) -> None:
        """Empty the database, and create one call for the links of the list."""
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

    def count(self, case: schemathesis.Case, response: Response) -> None:
        self.responses[case.operation.definition.raw["operationId"], response.status_code] += 1
        if response.status_code >= 400:
            self.codes[response.json()["code"]] += 1

    def successful_operations(self) -> set[str]:
        return {operation for operation, status in self.responses if 200 <= status < 300}


@pytest.fixture(
    params=[pytest.param(SHORT, id="short"), pytest.param(LONG, id="long", marks=pytest.mark.long)]
)
def bounds(request: pytest.FixtureRequest) -> settings:
    profile: settings = request.param
    return profile


@pytest.fixture
def server() -> Iterator[Server]:
    clock = FakeClock()
    server = Server(create_app(Settings(database=":memory:"), clock=clock), clock)
    yield server
    server.close()


@pytest.fixture
def schema(bounds: settings, server: Server) -> Iterator[OpenApiSchema]:
    """Return the contract, with data generation that prefers existing ids and future times."""
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
            "phases": {"stateful": {"generation": {"mode": "positive"}}},  # sequences need valid data
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
    loaded.hook("flatmap_case")(with_any_caller)
    schemathesis.openapi.format("date-time", future_times(server.clock))
    yield loaded
    unregister_string_format("date-time")


class AsDoctor:
    """Adds the doctor's token to requests that need a token; `with_any_caller` then replaces it."""

    def get(self, _case: schemathesis.Case, _context: object) -> str:
        return BEARERS["doctor"]

    def set(self, case: schemathesis.Case, bearer: str, _context: object) -> None:
        case.headers["Authorization"] = bearer


def with_any_caller(_context: object, case: schemathesis.Case) -> st.SearchStrategy[schemathesis.Case]:
    def with_caller(user: str) -> schemathesis.Case:
        if case.headers.get("Authorization") in ROLE_IDS:
            case.headers["Authorization"] = BEARERS[user]
        return case

    return CALLERS.map(with_caller)


def future_times(clock: FakeClock) -> st.SearchStrategy[str]:
    """Return RFC 3339 times in all forms: a third within the join window, the others within ten years."""

    def write(seconds: int, offset: int, digits: int, zulu: str) -> str:
        zone = timezone(timedelta(minutes=0 if zulu else offset))
        text = (clock.now() + timedelta(seconds=seconds)).astimezone(zone).isoformat()
        fraction = "." + "123456789" * 2 if digits else ""
        return text[:19] + fraction[: digits + 1] + (zulu or text[19:])

    soon = st.integers(1, 15 * 60)
    days = st.integers(1, 10 * 365).map(lambda days: days * 24 * 60 * 60)
    later = st.integers(15 * 60, 10 * 365 * 24 * 60 * 60)
    return st.builds(
        write,
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
    server.count(case, response)


# -- Sequences of requests, along the links of the contract -----------------------------------------


def test_sequence_of_operations_keeps_contract(
    schema: OpenApiSchema, server: Server, bounds: settings
) -> None:
    class Sequence(schema.as_state_machine()):  # type: ignore[misc]  # a generated base class
        """Create and list calls, then follow the links."""

        @initialize(ongoing=st.booleans())
        def begin(self, ongoing: bool) -> None:
            server.reset(ongoing=ongoing)

        def after_call(self, response: Response, case: schemathesis.Case) -> None:
            super().after_call(response, case)
            server.count(case, response)
            server.clock.advance(seconds=10)

        def validate_response(self, response: Response, case: schemathesis.Case, **options: Any) -> None:
            super().validate_response(response, case, additional_checks=CHECKS, **options)

    Sequence.run(settings=settings(bounds, max_examples=bounds.max_examples * 2, stateful_step_count=12))
    assert server.successful_operations() == OPERATIONS, server.responses
    assert len(server.codes) >= 10, server.codes


# -- Requests that break the schema -----------------------------------------------------------------


@dataclass
class Exchange:
    """A request as an ASGI server passes it to the application, and its response."""

    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    status: int = 0
    response_headers: dict[bytes, bytes] = field(default_factory=dict)
    response: bytes = b""

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
        await app(scope, self._receive, self._send)  # type: ignore[arg-type]  # a plain scope

    async def _receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.response_headers = dict(message["headers"])
        else:
            self.response += message.get("body", b"")


GRAPHIC = st.characters(min_codepoint=33, max_codepoint=126)
RAW = st.binary(max_size=40).map(lambda value: value.translate(None, b"\0\r\n"))
"""Any value of a header that an HTTP parser accepts."""

OPERATION = st.sampled_from(
    [("GET", CALLS), ("POST", CALLS), ("GET", f"{CALLS}1/")]
    + [("POST", f"{CALLS}1/{action}/") for action in ("join", "end", "cancel")]
)
HOSTILE_METHOD = st.sampled_from(["HEAD", "OPTIONS", "PUT", "TRACE", "get"]) | st.text(
    "ABCXYZabcxyz!#$%&'*+-.^_`|~019", min_size=1, max_size=20
)

HOSTILE_SEGMENT = st.text(GRAPHIC) | st.sampled_from(
    ["", "1", "77", "0", "-1", "join", "..", "%2e%2e", "%2F", "%00", "%ff", "%D9%A3", "%0d%0a", "9" * 400]
)
HOSTILE_PATH = st.builds(
    str.__add__,
    st.sampled_from([CALLS, CALLS.rstrip("/"), "/api/v1/video/"]),
    st.lists(HOSTILE_SEGMENT, max_size=4).map("/".join),
)
HOSTILE_QUERY = st.text(GRAPHIC) | st.builds(
    "{}={}".format,
    st.sampled_from(["page", "page_size", "x"]),
    st.sampled_from(
        ["", "0", "-1", "1e9", "%00", "%ff", "%D9%A1", "9" * 19, "9" * 5000, "1&page=2", "&&=", "[]"]
    ),
)

HOSTILE_TOKEN = st.sampled_from(
    [b"a.b.c", b"e30.e30.", b"eyJhbGciOiJub25lIn0.e30.", b"\xff.\xff.\xff", b"." * 9000]
).map(b"Bearer ".__add__)
HOSTILE_MEDIA = st.sampled_from([b"", b"text/plain", b"multipart/form-data", b"application/json;" * 99])
HOSTILE_HEADER = st.tuples(
    st.sampled_from(
        [b"x-request-id", b"idempotency-key", b"content-length", b"accept", b"origin", b"cookie"]
    ),
    RAW | st.sampled_from([b"9" * 5000, b"-1", b"*/*", b"http://localhost:1"]),
)

HOSTILE_NUMBER = st.sampled_from(["0", "-1", "1.5", "1e400", "-0", "NaN", "9" * 19, "9" * 5000, "9" * 70_000])
HOSTILE_TIME = st.sampled_from(
    [
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "2024-02-30T00:00:00Z",
        "2024-12-31T23:59:60Z",
        "2024-01-06T10:00:00+99:99",
        "2024-01-06T10:00:00." + "9" * 5000 + "Z",
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
HOSTILE_VALUE = HOSTILE_NUMBER | HOSTILE_TIME | NESTED | JSON
NEW_CALL = '{{"doctor":{},"patient":{},"scheduled_time":{}}}'
HOSTILE_TEXT = HOSTILE_VALUE | st.builds(NEW_CALL.format, HOSTILE_VALUE, HOSTILE_VALUE, HOSTILE_VALUE)

HOSTILE_BODY = {"number", "time", "text", "encoding", "bytes"}
HOSTILE_PARTS = sorted({"method", "path", "query", "token", "media", "headers"} | HOSTILE_BODY)


@st.composite
def hostile_requests(draw: st.DrawFn, times: st.SearchStrategy[str]) -> Exchange:
    """Return valid requests with up to two hostile parts."""
    hostile_parts = draw(st.sets(st.sampled_from(HOSTILE_PARTS), max_size=2))

    def part(name: str, hostile: st.SearchStrategy[T], usual: T) -> T:
        return draw(hostile) if name in hostile_parts else usual

    method, path = ("POST", CALLS) if hostile_parts & HOSTILE_BODY else draw(OPERATION)
    method = part("method", HOSTILE_METHOD, method)
    path = part("path", HOSTILE_PATH, path)
    query = part("query", HOSTILE_QUERY, "")
    headers = [
        (b"authorization", part("token", HOSTILE_TOKEN | RAW, BEARERS[draw(CALLERS)].encode())),
        (b"content-type", part("media", HOSTILE_MEDIA | RAW, b"application/json")),
        *part("headers", st.lists(HOSTILE_HEADER, min_size=1, max_size=3), []),
    ]
    doctor = part("number", HOSTILE_VALUE, "1")
    time = part("time", HOSTILE_TIME, f'"{draw(times)}"')
    text = part("text", HOSTILE_TEXT, NEW_CALL.format(doctor, 1, time))
    body = text.encode(part("encoding", st.sampled_from(["utf-16", "utf-8-sig"]), "utf-8"))
    body = part("bytes", st.binary() | st.binary(min_size=1, max_size=3).map(body.__add__), body)
    return Exchange(method, f"{path}?{query}".encode(), headers, body)


def test_hostile_request_gets_valid_response(server: Server, bounds: settings) -> None:
    statuses: Counter[int] = Counter()
    with asyncio.Runner() as runner:

        @settings(bounds, max_examples=bounds.max_examples * 50)
        @given(hostile_requests(future_times(server.clock)))
        def send(exchange: Exchange) -> None:
            runner.run(exchange.run(server.app))
            statuses[exchange.status] += 1
            assert 200 <= exchange.status < 500
            assert exchange.response_headers[b"x-request-id"]
            if exchange.status == 201:
                assert_same_time(exchange.body, exchange.response)
            if exchange.status >= 400 and exchange.method != "HEAD":
                assert exchange.response_headers[b"content-type"].startswith(b"application/json")
                error = json.loads(exchange.response)["error"]
                assert isinstance(error, str)
                assert error

        send()
    assert statuses.keys() >= {200, 201, 400, 401, 403, 404, 405, 415}, statuses
