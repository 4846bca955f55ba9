"""A client of the control API: the clock, faults, users, state and requests of a reference server, for tests.

`Control` calls the server in another process or, through a transport, in this one:

```python
from video_calls_server.control.client import Control

with Control("http://127.0.0.1:8000", namespace="worker-1") as control:
    control.state.reset()
    control.faults.add(status=503, times=1, operation="joinVideoCall")
    control.clock.advance(hours=2)
    doctor = VideoCallsClient(control.base_url, control.token("doctor@example.com"))
```

`base_url` contains the namespace, so a browser and the SDK need no header to choose it.
"""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from video_calls_server.api.routes import API_ROOT
from video_calls_server.control.access import KEY_HEADER
from video_calls_server.control.dispatch import CONTROL, PREFIX
from video_calls_server.control.exchange import Exchange
from video_calls_server.control.faults.model import StoredFault
from video_calls_server.control.routes.calls import (
    CallDetails,
    CallVerdicts,
    DisconnectResult,
    PresenceResult,
)
from video_calls_server.control.routes.clock import ClockState
from video_calls_server.control.routes.identities import Identity, Token, TokenKind
from video_calls_server.domain.people import Role

__all__ = [
    "CallControl",
    "ClockControl",
    "Control",
    "ControlError",
    "FaultControl",
    "IdentityControl",
    "RequestControl",
    "SnapshotControl",
    "StateControl",
]

T = TypeVar("T")

_TIMEOUT = 30.0  # seconds


class ControlError(Exception):
    """The server refused a request or cannot be reached. If the server responded, the message is its own.

    Attributes:
        status: the status of the response, or None if there was none.
    """

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status


class _Client:
    """Sends control requests and decodes the responses."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def _send(self, method: str, path: str, **options: Any) -> bytes:  # noqa: ANN401 (httpx's own)
        try:
            response = self._client.request(method, f"{CONTROL}{path}", **options)
        except httpx.TransportError as error:
            raise ControlError(f"the reference server cannot be reached: {error}", None) from error
        if response.is_success:
            return response.content
        raise ControlError(_reason(response), response.status_code)

    def _read(self, response_type: type[T], method: str, path: str, **options: Any) -> T:  # noqa: ANN401
        content = self._send(method, path, **options)
        try:
            return msgspec.json.decode(content, type=response_type)
        except msgspec.DecodeError as error:
            raise ControlError(f"this is not a response of a reference server: {error}", None) from error


def _reason(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status_code}; is this a reference server with its control API on?"


class ClockControl(_Client):
    """The clock that the rules use. JWTs and Agora tokens follow real time.

    `set` and `advance` do not change whether the clock runs or is frozen. After each change of the clock, the
    server at once ends the empty calls that are then due.
    """

    def now(self) -> datetime:
        """Return the clock's time, in UTC."""
        return self._read(ClockState, "GET", "/clock").time

    def set(self, time: datetime) -> None:
        """Set the clock.

        Args:
            time: an aware datetime, with any offset.

        Raises:
            ValueError: if the time has no offset.
            ControlError: if the time is out of range.
        """
        self._put(time=time)

    def advance(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Advance the clock by the sum of the arguments, or set it back if the sum is negative."""
        step = {"days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
        self._send("POST", "/clock/advance", json=step)

    def to_join_window(self, call_id: int | str) -> None:
        """Set the clock to the start of this call's join window."""
        self._put(join_window_of=call_id)

    def freeze(self, time: datetime | None = None) -> None:
        """Freeze the clock, at its current time or at `time`."""
        self._put(time=time, running=False)

    def resume(self) -> None:
        """Let a frozen clock run from the time that it shows."""
        self._put(running=True)

    def reset(self) -> None:
        """Let the clock run and show the machine's time."""
        self._send("DELETE", "/clock")

    def _put(self, *, time: datetime | None = None, **change: object) -> None:
        if time is not None:
            if time.utcoffset() is None:
                raise ValueError(f"{time.isoformat()} has no time zone; give an aware datetime")
            change["time"] = time.isoformat()
        self._send("PUT", "/clock", json=change)


class IdentityControl(_Client):
    """The users, and valid and invalid tokens for them. `identity` is an e-mail address or a user id."""

    def list(self) -> "list[Identity]":
        """Return all users, each with a token that is valid for an hour."""
        return self._read(list[Identity], "GET", "/identities")

    def add(
        self,
        *,
        email: str | None = None,
        full_name: str | None = None,
        doctor: bool = False,
        patient: bool = False,
        active: bool = True,
    ) -> Identity:
        """Add a user: a doctor, a patient, both or neither. The server chooses each missing value."""
        user = {
            "email": email,
            "full_name": full_name,
            "doctor": doctor,
            "patient": patient,
            "active": active,
        }
        return self._read(Identity, "POST", "/identities", json=user)

    def deactivate(self, identity: str | int) -> None:
        """Deactivate a user. The API then refuses the user's requests."""
        self._set_active(identity, active=False)

    def reactivate(self, identity: str | int) -> None:
        """Reactivate a user."""
        self._set_active(identity, active=True)

    def token(self, identity: str | int, *, kind: TokenKind = "valid", expires_in: int = 3600) -> str:
        """Return a JWT for a user. The API accepts only tokens of the kind `valid`.

        Args:
            identity: the user.
            kind: `expired`, `forged` (signed with another secret), `malformed`, `premature` (not yet valid),
                `refresh` (not an access token) or `unknown_user`.
            expires_in: the lifetime in seconds of real time; for an expired token, the time since expiry.

        Raises:
            ControlError: if there is no such user, or if the server cannot sign JWTs.
        """
        request = {"kind": kind, "expires_in": expires_in}
        return self._read(Token, "POST", f"/identities/{_segment(identity)}/tokens", json=request).token

    def _set_active(self, identity: str | int, *, active: bool) -> None:
        self._send("PATCH", f"/identities/{_segment(identity)}", json={"active": active})


class FaultControl(_Client):
    """The faults that the server injects."""

    def add(self, **fault: object) -> StoredFault:
        """Add a fault, which acts on matching requests after the existing faults.

        ```python
        control.faults.add(status=429, retry_after=2, times=3)
        control.faults.add(operation="joinVideoCall", identity="patient@example.com", drop=True, times=1)
        control.faults.add(delay=(0.1, 0.5), probability=0.3, random_seed=7)
        ```

        Args:
            **fault: the fields of `Fault`, as `/_control/docs` lists them.

        Raises:
            ControlError: if the fault is invalid. The message names the field.
        """
        return self._read(StoredFault, "POST", "/faults", json=fault)

    def list(self) -> "list[StoredFault]":
        """Return the faults in the order in which they act, each with how often it has acted."""
        return self._read(list[StoredFault], "GET", "/faults")

    def remove(self, fault_id: int) -> None:
        """Remove the fault with this id."""
        self._send("DELETE", f"/faults/{fault_id}")

    def clear(self) -> None:
        """Remove all faults."""
        self._send("DELETE", "/faults")

    @contextmanager
    def active(self, **fault: object) -> Generator[StoredFault]:
        """Add a fault for the duration of a `with` block."""
        stored = self.add(**fault)
        try:
            yield stored
        finally:
            self.remove(stored.id)


class StateControl(_Client):
    """The state: users, calls, events, clock and faults."""

    def reset(self) -> None:
        """Restore the initial state, which the server's settings define."""
        self._send("POST", "/state/reset")

    def dump(self) -> dict[str, Any]:
        """Return the state as a JSON document."""
        return self._read(dict[str, Any], "GET", "/state")

    def load(self, document: dict[str, Any]) -> None:
        """Replace the state. A document needs only `users` and `calls`.

        Raises:
            ControlError: if the document is invalid. The message names the place, and nothing changes.
        """
        self._send("PUT", "/state", json=document)

    def add_calls(self, count: int) -> None:
        """Add sample calls in all statuses. The same number at the same clock time gives the same calls."""
        self._send("POST", "/state/calls", json={"count": count})


class SnapshotControl(_Client):
    """Snapshots of the state, which the server keeps in memory."""

    def save(self, name: str) -> None:
        """Save the state as a snapshot. It replaces an earlier snapshot with this name."""
        self._send("PUT", f"/snapshots/{_segment(name)}")

    def restore(self, name: str) -> None:
        """Replace the state with that of a snapshot, including the clock and the faults.

        Raises:
            ControlError: if there is no snapshot of this name.
        """
        self._send("POST", f"/snapshots/{_segment(name)}/restore")

    def delete(self, name: str) -> None:
        """Delete a snapshot."""
        self._send("DELETE", f"/snapshots/{_segment(name)}")


class CallControl(_Client):
    """The calls of all users, and the participants in their channels."""

    def list(self, identity: str | int | None = None) -> "list[CallDetails]":
        """Return all calls or those of one user, the latest scheduled time first."""
        params = {} if identity is None else {"identity": identity}
        return self._read(list[CallDetails], "GET", "/calls", params=params)

    def verdicts(self, call_id: int | str, identity: str | int) -> CallVerdicts:
        """Return what each rule decides now if this user gets, joins, ends or cancels the call."""
        return self._read(CallVerdicts, "GET", f"/calls/{call_id}/verdicts", params={"identity": identity})

    def arrive(self, call_id: int | str, role: Role) -> bool:
        """Add a participant to the channel, like a notification of Agora. Return whether they were absent."""
        return self._set_presence(call_id, role, present=True)

    def leave(self, call_id: int | str, role: Role) -> bool:
        """Remove a participant, like a notification of Agora. Return whether they were present."""
        return self._set_presence(call_id, role, present=False)

    def disconnect_events(self, code: int = 1012) -> int:
        """Close all event connections with this code. Return the number of closed connections."""
        return self._read(DisconnectResult, "POST", "/events/disconnect", json={"code": code}).closed

    def _set_presence(self, call_id: int | str, role: Role, *, present: bool) -> bool:
        path = f"/calls/{call_id}/participants/{role}"
        return self._read(PresenceResult, "PUT", path, json={"present": present}).changed


class RequestControl(_Client):
    """The last requests to the API, with secrets redacted."""

    def list(self, **filters: str | int) -> "list[Exchange]":
        """Return the requests that pass all filters, newest first.

        Args:
            **filters: `identity` (an e-mail address or user id), `operation` (such as `joinVideoCall`),
                `status` (such as 404, `4xx`, or `none` if the client got no answer), `rule` (the slug of the
                rule that refused the request), `call` (an id), `fault` (the label of the fault that acted),
                `after` (the id of a request: only later ones), `limit` (1 to 500; by default 100).

        Raises:
            ControlError: if a filter cannot be used.
        """
        return self._read(list[Exchange], "GET", "/requests", params=filters)

    def clear(self) -> None:
        """Remove all requests from the log."""
        self._send("DELETE", "/requests")


class Control(_Client):
    """Control of a reference server, or of one of its namespaces.

    It ignores environment variables that set proxies or certificates.

    Args:
        url: the server's address.
        namespace: the name of a namespace with its own state, clock, faults and log, such as that of a test
            worker. The first request creates it, and `drop` ends it.
        key: the server's `--control-key`, if it has one.
        transport: an httpx transport, for a server in this process or for a proxy
            (`httpx.HTTPTransport(proxy=…)`).

    Attributes:
        base_url: the API's root in the namespace, for an SDK client or a frontend.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        namespace: str | None = None,
        key: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        root = url.rstrip("/") + (f"{PREFIX}{_segment(namespace)}" if namespace else "")
        headers = {KEY_HEADER: key} if key is not None else {}
        client = httpx.Client(
            base_url=root, headers=headers, transport=transport, timeout=_TIMEOUT, trust_env=False
        )
        super().__init__(client)
        self._namespace = namespace
        self.base_url = f"{root}{API_ROOT}"
        self.clock = ClockControl(client)
        self.identities = IdentityControl(client)
        self.faults = FaultControl(client)
        self.state = StateControl(client)
        self.snapshots = SnapshotControl(client)
        self.calls = CallControl(client)
        self.requests = RequestControl(client)

    def token(self, identity: str | int) -> str:
        """Return a JWT for a user that is valid for an hour; `identities.token` has other kinds."""
        return self.identities.token(identity)

    def drop(self) -> None:
        """Drop the namespace with its state.

        Raises:
            ControlError: if this is the default namespace.
        """
        if self._namespace is None:
            raise ControlError("the default namespace cannot be dropped; reset its state", None)
        self._send("DELETE", f"/namespaces/{_segment(self._namespace)}")

    def close(self) -> None:
        """Close the connections to the server; the namespace stays."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _segment(value: str | int) -> str:
    return quote(str(value), safe="@")
