"""Schedules calls for tests: far calls, days or months ahead, and near calls, within the join window.

Far calls use free times. A doctor and a patient can have only one near call at a time. So a test reserves a
pair for its near call, and closes the call at its end.
"""

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from video_calls_contract.backend import Backend
from video_calls_contract.booking_policy import Policy
from video_calls_contract.created_calls import OVERLAP, Call, CreatedCalls
from video_calls_contract.exceptions import Blocked
from video_calls_contract.exchange import Exchange, Together, instant
from video_calls_contract.free_times import FreeTimes
from video_calls_contract.ids import is_id
from video_calls_contract.pairs import Pair, pairs_of, with_dual_user
from video_calls_contract.users import User, Users

_JOIN_WINDOW = timedelta(minutes=15)
_ROOM_DEADLINE = 40.0  # seconds to wait for room: within this time, another run closes its near calls
_ROOM_INTERVAL = 2.0  # seconds between two attempts to create a near call
_NO_ROOM_CACHED = 20.0  # seconds that the suite waits after it found no room, before it looks again
_MOST_REFUSALS = 3  # of a near time without a visible call: another run may have closed its call by then
_MOST_QUOTED = 160  # characters of a refusal in a message


class Calls:
    """Schedules calls. Several threads may use it at once.

    The methods that create or change calls raise `Blocked` if the backend refuses the request, or if calls of
    other runs or users leave no room.

    Attributes:
        pairs: the pairs that can have calls, without `dual_user`; the doctor and the patient come first.
        created: the calls that were created.
        no_room_reason: which calls left no room for a near call; empty if there was room for all.
        ended: an event that is set when the run ends; it ends the wait for room.
    """

    def __init__(self, backend: Backend, users: Users, policy: Policy) -> None:
        self.backend = backend
        self.users = users
        self.no_room_reason = ""
        self.ended = threading.Event()
        self.pairs = pairs_of(users)
        self.created = CreatedCalls(backend, users)
        self.free_times = FreeTimes(self.created, self.pair, policy, self.ended)
        # A pair with equal profile ids comes first: its uids are equal if they come from these ids.
        near_pairs = sorted(self.pairs, key=lambda pair: pair.doctor.doctor != pair.patient.patient)
        self._near_pairs = with_dual_user(users, near_pairs)
        self._look_again = 0.0
        self._busy: set[User] = set()
        self._released = threading.Condition()
        self._refusals: dict[tuple[str | None, int], tuple[str, Exchange]] = {}

    @contextmanager
    def closing(self) -> Generator[None]:
        """After the block, if room is scarce, close the calls created in it, and free their times."""
        number = len(self.created.calls)
        yield
        if self.free_times.scarce:
            for call_id in self.created.since(number):
                self.created.close(call_id)
            self.free_times.give_back()

    def several(self, number: int, together: Together) -> list[Exchange]:
        """Send `number` requests for calls of the pair; if room is scarce, close each call before the next.

        Raises:
            OutsidePolicy: if there is no free time for a call.
        """
        if not self.free_times.scarce:
            times = [self.free_times.take() for _ in range(number)]
            return together([partial(self.created.create, self.pair, at) for at in times])
        exchanges: list[Exchange] = []
        for _ in range(number):
            at = self.free_times.take()
            exchanges.append(self.created.create(self.pair, at))
            self.created.close_created(exchanges[-1])
            self.free_times.give_back(at)
        return exchanges

    # -- Pairs ----------------------------------------------------------------------------------------

    @property
    def pair(self) -> Pair:
        """The pair of the doctor and the patient."""
        return self.pairs[0]

    def pair_of(self, doctor: str, patient: str) -> Pair:
        """Return a pair by the names of its identities.

        Raises:
            Missing: if an identity is not in the configuration.
        """
        participants = (self.users[doctor], self.users[patient])
        return next(pair for pair in self.pairs if pair.participants == participants)

    # -- Far calls ------------------------------------------------------------------------------------

    def scheduled(self, pair: Pair | None = None, *, by: User | None = None, reach: int = 0) -> Call:
        """Return a new call, days or months ahead, with `reach` free minutes before and after it."""
        pair = pair or self.pair
        at = self.free_times.take(reach)
        exchange = pair.create(by, at) if by else self.created.create(pair, at)
        for _ in range(2):
            if exchange.succeeded or not self.created.conflict(pair, at):
                break
            at = self.free_times.take(reach)
            exchange = self.created.create(pair, at)
        return self._call(exchange, pair)

    def _call(self, exchange: Exchange, pair: Pair) -> Call:
        if not exchange.succeeded:
            error = exchange.object.get("error")
            reason = f": {error}" if isinstance(error, str) else f": {exchange.text[:_MOST_QUOTED]}"
            raise self._blocked(
                f"no call could be scheduled: create was answered {exchange.status_text}{reason}", exchange
            )
        if not is_id(exchange.object.get("id")):
            raise Blocked("no call could be scheduled: the response to create has no valid `id`", exchange)
        return Call(exchange, pair)

    # -- Near calls -----------------------------------------------------------------------------------

    @contextmanager
    def soon(
        self, minutes: float = 10, *, seconds: float = 0, within: timedelta | None = None
    ) -> Generator[Call]:
        """Schedule a call this far ahead, for a pair without a near call; close it after the block.

        Args:
            within: if the backend does not book this time, how much later the call may be, or how much
                earlier if negative; None allows any time within the join window.
        """
        call = self._near(timedelta(minutes=minutes, seconds=seconds), within)
        try:
            yield call
        finally:
            self.created.close(call.id)
            self._release(call.pair)

    @contextmanager
    def ongoing(self) -> Generator[Call]:
        """Schedule a near call, and join it as its doctor."""
        with self.soon() as call:
            self.step(call, "join")
            yield call

    def completed(self) -> Call:
        """Return a near call that was joined and ended."""
        with self.ongoing() as call:
            self.step(call, "end")
            return call

    def cancelled(self) -> Call:
        """Return a near call that was cancelled."""
        with self.soon() as call:
            self.step(call, "cancel")
            return call

    @contextmanager
    def reserved_pair(self) -> Generator[Pair]:
        """Reserve a pair that has no near call of this run.

        Raises:
            Blocked: if there is no such pair before the deadline.
        """
        with self._released:
            self._released.wait_for(self._has_free_pair, timeout=_ROOM_DEADLINE)
        for pair in self.pairs:
            if self._reserve(pair):
                try:
                    self._close_own(pair, self.backend.clock.now())
                    yield pair
                finally:
                    self._release(pair)
                return
        raise Blocked("near calls of this run take up the time of every user")

    def _has_free_pair(self) -> bool:
        return any(not self._busy & set(pair.participants) for pair in self.pairs)

    def has_closed_near(self, pair: Pair) -> bool:
        """Return whether this run closed a call of the pair that could conflict with a near call."""
        near = self.created.near(pair, self.backend.clock.now(), 2 * OVERLAP)
        return any(map(self.created.is_closed, near))

    def step(self, call: Call, action: str) -> Exchange:
        """Send an action such as `join` as the call's doctor, for a test that depends on its success."""
        exchange = call.doctor.act(action, call.id)
        call.steps.append(exchange)
        if not exchange.succeeded:
            raise self.blocked_at(action, call, exchange)
        return exchange

    def blocked_at(self, action: str, call: Call, refusal: Exchange) -> Blocked:
        """Return the exception for a refused step.

        If the backend refused this operation with this status before, the exception has the text of the first
        refusal, so that the report names one cause.
        """
        return self._blocked(f"{action} was answered {refusal.status_text} for call {call.id}", refusal)

    def _blocked(self, reason: str, refusal: Exchange) -> Blocked:
        kind = refusal.operation, refusal.status
        return Blocked(*self._refusals.setdefault(kind, (reason, refusal)))

    def _near(self, ahead: timedelta, within: timedelta | None) -> Call:
        until = time.monotonic() + (0 if self.no_room_reason else _ROOM_DEADLINE)
        while True:
            if time.monotonic() < self._look_again:
                raise Blocked(self.no_room_reason)
            conflicts: list[dict[str, Any]] = []
            skipped_a_pair = False
            for pair in self._near_pairs:
                if not self._reserve(pair):
                    skipped_a_pair = True
                    continue
                try:
                    outcome = self._attempt(pair, ahead, within)
                except BaseException:
                    self._release(pair)
                    raise
                if isinstance(outcome, Call):
                    return outcome
                self._release(pair)
                conflicts.append(outcome)
            if self.ended.is_set():
                raise Blocked("the run ended before there was room for a call")
            may_change = skipped_a_pair or any(map(self._is_new, conflicts))
            if not may_change or time.monotonic() >= until:
                break
            with self._released:
                self._released.wait(_ROOM_INTERVAL)
        self.no_room_reason = _no_room_message(conflicts)
        # A run would take half an hour if each test looked for room.
        self._look_again = time.monotonic() + _NO_ROOM_CACHED
        raise Blocked(self.no_room_reason)

    def _is_new(self, call: dict[str, Any]) -> bool:
        """Return whether a call may be a near call of another run, which closes it before the deadline."""
        created = instant(call.get("created_at"))
        return created is None or self.backend.clock.now() - created < timedelta(seconds=_ROOM_DEADLINE)

    def _attempt(self, pair: Pair, ahead: timedelta, within: timedelta | None) -> Call | dict[str, Any]:
        """Return a new call, or the call outside this run that conflicts with it."""
        window = _JOIN_WINDOW - self.backend.clock.margin
        at = self.free_times.near(ahead, window, within=within)
        self._close_own(pair, at)
        exchange = self.created.create(pair, at)
        for _ in range(_MOST_REFUSALS):
            if exchange.succeeded:
                break
            conflict = self.created.conflict(pair, at)
            if conflict is not None:
                return conflict
            exchange = self.created.create(pair, at)  # the conflicting call may have been closed meanwhile
        if not exchange.succeeded and self.free_times.is_of_policy(exchange):
            is_free = not self.has_closed_near(pair) or self.free_times.reuses()
            if is_free and not self.created.conflict(pair, at, own=True):
                self.free_times.find_notice(pair, at, exchange)
                at = self.free_times.near(ahead, window, within=within)
                exchange = self.created.create(pair, at)
        return self._call(exchange, pair)

    def _close_own(self, pair: Pair, at: datetime) -> None:
        """Close this run's calls of a pair that are near a time."""
        for call_id in self.created.near(pair, at, OVERLAP):
            if not self.created.close(call_id):
                raise Blocked(
                    f"call {call_id} of this run conflicts; the backend neither cancels nor ends it"
                )

    def _reserve(self, pair: Pair) -> bool:
        with self._released:
            if self._busy & set(pair.participants):
                return False
            self._busy |= set(pair.participants)
            return True

    def _release(self, pair: Pair) -> None:
        with self._released:
            self._busy -= set(pair.participants)
            self._released.notify_all()


def _no_room_message(conflicts: list[dict[str, Any]]) -> str:
    """Return why there is no room for a near call, and what helps."""
    if not conflicts:
        return "near calls of this run take up the time of every user"
    call = conflicts[0]
    text = f"call {call.get('id')} of doctor {call.get('doctor')} and patient {call.get('patient')}"
    if start := instant(call.get("scheduled_time")):
        text += f", scheduled for {start:%Y-%m-%d %H:%M} UTC,"
    others = len({str(one.get("id")) for one in conflicts}) - 1
    more = f" and {others} more" if others else ""
    return (
        f"{text}{more} {'take' if others else 'takes'} up the next quarter of an hour: "
        f"cancel or end {'them' if others else 'it'}, or run the suite later"
    )
