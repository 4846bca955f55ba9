"""1. List Video Calls."""

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from video_calls_contract.checks import (
    require,
    require_any_refusal,
    require_refusal,
    require_same_call,
    require_success,
)
from video_calls_contract.created_calls import Call
from video_calls_contract.exceptions import Blocked, NotOffered, Violation
from video_calls_contract.exchange import Exchange, Together, instant
from video_calls_contract.pagination import LARGE, Walk, read_list
from video_calls_contract.run import Run
from video_calls_contract.scheduling import Calls
from video_calls_contract.users import User, Users

pytestmark = pytest.mark.lists

DEFAULT_SIZES = (25, 55, 105)
"""Numbers of calls that are more than usual page sizes."""


@pytest.fixture(scope="module")
def far_calls(run: Run, calls: Calls) -> list[object]:
    """Create calls of every pair of users, cancel the call created last, and return all their ids."""
    created = successes(
        run, *(partial(calls.scheduled, pair, by=by) for pair in calls.pairs for by in pair.participants)
    )
    for call in created[-1:]:
        call.patient.cancel(call.id)
    return [call.id for call in created]


@pytest.fixture(scope="module")
def all_statuses(run: Run, calls: Calls, far_calls: list[object]) -> list[object]:
    """Create calls of every pair, a cancelled and a completed call; return their ids."""
    return [*far_calls, *(call.id for call in successes(run, calls.cancelled, calls.completed))]


@pytest.fixture(autouse=True)
def calls_of_lists(request: pytest.FixtureRequest, used_fixtures: set[str]) -> None:
    """Create the calls for all tests of the stage `lists` before the first of them reads a list."""
    if request.node.get_closest_marker("alone") is None:
        for name in ("all_statuses", "several_pages"):
            if name in used_fixtures:
                request.getfixturevalue(name)


def successes(run: Run, *schedulers: Callable[[], Call]) -> list[Call]:
    """Call these functions, and return the created calls. Other tests report why one could not be created."""

    def attempt(schedule: Callable[[], Call]) -> Call | None:
        with suppress(Blocked):
            return schedule()
        return None

    calls = run.side_by_side(attempt, schedulers)
    return [call for call in calls if call is not None]


# "Get a list of video calls for the authenticated user (doctor or patient)."


@pytest.mark.rule("list.own-calls")
@pytest.mark.usefixtures("all_statuses")
@pytest.mark.parametrize(
    "name", ["doctor", "patient", "other_doctor", "other_patient", "dual_user", "outsider"]
)
def test_list_holds_no_call_of_others(users: Users, calls: Calls, name: str) -> None:
    user = users[name]
    if user.doctor or user.patient or user.list().status != 403:
        require_success(user.list(), 200, because=f"the list of the {name}, even if it is empty")
    require_own_calls(user, calls, user.list(), *read_list(user, LARGE).pages)


@pytest.mark.rule("list.own-calls")
@pytest.mark.usefixtures("several_pages")
@pytest.mark.parametrize("name", ["doctor", "patient"])
def test_pages_hold_no_call_of_others(users: Users, calls: Calls, name: str) -> None:
    require_own_calls(users[name], calls, *read_list(users[name]).pages)


def require_own_calls(user: User, calls: Calls, *pages: Exchange) -> None:
    """Check that the pages of a user's list contain only this user's calls."""
    for page in pages:
        for call in page.calls:
            is_own = (user.doctor is not None and call.get("doctor") == user.doctor) or (
                user.patient is not None and call.get("patient") == user.patient
            )
            if not is_own and (user.doctor or user.patient or calls.created.is_ours(call.get("id"))):
                raise Violation(
                    f"the list to hold only calls of the {user.name}; got call {call.get('id')!r} of "
                    f"doctor {call.get('doctor')!r} and patient {call.get('patient')!r}",
                    page.about(call.get("id")),
                    rule="list.own-calls",
                )


@pytest.mark.rule("list.own-calls")
@pytest.mark.parametrize("name", ["doctor", "patient", "other_doctor", "other_patient"])
def test_list_holds_every_call_of_user(
    users: Users, calls: Calls, all_statuses: list[object], name: str
) -> None:
    user = users[name]
    expected = [
        call_id
        for call_id in all_statuses
        if (call := calls.created.calls[call_id]).doctor == user.doctor or call.patient == user.patient
    ]
    if not expected:
        calls.scheduled()  # raises `Blocked` with the reason why there are no calls
    walk = read_list(user, LARGE)
    missing = [call_id for call_id in expected if call_id not in walk.ids]
    if missing and not walk.ended:
        raise NotOffered("the list has too many pages to read them all")
    require(
        not missing, f"the list to hold every call of the {name}; {missing[:5]} are missing", *walk.pages[-3:]
    )


@pytest.mark.rule("list.own-calls")
@pytest.mark.alone
def test_list_holds_ongoing_call(run: Run, calls: Calls) -> None:
    with calls.ongoing() as call:
        run.side_by_side(partial(entry_of, call=call), call.participants)


@pytest.mark.rule("list.own-calls")
@pytest.mark.alone
def test_doctor_who_is_also_patient_lists_both(users: Users, calls: Calls) -> None:
    dual = users["dual_user"]
    creations = [
        dual.create(dual.doctor, users.patient.patient, calls.free_times.take()),
        dual.create(users.doctor.doctor, dual.patient, calls.free_times.take()),
    ]
    if not all(exchange.succeeded for exchange in creations):
        raise Blocked("no call of a user who is both doctor and patient could be scheduled")
    walk = read_list(dual, LARGE)
    ids = [exchange.object.get("id") for exchange in creations]
    missing = [call_id for call_id in ids if call_id not in walk.ids]
    require(
        not missing or not walk.ended,
        f"the list to hold every call of a user who is a doctor and a patient; {missing} are missing",
        *creations,
        *walk.pages[:1],
    )


@pytest.mark.rule("list.own-calls")
@pytest.mark.alone
def test_list_shows_calls_as_get_does(run: Run, calls: Calls) -> None:
    def require_same(call: Call) -> None:
        read = call.doctor.get(call.id)
        page, entry = entry_of(call.doctor, call)
        expected = "the list to show the call as get does"
        require_same_call(require_success(read), entry, expected, call.doctor, read, page)

    with ExitStack() as stack:
        ongoing = partial(stack.enter_context, calls.ongoing())
        created = [calls.scheduled(), *successes(run, calls.cancelled, calls.completed)]
        # The ongoing call comes last, because it keeps its users busy until this block ends.
        created += successes(run, ongoing)
        run.side_by_side(require_same, created)


def entry_of(user: User, call: Call) -> tuple[Exchange, dict[str, Any]]:
    """Return the page of a user's list that contains a call, and the call on this page.

    Raises:
        NotOffered: if the list has too many pages.
        Violation: if the list does not contain the call.
    """
    walk = read_list(user, LARGE)
    for page in walk.pages:
        for entry in page.calls:
            if entry.get("id") == call.id:
                return page.about(call.id), entry
    if not walk.ended:
        raise NotOffered("the list has too many pages to read them all")
    raise Violation(
        f"the list to hold every call of the {user.name}; call {call.id!r} is missing", *walk.pages[:1]
    )


def require_shown_at_once(run: Run, call: Call, *actions: str) -> None:
    """Check that the lists of both participants show each change at once.

    They are also read before a change, so that a cache would show the old status.
    """

    def require_shown(action: str, changed: Exchange, user: User) -> None:
        read = user.get(call.id)
        page, entry = entry_of(user, call)
        actual, status = entry.get("status"), require_success(read, 200, changed).get("status")
        require(
            actual == status,
            f"the list to show the call after {action} as {status}; got {actual!r}",
            changed,
            read,
            page,
        )

    for action in actions:
        run.side_by_side(partial(entry_of, call=call), call.participants)
        changed = run.calls.step(call, action)
        run.side_by_side(partial(require_shown, action, changed), call.participants)


@pytest.mark.rule("list.own-calls")
@pytest.mark.alone
def test_list_shows_join_and_end_at_once(run: Run, calls: Calls) -> None:
    with calls.soon() as call:
        require_shown_at_once(run, call, "join", "end")


@pytest.mark.rule("list.own-calls")
@pytest.mark.alone
def test_list_shows_cancellation_at_once(run: Run, calls: Calls) -> None:
    require_shown_at_once(run, calls.scheduled(), "cancel")


@pytest.mark.rule("list.own-calls")
@pytest.mark.usefixtures("all_statuses")
def test_query_shows_no_call_of_others(users: Users) -> None:
    user, other = users["other_patient"], users.doctor
    queries = (
        f"doctor={other.doctor}",
        f"patient={users.patient.patient}",
        "all=true",
        "user=1",
        "status=scheduled",
    )
    for query in queries:
        page = user.list(query)
        if not page.succeeded:
            continue
        for call in page.calls:
            if call.get("patient") != user.patient:
                foreign = f"call {call.get('id')!r} of patient {call.get('patient')!r}"
                raise Violation(
                    f"the list to hold only own calls, whatever the query; got {foreign}",
                    page.about(call.get("id")),
                )


# `"count": 1,`


@pytest.mark.rule("list.envelope")
@pytest.mark.usefixtures("far_calls")
@pytest.mark.parametrize("name", ["doctor", "patient"])
def test_page_has_four_fields_and_total_count(users: Users, calls: Calls, name: str) -> None:
    user = users[name]
    page = user.list()
    body = require_success(page, 200, because="the list")
    for field in ("count", "next", "previous", "results"):
        require(field in body, f"the list to have `{field}`", page)
    results = body["results"]
    require(isinstance(results, list), f"`results` to be a list; got {str(results)[:80]!r}", page)
    for _ in range(4):
        walk = read_list(user, LARGE)
        require_own_calls(user, calls, *walk.pages)
        if walk.ended and walk.is_current(user):
            count = walk.pages[0].object.get("count")
            require(
                count == len(walk.ids),
                f"`count` to be the number of calls on all pages, {len(walk.ids)}; got {count!r}",
                walk.pages[0],
                walk.pages[-1],
            )
            return
    raise NotOffered("the list changed while it was read, or has too many pages")


# `"next": null,`


@pytest.fixture(scope="module")
def several_pages(calls: Calls, together: Together) -> None:
    """Create calls until the list has a second page, or more than a hundred calls."""
    doctor = calls.pair.doctor
    page = doctor.list()
    for size in DEFAULT_SIZES:
        count = page.object.get("count")
        if page.object.get("next") or not isinstance(count, int) or count >= size:
            continue
        calls.several(size - count, together)
        page = doctor.list()


@pytest.mark.rule("list.pages")
@pytest.mark.usefixtures("several_pages")
@pytest.mark.parametrize("sized", [False, True], ids=["default", "page_size"])
def test_every_call_is_on_one_page(users: Users, calls: Calls, *, sized: bool) -> None:
    user = users.doctor
    count = user.list().object.get("count")
    query = f"page_size={max(2, min(100, count // 5))}" if sized and isinstance(count, int) else ""
    problem: Violation | None = None
    walks: list[Walk] = []
    for _ in range(5):
        walk = read_list(user, query)
        require_own_calls(user, calls, *walk.pages)
        walks.append(walk)
        try:
            require_complete(user, walk)
        except Violation as violation:
            if walk.is_current(user):
                problem = violation
                continue
        else:
            return
    if problem is not None:
        raise problem
    if len({walk.pages[0].object.get("count") for walk in walks}) == 1:
        first_pages = [walk.pages[0] for walk in walks]
        raise Violation(
            "the pages to hold each call once; every reading had gaps or duplicates", *first_pages
        )
    raise NotOffered("the list changed while it was read")


def require_complete(user: User, walk: Walk) -> None:
    """Check that the pages contain each call once, forward from the first and back from the last."""
    first, last = walk.pages[0], walk.pages[-1]
    if walk.problem:
        raise Violation(walk.problem, *walk.pages[-2:])
    counts_page = first.object.get("next") and first.object.get("count") == len(list(first.calls))
    require(not counts_page, "`count` to count the calls of all pages", first, rule="list.envelope")
    previous = first.object.get("previous")
    require(previous is None, f"`previous` to be null on the first page; got {previous!r}", first)
    duplicates = [call_id for call_id, times in Counter(walk.ids).items() if times > 1]
    require(
        not duplicates,
        f"the pages to hold each call once; {duplicates[:5]} came more often",
        *walk.pages[-3:],
    )
    if walk.ended:
        count = first.object.get("count")
        require(
            count == len(walk.ids),
            f"the pages to hold as many calls as `count` says, {count!r}; got {len(walk.ids)}",
            first,
            last,
        )
    back = walk.back(user)
    if back.problem:
        raise Violation(back.problem, *back.pages[-2:])
    missing = sorted(set(map(str, walk.ids)) - set(map(str, back.ids)))
    require(
        not missing,
        f"the `previous` links to lead to the same calls; {missing[:5]} are missing",
        *back.pages[-3:],
    )
    require(
        len(back.ids) == len(walk.ids), "the `previous` links to lead to each call once", *back.pages[-3:]
    )


@pytest.mark.rule("list.newest-first")
@pytest.mark.usefixtures("several_pages")
def test_list_is_in_descending_order_of_time(users: Users) -> None:
    for _ in range(4):
        walk = read_list(users.doctor)
        if walk.is_current(users.doctor):
            break
    else:
        raise NotOffered("the list changed while it was read")
    times = [
        time for page in walk.pages for call in page.calls if (time := instant(call.get("scheduled_time")))
    ]
    for earlier, later in pairwise(times):
        expected = f"calls in descending order of `scheduled_time`; {later} came after {earlier}"
        require(earlier >= later, expected, *walk.pages[:2])


# "404: Not Found"


@pytest.mark.rule("list.page-out-of-range")
@pytest.mark.usefixtures("several_pages")
@pytest.mark.parametrize("page", ["99999", "0", "-1", "abc"])
def test_page_out_of_range_is_not_found(users: Users, page: str) -> None:
    first = users.doctor.list()
    following = first.object.get("next")
    if isinstance(following, str) and "page" not in parse_qs(urlsplit(following).query):
        raise NotOffered("the backend does not number its pages")
    require_refusal(users.doctor.list(f"page={page}"), 404, 400, because=f"page {page}")


# Extension: the list takes a page size.


@pytest.mark.rule("list.page-size")
@pytest.mark.usefixtures("far_calls")
def test_page_size_sets_number_of_calls(users: Users) -> None:
    two = users.doctor.list("page_size=2")
    count = two.object.get("count")
    if len(list(two.calls)) != 2 or not isinstance(count, int) or count <= 2:
        raise NotOffered("not offered: `page_size` does not change how many calls a page has")
    one = users.doctor.list("page_size=1")
    number = len(list(one.calls))
    require(number == 1, f"page_size=1 to return one call; got {number}", one)
    following = two.object.get("next")
    if not isinstance(following, str):
        raise Blocked("the first page has no `next`")
    second = users.doctor.follow(following)
    number = len(list(second.calls))
    require(number in (1, 2), f"the next page to hold one or two calls; got {number}", two, second)
    for size in ("0", "-1", "abc", "1000000"):
        odd = users.doctor.list(f"page_size={size}")
        if not odd.succeeded:
            require_any_refusal(odd, f"page_size={size} to be limited, or")
