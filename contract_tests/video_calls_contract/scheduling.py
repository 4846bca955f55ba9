"""Calls for tests to work on: where they fit among those that exist, and that none is left behind.

Far calls lie months or days ahead, at times that `slots` finds. Near ones lie within the join window. There
a doctor and a patient have room for one call at a time, so near calls are lent out pair by pair and ended or
cancelled when their test is over.
"""

import json
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from video_calls_contract.backend import Backend, Missing, People, Person
from video_calls_contract.booking import Policy
from video_calls_contract.checks import Blocked
from video_calls_contract.exchange import Exchange, Together, as_object, instant
from video_calls_contract.ids import is_id
from video_calls_contract.slots import OVERLAP, Slots

__all__ = ["PARTICIPANTS", "Call", "Calls", "Pair", "Slots"]

JOIN_WINDOW = timedelta(minutes=15)
MOST_PAGES = 60
PATIENCE = 40.0  # seconds to wait until another run lets go of a near slot
PAUSE = 2.0  # seconds between two looks
REMEMBERED = 20.0  # seconds for which nobody looks again whether calls of others are still in the way
MOST_NAMED = 3
_MOST_QUOTED = 160

PARTICIPANTS = ("doctor", "patient", "other_doctor", "other_patient", "dual_user")
"""Those of the configuration who may be in this run's calls."""

_BECOMES = {
    "joinVideoCall": "ongoing",
    "endVideoCall": "completed",
    "cancelVideoCall": "cancelled",
    "DELETE": "cancelled",  # some backends do
}
_OPEN, _CLOSED = ("scheduled", "ongoing"), ("completed", "cancelled")


@dataclass(frozen=True, slots=True)
class Pair:
    """A doctor and a patient who can have calls with each other, and those who are in none of them."""

    doctor: Person
    patient: Person
    others: tuple[Person, ...]

    @property
    def strangers(self) -> tuple[Person, ...]:
        """Those who are in no call of the two.

        Raises:
            Missing: the configuration has nobody else.
        """
        if not self.others:
            raise Missing("the configuration has no [identities.outsider], nor a second doctor or patient")
        return self.others

    @property
    def participants(self) -> tuple[Person, Person]:
        """Both."""
        return self.doctor, self.patient

    def create(self, by: Person, scheduled_time: object, **options: Any) -> Exchange:  # noqa: ANN401 (passed on)
        """Ask for a call of the two."""
        return by.create(self.doctor.doctor, self.patient.patient, scheduled_time, **options)


@dataclass(slots=True)
class Call:
    """A call that a test may work on: as it was created, and who is who."""

    record: dict[str, Any]
    created: Exchange
    pair: Pair
    steps: list[Exchange] = field(default_factory=list[Exchange])

    @property
    def id(self) -> object:
        """Its id."""
        return self.record["id"]

    @property
    def doctor(self) -> Person:
        """Its doctor."""
        return self.pair.doctor

    @property
    def patient(self) -> Person:
        """Its patient."""
        return self.pair.patient

    @property
    def participants(self) -> tuple[Person, Person]:
        """Doctor and patient."""
        return self.pair.participants

    def read(self) -> dict[str, Any]:
        """The call as its doctor reads it now.

        Raises:
            Blocked: it cannot be read.
        """
        exchange = self.doctor.get(self.id)
        if exchange.status != 200 or not exchange.object:  # noqa: PLR2004 (HTTP)
            raise Blocked(f"get was answered {exchange.answer} for call {self.id}, just made", exchange)
        return exchange.object


@dataclass(frozen=True, slots=True)
class Made:
    """Whose call this run made."""

    doctor: object
    patient: object
    at: datetime | None


def _made(created: Exchange, call: dict[str, Any]) -> Made:
    """Whose call it is: by the answer, or by the request where the answer names nobody."""
    try:
        asked = as_object(json.loads(created.request_body))
    except (ValueError, RecursionError):
        asked = {}
    doctor, patient = (
        call[role] if is_id(call.get(role)) else asked.get(role) for role in ("doctor", "patient")
    )
    return Made(doctor, patient, instant(call.get("scheduled_time")) or instant(asked.get("scheduled_time")))


class Calls:
    """Makes calls, remembers every one in `made`, with the exchange in `creations`, and tidies up.

    It watches all exchanges, so that calls which a test made by surprise are tidied up too. Once `ended` is
    set, nobody waits for room any more. `crowded` says whose calls left no room for a near one; it is empty
    where there was room for all.
    """

    def __init__(self, backend: Backend, people: People, policy: Policy) -> None:
        self.backend = backend
        self.people = people
        self.slots = Slots(self, policy)
        self.made: dict[object, Made] = {}
        self.creations: list[Exchange] = []
        self._status: dict[object, object] = {}
        self._busy: set[object] = set()
        self.crowded = ""
        self._look_again = 0.0
        self.ended = threading.Event()
        self._freed = threading.Condition()
        self._of_test: list[object] = []
        self._of_fixtures: list[object] = []
        self._of_thread = threading.local()
        self._doctor_books = False
        self._obstacles: dict[tuple[str | None, int], tuple[str, Exchange]] = {}
        backend.watchers.append(self._watch)

    # -- What was made --------------------------------------------------------------------------------

    def _watch(self, exchange: Exchange) -> None:
        for call in exchange.calls:
            call_id = call.get("id")
            if not isinstance(call_id, int | str):
                continue
            if exchange.operation == "createVideoCall":
                if call_id not in self.made:
                    self.creations.append(exchange)
                    if not getattr(self._of_thread, "keeps", False):
                        self._of_test.append(call_id)
                self.made.setdefault(call_id, _made(exchange, call))
            self._status[call_id] = call.get("status")
        becomes = _BECOMES.get(exchange.operation or exchange.method)
        if exchange.succeeded and becomes:
            parts = exchange.url.split("/")
            changed = next((call_id for call_id in self._status if str(call_id) in parts), None)
            if changed is not None:
                self._status[changed] = becomes

    def is_ours(self, call_id: object) -> bool:
        """Whether this run made the call."""
        return isinstance(call_id, int | str) and call_id in self.made

    @property
    def ids(self) -> list[object]:
        """Every call of this run."""
        return list(self.made)

    def open_far(self, pair: Pair) -> list[tuple[object, datetime]]:
        """Return the open calls of a pair that this run made for days from now: the oldest first."""
        soon = self.backend.clock.now() + timedelta(days=1)
        return [
            (call_id, made.at)
            for call_id, made in list(self.made.items())
            if (made.doctor, made.patient) == (pair.doctor.doctor, pair.patient.patient)
            and made.at is not None
            and made.at > soon
            and not self.is_closed(call_id)
        ]

    def tidy(self, jobs: int) -> list[str]:
        """Close every open call of this run, up to `jobs` at once, and return what could not be closed."""
        still_open = [(call_id, made) for call_id, made in self.made.items() if not self.is_closed(call_id)]
        with ThreadPoolExecutor(jobs) as pool:
            closed = list(pool.map(lambda one: self._close(*one), still_open))
        return [
            f"call {call_id} could be neither cancelled nor ended"
            for (call_id, _), is_closed in zip(still_open, closed, strict=True)
            if not is_closed
        ]

    def _close(self, call_id: object, made: Made) -> bool:
        actions = ("end", "cancel") if self._status.get(call_id) == "ongoing" else ("cancel", "end")
        everybody = self.participants()
        owners = [
            person for person in everybody if person.doctor == made.doctor or person.patient == made.patient
        ] or everybody  # the backend may write their ids otherwise than the configuration
        for person in owners:
            for action in actions:
                if person.act(action, call_id).succeeded:
                    return True
        for person in owners:  # cancellations may be what does not work
            if person.join(call_id).succeeded and person.end(call_id).succeeded:
                return True
        return bool(owners) and owners[0].get(call_id).object.get("status") in _CLOSED

    def is_closed(self, call_id: object) -> bool:
        """Whether the call was ended or cancelled, as far as this run has seen."""
        return self._status.get(call_id) in _CLOSED

    def participants(self) -> list[Person]:
        """Those of the configuration who may be in this run's calls."""
        return self.people.present(*PARTICIPANTS)

    # -- Room -----------------------------------------------------------------------------------------

    @contextmanager
    def test(self) -> Generator[None]:
        """Close the calls that are made meanwhile, if room is scarce, and free their times."""
        self._of_fixtures += self._of_test
        self._of_test.clear()
        yield
        self._close_if_scarce(self._of_test)
        if self.slots.scarce:
            self.slots.give_back()

    @contextmanager
    def module(self) -> Generator[None]:
        """Close the calls that fixtures make meanwhile, if room is scarce."""
        yield
        self._close_if_scarce(self._of_fixtures)

    def _close_if_scarce(self, call_ids: list[object]) -> None:
        if self.slots.scarce:
            for call_id in call_ids:
                self._close_if_open(call_id)
        call_ids.clear()

    @contextmanager
    def keeping(self) -> Generator[None]:
        """Keep the calls that this thread makes meanwhile open when a test ends."""
        self._of_thread.keeps = True
        try:
            yield
        finally:
            self._of_thread.keeps = False

    def several(self, number: int, together: Together) -> list[Exchange]:
        """Ask for so many calls of the pair; if room is scarce, for one after the other, each closed at once.

        Raises:
            OutsidePolicy: if there is no room for one.
        """
        if not self.slots.scarce:
            times = [self.slots.take() for _ in range(number)]
            return together([partial(self.book, self.pair, at) for at in times])
        exchanges: list[Exchange] = []
        for _ in range(number):
            at = self.slots.take()
            exchanges.append(self.book(self.pair, at))
            self.close_created(exchanges[-1])
            self.slots.give_back(at)
        return exchanges

    def close_created(self, exchange: Exchange) -> None:
        """Close the call of an answer to a creation."""
        call_id = exchange.object.get("id")
        if self.is_ours(call_id):
            self._close_if_open(call_id)

    def _close_if_open(self, call_id: object) -> None:
        if not self.is_closed(call_id):
            self._close(call_id, self.made[call_id])

    def book(self, pair: Pair, at: datetime) -> Exchange:
        """Ask for a call as its doctor, or as its patient where no doctor has got one so far."""
        exchange = pair.create(pair.doctor, at)
        self._doctor_books |= exchange.succeeded
        if exchange.succeeded or self._doctor_books:
            return exchange
        by_patient = pair.create(pair.patient, at)
        return by_patient if by_patient.succeeded else exchange

    # -- Far calls ------------------------------------------------------------------------------------

    def pairs(self) -> list[Pair]:
        """Who can have calls with whom, those first whom tests take when nothing else is asked for."""
        people = self.people
        everybody = people.present(
            "doctor", "patient", "other_doctor", "other_patient", "outsider", "dual_user"
        )
        doctors = people.present("doctor", "other_doctor")
        patients = people.present("patient", "other_patient")
        both = [(doctor, patient) for doctor in doctors for patient in patients]
        both.sort(key=lambda pair: (pair[0].name == "doctor") != (pair[1].name == "patient"))
        return [
            Pair(doctor, patient, tuple(person for person in everybody if person not in (doctor, patient)))
            for doctor, patient in both
        ]

    def _near_pairs(self) -> list[Pair]:
        """Those, and the dual user as somebody's doctor or patient, where all others have no time."""
        # One uid for both would come from profiles whose numbers are equal: such a pair is joined first.
        pairs = sorted(self.pairs(), key=lambda pair: pair.doctor.doctor != pair.patient.patient)
        if not self.people.has("dual_user"):
            return pairs
        dual, more = self.people["dual_user"], list[Pair]()
        for pair in pairs:
            for doctor, patient in ((dual, pair.patient), (pair.doctor, dual)):
                others = {*pair.participants, *pair.others} - {doctor, patient}
                more.append(Pair(doctor, patient, tuple(others)))
        return pairs + more

    @property
    def pair(self) -> Pair:
        """The doctor and the patient."""
        return self.pairs()[0]

    def pair_of(self, doctor: str, patient: str) -> Pair:
        """Return a pair by the names of its people.

        Raises:
            Missing: if one of them is not in the configuration.
        """
        wanted = (self.people[doctor], self.people[patient])
        return next(pair for pair in self.pairs() if pair.participants == wanted)

    def scheduled(self, pair: Pair | None = None, *, by: Person | None = None, reach: int = 0) -> Call:
        """A scheduled call months or days ahead, with room for others `reach` minutes before and after it.

        Raises:
            Blocked: the backend schedules none.
        """
        pair = pair or self.pair
        at = self.slots.take(reach)
        exchange = pair.create(by, at) if by else self.book(pair, at)
        for _ in range(2):
            if exchange.succeeded or not self.in_the_way(pair, at):
                break
            at = self.slots.take(reach)
            exchange = self.book(pair, at)
        return self._call(exchange, pair)

    def _call(self, exchange: Exchange, pair: Pair) -> Call:
        if not exchange.succeeded:
            error = exchange.object.get("error")
            reason = f": {error}" if isinstance(error, str) else f": {exchange.text[:_MOST_QUOTED]}"
            raise self._blocked(
                f"no call could be scheduled: create was answered {exchange.answer}{reason}", exchange
            )
        if not is_id(exchange.object.get("id")):
            raise Blocked("no call could be scheduled: a created call has no `id` that is one", exchange)
        return Call(exchange.object, exchange, pair)

    def in_the_way(self, pair: Pair, at: datetime, *, own: bool = False) -> dict[str, Any] | None:
        """A call that keeps the pair from having one at this time, if there is any.

        Args:
            own: whether it may also be this run's.
        """
        for person in pair.participants:
            for call in self.listed(person):
                start = instant(call.get("scheduled_time"))
                if (
                    start is not None
                    and abs(start - at) <= OVERLAP
                    and call.get("status") in _OPEN
                    and (own or not self.is_ours(call.get("id")))
                ):
                    return call
        return None

    def listed(self, person: Person) -> Iterator[dict[str, Any]]:
        """The calls of a person, as far as they can be walked; for knowing what is there, not for judging."""
        page = person.list("page_size=100")
        if not page.succeeded:
            page = person.list()
        for _ in range(MOST_PAGES):
            yield from page.calls
            link = page.object.get("next")
            if not isinstance(link, str) or not self.backend.inner(link):
                return
            page = person.follow(link)

    # -- Near calls -----------------------------------------------------------------------------------

    @contextmanager
    def soon(
        self, minutes: float = 10, *, seconds: float = 0, within: timedelta | None = None
    ) -> Generator[Call]:
        """A scheduled call so many minutes from the backend's now, of a pair that has no other; closed after.

        Args:
            within: how much later the call may be if the backend does not book this time, or earlier if
                negative; None if any time within the join window will do.

        Raises:
            Blocked: the backend schedules none, or other people's calls leave no room.
        """
        call = self._near(timedelta(minutes=minutes, seconds=seconds), within)
        try:
            yield call
        finally:
            if not self.is_closed(call.id):
                self._close(call.id, self.made[call.id])
            self._release(call.pair)

    @contextmanager
    def room(self) -> Generator[Pair]:
        """A pair with no near call of this run's, kept from having one."""
        with self._freed:
            self._freed.wait_for(self._somebody_free, timeout=PATIENCE)
        for pair in self.pairs():
            if self._reserve(pair):
                try:
                    self._clear(pair, self.backend.clock.now())
                    yield pair
                finally:
                    self._release(pair)
                return
        raise Blocked("near calls of this run take up everybody's time")

    def _somebody_free(self) -> bool:
        return any(not self._busy & set(pair.participants) for pair in self.pairs())

    def closed_near(self, pair: Pair) -> bool:
        """Whether a call of the pair's that this run has closed lies within reach of the join window."""
        near = self._made_near(pair, self.backend.clock.now(), 2 * OVERLAP)
        return any(self.is_closed(call_id) for call_id in near)

    def _made_near(self, pair: Pair, at: datetime, reach: timedelta) -> dict[object, Made]:
        """The calls of this run that either of the pair has within reach of a time."""
        return {
            call_id: made
            for call_id, made in list(self.made.items())
            if (made.doctor == pair.doctor.doctor or made.patient == pair.patient.patient)
            and made.at is not None
            and abs(made.at - at) <= reach
        }

    @contextmanager
    def ongoing(self) -> Generator[Call]:
        """A call that its doctor has joined.

        Raises:
            Blocked: there is none to be had.
        """
        with self.soon() as call:
            self._step(call, "join")
            yield call

    def completed(self) -> Call:
        """A call, in its join window, that was joined and ended.

        Raises:
            Blocked: there is none to be had.
        """
        with self.ongoing() as call:
            self._step(call, "end")
            return call

    def cancelled(self) -> Call:
        """A call, in its join window, that was cancelled.

        Raises:
            Blocked: there is none to be had.
        """
        with self.soon() as call:
            self._step(call, "cancel")
            return call

    def _step(self, call: Call, action: str) -> None:
        exchange = call.doctor.act(action, call.id)
        call.steps.append(exchange)
        if not exchange.succeeded:
            raise self.stopped(action, call, exchange)

    def stopped(self, action: str, call: Call, refusal: Exchange) -> Blocked:
        """Return why a call did not get so far; the first refusal of a kind stands for all of it."""
        return self._blocked(f"{action} was answered {refusal.answer} for call {call.id}", refusal)

    def _blocked(self, reason: str, refusal: Exchange) -> Blocked:
        kind = refusal.operation, refusal.status
        return Blocked(*self._obstacles.setdefault(kind, (reason, refusal)))

    def _near(self, ahead: timedelta, within: timedelta | None) -> Call:
        until = time.monotonic() + (0 if self.crowded else PATIENCE)
        while True:
            if time.monotonic() < self._look_again:
                raise Blocked(self.crowded)
            obstacles: list[dict[str, Any]] = []
            everybody_was_asked = True
            for pair in self._near_pairs():
                if not self._reserve(pair):
                    everybody_was_asked = False
                    continue
                try:
                    found = self._attempt(pair, ahead, within)
                except BaseException:
                    self._release(pair)
                    raise
                if isinstance(found, Call):
                    return found
                self._release(pair)
                obstacles.append(found)
            if self.ended.is_set():
                raise Blocked("the run ended before there was room for a call")
            will_stay = everybody_was_asked and not any(map(self._may_go_soon, obstacles))
            if will_stay or time.monotonic() >= until:
                break
            with self._freed:
                self._freed.wait(PAUSE)
        self.crowded = _taken_up_by(obstacles)
        self._look_again = time.monotonic() + REMEMBERED  # to look in every test would take half an hour
        raise Blocked(self.crowded)

    def _may_go_soon(self, call: dict[str, Any]) -> bool:
        """Whether it may be another run's: those let go of their near calls before anybody loses patience."""
        created = instant(call.get("created_at"))
        return created is None or self.backend.clock.now() - created < timedelta(seconds=PATIENCE)

    def _attempt(self, pair: Pair, ahead: timedelta, within: timedelta | None) -> Call | dict[str, Any]:
        """The call, or the one that is in its way and none of this run's."""
        window = JOIN_WINDOW - self.backend.clock.margin
        at = self.slots.near(ahead, window, within=within)
        self._clear(pair, at)
        exchange = self.book(pair, at)
        if not exchange.succeeded:
            obstacle = self.in_the_way(pair, at)
            if obstacle is not None:
                return obstacle
            exchange = self.book(pair, at)  # what was in the way may be gone by now
        if not exchange.succeeded and self.slots.is_of_policy(exchange):
            is_free = not self.closed_near(pair) or self.slots.reuses()
            if is_free and not self.in_the_way(pair, at, own=True):
                self.slots.find_notice(pair, at, exchange)
                at = self.slots.near(ahead, window, within=within)
                exchange = self.book(pair, at)
        return self._call(exchange, pair)

    def _clear(self, pair: Pair, at: datetime) -> None:
        """Close what this run's tests have left here of the pair's.

        Raises:
            Blocked: one of the calls stays open.
        """
        for call_id, made in self._made_near(pair, at, OVERLAP).items():
            if not self.is_closed(call_id) and not self._close(call_id, made):
                raise Blocked(f"call {call_id} of this run is in the way: no cancellation or end closes it")

    def _reserve(self, pair: Pair) -> bool:
        with self._freed:
            if self._busy & set(pair.participants):
                return False
            self._busy |= set(pair.participants)
            return True

    def _release(self, pair: Pair) -> None:
        with self._freed:
            self._busy -= set(pair.participants)
            self._freed.notify_all()


def _taken_up_by(obstacles: list[dict[str, Any]]) -> str:
    """Why there is no room for a near call, and what to do."""
    named = list({str(call.get("id")): _named(call) for call in obstacles}.values())
    if not named:  # tests that go on for long may have everybody
        return "near calls of this run take up everybody's time"
    shown, one = named[:MOST_NAMED], len(named) == 1
    if more := named[MOST_NAMED:]:
        shown.append(f"{len(more)} more")
    return (
        f"{' and '.join(shown)} {'takes' if one else 'take'} up the next quarter of an hour: "
        f"cancel or end {'it' if one else 'them'}, or run the suite later"
    )


def _named(call: dict[str, Any]) -> str:
    named = f"call {call.get('id')} of doctor {call.get('doctor')} and patient {call.get('patient')}"
    start = instant(call.get("scheduled_time"))
    return named if start is None else f"{named}, scheduled for {start.astimezone(UTC):%Y-%m-%d %H:%M} UTC,"
