"""`video_calls_server.control.client.Control` and a real server: each method, and its errors."""

import socket
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx
import pytest
from click.testing import CliRunner
from video_calls_server.__main__ import main
from video_calls_server.control.client import Control, ControlError

from support.server_process import ServerProcess

TIME = datetime(2030, 1, 5, 10, tzinfo=UTC)


def schedule(control: Control, minutes: int = 10) -> int:
    time = control.clock.now() + timedelta(minutes=minutes)
    body = {"doctor": 1, "patient": 1, "scheduled_time": time.isoformat()}
    response = httpx.post(f"{control.base_url}/video-calls/", json=body, headers=bearer(control))
    return int(response.raise_for_status().json()["id"])


def join(control: Control, call: int) -> None:
    url = f"{control.base_url}/video-calls/{call}/join/"
    httpx.post(url, headers=bearer(control)).raise_for_status()


def bearer(control: Control, email: str = "doctor@example.com") -> dict[str, str]:
    return {"Authorization": f"Bearer {control.token(email)}"}


def status(control: Control, headers: dict[str, str] | None = None) -> int:
    return httpx.get(f"{control.base_url}/video-calls/", headers=headers or bearer(control)).status_code


def test_clock_is_controlled(control: Control) -> None:
    control.clock.freeze(TIME)
    control.clock.advance(days=1, hours=1, minutes=1, seconds=0.5)
    control.clock.advance(days=-1)
    assert control.clock.now() == TIME + timedelta(hours=1, minutes=1, seconds=0.5)
    control.clock.set(TIME)
    assert control.clock.now() == TIME
    control.clock.resume()
    assert TIME < control.clock.now() < TIME + timedelta(minutes=1)
    control.clock.freeze()
    call = schedule(control, minutes=120)
    control.clock.to_join_window(call)
    join(control, call)
    control.clock.reset()
    assert abs(control.clock.now() - datetime.now(UTC)) < timedelta(minutes=1)
    with pytest.raises(ValueError, match="has no time zone"):
        control.clock.set(datetime(2030, 1, 1))  # noqa: DTZ001
    with pytest.raises(ControlError, match="1971") as refusal:
        control.clock.set(datetime(1900, 1, 1, tzinfo=UTC))
    assert refusal.value.status == 400


def test_users_are_added_and_deactivated_and_get_tokens(control: Control) -> None:
    doctor = control.identities.add(email="dr+new/ward?@example.com", full_name="Dr. New", doctor=True)
    assert (doctor.doctor is not None, doctor.patient, doctor.active) == (True, None, True)
    both = control.identities.add(patient=True, doctor=True, active=False)
    assert (both.active, both.patient is not None) == (False, True)
    assert [each.user for each in control.identities.list()][-2:] == [doctor.user, both.user]
    for identity in ("patient@example.com", 102):
        assert status(control, {"Authorization": f"Bearer {control.identities.token(identity)}"}) == 200
        expired = control.identities.token(identity, kind="expired", expires_in=5)
        assert status(control, {"Authorization": f"Bearer {expired}"}) == 401
    own = bearer(control)
    control.identities.deactivate("doctor@example.com")
    assert status(control, own) == 401
    control.identities.reactivate(101)
    assert status(control, own) == 200


def test_faults_are_added_and_removed(control: Control) -> None:
    first = control.faults.add(status=503, times=1, operation="listVideoCalls")
    second = control.faults.add(delay=(0, 0.001))
    assert [fault.id for fault in control.faults.list()] == [first.id, second.id]
    assert [status(control), status(control)] == [503, 200]
    assert [(fault.acted, fault.left) for fault in control.faults.list()] == [(1, 0), (1, None)]
    control.faults.remove(first.id)
    with pytest.raises(ControlError) as refusal:
        control.faults.remove(first.id)
    assert refusal.value.status == 404
    with control.faults.active(status=500) as fault:
        assert status(control) == 500
        assert fault.id in [each.id for each in control.faults.list()]
    assert status(control) == 200
    control.faults.clear()
    assert control.faults.list() == []


def test_state_is_reset_loaded_and_restored(control: Control) -> None:
    control.state.add_calls(3)
    document = control.state.dump()
    control.snapshots.save("three")
    control.state.reset()
    assert control.calls.list() == []
    control.snapshots.restore("three")
    assert len(control.calls.list()) == 3
    control.state.load(document | {"calls": document["calls"][:1], "events": []})
    assert len(control.calls.list()) == 1
    control.snapshots.delete("three")
    for call in (control.snapshots.restore, control.snapshots.delete):
        with pytest.raises(ControlError, match="no snapshot"):
            call("three")


def test_control_lists_calls_and_changes_presence(control: Control) -> None:
    call = schedule(control)
    join(control, call)
    for identity in ("patient@example.com", 102):
        assert [each.id for each in control.calls.list(identity)] == [call]
    assert control.calls.list("outsider@example.com") == []
    verdicts = control.calls.verdicts(call, 101)
    assert verdicts.actions == control.calls.verdicts(call, "doctor@example.com").actions
    assert [each.action for each in verdicts.actions if each.allowed] == ["get", "join", "end"]
    assert control.calls.arrive(call, "doctor")
    assert control.calls.arrive(call, "patient")
    assert control.calls.leave(call, "doctor")
    assert not control.calls.leave(call, "doctor")
    assert control.calls.list()[0].present == ["patient"]
    assert control.calls.disconnect_events() == control.calls.disconnect_events(1013) == 0


def test_requests_are_listed_and_cleared(control: Control) -> None:
    status(control)
    with control.faults.active(name="busy", status=503):
        status(control)
    status(control, {"Authorization": "Bearer x"})
    exchanges = control.requests.list()
    assert [(each.id, each.status) for each in exchanges] == [(3, 401), (2, 503), (1, 200)]
    assert [each.id for each in control.requests.list(identity=101, after=1)] == [2]
    with pytest.raises(ControlError):
        control.requests.list(status="good")
    control.requests.clear()
    assert control.requests.list() == []


def test_default_namespace_cannot_be_dropped(server: ServerProcess) -> None:
    with Control(f"{server.url}/", namespace="to.drop") as control, Control(server.url) as own:
        assert control.base_url == f"{server.url}/_ns/to.drop/api/v1/video"
        assert own.base_url == f"{server.url}/api/v1/video"
        schedule(control)
        control.drop()
        assert control.calls.list() == []
        control.drop()
        with pytest.raises(ControlError, match="cannot be dropped") as refusal:
            own.drop()
        assert refusal.value.status is None


def test_unreachable_server_is_reported() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # without listening
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with Control(url) as control, pytest.raises(ControlError, match="cannot be reached") as failure:
            control.clock.now()
    assert failure.value.status is None


@pytest.mark.parametrize(("status", "body"), [(404, b"<html>"), (404, b"[]"), (200, b"<html>")])
def test_client_recognizes_response_of_another_server(status: int, body: bytes) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, content=body))
    with (
        Control(transport=transport) as control,
        pytest.raises(ControlError, match="reference server") as error,
    ):
        control.clock.now()
    assert error.value.status == (None if status == 200 else status)


def test_control_key_is_sent() -> None:
    requests: list[httpx.Request] = []

    def respond(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(204)

    with Control(key="correct horse battery", transport=httpx.MockTransport(respond)) as control:
        control.state.reset()
    assert requests[0].headers["video-calls-control-key"] == "correct horse battery"
    assert str(requests[0].url) == "http://127.0.0.1:8000/_control/state/reset"


def test_proxies_of_the_environment_are_not_used(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "::1/128")
    monkeypatch.setenv("SSL_CERT_FILE", "/missing.pem")
    with Control(server.url) as control:
        assert control.clock.now()
    port = str(urlsplit(server.url).port)
    result = CliRunner().invoke(main, ["console", "--print", "--port", port])
    assert (result.exit_code, result.output) == (0, f"{server.url}/\n")
