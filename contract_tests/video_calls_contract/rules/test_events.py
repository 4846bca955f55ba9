"""Events: what is told to whom, where a backend tells anything.

Most tests judge one story, `Story`, that was lived through once with everybody listening.
"""

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from video_calls_contract import event_listener
from video_calls_contract.backend import People, Person
from video_calls_contract.call_record import Call
from video_calls_contract.checks import differences, require, require_success
from video_calls_contract.event_form import is_event
from video_calls_contract.event_listener import (
    EXPIRED,
    NO_EVENT,
    TYPES,
    UNAUTHORIZED,
    Expiry,
    Listener,
    Way,
    call_in,
)
from video_calls_contract.exchange import Exchange, Together, as_object, instant
from video_calls_contract.jwt import FORGERIES, forged
from video_calls_contract.observers import LENIENCE
from video_calls_contract.outcomes import Blocked, NotOffered, Violation
from video_calls_contract.run import Run
from video_calls_contract.scheduling import Calls

QUIET = 0.5
"""Seconds in which what should not be told would have come, after all that should be."""

ROLES = ("doctor", "patient")

Told = dict[str, Any]


def told(*wanted: str) -> Callable[[list[Told]], bool]:
    """Whether events of all these types are among those told."""
    return lambda events: set(wanted) <= {event["type"] for event in events}


def of_type(events: list[Told], *types: str) -> list[Told]:
    return [event for event in events if event["type"] in types]


def participant_in(event: Told) -> dict[str, Any]:
    return as_object(as_object(event.get("data")).get("participant"))


@dataclass
class Story:
    """What happened while the participants of two calls and some strangers listened.

    `call` was joined by its doctor, by its patient, by both again, and ended by its patient. `far` was
    refused some things and cancelled by its doctor.

    Attributes:
        doctor, patient: their connections, from before until after it all.
        did: the requests that changed something: "doctor" and "patient" joined, "end" and "cancel".
        then: the call as it was read after each.
        refusals: requests that have to be refused.
        replayed: the doctor's second connection, opened at the end, from the first event on.
    """

    call: Call
    far: Call
    doctor: Listener
    patient: Listener
    strangers: list[Listener]
    did: dict[str, Exchange] = field(default_factory=dict[str, Exchange])
    then: dict[str, Exchange] = field(default_factory=dict[str, Exchange])
    refusals: list[Exchange] = field(default_factory=list[Exchange])
    replayed: Listener | None = None

    @property
    def ids(self) -> tuple[object, object]:
        """Of the two calls."""
        return self.call.id, self.far.id

    @property
    def listeners(self) -> tuple[Listener, Listener]:
        """Those of the participants."""
        return self.doctor, self.patient

    def do(self, name: str, call: Call, action: Callable[[object], Exchange], event: str | None) -> None:
        """Change something, wait until both have been told, and read the call."""
        exchange = self.did[name] = action(call.id)
        if not exchange.succeeded:
            raise Blocked(f"a call could not be brought so far: it was answered {exchange.answer}", exchange)
        if event is not None:
            for listener in self.listeners:
                listener.hears(told(event), call.id)
        self.then[name] = call.doctor.get(call.id)

    def live(self, together: Together) -> None:
        """Live through it."""
        call, far = self.call, self.far
        doctor, patient = call.participants
        others = [listener.person for listener in self.strangers]
        self.refusals += together(
            [
                *(partial(person.join, call.id) for person in others),
                *(partial(person.cancel, far.id) for person in others),
                partial(doctor.join, far.id),
                partial(patient.end, far.id),
                partial(patient.end, call.id),
            ]
        )
        self.do("doctor", call, doctor.join, "call.started")
        self.do("patient", call, patient.join, None)
        self.do("doctor again", call, doctor.join, None)
        self.do("patient again", call, patient.join, None)
        self.refusals += [patient.cancel(call.id), *(person.end(call.id) for person in others)]
        self.do("end", call, patient.end, "call.ended")
        self.refusals += [doctor.join(call.id), patient.end(call.id), doctor.cancel(call.id)]
        self.do("cancel", far, doctor.cancel, "call.cancelled")
        self.refusals += [patient.cancel(far.id), patient.join(far.id)]

    def listen_on(self) -> None:
        """Wait for what may come late, and for what should not come at all."""
        if any(of_type(listener.of(self.call.id), "participant.joined") for listener in self.listeners):
            for listener in self.listeners:
                listener.hears(both_left, self.call.id)
        for listener in self.strangers:
            listener.hears(bool, *self.ids, seconds=QUIET / len(self.strangers))


def both_left(events: list[Told]) -> bool:
    return {participant_in(event).get("role") for event in of_type(events, "participant.left")} >= {*ROLES}


@pytest.fixture(scope="session")
def way(people: People) -> Way:
    """How the doctor gets a connection; without one there is nothing to look at."""
    return event_listener.find_way(people.doctor)


@pytest.fixture(scope="session")
def story(run: Run, way: Way, together: Together) -> Generator[Story]:
    """Live through it; the connections stay open, and the people are free for other calls."""
    with ExitStack() as stack:
        with run.calls.soon() as call:
            far = run.calls.scheduled(call.pair)
            doctor, patient, *strangers = [
                stack.enter_context(Listener(person, way))
                for person in (*call.participants, *call.pair.others)
            ]
            for listener in (doctor, patient, *strangers):
                require(
                    listener.stays_open(),
                    f"the {listener.person.name}'s connection to stay open, as the doctor's does",
                    listener.evidence(),
                    rule="events.authentication",
                )
            story = Story(call, far, doctor, patient, strangers)
            story.live(together)
            story.listen_on()
            if first := doctor.of(*story.ids):
                story.replayed = stack.enter_context(
                    Listener(call.doctor, way, after=str(first[0].get("id")))
                )
                story.replayed.hears(lambda events: len(events) >= len(first) - 1, *story.ids)
        yield story


# -- What is told -----------------------------------------------------------------------------------


def well_formed(listener: Listener, secrets: list[str]) -> None:
    """Hold every message that the connection got to the form of an event."""
    require(
        not listener.unreadable,
        f"each message to be a text frame with a JSON object; got {listener.unreadable[:1]}",
        listener.evidence(),
    )
    for event in listener.messages:
        if event.get("type") in TYPES:
            is_event(event, listener.evidence(call_in(event).get("id")), secrets)


def told_once(story: Story, run: Run, step: str, name: str) -> None:
    """Hold both participants' connections to one event of a step, with the call as it was read after it."""
    secrets = [run.config.agora.app_certificate] if run.config.agora.app_certificate else []
    done, read = story.did[step], story.then[step]
    body = require_success(read)
    for listener in story.listeners:
        well_formed(listener, secrets)
        events = of_type(listener.of(body.get("id")), name)
        shown = listener.evidence(body.get("id"))
        who = listener.person.name
        require(
            len(events) == 1, f"the {who} to be told `{name}` once; was told {len(events)} times", done, shown
        )
        holds(events[0], read, shown)
        happened_at(events[0], done, shown, run)


def holds(event: Told, read: Exchange, shown: Exchange) -> None:
    """Hold an event to the call as it was read after it."""
    # The next join may be an update of the record, and have come in between.
    other = differences(require_success(read), call_in(event), ignoring=("updated_at",))
    require(not other, f"`{event['type']}` to hold the call as it is by then; {other}", read, shown)


def happened_at(event: Told, done: Exchange, shown: Exchange, run: Run) -> None:
    """Hold an event to the time of what it tells of."""
    at = instant(event.get("created_at"))
    clock = run.backend.clock
    good = at is not None and clock.matches(at, done.sent_at, done.received_at, LENIENCE)
    require(
        good,
        f"`created_at` of `{event['type']}` to be when it happened; got {event.get('created_at')}",
        done,
        shown,
    )


@pytest.mark.rule("events.call-started")
def test_first_join_sends_call_started_to_both(story: Story, run: Run) -> None:
    told_once(story, run, "doctor", "call.started")


@pytest.mark.rule("events.call-ended")
def test_end_sends_call_ended_to_both(story: Story, run: Run) -> None:
    told_once(story, run, "end", "call.ended")


@pytest.mark.rule("events.call-cancelled")
def test_cancel_sends_call_cancelled_to_both(story: Story, run: Run) -> None:
    told_once(story, run, "cancel", "call.cancelled")


def joins_are_told(story: Story) -> None:
    """Not every backend tells of a join: to some, a participant is who has come into the channel.

    Raises:
        NotOffered: this one tells of none.
    """
    if not any(
        of_type(one.of(story.call.id), "participant.joined", "participant.left") for one in story.listeners
    ):
        raise NotOffered(
            "not offered: a join and an end tell no `participant` event; perhaps coming into the channel does"
        )


def about(listener: Listener, story: Story, role: str) -> list[Told]:
    """The participant events of this role, each with the participant's uid."""
    shown = listener.evidence(story.call.id)
    found: list[Told] = []
    for event in of_type(listener.of(story.call.id), "participant.joined", "participant.left"):
        participant = participant_in(event)
        good = participant.get("role") in ROLES and isinstance(participant.get("uid"), int)
        require(good, f"`{event['type']}` to hold the participant's uid and role; got {participant}", shown)
        if participant["role"] != role:
            continue
        uid = story.did[role].object.get("uid")
        require(
            participant["uid"] == uid,
            f"`{event['type']}` of the {role} to hold the uid of their join, {uid}; got {participant['uid']}",
            story.did[role],
            shown,
        )
        found.append(event)
    return found


@pytest.mark.rule("events.participant-joined")
def test_join_sends_participant_joined_to_both(story: Story, run: Run) -> None:
    joins_are_told(story)
    for listener in story.listeners:
        shown = listener.evidence(story.call.id)
        for role in ROLES:
            events = about(listener, story, role)
            types = [event["type"] for event in events]
            require(
                types[:1] == ["participant.joined"],
                f"the {listener.person.name} to be told that the {role} has joined",
                story.did[role],
                shown,
            )
            twice = any(types[i : i + 2] == ["participant.joined"] * 2 for i in range(len(types)))
            require(not twice, f"the {role}'s joining to be told once until they have left", shown)
            holds(events[0], story.then[role], shown)
            happened_at(events[0], story.did[role], shown, run)


@pytest.mark.rule("events.participant-left")
def test_end_sends_participant_left_to_both(story: Story) -> None:
    joins_are_told(story)
    for listener in story.listeners:
        shown = listener.evidence(story.call.id)
        for role in ROLES:
            types = [event["type"] for event in about(listener, story, role)]
            require(
                types[-1:] == ["participant.left"],
                f"the {listener.person.name} to be told that the {role} has left, when the call ends",
                story.did["end"],
                shown,
            )
            twice = any(types[i : i + 2] == ["participant.left"] * 2 for i in range(len(types)))
            require(not twice, f"the {role}'s leaving to be told once", shown)


# -- To whom, and what not --------------------------------------------------------------------------


@pytest.mark.rule("events.own-calls")
def test_outsider_receives_no_events(story: Story) -> None:
    _ = story.call.pair.outsiders
    for listener in story.strangers:
        require(
            not listener.of(*story.ids),
            f"the {listener.person.name} to be told nothing of a call of others",
            listener.evidence(*story.ids),
        )
    refused = [listener for listener in story.strangers if not listener.is_open]
    require(not refused, "a stranger's connection to stay open", *(one.evidence() for one in refused))


@pytest.mark.rule("events.changes-only")
def test_refused_request_sends_no_event(story: Story) -> None:
    done = next((exchange for exchange in story.refusals if exchange.succeeded), None)
    if done is not None:
        raise Blocked(f"what should be refused was answered {done.answer}", done)
    for listener in story.listeners:
        shown = listener.evidence(*story.ids)
        types = Counter(event["type"] for event in listener.of(story.far.id)) - Counter({"call.cancelled": 1})
        extra = ", ".join(f"`{name}`" for name in types)
        require(
            not types, f"nothing to be told of a refused request; got {extra}", *story.refusals[-2:], shown
        )
        types = Counter(event["type"] for event in of_type(listener.of(story.call.id), *TYPES[:3]))
        extra = ", ".join(f"`{name}`" for name in types - Counter(("call.started", "call.ended")))
        require(not extra, f"nothing to be told of a second join or a refusal; got another {extra}", shown)


# -- In which order ---------------------------------------------------------------------------------


def place(events: list[Told], name: str, role: str | None = None) -> int | None:
    for number, event in enumerate(events):
        if event["type"] == name and role in (None, participant_in(event).get("role")):
            return number
    return None


ORDER = (
    (("call.started", None), ("call.ended", None)),
    (("call.ended", None), ("call.cancelled", None)),
    (("participant.joined", "doctor"), ("participant.left", "doctor")),
    (("participant.joined", "patient"), ("participant.left", "patient")),
    (("participant.joined", "doctor"), ("participant.joined", "patient")),
)
"""What came before what. What one request brings about, such as a start and a join, has no order."""


@pytest.mark.rule("events.order")
def test_events_arrive_in_order(story: Story) -> None:
    for listener in (*story.listeners, *([story.replayed] if story.replayed else [])):
        events, shown = listener.of(*story.ids), listener.evidence(*story.ids)
        for earlier, later in ORDER:
            first, second = place(events, *earlier), place(events, *later)
            if first is not None and second is not None:
                one, other = (" of the ".join(filter(None, event)) for event in (earlier, later))
                require(first < second, f"{one} to be told before {other}", shown)
        numbers = Counter(str(event.get("id")) for event in listener.of(*story.ids))
        twice = [number for number, times in numbers.items() if times > 1]
        require(not twice, f"each event once, under an id of its own; {', '.join(twice)} came again", shown)
    if not story.doctor.of(*story.ids):
        raise Violation("the doctor to be told of their calls", story.doctor.evidence())


# -- Resuming ---------------------------------------------------------------------------------------


def names(events: list[Told]) -> list[tuple[str, str]]:
    return [(str(event.get("id")), event["type"]) for event in events]


def as_many_as(wanted: list[tuple[str, str]], events: list[Told]) -> bool:
    return len(events) >= len(wanted)


def in_words(events: list[tuple[str, str]]) -> str:
    return ", ".join(f"{name} ({number})" for number, name in events) or "none"


def cancelled(person: Person, call: Call) -> Exchange:
    exchange = person.cancel(call.id)
    if not exchange.succeeded:
        raise Blocked(f"a call could not be cancelled: {exchange.answer}", exchange)
    return exchange


@pytest.mark.rule("events.resume")
def test_connection_resumes_after_last_event_id(
    story: Story, calls: Calls, way: Way, together: Together
) -> None:
    known = story.doctor.of(*story.ids)
    require(known, "the doctor to be told of their calls", story.doctor.evidence())
    person = story.call.doctor
    *more, later = [calls.scheduled(story.call.pair) for _ in range(5)]
    ids = (*story.ids, *(call.id for call in more), later.id)
    starts = [known[0], known[len(known) // 2], known[-1]]
    with ExitStack() as stack:
        fresh = stack.enter_context(Listener(person, way))
        require(fresh.stays_open(), "a second connection of the doctor's to stay open", fresh.evidence())
        resumed = [Listener(person, way, after=str(event.get("id"))) for event in starts]

        def open_all() -> Exchange:
            for listener in resumed:
                stack.enter_context(listener)
            return resumed[-1].evidence()

        together([open_all, *(partial(cancelled, person, one) for one in more)])
        for listener in (story.doctor, fresh):
            listener.hears(
                lambda events: len({call_in(one).get("id") for one in events}) >= len(more), *ids[2:]
            )
        whole = names(story.doctor.of(*ids))
        for event, listener in zip(starts, resumed, strict=True):
            wanted = whole[whole.index((str(event.get("id")), event["type"])) + 1 :]
            listener.hears(partial(as_many_as, wanted), *ids)
        # However much of that was replayed, this happens while they are open.
        cancelled(person, later)
        for listener in (story.doctor, fresh, *resumed):
            listener.hears(told("call.cancelled"), later.id)
        for listener in resumed:
            listener.hears(lambda events: len(events) > len(whole), *ids, seconds=QUIET / len(resumed))
        whole = names(story.doctor.of(*ids))
        for event, listener in zip(starts, resumed, strict=True):
            wanted = whole[whole.index((str(event.get("id")), event["type"])) + 1 :]
            got = names(listener.of(*ids))
            require(
                got == wanted,
                f"`last_event_id` to bring what came after it, each once and in order: {in_words(wanted)}; "
                f"got {in_words(got)}; the connection is {listener.ending}",
                story.doctor.evidence(*ids),
                listener.evidence(*ids),
            )
        old = fresh.of(*story.ids)
        require(
            not old,
            "a connection without `last_event_id` to tell what happens from now on",
            fresh.evidence(*story.ids),
        )


@pytest.mark.rule("events.resume")
def test_unknown_last_event_id_closes_connection(people: People, way: Way) -> None:
    with Listener(people.doctor, way, after="no-such-event") as listener:
        listener.closes()
    require(
        listener.close_code in NO_EVENT,
        f"a `last_event_id` of no event to be closed with 4400 or 4410; it was {listener.ending}",
        listener.evidence(),
    )


# -- Authentication ---------------------------------------------------------------------------------


@pytest.mark.rule("events.authentication")
@pytest.mark.usefixtures("way")
def test_token_in_header_is_accepted(people: People) -> None:
    with Listener(people.patient, "header") as listener:
        stays = listener.stays_open()
    require(stays, f"a token in the header to be let in; it was {listener.ending}", listener.evidence())


@pytest.mark.rule("events.authentication")
@pytest.mark.usefixtures("way")
def test_token_in_subprotocol_is_accepted(people: People) -> None:
    person = people.patient
    if not event_listener.fits_a_subprotocol(person):
        raise NotOffered("the patient's token has characters that a subprotocol cannot have")
    with Listener(person, "subprotocol") as listener:
        stays = listener.stays_open()
    require(
        stays and listener.subprotocol == "bearer",
        "a token to be let in as subprotocols `bearer` and the token, with `bearer` chosen; "
        f"{listener.subprotocol!r} was, and it was {listener.ending}",
        listener.evidence(),
    )


@pytest.mark.rule("events.authentication")
@pytest.mark.usefixtures("way")
def test_invalid_token_closes_connection(people: People, together: Together) -> None:
    doctor = people.doctor
    liars = {
        kind: people.bearing(f"Bearer {forged(doctor.token, kind)}", f"forged_{kind}".replace("-", "_"))
        for kind in FORGERIES
    }
    cases: dict[str, Listener] = {
        "no token": Listener(people.nobody),
        "a token in the URL": Listener(
            people.nobody, query=dict.fromkeys(("token", "access_token"), doctor.token)
        ),
        **{f"a token {FORGERIES[kind]}": Listener(liar) for kind, liar in liars.items()},
    }
    if event_listener.fits_a_subprotocol(doctor):
        cases["a forged token as subprotocol"] = Listener(liars["other-signature"], "subprotocol")
    for person in people.present("expired"):
        cases["an expired token"] = Listener(person)
        if event_listener.fits_a_subprotocol(person):
            cases["an expired token as subprotocol"] = Listener(person, "subprotocol")

    def closed(listener: Listener) -> Exchange:
        with listener:
            listener.closes()
        return listener.evidence()

    shown = together([partial(closed, listener) for listener in cases.values()])
    for (what, listener), exchange in zip(cases.items(), shown, strict=True):
        require(
            listener.close_code == UNAUTHORIZED,
            f"a connection with {what} to be opened and closed with {UNAUTHORIZED}; it was {listener.ending}",
            exchange,
        )


@pytest.mark.rule("events.token-expiry")
@pytest.mark.usefixtures("way")
def test_expired_token_closes_connection(expiry: Expiry) -> None:
    was = "still open" if expiry.code is None else f"closed with {expiry.code}"
    require(
        expiry.code == EXPIRED,
        f"the connection to be closed with {EXPIRED} when its token expires; it was {was}",
        expiry.exchange,
    )
