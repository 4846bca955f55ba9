"""Events: which event each user receives, if the backend implements events.

Most tests check one `EventScenario`: it is played once, while all users have connections.
"""

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from video_calls_contract import event_listener
from video_calls_contract.checks import differences, require, require_success
from video_calls_contract.created_calls import Call
from video_calls_contract.event_form import require_event_form
from video_calls_contract.event_listener import (
    EXPIRED,
    NO_EVENT,
    TYPES,
    UNAUTHORIZED,
    Expiry,
    Listener,
    TokenLocation,
    call_in,
)
from video_calls_contract.exceptions import Blocked, NotOffered, Violation
from video_calls_contract.exchange import Exchange, Together, as_object, instant
from video_calls_contract.jwt import FORGERIES, forged
from video_calls_contract.observers.registry import LENIENCE
from video_calls_contract.run import Run
from video_calls_contract.scheduling import Calls
from video_calls_contract.users import Users

QUIET = 0.5
"""Seconds to wait for events that must not be sent, after all other events have arrived."""

ROLES = ("doctor", "patient")

Event = dict[str, Any]


def has_types(*types: str) -> Callable[[list[Event]], bool]:
    """Return a condition for `wait_until`: events of all these types have arrived."""
    return lambda events: set(types) <= {event["type"] for event in events}


def of_type(events: list[Event], *types: str) -> list[Event]:
    return [event for event in events if event["type"] in types]


def participant_in(event: Event) -> dict[str, Any]:
    return as_object(as_object(event.get("data")).get("participant"))


@dataclass
class EventScenario:
    """Two calls that changed while their participants and outsiders had connections for events.

    The doctor and then the patient joined `call`, both joined again, and the patient ended it. The doctor
    cancelled `far`. Between these steps came requests that the backend has to refuse.

    Attributes:
        doctor, patient: the participants' connections, open from the start to the end.
        steps: the requests that change a call, by name: "doctor" and "patient" (joins), "end", "cancel".
        readings: the response to get after each step, by the step's name.
        refusals: the requests that have to be refused.
        resumed: the doctor's second connection, opened at the end, which resumes after the first event.
    """

    call: Call
    far: Call
    doctor: Listener
    patient: Listener
    outsiders: list[Listener]
    steps: dict[str, Exchange] = field(default_factory=dict[str, Exchange])
    readings: dict[str, Exchange] = field(default_factory=dict[str, Exchange])
    refusals: list[Exchange] = field(default_factory=list[Exchange])
    resumed: Listener | None = None

    @property
    def ids(self) -> tuple[object, object]:
        """The ids of the two calls."""
        return self.call.id, self.far.id

    @property
    def listeners(self) -> tuple[Listener, Listener]:
        """The participants' connections."""
        return self.doctor, self.patient

    def do(self, name: str, call: Call, action: Callable[[object], Exchange], event: str | None) -> None:
        """Send a request that changes a call, wait until both participants have its event, read the call."""
        exchange = self.steps[name] = action(call.id)
        if not exchange.succeeded:
            raise Blocked(f"a step of the scenario was answered {exchange.status_text}", exchange)
        if event is not None:
            for listener in self.listeners:
                listener.wait_until(has_types(event), call.id)
        self.readings[name] = call.doctor.get(call.id)

    def play(self, together: Together) -> None:
        """Send the requests of the scenario."""
        call, far = self.call, self.far
        doctor, patient = call.participants
        outsiders = [listener.user for listener in self.outsiders]
        self.refusals += together(
            [
                *(partial(user.join, call.id) for user in outsiders),
                *(partial(user.cancel, far.id) for user in outsiders),
                partial(doctor.join, far.id),
                partial(patient.end, far.id),
                partial(patient.end, call.id),
            ]
        )
        self.do("doctor", call, doctor.join, "call.started")
        self.do("patient", call, patient.join, None)
        self.do("doctor again", call, doctor.join, None)
        self.do("patient again", call, patient.join, None)
        self.refusals += [patient.cancel(call.id), *(user.end(call.id) for user in outsiders)]
        self.do("end", call, patient.end, "call.ended")
        self.refusals += [doctor.join(call.id), patient.end(call.id), doctor.cancel(call.id)]
        self.do("cancel", far, doctor.cancel, "call.cancelled")
        self.refusals += [patient.cancel(far.id), patient.join(far.id)]

    def wait_for_late_events(self) -> None:
        """Wait for events that may come late, and give wrong events to outsiders time to arrive."""
        if any(of_type(listener.of(self.call.id), "participant.joined") for listener in self.listeners):
            for listener in self.listeners:
                listener.wait_until(both_left, self.call.id)
        for listener in self.outsiders:
            listener.wait_until(bool, *self.ids, seconds=QUIET / len(self.outsiders))


def both_left(events: list[Event]) -> bool:
    return {participant_in(event).get("role") for event in of_type(events, "participant.left")} >= {*ROLES}


@pytest.fixture(scope="session")
def token_location(users: Users) -> TokenLocation:
    """Return where to send a token. If no connection is possible, the tests that use this are not checked."""
    return event_listener.find_token_location(users.doctor)


@pytest.fixture(scope="session")
def scenario(run: Run, token_location: TokenLocation, together: Together) -> Generator[EventScenario]:
    """Play the scenario. Its connections stay open, but its users are free for other tests."""
    with ExitStack() as stack:
        with run.calls.soon() as call:
            far = run.calls.scheduled(call.pair)
            doctor, patient, *outsiders = [
                stack.enter_context(Listener(user, token_location))
                for user in (*call.participants, *call.pair.others)
            ]
            for listener in (doctor, patient, *outsiders):
                require(
                    listener.stays_open(),
                    f"the {listener.user.name}'s connection to stay open, as the doctor's does",
                    listener.evidence(),
                    rule="events.authentication",
                )
            scenario = EventScenario(call, far, doctor, patient, outsiders)
            scenario.play(together)
            scenario.wait_for_late_events()
            if events := doctor.of(*scenario.ids):
                first_id, missing = str(events[0].get("id")), len(events) - 1
                scenario.resumed = stack.enter_context(Listener(call.doctor, token_location, after=first_id))
                scenario.resumed.wait_until(lambda events: len(events) >= missing, *scenario.ids)
        yield scenario


# -- Events of calls --------------------------------------------------------------------------------


def require_well_formed(listener: Listener, secrets: list[str]) -> None:
    require(
        not listener.unreadable,
        f"each message to be a text frame with a JSON object; got {listener.unreadable[:1]}",
        listener.evidence(),
    )
    for event in listener.messages:
        if event.get("type") in TYPES:
            require_event_form(event, listener.evidence(call_in(event).get("id")), secrets)


def require_sent_once(scenario: EventScenario, run: Run, step: str, name: str) -> None:
    """Check that each participant received one event of a step, with the call as `readings` shows it."""
    secrets = [run.config.agora.app_certificate] if run.config.agora.app_certificate else []
    request, reading = scenario.steps[step], scenario.readings[step]
    body = require_success(reading)
    for listener in scenario.listeners:
        require_well_formed(listener, secrets)
        events = of_type(listener.of(body.get("id")), name)
        evidence = listener.evidence(body.get("id"))
        require(
            len(events) == 1,
            f"the {listener.user.name} to receive `{name}` once; it came {len(events)} times",
            request,
            evidence,
        )
        require_call_in(events[0], reading, evidence)
        require_time_of(events[0], request, evidence, run)


def require_call_in(event: Event, reading: Exchange, evidence: Exchange) -> None:
    # The next join may have changed `updated_at` before the call was read.
    changes = differences(require_success(reading), call_in(event), ignoring=("updated_at",))
    require(not changes, f"`{event['type']}` to hold the call as it was read; {changes}", reading, evidence)


def require_time_of(event: Event, request: Exchange, evidence: Exchange, run: Run) -> None:
    at = instant(event.get("created_at"))
    clock = run.backend.clock
    require(
        at is not None and clock.matches(at, request.sent_at, request.received_at, LENIENCE),
        f"`created_at` of `{event['type']}` to be the time of the request; got {event.get('created_at')}",
        request,
        evidence,
    )


@pytest.mark.rule("events.call-started")
def test_first_join_sends_call_started_to_both(scenario: EventScenario, run: Run) -> None:
    require_sent_once(scenario, run, "doctor", "call.started")


@pytest.mark.rule("events.call-ended")
def test_end_sends_call_ended_to_both(scenario: EventScenario, run: Run) -> None:
    require_sent_once(scenario, run, "end", "call.ended")


@pytest.mark.rule("events.call-cancelled")
def test_cancel_sends_call_cancelled_to_both(scenario: EventScenario, run: Run) -> None:
    require_sent_once(scenario, run, "cancel", "call.cancelled")


def skip_without_participant_events(scenario: EventScenario) -> None:
    """Skip a test if no join or end caused a `participant` event.

    Some backends send these events only when Agora reports that a participant entered or left the channel.

    Raises:
        NotOffered: if there was no such event.
    """
    if not any(
        of_type(one.of(scenario.call.id), "participant.joined", "participant.left")
        for one in scenario.listeners
    ):
        raise NotOffered(
            "not offered: a join and an end cause no `participant` event; perhaps entering the channel does"
        )


def participant_events(listener: Listener, scenario: EventScenario, role: str) -> list[Event]:
    """Check the uids in the `participant` events of a role, and return these events."""
    evidence = listener.evidence(scenario.call.id)
    events: list[Event] = []
    for event in of_type(listener.of(scenario.call.id), "participant.joined", "participant.left"):
        participant = participant_in(event)
        is_valid = participant.get("role") in ROLES and isinstance(participant.get("uid"), int)
        require(
            is_valid, f"`{event['type']}` to hold the participant's uid and role; got {participant}", evidence
        )
        if participant["role"] != role:
            continue
        uid = scenario.steps[role].object.get("uid")
        require(
            participant["uid"] == uid,
            f"`{event['type']}` of the {role} to hold the uid of their join, {uid}; got {participant['uid']}",
            scenario.steps[role],
            evidence,
        )
        events.append(event)
    return events


def has_repetition(types: list[str], name: str) -> bool:
    return any(types[i : i + 2] == [name] * 2 for i in range(len(types)))


@pytest.mark.rule("events.participant-joined")
def test_join_sends_participant_joined_to_both(scenario: EventScenario, run: Run) -> None:
    skip_without_participant_events(scenario)
    for listener in scenario.listeners:
        evidence = listener.evidence(scenario.call.id)
        for role in ROLES:
            events = participant_events(listener, scenario, role)
            types = [event["type"] for event in events]
            actual = ", ".join(types) or "none"
            require(
                types[:1] == ["participant.joined"],
                f"the {listener.user.name} to receive `participant.joined` of the {role} first; got {actual}",
                scenario.steps[role],
                evidence,
            )
            is_repeated = has_repetition(types, "participant.joined")
            require(
                not is_repeated,
                f"`participant.joined` of the {role} once until `participant.left`; got {actual}",
                evidence,
            )
            require_call_in(events[0], scenario.readings[role], evidence)
            require_time_of(events[0], scenario.steps[role], evidence, run)


@pytest.mark.rule("events.participant-left")
def test_end_sends_participant_left_to_both(scenario: EventScenario) -> None:
    skip_without_participant_events(scenario)
    for listener in scenario.listeners:
        evidence = listener.evidence(scenario.call.id)
        for role in ROLES:
            types = [event["type"] for event in participant_events(listener, scenario, role)]
            actual = ", ".join(types) or "none"
            require(
                types[-1:] == ["participant.left"],
                f"the {listener.user.name} to receive `participant.left` of the {role} last; got {actual}",
                scenario.steps["end"],
                evidence,
            )
            is_repeated = has_repetition(types, "participant.left")
            require(not is_repeated, f"`participant.left` of the {role} once; got {actual}", evidence)


# -- Events that should not be sent -----------------------------------------------------------------


@pytest.mark.rule("events.own-calls")
def test_outsider_receives_no_events(scenario: EventScenario) -> None:
    _ = scenario.call.pair.outsiders
    for listener in scenario.outsiders:
        require(
            not listener.of(*scenario.ids),
            f"the {listener.user.name} to receive no event of a call of others",
            listener.evidence(*scenario.ids),
        )
    closed = [listener.evidence() for listener in scenario.outsiders if not listener.is_open]
    require(not closed, "an outsider's connection to stay open", *closed)


@pytest.mark.rule("events.changes-only")
def test_refused_request_sends_no_event(scenario: EventScenario) -> None:
    success = next((exchange for exchange in scenario.refusals if exchange.succeeded), None)
    if success is not None:
        raise Blocked(f"a request that should be refused was answered {success.status_text}", success)
    for listener in scenario.listeners:
        evidence = listener.evidence(*scenario.ids)
        types = Counter(event["type"] for event in listener.of(scenario.far.id))
        extra = ", ".join(f"`{name}`" for name in types - Counter({"call.cancelled": 1}))
        require(not extra, f"a refusal to send no event; got {extra}", *scenario.refusals[-2:], evidence)
        types = Counter(event["type"] for event in of_type(listener.of(scenario.call.id), *TYPES[:3]))
        extra = ", ".join(f"`{name}`" for name in types - Counter(("call.started", "call.ended")))
        require(not extra, f"a second join or a refusal to send no event; got another {extra}", evidence)


# -- Order ------------------------------------------------------------------------------------------


def position(events: list[Event], name: str, role: str | None = None) -> int | None:
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
"""Pairs of events whose order is fixed. Events of one request, such as a start and a join, have no order."""


@pytest.mark.rule("events.order")
def test_events_arrive_in_order(scenario: EventScenario) -> None:
    for listener in (*scenario.listeners, *([scenario.resumed] if scenario.resumed else [])):
        events, evidence = listener.of(*scenario.ids), listener.evidence(*scenario.ids)
        for earlier, later in ORDER:
            first, second = position(events, *earlier), position(events, *later)
            if first is not None and second is not None:
                one, other = (" of the ".join(filter(None, event)) for event in (earlier, later))
                require(first < second, f"{one} to arrive before {other}", evidence)
        ids = Counter(str(event.get("id")) for event in events)
        duplicates = ", ".join(event_id for event_id, times in ids.items() if times > 1)
        require(not duplicates, f"each event once, with its own id; {duplicates} came again", evidence)
    if not scenario.doctor.of(*scenario.ids):
        raise Violation("the doctor to receive events of their calls", scenario.doctor.evidence())


# -- Resuming ---------------------------------------------------------------------------------------


def keys(events: list[Event]) -> list[tuple[str, str]]:
    return [(str(event.get("id")), event["type"]) for event in events]


def in_words(events: list[tuple[str, str]]) -> str:
    return ", ".join(f"{name} ({event_id})" for event_id, name in events) or "none"


@pytest.mark.rule("events.resume")
def test_connection_resumes_after_last_event_id(
    scenario: EventScenario, calls: Calls, token_location: TokenLocation, together: Together
) -> None:
    earlier = scenario.doctor.of(*scenario.ids)
    require(earlier, "the doctor to receive events of their calls", scenario.doctor.evidence())
    user = scenario.call.doctor
    *more, last = [calls.scheduled(scenario.call.pair) for _ in range(5)]
    ids = (*scenario.ids, *(call.id for call in more), last.id)
    starts = keys([earlier[0], earlier[len(earlier) // 2], earlier[-1]])

    def events_after(start: tuple[str, str]) -> list[tuple[str, str]]:
        events = keys(scenario.doctor.of(*ids))
        return events[events.index(start) + 1 :]

    with ExitStack() as stack:
        fresh = stack.enter_context(Listener(user, token_location))
        require(fresh.stays_open(), "a second connection of the doctor's to stay open", fresh.evidence())
        resumed = [Listener(user, token_location, after=event_id) for event_id, _ in starts]

        def open_all() -> Exchange:
            for listener in resumed:
                stack.enter_context(listener)
            return resumed[-1].evidence()

        together([open_all, *(partial(calls.step, call, "cancel") for call in more)])
        for listener in (scenario.doctor, fresh):
            listener.wait_until(
                lambda events: len({call_in(one).get("id") for one in events}) >= len(more), *ids[2:]
            )
        for start, listener in zip(starts, resumed, strict=True):
            listener.wait_until(partial(has_number, len(events_after(start))), *ids)
        # The replay is over, so the event of this cancellation arrives as a new one.
        calls.step(last, "cancel")
        for listener in (scenario.doctor, fresh, *resumed):
            listener.wait_until(has_types("call.cancelled"), last.id)
        total = len(scenario.doctor.of(*ids))
        for listener in resumed:
            listener.wait_until(partial(has_number, total), *ids, seconds=QUIET / len(resumed))
        for start, listener in zip(starts, resumed, strict=True):
            expected, actual = events_after(start), keys(listener.of(*ids))
            require(
                actual == expected,
                f"`last_event_id` to replay the later events, each once and in order: {in_words(expected)}; "
                f"got {in_words(actual)}; the connection is {listener.ending}",
                scenario.doctor.evidence(*ids),
                listener.evidence(*ids),
            )
        require(
            not fresh.of(*scenario.ids),
            "a connection without `last_event_id` to receive only new events",
            fresh.evidence(*scenario.ids),
        )


def has_number(number: int, events: list[Event]) -> bool:
    return len(events) >= number


@pytest.mark.rule("events.resume")
def test_unknown_last_event_id_closes_connection(users: Users, token_location: TokenLocation) -> None:
    with Listener(users.doctor, token_location, after="no-such-event") as listener:
        listener.closes()
    require(
        listener.close_code in NO_EVENT,
        f"an unknown `last_event_id` to close the connection with 4400 or 4410; it is {listener.ending}",
        listener.evidence(),
    )


# -- Authentication ---------------------------------------------------------------------------------


@pytest.mark.rule("events.authentication")
@pytest.mark.usefixtures("token_location")
def test_token_in_header_is_accepted(users: Users) -> None:
    with Listener(users.patient, "header") as listener:
        stays = listener.stays_open()
    require(
        stays,
        f"a token in the header to be accepted; the connection is {listener.ending}",
        listener.evidence(),
    )


@pytest.mark.rule("events.authentication")
@pytest.mark.usefixtures("token_location")
def test_token_in_subprotocol_is_accepted(users: Users) -> None:
    user = users.patient
    if not event_listener.fits_a_subprotocol(user):
        raise NotOffered("the patient's token has characters that a subprotocol cannot have")
    with Listener(user, "subprotocol") as listener:
        stays = listener.stays_open()
    require(
        stays and listener.subprotocol == "bearer",
        "a token in the subprotocols to be accepted, and `bearer` to be selected; "
        f"got {listener.subprotocol!r}, and the connection is {listener.ending}",
        listener.evidence(),
    )


@pytest.mark.rule("events.authentication")
@pytest.mark.usefixtures("token_location")
def test_invalid_token_closes_connection(users: Users, together: Together) -> None:
    doctor = users.doctor
    forgers = {
        kind: users.with_header(f"Bearer {forged(doctor.token, kind)}", f"forged_{kind}".replace("-", "_"))
        for kind in FORGERIES
    }
    cases: dict[str, Listener] = {
        "no token": Listener(users.nobody),
        "a token in the URL": Listener(
            users.nobody, query=dict.fromkeys(("token", "access_token"), doctor.token)
        ),
        **{f"a token {FORGERIES[kind]}": Listener(forger) for kind, forger in forgers.items()},
    }
    if event_listener.fits_a_subprotocol(doctor):
        cases["a forged token as subprotocol"] = Listener(forgers["other-signature"], "subprotocol")
    for user in users.present("expired"):
        cases["an expired token"] = Listener(user)
        if event_listener.fits_a_subprotocol(user):
            cases["an expired token as subprotocol"] = Listener(user, "subprotocol")

    def wait_for_close(listener: Listener) -> Exchange:
        with listener:
            listener.closes()
        return listener.evidence()

    evidence = together([partial(wait_for_close, listener) for listener in cases.values()])
    for (what, listener), exchange in zip(cases.items(), evidence, strict=True):
        require(
            listener.close_code == UNAUTHORIZED,
            f"a connection with {what} to be closed with {UNAUTHORIZED}; it is {listener.ending}",
            exchange,
        )


@pytest.mark.rule("events.token-expiry")
@pytest.mark.usefixtures("token_location")
@pytest.mark.late
def test_expired_token_closes_connection(expiry: Expiry) -> None:
    require(
        expiry.code == EXPIRED,
        f"the connection to be closed with {EXPIRED} when its token expires; it is {expiry.ending}",
        expiry.exchange,
    )
