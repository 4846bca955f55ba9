"""Namespaces: isolated states of one server; a header or a prefix of the path selects one."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from litestar.exceptions import WebSocketDisconnect
from starlette.applications import Starlette
from starlette.routing import Mount
from video_calls_server import Settings, create_app
from video_calls_server.control import namespaces
from video_calls_server.control.namespaces import Namespace, Namespaces

from support.api import CALLS, Api, FakeClock
from support.listener import listening

HEADER = "Video-Calls-Namespace"


def within(api: Api, name: str, method: str, path: str, **options: Any) -> httpx.Response:
    """Send a request to a namespace by its prefix."""
    headers = api.headers("doctor") | {"Host": "localhost"} | options.pop("headers", {})
    return api.client.request(method, f"/_ns/{name}{path}", headers=headers, **options)


def namespace_names(api: Api) -> list[str]:
    return [each["name"] for each in api.manage("GET", "/namespaces")]


def all_of(api: Api) -> list[Namespace]:
    namespaces: Namespaces = api.client.app.state.namespaces
    return asyncio.run(namespaces.all())


def draft(api: Api, minutes: float = 60) -> dict[str, Any]:
    return {
        "doctor": 1,
        "patient": 1,
        "scheduled_time": (api.clock.now() + timedelta(minutes=minutes)).isoformat(),
    }


# -- Isolation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "calls", "active", "offset"),
    [("/_ns/a", 0, True, 0), ("/_ns/b", 1, False, 7200), ("", 0, True, 0)],
)
def test_calls_users_and_clock_are_isolated(
    api: Api, place: str, calls: int, active: bool, offset: int
) -> None:
    def read(path: str) -> Any:
        return api.client.get(f"{place}/_control{path}", headers={"Host": "localhost"}).json()

    for name in "ab":
        assert within(api, name, "POST", CALLS, json=draft(api)).status_code == 201
        within(api, name, "PATCH", "/_control/identities/102", json={"active": False})
        within(api, name, "POST", "/_control/clock/advance", json={"hours": 2})
    assert within(api, "a", "POST", "/_control/state/reset").status_code == 204
    assert len(read("/calls")) == calls
    assert read("/identities")[1]["active"] is active
    assert read("/clock")["offset"] == offset


def test_faults_requests_and_snapshots_are_isolated(api: Api) -> None:
    within(api, "a", "POST", "/_control/faults", json={"status": 503})
    within(api, "a", "PUT", "/_control/snapshots/one")
    assert [within(api, name, "GET", CALLS).status_code for name in "ab"] == [503, 200]
    assert api.get("doctor").status_code == 200
    assert within(api, "b", "GET", "/_control/faults").json() == []
    assert within(api, "b", "GET", "/_control/snapshots").json() == []
    assert within(api, "b", "POST", "/_control/snapshots/one/restore").status_code == 404
    logged = {name: within(api, name, "GET", "/_control/requests").json() for name in "ab"}
    assert {name: [each["status"] for each in log] for name, log in logged.items()} == {
        "a": [503],
        "b": [200],
    }
    assert [each["path"] for each in api.manage("GET", "/requests")] == [CALLS]


@pytest.mark.parametrize("by", ["prefix", "header"])
def test_events_are_isolated(api: Api, by: str) -> None:
    place, header = ("/_ns/a", {}) if by == "prefix" else ("", {HEADER: "a"})
    with (
        listening(api, None, headers=api.headers("doctor") | header, place=place) as here,
        listening(api, "doctor") as there,
    ):
        for name in ("b", "a"):
            call = within(api, name, "POST", CALLS, json=draft(api)).json()
            within(api, name, "POST", f"{CALLS}{call['id']}/cancel/")
        other = api.call("cancelled")
        assert here.types(1) == ["call.cancelled"]
        assert there.next()["data"]["call"]["channel_name"] == other["channel_name"]
        assert within(api, "a", "POST", "/_control/events/disconnect", json={}).json() == {"closed": 1}
        assert here.close_code() == 1012


# -- Choice ------------------------------------------------------------------------------------------


def test_header_and_prefix_choose_the_same_namespace(api: Api) -> None:
    created = within(api, "worker-1", "POST", CALLS, json=draft(api)).json()
    listed = api.get("doctor", CALLS).json()["results"]
    by_header = api.client.get(CALLS, headers=api.headers("doctor") | {HEADER: "worker-1"}).json()["results"]
    assert (listed, by_header) == ([], [created])
    control = api.control("GET", "/server", headers={HEADER: "worker-1"})
    assert control.json()["namespace"] == "worker-1"
    assert within(api, "worker-1", "GET", "/_control/server").json()["namespace"] == "worker-1"
    both = within(api, "worker-2", "GET", "/_control/server", headers={HEADER: "worker-1"})
    assert both.json()["namespace"] == "worker-2"


def test_links_stay_in_the_namespace(api: Api) -> None:
    created = [within(api, "w", "POST", CALLS, json=draft(api, 60 * hours)) for hours in (1, 2, 3)]
    for response in created:
        assert response.headers["location"].endswith(f"/_ns/w{CALLS}{response.json()['id']}/")
        call = api.client.get(response.headers["location"], headers=api.headers("doctor"))
        assert call.json() == response.json()
    page = within(api, "w", "GET", f"{CALLS}?page_size=1&page=2").json()
    for link, call in (("next", created[0]), ("previous", created[2])):
        assert f"/_ns/w{CALLS}" in page[link]
        assert api.client.get(page[link], headers=api.headers("doctor")).json()["results"] == [call.json()]
    plain = api.client.get(f"{CALLS}?page_size=1", headers=api.headers("doctor") | {HEADER: "w"}).json()
    assert "/_ns/" not in plain["next"]


def test_pages_are_served_under_the_prefix(api: Api) -> None:
    for path in ("/", "/healthz", "/openapi.yaml", "/docs/", "/docs/assets/swagger-ui.css", "/_control/docs"):
        assert within(api, "w", "GET", path).status_code == 200, path
    for place in ("", "/_ns/w"):
        described = api.client.get(f"{place}/_control/openapi.json", headers={"Host": "localhost"}).json()
        assert described["servers"] == [{"url": place or "/"}]
    bare = api.client.get("/_ns/w", headers={"Host": "localhost"}, follow_redirects=False)
    assert (bare.status_code, bare.headers["location"]) == (307, "w/")


@pytest.mark.parametrize("name", ["", "x" * 65, "%C3%A9", "a%0A"])
def test_invalid_namespace_name_is_refused(api: Api, name: str) -> None:
    for path in (CALLS, "/_control/server"):
        response = within(api, name, "GET", path)
        assert (response.status_code, response.json()["code"]) == (400, "namespace")
        assert "name" in response.json()["error"]
    with pytest.raises(WebSocketDisconnect) as closed, listening(api, "doctor", place=f"/_ns/{name}"):
        pass
    assert closed.value.code == 4400
    assert namespace_names(api) == [""]


# -- Lifetime ----------------------------------------------------------------------------------------


def test_namespace_is_created_at_first_request(api: Api) -> None:
    assert namespace_names(api) == [""]
    api.create()
    within(api, "b", "GET", CALLS)
    within(api, "a", "POST", CALLS, json=draft(api))
    listed = api.manage("GET", "/namespaces")
    assert [(each["name"], each["calls"]) for each in listed] == [("", 1), ("b", 0), ("a", 1)]
    age = datetime.now(UTC) - datetime.fromisoformat(listed[2]["created_at"])
    assert timedelta(0) <= age < timedelta(minutes=1)


def test_concurrent_requests_create_one_namespace() -> None:
    async def use() -> None:
        app = create_app(Settings(database=":memory:", seed_calls=5))
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answers = await asyncio.gather(*(client.get("/_ns/w/_control/calls") for _ in range(50)))
            assert {len(response.json()) for response in answers} == {5}
            assert len((await client.get("/_control/namespaces")).json()) == 2
        await app.state.namespaces.drop("w")
        await app.state.namespaces.default.close()

    asyncio.run(use())


def test_dropped_namespace_loses_its_state(api: Api) -> None:
    within(api, "a", "POST", CALLS, json=draft(api))
    with listening(api, "doctor", place="/_ns/a") as session:
        assert api.control("DELETE", "/namespaces/a").status_code == 204
        assert session.close_code() == 4410
    assert namespace_names(api) == [""]
    assert api.control("DELETE", "/namespaces/a").status_code == 404
    assert within(api, "a", "GET", "/_control/calls").json() == []


def test_memory_of_dropped_namespace_is_freed(api: Api) -> None:
    within(api, "a", "GET", CALLS)
    reference = weakref.ref(all_of(api)[1])
    api.manage("DELETE", "/namespaces/a")
    gc.collect()
    assert reference() is None


@pytest.fixture
def monotonic(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Replace the clock that measures the idle time of namespaces."""
    time = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(namespaces, "time", SimpleNamespace(monotonic=lambda: time.now, time=lambda: 0.0))
    return time


def test_idle_namespace_is_dropped(make_api: Callable[..., Api], monotonic: SimpleNamespace) -> None:
    api = make_api(namespace_idle_minutes=5)
    for name in "ab":
        within(api, name, "GET", CALLS)
    monotonic.now += 200
    within(api, "a", "GET", CALLS)
    assert [each["idle_seconds"] for each in api.manage("GET", "/namespaces")[1:]] == [0.0, 200.0]
    monotonic.now += 101
    assert namespace_names(api) == ["", "a"]
    monotonic.now += 1000
    within(api, "c", "GET", CALLS)
    assert namespace_names(api) == ["", "c"]


def test_open_connection_keeps_namespace(make_api: Callable[..., Api], monotonic: SimpleNamespace) -> None:
    api = make_api(namespace_idle_minutes=5)
    for name in "cb":
        within(api, name, "GET", CALLS)
    log = next(each for each in all_of(api) if each.name == "b").log
    with listening(api, "doctor", place="/_ns/a"), log.subscribe():
        monotonic.now += 301
        assert sorted(namespace_names(api)) == ["", "a", "b"]
    monotonic.now += 301
    assert namespace_names(api) == [""]


def test_number_of_namespaces_is_limited(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "MAX_NAMESPACES", 2)
    for name in "ab":
        assert within(api, name, "GET", CALLS).status_code == 200
    refusal = within(api, "c", "GET", CALLS)
    assert (refusal.status_code, refusal.json()["code"]) == (400, "namespace")
    assert "drop" in refusal.json()["error"]
    assert within(api, "b", "GET", CALLS).status_code == 200
    api.control("DELETE", "/namespaces/a")
    assert within(api, "c", "GET", CALLS).status_code == 200


# -- Within another application ----------------------------------------------------------------------


@pytest.mark.parametrize("root", ["/video", "/_ns"])
def test_mounted_application_has_namespaces(api: Api, root: str) -> None:
    settings = Settings(database=":memory:", seed_calls=3, clock="2030-01-05T10:00:00Z")
    app = create_app(settings, clock=FakeClock())
    outer = httpx.ASGITransport(Starlette(routes=[Mount(root, app=app)]))  # type: ignore[arg-type]

    async def use_places() -> None:
        async with httpx.AsyncClient(
            transport=outer, base_url="http://localhost", headers=api.headers("doctor")
        ) as client:
            for place in (root, f"{root}/_ns/a"):
                body = {"doctor": 1, "patient": 1, "scheduled_time": "2031-01-01T00:00:00Z"}
                created = await client.post(f"{place}{CALLS}", json=body)
                assert created.headers["location"].endswith(f"{place}{CALLS}{created.json()['id']}/")
                assert (await client.get(created.headers["location"])).json() == created.json()
                assert (await client.get(f"{place}/_control/requests")).json()[0][
                    "operation"
                ] == "getVideoCall"
                assert len((await client.get(f"{place}/_control/calls")).json()) == 4

    asyncio.run(use_places())
    asyncio.run(app.state.namespaces.drop("a"))
    asyncio.run(app.state.namespaces.default.close())
