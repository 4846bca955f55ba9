"""The operations of the API: each reads what the domain's rules need, lets them decide, and keeps the result.

One operation is one unit of work on the store, so that nothing comes between its check and its change.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from video_calls_server.agora.channels import channel_name
from video_calls_server.agora.notifications import Notice
from video_calls_server.agora.tokens import MintedToken, TokenVersion, mint
from video_calls_server.domain import calls
from video_calls_server.domain.calls import Call, Proposal, Transition
from video_calls_server.domain.clock import Clock
from video_calls_server.domain.people import Actor
from video_calls_server.events.hub import Hub
from video_calls_server.events.payload import event_data
from video_calls_server.observability import request_id
from video_calls_server.settings import Settings
from video_calls_server.store import OverlapError, Store, agora_notices, events, idempotency, people
from video_calls_server.store import calls as store_calls
from video_calls_server.store.events import StoredEvent

logger = logging.getLogger("video_calls_server.events")

IDEMPOTENCY_LIFETIME = timedelta(hours=24)
"""How long an `Idempotency-Key` is remembered."""

NOTICE_LIFETIME = timedelta(days=7)
"""How long a notice of Agora's is remembered; it comes again within minutes, if at all."""

EVENTS_AT_ONCE = 100
"""How many events a connection reads before it sends them."""

_TOLD = "%(event)s call=%(call)d request_id=%(request_id)s"
_TOLD_OF_PARTICIPANT = "%(event)s call=%(call)d %(role)s uid=%(uid)d request_id=%(request_id)s"


@dataclass(frozen=True, slots=True)
class Page:
    """One page of an actor's calls, and how many there are over all pages."""

    count: int
    calls: list[Call]


@dataclass(frozen=True, slots=True)
class Created:
    """A call, and whether it was made by an earlier request with the same `Idempotency-Key`."""

    call: Call
    replayed: bool


@dataclass(frozen=True, slots=True)
class Joined:
    """A call as a participant has joined it: their uid and the token for its channel."""

    call: Call
    uid: int
    minted: MintedToken


class Operations:
    """What the API does. Raises `RuleViolation` where a rule refuses and then has changed nothing."""

    def __init__(self, settings: Settings, store: Store, clock: Clock, hub: Hub) -> None:
        self._project = settings.agora_project
        self._token_version: TokenVersion = settings.agora_token_version
        self._rate = settings.rate
        self._store = store
        self._clock = clock
        self._hub = hub
        self._retention = timedelta(hours=settings.event_retention_hours)
        self._presence_is_noticed = bool(settings.agora_ncs_secret)
        self._end_when_empty = timedelta(minutes=settings.end_when_empty_minutes)

    @property
    def app_id(self) -> str:
        """The id of the Agora project whose tokens are minted."""
        return self._project.app_id

    async def authenticate(self, user: int | str) -> Actor | None:
        """The active user of this id or e-mail address, None where there is none."""
        return await self._store.read(lambda connection: people.active_actor(connection, user))

    async def retry_after(self, actor: Actor) -> int | None:
        """Count a request of the actor; the seconds to wait where it is one too many ("Rate Limiting")."""
        if self._rate is None:
            return None
        now, length = int(time.time()), self._rate.seconds
        window = now - now % length
        made = await self._store.write(
            lambda connection: idempotency.count_request(connection, actor, window=window)
        )
        return window + length - now if made > self._rate.requests else None

    async def page(self, actor: Actor, *, page: int, size: int) -> Page:
        """A page of the actor's calls ("1. List Video Calls")."""
        skip = (page - 1) * size

        def work(connection: Connection) -> Page:
            count, found = store_calls.page_of_calls(connection, actor, size=size, skip=skip)
            calls.check_page(page, found)
            return Page(count, found)

        return await self._store.read(work)

    async def get(self, actor: Actor, call_id: int | None) -> Call:
        """One call of the actor's ("3. Get Video Call Details"). An id of None is no call's."""

        def work(connection: Connection) -> Call:
            call = calls.existing(_call(connection, call_id), "get")
            calls.role_of(actor, call, "get")
            return call

        return await self._store.read(work)

    async def create(self, actor: Actor, proposal: Proposal) -> Created:
        """Schedule a call ("2. Create Video Call"), once per `Idempotency-Key`."""
        draft, key = calls.draft_of(actor, proposal), proposal.idempotency_key

        def work(connection: Connection) -> Created:
            now = self._clock.now()  # within the transaction: what it waited for may have taken time
            oldest_key = now - IDEMPOTENCY_LIFETIME
            if key is not None:
                earlier = idempotency.call_of_key(connection, actor, key, oldest=oldest_key)
                if earlier is not None:
                    return Created(calls.first_answer(earlier, draft), replayed=True)
            new = calls.schedule(
                draft,
                doctor=people.doctor_to_book(connection, draft.doctor_id),
                patient=people.patient_to_book(connection, draft.patient_id),
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
        """Join a call and get Agora credentials ("4. Join Video Call")."""
        noticed = self._presence_is_noticed
        transition = await self._change(
            call_id, "join", lambda call, now: calls.join(call, actor, now, presence_is_noticed=noticed)
        )
        call, uid = transition.call, actor.user_id
        return Joined(call, uid, mint(self._project, self._token_version, channel=call.channel_name, uid=uid))

    async def end(self, actor: Actor, call_id: int | None) -> Call:
        """End an ongoing call ("5. End Video Call")."""
        return (await self._change(call_id, "end", lambda call, now: calls.end(call, actor, now))).call

    async def cancel(self, actor: Actor, call_id: int | None) -> Call:
        """Cancel a scheduled call ("6. Cancel Video Call")."""
        return (await self._change(call_id, "cancel", lambda call, now: calls.cancel(call, actor, now))).call

    async def _change(
        self, call_id: int | None, action: calls.Action, change: Callable[[Call, datetime], Transition]
    ) -> Transition:
        def work(connection: Connection) -> Transition:
            found = None if call_id is None else store_calls.call_to_change(connection, call_id)
            call = calls.existing(found, action)
            now = self._clock.now()
            transition = change(call, now)
            if transition.call is not call:
                store_calls.update_call(connection, transition.call)
            self._keep(connection, transition, now)
            return transition

        transition = await self._store.write(work)
        self._tell(transition)
        return transition

    async def take_notice(self, notice: Notice) -> None:
        """Take in what Agora noticed, unless it is known, outdated, or of no call or participant."""

        def work(connection: Connection) -> Transition | None:
            call = store_calls.call_of_channel(connection, notice.channel_name)
            role = None if call is None else calls.role_of_uid(call, notice.uid)
            if call is None or role is None or agora_notices.knows_notice(connection, notice.id):
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
            joined = notice.presence == "joined"
            transition = calls.arrive(call, role) if joined else calls.leave(call, role, now)
            store_calls.update_call(connection, transition.call)
            self._keep(connection, transition, now)
            return transition

        transition = await self._store.write(work)
        if transition is None:
            logger.info(
                "a notice changes nothing: %(presence)s uid=%(uid)d",
                {"presence": notice.presence, "uid": notice.uid},
            )
        else:
            self._tell(transition)

    async def end_empty_calls(self) -> datetime | None:
        """End the calls that both have left for long enough; when the next one will be due, if any."""

        def work(connection: Connection) -> list[Transition]:
            now = self._clock.now()
            transitions: list[Transition] = []
            for call in store_calls.calls_left_by_both(connection):
                transition = calls.end_empty(call, now, after=self._end_when_empty)
                if transition.events:
                    store_calls.update_call(connection, transition.call)
                    self._keep(connection, transition, now)
                transitions.append(transition)
            return transitions

        transitions = await self._store.write(work)
        for transition in transitions:
            self._tell(transition)
        waiting = [since for each in transitions if (since := calls.empty_since(each.call)) is not None]
        return min(waiting) + self._end_when_empty if waiting else None

    def _tell(self, transition: Transition) -> None:
        """Wake who follows the events of a transition that is kept, and log them."""
        if transition.events:
            self._hub.wake(_user_ids(transition.call))
        for event in transition.events:
            logger.info(
                _TOLD if event.role is None else _TOLD_OF_PARTICIPANT,
                {
                    "event": event.type,
                    "call": transition.call.id,
                    "role": event.role or "-",
                    "uid": event.uid or "-",
                    "request_id": request_id.request_id.get(),
                },
            )

    def _keep(self, connection: Connection, transition: Transition, now: datetime) -> None:
        """Put what a transition tells into the outbox, with the change itself."""
        if not transition.events:
            return
        to = _user_ids(transition.call)
        events.take_turn(connection, to)
        events.forget_events(connection, oldest=now - self._retention)
        for event in transition.events:
            data = event_data(event, transition.call)
            events.add_event(connection, event.type, data, to=to, now=now)

    async def events_after(self, actor: Actor, after: int) -> list[StoredEvent]:
        """The next events of the actor's after this id, a handful at a time."""
        return await self._store.read(
            lambda connection: events.events_after(connection, actor.user_id, after, most=EVENTS_AT_ONCE)
        )

    async def newest_event(self) -> int:
        """After which id everything is yet to happen."""
        return await self._store.read(events.last_event_id)

    async def keeps_events_after(self, after: int) -> bool:
        """Whether nothing that came after this id is forgotten, and the id was ever given."""

        def work(connection: Connection) -> bool:
            return events.forgotten_through(connection) <= after <= events.last_event_id(connection)

        return await self._store.read(work)


def _user_ids(call: Call) -> tuple[int, int]:
    return call.doctor.user.id, call.patient.user.id


def _call(connection: Connection, call_id: int | None) -> Call | None:
    return None if call_id is None else store_calls.call(connection, call_id)
