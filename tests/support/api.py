"""The API in this process, as each of the seeded users uses it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from litestar import Litestar
from litestar.testing import TestClient
from video_calls_server import Settings, create_app
from video_calls_server.api.jwt import make_token

CALLS = "/api/v1/video/video-calls/"


USERS = {
    "doctor": 101,
    "patient": 102,
    "other_doctor": 103,
    "other_patient": 104,
    "inactive_doctor": 105,
    "inactive_patient": 106,
    "dual_user": 107,
    "outsider": 108,
}


def auth_headers(user_id: int, settings: Settings | None = None) -> dict[str, str]:
    """Return the header of this user, whose token is valid for an hour."""
    return {"Authorization": f"Bearer {make_token(settings or Settings(), user_id, expires_in=3600)}"}


def time_ahead(minutes: float) -> str:
    """Return the time in so many minutes."""
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()


@dataclass
class FakeClock:
    """A clock that only a test moves."""

    time: datetime = field(default_factory=lambda: datetime(2024, 1, 5, 8, 0, tzinfo=UTC))

    def now(self) -> datetime:
        return self.time

    def advance(self, **by: float) -> None:
        self.time += timedelta(**by)


@dataclass
class Api:
    """A client of the API that can act as each of the seeded users."""

    client: TestClient[Any]
    clock: FakeClock
    settings: Settings

    def headers(self, user: str) -> dict[str, str]:
        return auth_headers(USERS[user], self.settings)

    def get(self, user: str, path: str = CALLS) -> httpx.Response:
        return self.client.get(path, headers=self.headers(user))

    def post(self, user: str, path: str, **options: Any) -> httpx.Response:
        headers = self.headers(user) | options.pop("headers", {})
        return self.client.post(path, headers=headers, **options)

    def create(
        self,
        user: str = "doctor",
        *,
        minutes: float = 60,
        doctor: int = 1,
        patient: int = 1,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Schedule a call `minutes` after the clock's time."""
        time = self.clock.now() + timedelta(minutes=minutes)
        body = {"doctor": doctor, "patient": patient, "scheduled_time": time.isoformat()}
        return self.post(user, CALLS, json=body, headers=headers or {})

    def call(self, status: str = "scheduled") -> dict[str, Any]:
        """Return a call of doctor 1 and patient 1 in this status, scheduled 10 minutes ahead."""
        created = self.create(minutes=10)
        assert created.status_code == 201, created.text
        call_id = created.json()["id"]
        for action in {"ongoing": ["join"], "completed": ["join", "end"], "cancelled": ["cancel"]}.get(
            status, []
        ):
            assert self.act("doctor", call_id, action).status_code == 200
        record: dict[str, Any] = self.get("doctor", f"{CALLS}{call_id}/").json()
        assert record["status"] == status
        return record

    def act(self, user: str, call_id: object, action: str) -> httpx.Response:
        return self.post(user, f"{CALLS}{call_id}/{action}/")

    def control(self, method: str, path: str, body: object = None, **options: Any) -> httpx.Response:
        """Send a request to the control API, from this machine."""
        headers = {"Host": "localhost"} | options.pop("headers", {})
        return self.client.request(method, f"/_control{path}", json=body, headers=headers, **options)

    def manage(self, method: str, path: str, body: object = None) -> Any:
        """Send a request to the control API and return the JSON of its success."""
        answer = self.control(method, path, body)
        assert answer.status_code in {200, 201, 204}, answer.text
        return answer.json() if answer.content else None


def in_process(app: Litestar) -> TestClient[Any]:
    """Return a client that the server sees as one on this machine."""
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)


@contextmanager
def in_memory() -> Iterator[Api]:
    """Run an application on an empty database in memory."""
    clock, settings = FakeClock(), Settings(database=":memory:")
    with in_process(create_app(settings, clock=clock)) as client:
        yield Api(client, clock, settings)


def assert_unavailable(answer: httpx.Response) -> None:
    """Fail unless this is the response of a server whose database is unavailable."""
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), answer.text
    assert answer.json()["error"]
    assert int(answer.headers["retry-after"]) >= 1
