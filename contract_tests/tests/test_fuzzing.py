"""Tests of the fuzz rules: which responses are violations, and which requests are sent."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from video_calls_contract.config import read_config
from video_calls_contract.exceptions import Violation
from video_calls_contract.exchange import NO_RESPONSE, Exchange
from video_calls_contract.fuzzing import Knowledge, Request, body_flaws, fuzz_links, fuzz_operation, judge
from video_calls_contract.preflight import preflight
from video_calls_contract.run import Options, Run
from video_calls_contract.schema import contract, operations
from video_calls_contract.users import User

from support.fake_backend import CALL, fake_backend, scheduling
from support.fake_backend import Request as HttpRequest
from support.sample_results import exchange
from support.suite_runs import reference_server

OURS, NONE = 7, 2_000_000_000
BODY = {"doctor": 1, "patient": 1, "scheduled_time": "2099-01-01T00:00:00Z"}
REFUSAL = {"error": "no"}
RECORD: dict[str, Any] = contract()["components"]["examples"]["ScheduledCall"]["value"] | {"id": OURS}
PAGE = {"count": 1, "next": None, "previous": None, "results": [RECORD]}
USER = User("doctor", "Bearer x", None, doctor=1)  # type: ignore[arg-type]  # it sends nothing
NOBODY = User("nobody", None, None)  # type: ignore[arg-type]


def answer(
    status: int, body: object = REFUSAL, content_type: str = "application/json", operation: str | None = None
) -> Exchange:
    headers = httpx.Headers({"Content-Type": content_type})
    return exchange(json.dumps(body).encode(), status=status, operation=operation, headers=headers)


def on(operation: str, target: int | None, *, valid: bool = True, flaws: tuple[str, ...] = ()) -> Request:
    return Request(operation, "POST", f"/video-calls/{target}/", valid, flaws, target)


def new(body: object = BODY, *, key: str = "") -> Request:
    headers = (("Idempotency-Key", key),) if key else ()
    flaws = body_flaws(body)
    return Request("createVideoCall", "POST", "/video-calls/", not flaws, flaws, None, (), headers, body)


def listing(*query: tuple[str, str], valid: bool = True) -> Request:
    return Request("listVideoCalls", "GET", "/video-calls/", valid, query=query)


def knowledge_of(state: Any = "scheduled") -> Knowledge:
    knowledge = Knowledge()
    knowledge.created(OURS, answer(201, RECORD, operation="createVideoCall"), state)
    return knowledge


def check(request: Request, response: Exchange, state: Any = "scheduled", user: User = USER) -> str | None:
    """Return the check that a response fails."""
    finding = judge(request, user, response, knowledge_of(state))
    return finding and finding.check


FLAWED: list[object] = [
    [], "text", 1, None, {},
    {"doctor": 1, "patient": 1},
    BODY | {"doctor": None}, BODY | {"doctor": [1]}, BODY | {"doctor": {}}, BODY | {"patient": "AAA"},
    BODY | {"patient": ""}, BODY | {"doctor": 0}, BODY | {"doctor": -1}, BODY | {"doctor": 2**63},
    BODY | {"scheduled_time": None}, BODY | {"scheduled_time": []}, BODY | {"scheduled_time": ""},
    BODY | {"scheduled_time": True}, BODY | {"scheduled_time": "2099-13-45T10:00:00Z"},
]  # fmt: skip
LENIENT: list[object] = [
    BODY, BODY | {"doctor": "1"}, BODY | {"doctor": True}, BODY | {"patient": 1.0}, BODY | {"patient": 1.5},
    BODY | {"more": []}, BODY | {"scheduled_time": "2099-01-01"}, BODY | {"scheduled_time": 4_102_444_800},
    BODY | {"scheduled_time": "2099-01-01T00:00:00"}, BODY | {"scheduled_time": "tomorrow"},
    BODY | {"scheduled_time": "2099-02-30T00:00:00Z"},
]  # fmt: skip


@pytest.mark.parametrize("body", FLAWED)
def test_flawed_body_must_be_refused_with_400(body: object) -> None:
    assert check(new(body), answer(201, RECORD)) == "negative_data_rejection"
    assert check(new(body), answer(422)) == "negative_data_rejection"
    assert check(new(body), answer(400)) is None


@pytest.mark.parametrize("body", LENIENT)
def test_slightly_flawed_body_may_be_accepted_or_refused(body: object) -> None:
    time = str(dict(body)["scheduled_time"])  # type: ignore[call-overload]  # each is an object
    record = RECORD | {"scheduled_time": time if time.endswith("-01T00:00:00Z") else BODY["scheduled_time"]}
    assert check(new(body), answer(201, record)) is None
    assert check(new(body), answer(400)) is None
    assert check(new(body), answer(415)) == "status_code_conformance"


@pytest.mark.parametrize(
    ("request_", "response", "expected"),
    [
        (new(), answer(500), "not_a_server_error"),
        (new(), answer(NO_RESPONSE), "not_a_server_error"),
        (new(), answer(200, RECORD), "status_code_conformance"),
        (new(), answer(404), "status_code_conformance"),
        (new(BODY | {"doctor": 2}), answer(404), None),
        (new(), answer(422), "status_code_conformance"),
        (new(key="k"), answer(422), None),
        (new(), answer(201, RECORD | {"id": 7.5}), "response_schema_conformance"),
        (new(), answer(201, RECORD, "text/html"), "content_type_conformance"),
        (new(), answer(201, RECORD | BODY | {"doctor": 2}), "answer_to_request"),
        (new(), answer(201, RECORD | {"scheduled_time": "2099-01-01T01:00:00Z"}), "answer_to_request"),
        (new(), answer(400, {"detail": "no"}), "response_schema_conformance"),
        (new(), answer(400, REFUSAL, "text/plain"), "content_type_conformance"),
        (listing(), answer(200, PAGE), None),
        (listing(), answer(200, PAGE | {"more": 1}), None),
        (listing(), answer(404), "positive_data_acceptance"),
        (listing(), answer(307), "positive_data_acceptance"),
        (listing(("page", "9")), answer(404), None),
        (listing(("page", "0"), valid=False), answer(422, {"detail": "no"}), None),
        (listing(("page", "0"), valid=False), answer(200, PAGE), None),
        (listing(("page", "0"), valid=False), answer(200, {}), "response_schema_conformance"),
        (listing(("page", "0"), valid=False), answer(302), "status_code_conformance"),
        (on("getVideoCall", OURS), answer(200, RECORD), None),
        (on("getVideoCall", OURS), answer(200, RECORD | {"id": 8}), "answer_to_request"),
        (on("getVideoCall", OURS), answer(404), "ensure_resource_availability"),
        (on("getVideoCall", NONE), answer(404), None),
        (on("getVideoCall", NONE), answer(403), None),
        (on("getVideoCall", NONE), answer(400), "ensure_resource_availability"),
        (on("getVideoCall", 2**31), answer(400, {}), None),
        (on("getVideoCall", 2**63, valid=False), answer(404, "<html>"), None),
        (on("getVideoCall", None, valid=False), answer(301, ""), None),
        (on("getVideoCall", None, valid=False, flaws=("x",)), answer(200, RECORD), "negative_data_rejection"),
    ],
)  # fmt: skip
def test_response_fails_check_that_it_violates(
    request_: Request, response: Exchange, expected: str | None
) -> None:
    assert check(request_, response) == expected


@pytest.mark.parametrize(
    ("operation", "state", "status", "expected"),
    [
        ("endVideoCall", "ongoing", 400, "positive_data_acceptance"),
        ("endVideoCall", "scheduled", 200, "status_code_conformance"),
        ("endVideoCall", "scheduled", 400, None),
        ("endVideoCall", "closed", 200, "use_after_free"),
        ("cancelVideoCall", "scheduled", 400, "positive_data_acceptance"),
        ("cancelVideoCall", "ongoing", 200, "status_code_conformance"),
        ("cancelVideoCall", "closed", 200, "use_after_free"),
        ("cancelVideoCall", "closed", 400, None),
        ("cancelVideoCall", "closed", 404, "ensure_resource_availability"),
        ("cancelVideoCall", None, 200, None),
        ("cancelVideoCall", None, 400, None),
        ("joinVideoCall", "scheduled", 400, None),
        ("joinVideoCall", "ongoing", 400, "positive_data_acceptance"),
        ("joinVideoCall", "closed", 200, "use_after_free"),
    ],
)
def test_response_to_action_is_checked_against_call_state(
    operation: str, state: str | None, status: int, expected: str | None
) -> None:
    assert check(on(operation, OURS), answer(status, RECORD if status == 200 else REFUSAL), state) == expected


@pytest.mark.parametrize(
    ("request_", "response", "expected"),
    [
        (listing(), answer(200, PAGE), "ignored_auth"),
        (listing(), answer(403), "ignored_auth"),
        (listing(), answer(401), None),
        (on("getVideoCall", NONE), answer(404), None),
        (new([]), answer(400), None),
    ],
)
def test_request_without_token_must_be_refused(
    request_: Request, response: Exchange, expected: str | None
) -> None:
    assert check(request_, response, user=NOBODY) == expected


def test_fuzzer_learns_call_state_from_response() -> None:
    knowledge = knowledge_of()
    knowledge.learn(on("cancelVideoCall", OURS), USER, answer(500))
    assert knowledge.states[OURS] is None
    knowledge.learn(on("cancelVideoCall", OURS), USER, answer(200, RECORD))
    assert knowledge.states[OURS] == "closed"
    knowledge.learn(new(), USER, answer(201, RECORD | {"id": 8}, operation="createVideoCall"))
    knowledge.learn(new(), USER, answer(201, RECORD | {"id": 9, "doctor": 2}, operation="createVideoCall"))
    assert list(knowledge.states) == [OURS, 8]


def test_fuzzer_sends_request_as_participant_of_call() -> None:
    outsider = User("other_patient", "Bearer x", None, patient=2)  # type: ignore[arg-type]
    patient = User("patient", "Bearer x", None, patient=1)  # type: ignore[arg-type]
    assert knowledge_of().participant([outsider, patient], OURS) is patient
    assert knowledge_of().participant([outsider, patient], NONE) is outsider


def test_fuzzer_reports_smallest_violating_request(tmp_path: Path) -> None:
    def broken(request: HttpRequest) -> tuple[int, Any]:
        return (
            (500, REFUSAL)
            if "page_size=10" in request.path and "100" not in request.path
            else scheduling(request)
        )

    path = tmp_path / "contract.toml"
    with fake_backend(broken) as backend:
        path.write_text(backend.toml())
        run = Run(read_config(path), Options())
        with pytest.raises(
            Violation, match=r"no server error; got 500 \(listVideoCalls, not_a_server_error\)"
        ) as error:
            fuzz_operation(run, "listVideoCalls")
        run.finish()
    assert error.value.exchanges[-1].url.endswith("page_size=101")


def test_fuzzer_changes_no_call_of_others(tmp_path: Path) -> None:
    """The backend creates no call, so the fuzzer has no call that it may change."""

    def crowded(request: HttpRequest) -> tuple[int, Any]:
        if request.method == "POST" and request.path.endswith("/video-calls/"):
            return 400, REFUSAL
        if request.path.endswith((f"/{CALL['id']}/", f"/{CALL['id']}/join/", f"/{CALL['id']}/cancel/")):
            return 200, RECORD
        if "/video-calls/?" in request.path or request.path.endswith("/video-calls/"):
            return 200, PAGE
        return 404, REFUSAL

    path = tmp_path / "contract.toml"
    with fake_backend(crowded) as backend:
        path.write_text(backend.toml())
        run = Run(read_config(path), Options())
        fuzz_operation(run, "cancelVideoCall")
        fuzz_links(run)
        run.finish()
    acted = {request.path.split("/")[-3] for request in backend.requests if request.path.count("/") > 6}
    assert str(NONE) in acted
    assert not any(part.isdigit() and 0 < int(part) < NONE for part in acted), acted


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("reference")
    with reference_server(directory) as path:
        yield path


def test_reference_server_passes_every_fuzz_rule(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Run(read_config(config), Options())
    answers: set[tuple[str | None, int]] = set()
    run.backend.watchers.append(lambda exchange: answers.add((exchange.operation, exchange.status)))
    preflight(run)
    run.begin()
    for name in operations():
        fuzz_operation(run, name)
    fuzz_links(run)
    before = run.backend.count
    assert run.finish().left == []
    assert before < 350
    assert {(name, 201 if name == "createVideoCall" else 200) for name in operations()} <= answers
    assert {("createVideoCall", 400), ("joinVideoCall", 400), ("getVideoCall", 404)} <= answers
    assert list(tmp_path.iterdir()) == []  # Hypothesis leaves no files
