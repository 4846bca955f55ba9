"""1. List Video Calls."""

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from urllib.parse import parse_qs, urlsplit

import pytest

from video_calls_contract.backend import People, Person
from video_calls_contract.call_record import Call
from video_calls_contract.checks import require, require_refusal, require_same_call, require_success
from video_calls_contract.exchange import Exchange, Together, instant
from video_calls_contract.outcomes import Blocked, NotOffered, Violation
from video_calls_contract.pagination import LARGE, Walk, walked
from video_calls_contract.scheduling import Calls
from video_calls_contract.slots import Slots

DEFAULT_SIZES = (25, 55, 105)
"""How many calls are made so that the backend's own page does not hold them all."""


@pytest.fixture(scope="module")
def far_calls(calls: Calls) -> list[object]:
    """Calls of every pair, the last one cancelled; their ids."""
    made = possible(
        *(partial(calls.scheduled, pair, by=by) for pair in calls.pairs() for by in pair.participants)
    )
    for call in made[-1:]:
        call.patient.cancel(call.id)
    return [call.id for call in made]


@pytest.fixture(scope="module")
def everybody(calls: Calls, far_calls: list[object]) -> list[object]:
    """Calls of every pair, and one in each status, as far as there can be; their ids."""
    return [*far_calls, *(call.id for call in possible(calls.cancelled, calls.completed))]


def possible(*makers: Callable[[], Call]) -> list[Call]:
    """The calls that can be made; other tests tell why another cannot."""
    made: list[Call] = []
    for make in makers:
        with suppress(Blocked):
            made.append(make())
    return made


# "Get a list of video calls for the authenticated user (doctor or patient)."


@pytest.mark.rule("list.own-calls")
@pytest.mark.usefixtures("everybody")
@pytest.mark.parametrize(
    "name", ["doctor", "patient", "other_doctor", "other_patient", "dual_user", "outsider"]
)
def test_the_list_holds_no_call_of_others(people: People, calls: Calls, name: str) -> None:
    person = people[name]
    if person.doctor or person.patient or person.list().status != 403:
        require_success(
            person.list(), 200, because=f"the list of the {name}, whether there are calls in it or not"
        )
    holds_only_own(person, calls, person.list(), *walked(person, LARGE).pages)


@pytest.mark.rule("list.own-calls")
@pytest.mark.usefixtures("several_pages")
@pytest.mark.parametrize("name", ["doctor", "patient"])
def test_no_page_of_the_list_holds_a_call_of_others(people: People, calls: Calls, name: str) -> None:
    holds_only_own(people[name], calls, *walked(people[name]).pages)


def holds_only_own(person: Person, calls: Calls, *pages: Exchange) -> None:
    """Holds pages of somebody's list to calls of that person."""
    for page in pages:
        for call in page.calls:
            is_own = (person.doctor is not None and call.get("doctor") == person.doctor) or (
                person.patient is not None and call.get("patient") == person.patient
            )
            if not is_own and (person.doctor or person.patient or calls.record.is_ours(call.get("id"))):
                raise Violation(
                    f"only calls of the {person.name}; got call {call.get('id')!r} of doctor "
                    f"{call.get('doctor')!r} and patient {call.get('patient')!r}",
                    page.about(call.get("id")),
                    rule="list.own-calls",
                )


@pytest.mark.rule("list.own-calls")
@pytest.mark.parametrize("name", ["doctor", "patient", "other_doctor", "other_patient"])
def test_the_list_holds_every_call_of_the_user(
    people: People, calls: Calls, everybody: list[object], name: str
) -> None:
    person = people[name]
    expected = [
        call_id
        for call_id in everybody
        if (call := calls.record.calls[call_id]).doctor == person.doctor or call.patient == person.patient
    ]
    if not expected:
        calls.scheduled()  # or tells why there is no call
    walk = walked(person, LARGE)
    missing = [call_id for call_id in expected if call_id not in walk.ids]
    if missing and not walk.ended:
        raise NotOffered("the list has too many pages to look at them all")
    require(not missing, f"every call of the {name}; {missing[:5]} are missing", *walk.pages[-3:])


@pytest.mark.rule("list.own-calls")
@pytest.mark.alone
def test_the_list_holds_an_ongoing_call(calls: Calls) -> None:
    with calls.ongoing() as call:
        for person in call.participants:
            walk = walked(person, LARGE)
            require(
                call.id in walk.ids or not walk.ended,
                f"every call of the {person.name}; an ongoing one is missing",
                *walk.pages[:1],
            )


@pytest.mark.rule("list.own-calls")
def test_the_list_holds_both_sides_of_a_user_who_is_both(people: People, slots: Slots) -> None:
    both = people["dual_user"]
    made = [
        both.create(both.doctor, people.patient.patient, slots.take()),
        both.create(people.doctor.doctor, both.patient, slots.take()),
    ]
    if not all(exchange.succeeded for exchange in made):
        raise Blocked("no call of the dual user could be scheduled")
    walk = walked(both, LARGE)
    missing = [exchange.object.get("id") for exchange in made if exchange.object.get("id") not in walk.ids]
    require(
        not missing or not walk.ended,
        f"every call of somebody who is a doctor and a patient; {missing} are missing",
        *made,
        *walk.pages[:1],
    )


@pytest.mark.rule("list.own-calls")
@pytest.mark.alone
def test_the_list_shows_calls_as_they_are(calls: Calls) -> None:
    with ExitStack() as stack:
        ongoing = partial(stack.enter_context, calls.ongoing())
        for call in (calls.scheduled(), *possible(calls.cancelled, calls.completed, ongoing)):
            read = call.doctor.get(call.id)
            shown = [
                (page, entry)
                for page in walked(call.doctor, LARGE).pages
                for entry in page.calls
                if entry.get("id") == call.id
            ]
            for page, entry in shown[:1]:
                expected = "the call in the list as it is when read alone"
                require_same_call(
                    require_success(read), entry, expected, call.doctor, read, page.about(call.id)
                )


def listed(person: Person, call: Call) -> tuple[Exchange, dict[str, object]]:
    """The call in somebody's list, and the page that has it.

    Raises:
        NotOffered: the list has too many pages.
        Violation: the list does not have it.
    """
    walk = walked(person, LARGE)
    for page in walk.pages:
        for entry in page.calls:
            if entry.get("id") == call.id:
                return page.about(call.id), entry
    if not walk.ended:
        raise NotOffered("the list has too many pages to look at them all")
    raise Violation(f"every call of the {person.name}; call {call.id!r} is missing", *walk.pages[:1])


def shows_at_once(calls: Calls, call: Call, *actions: str) -> None:
    """Holds both lists, which were read before, to showing each change as soon as it was answered."""
    for action in actions:
        for person in call.participants:
            listed(person, call)
        changed = call.doctor.act(action, call.id)
        if not changed.succeeded:
            raise calls.blocked_at(action, call, changed)
        for person in call.participants:
            read = person.get(call.id)
            page, entry = listed(person, call)
            got, was = entry.get("status"), require_success(read, 200, changed).get("status")
            require(
                got == was,
                f"the list to show the call as it is after the {action}, {was}; got {got!r}",
                changed,
                read,
                page,
            )


@pytest.mark.rule("list.own-calls")
@pytest.mark.alone
def test_the_list_shows_a_join_and_an_end_at_once(calls: Calls) -> None:
    with calls.soon() as call:
        shows_at_once(calls, call, "join", "end")


@pytest.mark.rule("list.own-calls")
@pytest.mark.alone
def test_the_list_shows_a_cancellation_at_once(calls: Calls) -> None:
    shows_at_once(calls, calls.scheduled(), "cancel")


@pytest.mark.rule("list.own-calls")
@pytest.mark.usefixtures("everybody")
def test_nothing_in_a_query_widens_the_list(people: People) -> None:
    person, other = people["other_patient"], people.doctor
    queries = (
        f"doctor={other.doctor}",
        f"patient={people.patient.patient}",
        "all=true",
        "user=1",
        "status=scheduled",
    )
    for query in queries:
        page = person.list(query)
        if not page.succeeded:
            continue
        for call in page.calls:
            if call.get("patient") != person.patient:
                foreign = f"call {call.get('id')!r} of patient {call.get('patient')!r}"
                raise Violation(
                    f"only own calls, whatever the query is; got {foreign}", page.about(call.get("id"))
                )


# `"count": 1,`


@pytest.mark.rule("list.envelope")
@pytest.mark.alone
@pytest.mark.usefixtures("far_calls")
@pytest.mark.parametrize("name", ["doctor", "patient"])
def test_a_page_has_the_four_fields_and_counts_all_pages(people: People, calls: Calls, name: str) -> None:
    person = people[name]
    page = person.list()
    body = require_success(page, 200, because="the list")
    for field in ("count", "next", "previous", "results"):
        require(field in body, f"`{field}` in the list", page)
    require(isinstance(body["results"], list), "`results` to be a list", page)
    for _ in range(4):
        walk = walked(person, LARGE)
        holds_only_own(person, calls, *walk.pages)
        if walk.ended and walk.is_current(person):
            count = walk.pages[0].object.get("count")
            require(
                count == len(walk.ids),
                f"`count` to be the number of calls on all pages, {len(walk.ids)}; got {count!r}",
                walk.pages[0],
                walk.pages[-1],
            )
            return
    raise NotOffered("the list changed, or went on, while it was read")


# `"next": null,`


@pytest.fixture(scope="module")
def several_pages(calls: Calls, together: Together) -> None:
    """More calls than the backend puts on a page, if a hundred are more."""
    doctor = calls.pair.doctor
    page = doctor.list()
    for enough in DEFAULT_SIZES:
        count = page.object.get("count")
        if page.object.get("next") or not isinstance(count, int) or count >= enough:
            continue
        calls.several(enough - count, together)
        page = doctor.list()


@pytest.mark.rule("list.pages")
@pytest.mark.alone
@pytest.mark.usefixtures("several_pages")
@pytest.mark.parametrize("sized", [False, True], ids=["default", "page_size"])
def test_every_call_is_on_one_page_there_and_back(people: People, calls: Calls, *, sized: bool) -> None:
    person = people.doctor
    count = person.list().object.get("count")
    query = f"page_size={max(2, min(100, count // 5))}" if sized and isinstance(count, int) else ""
    problem: Violation | None = None
    walks: list[Walk] = []
    for _ in range(5):
        walk = walked(person, query)
        holds_only_own(person, calls, *walk.pages)
        walks.append(walk)
        try:
            is_whole(person, walk)
        except Violation as violation:
            if walk.is_current(person):
                problem = violation
                continue
        else:
            return
    if problem is not None:
        raise problem
    if len({walk.pages[0].object.get("count") for walk in walks}) == 1:
        first_pages = [walk.pages[0] for walk in walks]
        raise Violation(
            "one order of calls, so that pages fit together; each reading had another", *first_pages
        )
    raise NotOffered("other people's calls came and went while the list was read")


def is_whole(person: Person, walk: Walk) -> None:
    """Holds a walk forward, and one back from its end, to each call once."""
    first, last = walk.pages[0], walk.pages[-1]
    if walk.problem:
        raise Violation(walk.problem, *walk.pages[-2:])
    of_page = first.object.get("next") and first.object.get("count") == len(list(first.calls))
    require(not of_page, "`count` to count the calls of all pages", first, rule="list.envelope")
    require(first.object.get("previous") is None, "`previous` to be null on the first page", first)
    twice = [call_id for call_id, times in Counter(walk.ids).items() if times > 1]
    require(not twice, f"each call once; {twice[:5]} came more often", *walk.pages[-3:])
    if walk.ended:
        count = first.object.get("count")
        require(
            count == len(walk.ids),
            f"as many calls as `count` says, {count!r}, on all pages; got {len(walk.ids)}",
            first,
            last,
        )
    back = walk.back(person)
    if back.problem:
        raise Violation(back.problem, *back.pages[-2:])
    missing = sorted(set(map(str, walk.ids)) - set(map(str, back.ids)))
    require(not missing, f"the same calls on the way back; {missing[:5]} are missing", *back.pages[-3:])
    require(len(back.ids) == len(walk.ids), "each call once on the way back, too", *back.pages[-3:])


@pytest.mark.rule("list.newest-first")
@pytest.mark.alone
@pytest.mark.usefixtures("several_pages")
def test_calls_come_in_descending_order_of_their_time(people: People) -> None:
    for _ in range(4):
        walk = walked(people.doctor)
        if walk.is_current(people.doctor):
            break
    else:
        raise NotOffered("other people's calls came and went while the list was read")
    times = [
        time for page in walk.pages for call in page.calls if (time := instant(call.get("scheduled_time")))
    ]
    require(
        times == sorted(times, reverse=True), "calls in descending order of `scheduled_time`", *walk.pages[:2]
    )


# "404: Not Found"


@pytest.mark.rule("list.page-out-of-range")
@pytest.mark.usefixtures("several_pages")
@pytest.mark.parametrize("page", ["99999", "0", "-1", "abc"])
def test_a_page_that_does_not_exist_is_not_found(people: People, page: str) -> None:
    first = people.doctor.list()
    following = first.object.get("next")
    if isinstance(following, str) and "page" not in parse_qs(urlsplit(following).query):
        raise NotOffered("the backend's pages have no numbers")
    require_refusal(people.doctor.list(f"page={page}"), 404, 400, because=f"page {page}")


# Extension: the list takes a page size.


@pytest.mark.rule("list.page-size")
@pytest.mark.usefixtures("far_calls")
def test_a_page_holds_as_many_calls_as_were_asked_for(people: People) -> None:
    two = people.doctor.list("page_size=2")
    count = two.object.get("count")
    if len(list(two.calls)) != 2 or not isinstance(count, int) or count <= 2:
        raise NotOffered("not offered: `page_size` does not change how many calls a page has")
    one = people.doctor.list("page_size=1")
    require(len(list(one.calls)) == 1, "one call with page_size=1", one)
    following = two.object.get("next")
    if not isinstance(following, str):
        raise Blocked("there is no next page")
    second = people.doctor.follow(following)
    require(len(list(second.calls)) in (1, 2), "two calls on the next page, too", two, second)
    for size in ("0", "-1", "abc", "1000000"):
        odd = people.doctor.list(f"page_size={size}")
        require(
            odd.succeeded or 400 <= odd.status < 500,
            f"page_size={size} to be refused or bounded; got {odd.answer}",
            odd,
        )
