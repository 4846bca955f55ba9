"""The operations of the API. Each reads the call, calls the rules of `domain/` and stores the result.

One operation is one transaction, so that no other change comes between its check and its change.
"""

import logging
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from video_calls_server.agora.channels import channel_name
from video_calls_server.agora.notifications import Notice
from video_calls_server.agora.tokens import MintedToken, TokenVersion, mint
from video_calls_server.domain import calls
from video_calls_server.domain.calls import Action, Call, Proposal, Transition
from video_calls_server.domain.clock import Clock
from video_calls_server.domain.people import Actor
from video_calls_server.events.hub import Hub
from video_calls_server.events.payload import event_data
from video_calls_server.observability.request_id import current_request_id
from video_calls_server.settings import Settings
from video_calls_server.store import (
    OverlapError,
    Store,
    agora_notices,
    events,
    idempotency,
    people,
    rate_limit,
)
from video_calls_server.store import calls as store_calls
from video_calls_server.store.events import StoredEvent

logger = logging.getLogger("video_calls_server.events")

IDEMPOTENCY_LIFETIME = timedelta(hours=24)
"""The time for which an `Idempotency-Key` is stored."""

NOTICE_LIFETIME = timedelta(days=7)
"""The time for which a notice of Agora's is stored. Agora repeats a notice within minutes, if at all."""

EVENT_BATCH = 100
"""The most events that one read returns."""

_CALL_EVENT = "%(event)s call=%(call)d request_id=%(request_id)s"
_PARTICIPANT_EVENT = "%(event)s call=%(call)d %(role)s uid=%(uid)d request_id=%(request_id)s"


@dataclass(frozen=True, slots=True)
class Page:
    """One page of an actor's calls. `count` is the number of calls on all pages."""

    count: int
    calls: list[Call]


@dataclass(frozen=True, slots=True)
class Created:
    """A call. `replayed` is true if an earlier request with the same `Idempotency-Key` created it."""

    call: Call
    replayed: bool


@dataclass(frozen=True, slots=True)
class Joined:
    """A call after a join, with the uid of the participant and the token for the channel."""

    call: Call
    uid: int
    minted: MintedToken


class Operations:
    """The operations of the API on one store.

    If a rule refuses, the operation raises `RuleViolation` and changes nothing.
    """

    def __init__(self, settings: Settings, store: Store, clock: Clock, hub: Hub) -> None:
        self._project = settings.agora_project
        self._token_version: TokenVersion = settings.agora_token_version
        self._rate = settings.rate
        self._store = store
        self._clock = clock
        self._hub = hub
        self._retention = timedelta(hours=settings.event_retention_hours)
        join = partial(calls.join, agora_notifies=bool(settings.agora_ncs_secret))
        self._changes = calls.CHANGES | {"join": join}
        self._end_when_empty = timedelta(minutes=settings.end_when_empty_minutes)

    @property
    def app_id(self) -> str:
        """The app id of the Agora project that the tokens are for."""
        return self._project.app_id

    async def authenticate(self, user: int | str) -> Actor | None:
        """Return the active user with this id or e-mail address, or None if there is none."""
        return await self._store.read(lambda connection: people.active_actor(connection, user))

    async def retry_after(self, actor: Actor) -> int | None:
        """Count a request of the actor. Return the seconds to wait if it is over the rate limit, or None."""
        if self._rate is None:
            return None
        now, length = int(time.time()), self._rate.seconds
        window = now - now % length
        requests = await self._store.write(
            lambda connection: rate_limit.count_request(connection, actor, window=window)
        )
        return window + length - now if requests > self._rate.requests else None

    async def page(self, actor: Actor, *, page: int, size: int) -> Page:
        """Return a page of the actor's calls ("1. List Video Calls")."""
        skip = (page - 1) * size

        def work(connection: Connection) -> Page:
            count, page_calls = store_calls.page_of_calls(connection, actor, size=size, skip=skip)
            calls.check_page(page, page_calls)
            return Page(count, page_calls)

        return await self._store.read(work)

    async def get(self, actor: Actor, call_id: int | None) -> Call:
        """Return a call of the actor ("3. Get Video Call Details"). An id of None matches no call."""

        def work(connection: Connection) -> Call:
            call = calls.require_call(store_calls.call(connection, call_id), "get")
            calls.role_of(actor, call, "get")
            return call

        return await self._store.read(work)

    async def create(self, actor: Actor, proposal: Proposal) -> Created:
        """Schedule a call ("2. Create Video Call"), once per `Idempotency-Key`."""
        draft, key = calls.draft_of(actor, proposal), proposal.idempotency_key

        def work(connection: Connection) -> Created:
            now = self._clock.now()  # read here, because the transaction may have waited for a lock
            oldest_key = now - IDEMPOTENCY_LIFETIME
            if key is not None:
                earlier = idempotency.call_of_key(connection, actor, key, oldest=oldest_key)
                if earlier is not None:
                    return Created(calls.replay(earlier, draft), replayed=True)
            new = calls.schedule(
                draft,
                doctor=people.lock_doctor(connection, draft.doctor_id),
                patient=people.lock_patient(connection, draft.patient_id),
                neighbours=store_calls.neighbours(
                    connection, draft.doctor_id, draft.patient_id, draft.scheduled_time
                ),
                channel_name=channel_name(now),
                now=now,
            )
            call = store_calls.add_call(connection, new)
            if key is not None:
                idempotency.add_key(connection, actor, key, call, now=now, oldest=oldest_key)
            return Created(call, replayed=False)

        try:
            return await self._store.write(work)
        except OverlapError:
            calls.refuse_overlap()

    async def join(self, actor: Actor, call_id: int | None) -> Joined:
        """Join a call and mint a token for its channel ("4. Join Video Call")."""
        call, uid = await self._change("join", actor, call_id), actor.user_id
        return Joined(call, uid, mint(self._project, self._token_version, channel=call.channel_name, uid=uid))

    async def end(self, actor: Actor, call_id: int | None) -> Call:
        """End an ongoing call ("5. End Video Call")."""
        return await self._change("end", actor, call_id)

    async def cancel(self, actor: Actor, call_id: int | None) -> Call:
        """Cancel a scheduled call ("6. Cancel Video Call")."""
        return await self._change("cancel", actor, call_id)

    async def _change(self, action: Action, actor: Actor, call_id: int | None) -> Call:
        def work(connection: Connection) -> Transition:
            call = calls.require_call(store_calls.lock_call(connection, call_id), action)
            now = self._clock.now()
            transition = self._changes[action](call, actor, now)
            self._save(connection, call, transition, now)
            return transition

        transition = await self._store.write(work)
        self._announce(transition)
        return transition.call

    async def apply_notice(self, notice: Notice) -> None:
        """Record that a participant has joined or left a channel.

        Ignore a notice that repeats an earlier one, or that is older than another notice of the participant.
        Also ignore a notice whose channel belongs to no call, or whose uid is not a participant's.
        """

        def work(connection: Connection) -> Transition | None:
            call = store_calls.lock_call_of_channel(connection, notice.channel_name)
            role = None if call is None else calls.role_of_uid(call, notice.uid)
            if call is None or role is None or agora_notices.has_notice(connection, notice.id):
                return None
            now, sequence = self._clock.now(), notice.client_seq
            newest = agora_notices.newest_sequence(connection, call.id, notice.uid)
            agora_notices.add_notice(
                connection,
                notice.id,
                call_id=call.id,
                uid=notice.uid,
                client_seq=sequence,
                now=now,
                oldest=now - NOTICE_LIFETIME,
            )
            if sequence is not None and newest is not None and sequence <= newest:
                return None
            has_joined = notice.presence == "joined"
            transition = calls.arrive(call, role) if has_joined else calls.leave(call, role, now)
            self._save(connection, call, transition, now)
            return transition

        transition = await self._store.write(work)
        if transition is None:
            logger.info(
                "ignored a notice that changes nothing: %(presence)s uid=%(uid)d",
                {"presence": notice.presence, "uid": notice.uid},
            )
        else:
            self._announce(transition)

    async def end_empty_calls(self) -> datetime | None:
        """End the calls that both participants left long enough ago.

        Return when the next call is due, or None if there is none.
        """

        def work(connection: Connection) -> list[Transition]:
            now = self._clock.now()
            transitions: list[Transition] = []
            for call in store_calls.lock_calls_left_by_both(connection):
                transition = calls.end_empty(call, now, after=self._end_when_empty)
                self._save(connection, call, transition, now)
                transitions.append(transition)
            return transitions

        transitions = await self._store.write(work)
        for transition in transitions:
            self._announce(transition)
        waiting = [since for each in transitions if (since := calls.empty_since(each.call)) is not None]
        return min(waiting) + self._end_when_empty if waiting else None

    def _save(self, connection: Connection, call: Call, transition: Transition, now: datetime) -> None:
        """Store the changed call, and its events in the outbox, in the same transaction."""
        if transition.call is not call:
            store_calls.update_call(connection, transition.call)
        if not transition.events:
            return
        to = _user_ids(transition.call)
        events.lock_outbox(connection, to)
        events.delete_old_events(connection, oldest=now - self._retention)
        for event in transition.events:
            data = event_data(event, transition.call)
            events.add_event(connection, event.type, data, to=to, now=now)

    def _announce(self, transition: Transition) -> None:
        """Wake the event connections of both participants after a commit, and log the events."""
        if transition.events:
            self._hub.wake(_user_ids(transition.call))
        for event in transition.events:
            logger.info(
                _CALL_EVENT if event.role is None else _PARTICIPANT_EVENT,
                {
                    "event": event.type,
                    "call": transition.call.id,
                    "role": event.role or "-",
                    "uid": event.uid or "-",
                    "request_id": current_request_id.get(),
                },
            )

    async def events_after(self, actor: Actor, after: int) -> list[StoredEvent]:
        """Return the next events of the actor after this event id, at most `EVENT_BATCH`."""
        return await self._store.read(
            lambda connection: events.events_after(connection, actor.user_id, after, most=EVENT_BATCH)
        )

    async def newest_event_id(self) -> int:
        """Return the id of the newest event."""
        return await self._store.read(events.last_event_id)

    async def can_resume_after(self, after: int) -> bool:
        """Return whether this event id was assigned, and the store still has every event after it."""

        def work(connection: Connection) -> bool:
            return events.last_deleted_id(connection) <= after <= events.last_event_id(connection)

        return await self._store.read(work)


def _user_ids(call: Call) -> tuple[int, int]:
    return call.doctor.user.id, call.patient.user.id
