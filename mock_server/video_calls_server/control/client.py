"""The control API from Python: time, faults, people, state and requests of a reference server, for tests.

`Control` is a client of `/_control/`, of a server in another process or, through a transport, in this one:

```python
from video_calls_server.control.client import Control

with Control("http://127.0.0.1:8000", namespace="worker-1") as control:
    control.state.reset()
    control.faults.add(status=503, times=1, operation="joinVideoCall")
    control.clock.advance(hours=2)
    doctor = VideoCallsClient(control.base_url, control.token("doctor@example.com"))
```

`base_url` leads into the namespace, so that a browser, a page's `fetch` and the SDK need nothing else.
"""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
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
    """The server does not do what was asked of it. The message is its own.

    Attributes:
        status: of its answer, None where there was none.
    """

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status


class _Api:
    """Sends control requests and reads their answers."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def send(self, method: str, path: str, **options: Any) -> bytes:  # noqa: ANN401 (httpx's own)
        try:
            response = self._client.request(method, f"{CONTROL}{path}", **options)
        except httpx.TransportError as error:
            raise ControlError(f"the reference server cannot be reached: {error}", None) from error
        if response.is_success:
            return response.content
        raise ControlError(_reason(response), response.status_code)

    def read(self, answer: type[T], method: str, path: str, **options: Any) -> T:  # noqa: ANN401
        content = self.send(method, path, **options)
        try:
            return msgspec.json.decode(content, type=answer)
        except msgspec.DecodeError as error:
            raise ControlError(f"this is no answer of a reference server's: {error}", None) from error


def _reason(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status_code}; is this a reference server with its control API on?"


class _Part:
    """A part of the control API."""

    def __init__(self, api: _Api) -> None:
        self._api = api


class ClockControl(_Part):
    """The clock by which the rules decide. JWTs and Agora tokens follow real time.

    Setting and advancing leave it running, or standing, as it was; what becomes due happens at once.
    """

    def now(self) -> datetime:
        """What it shows, in UTC."""
        return self._api.read(ClockState, "GET", "/clock").time

    def set(self, time: datetime) -> None:
        """Put it to this time.

        Args:
            time: an aware datetime, with any offset.

        Raises:
            ValueError: the time has no offset.
            ControlError: it is out of range.
        """
        self._put(time=time)

    def advance(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Put it forward by this much, or back where it is negative."""
        step = {"days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
        self._api.send("POST", "/clock/advance", json=step)

    def to_join_window(self, call_id: int | str) -> None:
        """Put it to the moment at which this call can first be joined."""
        self._put(join_window_of=call_id)

    def freeze(self, time: datetime | None = None) -> None:
        """Let it stand still, where it is or at this time."""
        self._put(time=time, running=False)

    def resume(self) -> None:
        """Let it run on from where it stands."""
        self._put(running=True)

    def reset(self) -> None:
        """Let it show the machine's time again, running."""
        self._api.send("DELETE", "/clock")

    def _put(self, *, time: datetime | None = None, **change: object) -> None:
        if time is not None:
            if time.utcoffset() is None:
                raise ValueError(f"{time.isoformat()} has no time zone; give an aware datetime")
            change["time"] = time.isoformat()
        self._api.send("PUT", "/clock", json=change)


class IdentityControl(_Part):
    """The people, and tokens of all kinds for them. `identity` is a person's e-mail address or user id."""

    def list(self) -> "list[Identity]":
        """Everybody, each with a token that is good for an hour."""
        return self._api.read(list[Identity], "GET", "/identities")

    def add(
        self,
        *,
        email: str | None = None,
        full_name: str | None = None,
        doctor: bool = False,
        patient: bool = False,
        active: bool = True,
    ) -> Identity:
        """Add a doctor, a patient, somebody who is both, or neither; what is not given is chosen."""
        wanted = {
            "email": email,
            "full_name": full_name,
            "doctor": doctor,
            "patient": patient,
            "active": active,
        }
        return self._api.read(Identity, "POST", "/identities", json=wanted)

    def deactivate(self, identity: str | int) -> None:
        """From now on this person is refused."""
        self._change(identity, active=False)

    def reactivate(self, identity: str | int) -> None:
        """From now on this person is let in again."""
        self._change(identity, active=True)

    def token(self, identity: str | int, *, kind: TokenKind = "valid", expires_in: int = 3600) -> str:
        """A JWT of the person's; of another kind than `valid`, one that has to be refused.

        Args:
            identity: whose token it is to be.
            kind: `expired`, `forged` (signed with another secret), `malformed`, `premature` (good later),
                `refresh` (no access token) or `unknown_user`.
            expires_in: seconds of real time; of an expired one, those since it has expired.

        Raises:
            ControlError: there is no such person, or JWTs are signed elsewhere.
        """
        wanted = {"kind": kind, "expires_in": expires_in}
        return self._api.read(Token, "POST", f"/identities/{_segment(identity)}/tokens", json=wanted).token

    def _change(self, identity: str | int, **change: object) -> None:
        self._api.send("PATCH", f"/identities/{_segment(identity)}", json=change)


class FaultControl(_Part):
    """What goes wrong on purpose."""

    def add(self, **fault: object) -> StoredFault:
        """Add a fault; it acts on every request that it matches, after those that are there.

        ```python
        control.faults.add(status=429, retry_after=2, times=3)
        control.faults.add(operation="joinVideoCall", identity="patient@example.com", drop=True, times=1)
        control.faults.add(delay=(0.1, 0.5), probability=0.3, random_seed=7)
        ```

        Args:
            **fault: the fields of `Fault`, as `/_control/docs` lists them.

        Raises:
            ControlError: the fields do not make a fault; the message names the one that is wrong.
        """
        return self._api.read(StoredFault, "POST", "/faults", json=fault)

    def list(self) -> "list[StoredFault]":
        """The faults, in the order in which they act; each with how often it has acted."""
        return self._api.read(list[StoredFault], "GET", "/faults")

    def remove(self, fault_id: int) -> None:
        """Remove one."""
        self._api.send("DELETE", f"/faults/{fault_id}")

    def clear(self) -> None:
        """Remove all."""
        self._api.send("DELETE", "/faults")

    @contextmanager
    def active(self, **fault: object) -> Generator[StoredFault]:
        """Have a fault for the length of a `with` block."""
        added = self.add(**fault)
        try:
            yield added
        finally:
            self.remove(added.id)


class StateControl(_Part):
    """The whole state: people, calls, events, clock and faults."""

    def reset(self) -> None:
        """Be as at the start."""
        self._api.send("POST", "/state/reset")

    def dump(self) -> dict[str, Any]:
        """All of it, as a JSON document."""
        return self._api.read(dict[str, Any], "GET", "/state")

    def load(self, document: dict[str, Any]) -> None:
        """Replace all of it; a document written by hand needs `users` and `calls` alone.

        Raises:
            ControlError: it says what cannot be; the message names the place, and nothing has changed.
        """
        self._api.send("PUT", "/state", json=document)

    def add_calls(self, count: int) -> None:
        """Add so many realistic calls in all states: the same for the same number and time."""
        self._api.send("POST", "/state/calls", json={"count": count})


class SnapshotControl(_Part):
    """States that the server keeps in memory, under names."""

    def save(self, name: str) -> None:
        """Keep the state as it is, in place of what was kept under this name."""
        self._api.send("PUT", f"/snapshots/{_segment(name)}")

    def restore(self, name: str) -> None:
        """Be as when it was saved, clock and faults included.

        Raises:
            ControlError: there is none of this name.
        """
        self._api.send("POST", f"/snapshots/{_segment(name)}/restore")

    def delete(self, name: str) -> None:
        """Keep it no longer."""
        self._api.send("DELETE", f"/snapshots/{_segment(name)}")


class CallControl(_Part):
    """Everybody's calls, and who is in their channels."""

    def list(self, identity: str | int | None = None) -> "list[CallDetails]":
        """All calls, or those of the person with this e-mail address or user id; newest first."""
        params = {} if identity is None else {"identity": identity}
        return self._api.read(list[CallDetails], "GET", "/calls", params=params)

    def verdicts(self, call_id: int | str, identity: str | int) -> CallVerdicts:
        """What each rule would say now if this person read, joined, ended or cancelled the call."""
        return self._api.read(
            CallVerdicts, "GET", f"/calls/{call_id}/verdicts", params={"identity": identity}
        )

    def arrive(self, call_id: int | str, role: Role) -> bool:
        """Let a participant be in the channel, as Agora's notification would; whether that was news."""
        return self._present(call_id, role, present=True)

    def leave(self, call_id: int | str, role: Role) -> bool:
        """Let a participant leave the channel, as Agora's notification would; whether that was news."""
        return self._present(call_id, role, present=False)

    def disconnect_events(self, code: int = 1012) -> int:
        """Close all event connections with this code; how many there were."""
        return self._api.read(DisconnectResult, "POST", "/events/disconnect", json={"code": code}).closed

    def _present(self, call_id: int | str, role: Role, *, present: bool) -> bool:
        path = f"/calls/{call_id}/participants/{role}"
        return self._api.read(PresenceResult, "PUT", path, json={"present": present}).changed


class RequestControl(_Part):
    """The last requests to the API, with tokens redacted."""

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
        return self._api.read(list[Exchange], "GET", "/requests", params=filters)

    def clear(self) -> None:
        """Forget those so far."""
        self._api.send("DELETE", "/requests")


class Control:
    """The control of a reference server, or of one namespace of it.

    Requests go straight to the server: proxies and certificates of the environment are not used.

    Args:
        url: where the server is.
        namespace: a name of your own for an isolated state, clock, faults and log, such as that of a test
            worker; its first request makes it, and `drop` ends it.
        key: the server's `--control-key`, where it has one.
        transport: for a server in this process, or another way to it: `httpx.HTTPTransport(proxy=…)`.

    Attributes:
        base_url: the API's root, in the namespace: what an SDK client or a frontend is given.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        namespace: str | None = None,
        key: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        place = url.rstrip("/") + (f"{PREFIX}{_segment(namespace)}" if namespace else "")
        headers = {KEY_HEADER: key} if key is not None else {}
        self._client = httpx.Client(
            base_url=place, headers=headers, transport=transport, timeout=_TIMEOUT, trust_env=False
        )
        self._namespace = namespace
        self._api = _Api(self._client)
        self.base_url = f"{place}{API_ROOT}"
        self.clock = ClockControl(self._api)
        self.identities = IdentityControl(self._api)
        self.faults = FaultControl(self._api)
        self.state = StateControl(self._api)
        self.snapshots = SnapshotControl(self._api)
        self.calls = CallControl(self._api)
        self.requests = RequestControl(self._api)

    def token(self, identity: str | int) -> str:
        """A JWT of a person that is good for an hour; `identities.token` makes others."""
        return self.identities.token(identity)

    def drop(self) -> None:
        """Drop the namespace with all that is in it.

        Raises:
            ControlError: this is the control of no namespace.
        """
        if self._namespace is None:
            raise ControlError("the server's own state cannot be dropped; reset it", None)
        self._api.send("DELETE", f"/namespaces/{_segment(self._namespace)}")

    def close(self) -> None:
        """Close the connections to the server; the namespace stays."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _segment(value: str | int) -> str:
    return quote(str(value), safe="@")
