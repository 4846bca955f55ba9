"""Free times for a run's calls, months or days ahead, within what the backend books.

The future is cut into blocks, the same for every run: months, or days if little can be booked. A run uses
only blocks in which it has booked the first free time, and prefers those without calls. So two runs of the
same people take different ones. If little can be booked, times lie closer together, and a time whose call
was cancelled is used again.
"""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from video_calls_contract.booking import Policy, discover, discover_notice
from video_calls_contract.call_record import Pair
from video_calls_contract.exchange import Exchange, instant
from video_calls_contract.outcomes import OutsidePolicy

if TYPE_CHECKING:
    from video_calls_contract.scheduling import Calls

__all__ = ["OVERLAP", "Slots"]

OVERLAP = timedelta(minutes=30)

_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
_FURTHEST = timedelta(days=1280)
_SOONEST = timedelta(hours=3)
_DAY, _MONTH = timedelta(days=1), timedelta(days=32)
_MOST_ATTEMPTS = 5
_SHARE = 8  # a test may have one in so many of the times that can be booked
_SURELY_BOOKED = timedelta(days=8)
_LEAST_ROOM = timedelta(hours=6000)
"""A run uses some 400 times, three hours apart; several runs have room in this much."""

_GAP = OVERLAP + timedelta(minutes=1)
_REACH = timedelta(minutes=75)
_TRIED_EVERY = timedelta(minutes=5)
_LONGEST_WAIT = timedelta(seconds=120)
_LONGEST_CALL = timedelta(seconds=60)  # from the booking of a near call to its last request

_ODD_TIMES = ((4, 22), (5, 3), (6, 12))
"""Weekdays and hours: a backend that books these, 7 minutes and 41 seconds past, mostly has no policy."""

_ODD = timedelta(minutes=7, seconds=41)
_POLICY_REFUSALS = (400, 409, 422)


@dataclass(frozen=True, slots=True)
class _Block:
    start: datetime
    end: datetime


_Span = tuple[datetime, datetime]


class Slots:
    """Hands out times that nothing of the run's people is near.

    Attributes:
        policy: what the backend books, as far as it is known.
        scarce: whether there is little room, so that calls are cancelled as soon as their test is over.
    """

    def __init__(self, calls: "Calls", policy: Policy) -> None:
        self._calls = calls
        self._known = self.policy = self._of_far_times = policy
        self._lock = threading.RLock()
        self._own: list[_Block] = []
        self._block = _Block(_EPOCH, _EPOCH)
        self._next = _EPOCH
        self._taken: list[datetime] = []
        self._lent: dict[datetime, timedelta] = {}
        self._refusals: list[tuple[datetime, Exchange]] = []
        self._looked_for_policy = False
        self._has_notice = True
        self._books_nothing = False
        self._reuses: bool | None = None
        self.scarce = False

    # -- At the start ---------------------------------------------------------------------------------

    def look(self) -> None:
        """See which times are taken, find out what the backend books, and claim a first block."""
        calls = self._calls
        self._taken = sorted(
            start
            for person in calls.record.participants()
            for call in calls.visible_to(person)
            if call.get("status") in ("scheduled", "ongoing")
            and (start := instant(call.get("scheduled_time"))) is not None
        )
        with self._lock:
            self.scarce = self.policy.room(_FURTHEST) < _LEAST_ROOM
            self._claim()
            if not self._looked_for_policy and not self._books_odd_times():
                self._find_policy()
                self._claim()
            if self.scarce:
                self.reuses()

    def described(self) -> list[str]:
        """Return what the backend books, in sentences."""
        return self.policy.described(self._now())

    def outside(self, at: datetime) -> OutsidePolicy | None:
        """Return why the backend does not book a time, with its refusal; None if it may."""
        objection = self.policy.objection(at, self._now())
        return self._excluded(objection) if objection else None

    def _excluded(self, objection: str, advice: str = "") -> OutsidePolicy:
        now = self._now()
        evidence = (
            exchange for at, exchange in self._refusals if self.policy.objection(at, now) == objection
        )
        return OutsidePolicy(objection + advice, next(evidence, None))

    def _now(self) -> datetime:
        return self._calls.backend.clock.now()

    # -- Finding out what is booked -------------------------------------------------------------------

    def is_of_policy(self, exchange: Exchange) -> bool:
        """Whether a refusal may mean that the backend does not book this time."""
        return exchange.status in _POLICY_REFUSALS

    def _accepts(self, at: datetime) -> bool | None:
        return self._probe(self._calls.pair, at, lambda: self._is_taken(at))

    def _accepts_soon(self, pair: "Pair", at: datetime) -> bool | None:
        return self._probe(pair, at, lambda: bool(self._calls.conflict(pair, at, own=True)))

    def _probe(self, pair: "Pair", at: datetime, is_taken: Callable[[], bool]) -> bool | None:
        exchange = self._calls.create(pair, at)
        if exchange.succeeded:
            self._calls.record.close_created(exchange)
            return True
        if is_taken():
            return None
        self._refusals.append((at, exchange))
        return False

    def _books_odd_times(self) -> bool:
        start = self._block.start
        for weekday, hour in _ODD_TIMES:
            at = start.replace(hour=hour, minute=0) + timedelta(days=(weekday - start.weekday()) % 7) + _ODD
            if self.policy.allows(at, self._now()) and not self._is_taken(at) and self._accepts(at) is False:
                return not self.is_of_policy(self._refusals[-1][1])
        return True

    def _find_policy(self) -> None:
        self._looked_for_policy = True
        self._own.clear()
        found = discover(self._accepts, self._now(), self._known)
        if found is None:
            # Refusals of days that every policy allows tell the true cause.
            self._books_nothing = self.scarce = True
            self._of_far_times = replace(self._known, furthest=_SURELY_BOOKED)
            return
        self.policy = self._of_far_times = found
        if found.hours != self._known.hours:
            self._of_far_times = found.cautious()
        self.scarce = self._of_far_times.room(_FURTHEST) < _LEAST_ROOM

    def find_notice(self, pair: "Pair", refused: datetime, exchange: Exchange) -> None:
        """Find out the shortest notice after a time that is near was refused, if that is why."""
        with self._lock:
            is_explained = not self.policy.allows(refused, self._now())
            if self._has_notice and not is_explained and self._known.notice_minutes is None:
                self._refusals.append((refused, exchange))
                found = discover_notice(
                    lambda at: self._accepts_soon(pair, at), self._now(), self.policy, refused
                )
                # Another run's call may have been in the way then.
                if found is not None and not self._accepts_soon(pair, refused):
                    self.policy = found
                else:
                    self._has_notice = False

    def reuses(self) -> bool:
        """Whether the time of a cancelled call is booked again."""
        with self._lock:
            if self._reuses is None:
                self._reuses = self._books_again()
            return self._reuses

    def _books_again(self) -> bool:
        for _ in range(_MOST_ATTEMPTS):
            try:
                at = self.take()
            except OutsidePolicy:
                break
            if self._accepts(at):
                return bool(self._accepts(at))
            # The time stays lent: another run's call is there.
        return False

    # -- Far times ------------------------------------------------------------------------------------

    def take(self, reach: int = 0) -> datetime:
        """Return a time that the backend books and that no other call is near.

        Args:
            reach: how many minutes before and after it the caller may book, too.

        Raises:
            OutsidePolicy: if there is no room within the policy.
        """
        length = timedelta(minutes=reach)
        with self._lock:
            if not self.scarce:
                length = max(length, _REACH)
            while (at := self._free(length)) is None:
                if not self._claim():
                    sentences = ["no free time is left for another call", *self.described()]
                    raise OutsidePolicy("; ".join(sentences))
            self._lent[at] = length
            self._next = at + length + OVERLAP
            return at

    def midnight(self, reach: int) -> datetime | None:
        """Return a free midnight in UTC with so many minutes on either side; None if there is none."""
        length = timedelta(minutes=reach)
        with self._lock:
            busy = self._busy(reused=False)
            at = self._block.end.replace(hour=0, minute=0, second=0, microsecond=0)
            # The block itself may begin with the call that claimed it.
            while at >= max(self._block.start - _DAY, self._now() + _SOONEST):
                edges = (at - length, at + length)
                if all(map(self.policy.is_open, edges)) and _end_of_conflict(busy, *edges) is None:
                    self._lent[at] = length
                    return at
                at -= _DAY
        return None

    def at_most(self, number: int) -> int:
        """Return how many times a test may have at once, if it wants this many."""
        room = self._of_far_times.room(_FURTHEST)
        return min(number, max(3, int(room / _GAP / _SHARE)))

    def give_back(self, *times: datetime) -> None:
        """Take back times whose calls are closed; all that were lent if none is named."""
        with self._lock:
            for at in times or list(self._lent):
                self._lent.pop(at, None)

    def _free(self, reach: timedelta) -> datetime | None:
        """Return the next free time of this run's blocks; from their starts on if there is little room."""
        searches = [(self._block, self._next)]
        if self.scarce:
            searches += [(block, block.start) for block in self._own]
        busy = self._busy(reused=self.scarce and bool(self._reuses))
        for block, start in searches:
            at = self._first_free(block, start, reach, busy)
            if at is not None:
                self._block = block
                return at
        return None

    def _first_free(
        self, block: _Block, start: datetime, reach: timedelta, busy: list[_Span]
    ) -> datetime | None:
        now, policy = self._now(), self._of_far_times
        busy = [span for span in busy if span[1] > block.start - _DAY and span[0] < block.end + _DAY]
        at = policy.next_allowed(start + reach, now)
        while at is not None and at + reach < block.end:
            after = _end_of_conflict(busy, at - reach, at + reach)
            if after is None and policy.is_open(at - reach) and policy.is_open(at + reach):
                return at
            later = at + (policy.step or _TRIED_EVERY)
            at = policy.next_allowed(later if after is None else after + _GAP + reach, now)
        return None

    def _busy(self, *, reused: bool) -> list[_Span]:
        """Return when calls start, and the spans that are lent to tests."""
        spans = [(at, at) for at in self._starts(reused=reused)]
        return spans + [(at - reach, at + reach) for at, reach in self._lent.items()]

    def _starts(self, *, reused: bool) -> list[datetime]:
        """Return the times of calls, also of those that a backend took as times of its own place.

        Args:
            reused: whether the times of closed calls are free.
        """
        made = [
            call.at
            for call_id, call in list(self._calls.record.calls.items())
            if call.at is not None and not (reused and self._calls.record.is_closed(call_id))
        ]
        return [*self._taken, *made]

    def _is_taken(self, at: datetime) -> bool:
        """Whether an open call is near, so that a refusal tells nothing of the policy."""
        return any(abs(start - at) < _GAP for start in self._starts(reused=True))

    def _claim(self) -> bool:
        """Begin a block; unclaimed where a backend lets nothing be booked, for tests to find out why."""
        blocks = self._blocks()
        for block, first in blocks[: 0 if self._books_nothing else _MOST_ATTEMPTS]:
            exchange = self._calls.create(self._calls.pair, first)
            if exchange.succeeded:
                self._begin(block, first)
                return True
            if (
                not self._looked_for_policy
                and self.is_of_policy(exchange)
                and not self._calls.conflict(self._calls.pair, first)
            ):
                self._refusals.append((first, exchange))
                self._find_policy()
                return self._claim()
        if not blocks or (self.scarce and self._own):
            return False
        self._begin(*blocks[0])
        return True

    def _begin(self, block: _Block, first: datetime) -> None:
        self._own.append(block)
        self._block, self._next = block, first

    def _blocks(self) -> list[tuple[_Block, datetime]]:
        """Return the blocks of others and their first free times: those with the fewest calls first."""
        now = self._now()
        length, soonest = (_DAY, now + _SOONEST) if self.scarce else (_MONTH, now + _MONTH)
        until = now + min(self._of_far_times.furthest or _FURTHEST, _FURTHEST)
        start = _EPOCH + (soonest - _EPOCH) // length * length
        busy = self._busy(reused=False)
        found: list[tuple[int, int, _Block, datetime]] = []
        while start < until:
            block = _Block(max(start, soonest), min(start + length, until))
            start += length
            first = self._first_free(block, block.start, timedelta(0), busy)
            is_own = any(own.start < block.end and block.start < own.end for own in self._own)
            if first is not None and not is_own:
                crowd = sum(block.start <= at < block.end for at, _ in busy)
                found.append((crowd, secrets.randbelow(2**32), block, first))
        return [(block, first) for _, _, block, first in sorted(found, key=lambda one: one[:2])]

    # -- Near times -----------------------------------------------------------------------------------

    def near(self, ahead: timedelta, window: timedelta, *, within: timedelta | None = None) -> datetime:
        """Return a time so far ahead, or the next that the backend books before the window's end.

        Args:
            within: how much later than `ahead` the time may be, or earlier if negative; None if any time in
                the window will do.

        Raises:
            OutsidePolicy: if there is none.
        """
        now, policy = self._now(), self.policy
        if policy.notice > window:
            raise self._excluded(policy.described(now)[-1])
        soonest = policy.notice + _LONGEST_CALL / 2 if policy.notice else timedelta(0)
        if within is not None:
            return self._close_to(now + ahead, now + soonest, within)
        soonest = max(soonest, min(ahead, _LONGEST_CALL))
        found = policy.next_allowed(now + max(ahead, soonest), now)
        if found is None or found > now + window:
            found = policy.next_allowed(now + soonest, now)
        if found is None:
            raise self._excluded(policy.objection(now + ahead, now))
        wait = found - window - now
        if wait > _LONGEST_WAIT:
            when = f"{found - window:%Y-%m-%d %H:%M} and {found:%H:%M} UTC"
            raise self._excluded(policy.objection(now + ahead, now), f"; run the suite between {when}")
        self._calls.ended.wait(max(0.0, wait.total_seconds()))
        return found

    def _close_to(self, wanted: datetime, soonest: datetime, within: timedelta) -> datetime:
        now, policy = self._now(), self.policy
        if within > timedelta(0):
            found = policy.next_allowed(max(wanted, soonest), now)
        else:
            found = policy.last_open(wanted)
        if found is None or abs(found - wanted) > abs(within) or found < soonest:
            raise self._excluded(policy.objection(wanted, now))
        return found


def _end_of_conflict(busy: list[_Span], start: datetime, end: datetime) -> datetime | None:
    """Return when the last span ends that is less than the gap away from this one; None if none is."""
    return max((last for first, last in busy if first - _GAP < end and start < last + _GAP), default=None)
