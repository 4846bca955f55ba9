"""Section 1 of the document: listing one's own calls."""

from typing import Any

import pytest

from support.api import CALLS, Api


@pytest.mark.rule("list.own-calls", "list.envelope", "list.newest-first")
def test_list_returns_only_own_calls(api: Api) -> None:
    with_other = api.create("doctor", doctor=1, patient=2, minutes=120).json()
    with_patient = api.create("doctor", doctor=1, patient=1, minutes=60).json()
    elsewhere = api.create("other_doctor", doctor=2, patient=2, minutes=240).json()
    as_doctor = api.create("dual_user", doctor=4, patient=1, minutes=360).json()
    as_patient = api.create("dual_user", doctor=2, patient=4, minutes=480).json()
    calls_by_user = {
        "doctor": [with_other, with_patient],
        "patient": [as_doctor, with_patient],
        "other_doctor": [as_patient, elsewhere],
        "other_patient": [elsewhere, with_other],
        "dual_user": [as_patient, as_doctor],
        "outsider": [],
    }
    for user, results in calls_by_user.items():
        page = api.get(user).json()
        assert page == {"count": len(results), "next": None, "previous": None, "results": results}, user


def pages_from(api: Api, url: str | None, direction: str) -> list[dict[str, Any]]:
    pages = []
    while url is not None:
        pages.append(api.get("doctor", url).json())
        url = pages[-1][direction]
    return pages


@pytest.mark.rule("list.pages", "list.page-size")
def test_pages_have_every_call_once(api: Api) -> None:
    for index in range(7):
        api.create(minutes=60 * (index + 1))
    forth = pages_from(api, f"{CALLS}?page_size=3", "next")
    assert [[call["id"] for call in page["results"]] for page in forth] == [[7, 6, 5], [4, 3, 2], [1]]
    assert {page["count"] for page in forth} == {7}
    assert forth[0]["previous"] is None
    back = pages_from(api, f"{CALLS}?page_size=3&page=3", "previous")
    assert [page["results"] for page in back] == [page["results"] for page in reversed(forth)]


def test_page_links_keep_query(api: Api) -> None:
    for index in range(3):
        api.create(minutes=60 * (index + 1))
    page = api.get("doctor", f"{CALLS}?page_size=1&page=2&lang=de%20CH").json()
    assert page["next"] == f"http://127.0.0.1{CALLS}?page_size=1&lang=de+CH&page=3"
    assert page["previous"] == f"http://127.0.0.1{CALLS}?page_size=1&lang=de+CH&page=1"


def test_page_size_defaults_to_20(api: Api) -> None:
    for index in range(21):
        api.create(minutes=60 * (index + 1))
    assert len(api.get("doctor").json()["results"]) == 20
    assert len(api.get("doctor", f"{CALLS}?page_size=100").json()["results"]) == 21
    assert len(api.get("doctor", f"{CALLS}?page=2").json()["results"]) == 1


@pytest.mark.rule("list.page-out-of-range")
@pytest.mark.parametrize("page", ["0", "2", "abc", "", "9" * 30, "%D9%A1", "0&page_size=0"])
def test_page_out_of_range_is_not_found(api: Api, page: str) -> None:
    api.create()
    refusal = api.get("doctor", f"{CALLS}?page={page}")
    assert refusal.status_code == 404
    assert refusal.json() == {"error": "Invalid page.", "code": "list.page-out-of-range"}


@pytest.mark.parametrize("size", ["0", "101", "abc", "9" * 30])
def test_page_size_out_of_range_is_refused(read_only_api: Api, size: str) -> None:
    refusal = read_only_api.get("doctor", f"{CALLS}?page_size={size}")
    assert refusal.status_code == 400
    assert refusal.json() == {
        "error": "page_size: must be a whole number from 1 to 100",
        "code": "list.page-size",
        "fields": {"page_size": ["must be a whole number from 1 to 100"]},
    }
