"""Finds free times for a run's calls, months or days ahead, within the backend's booking policy.

Every run divides the future into the same blocks of time: months, or days if there are few free times ("room
is scarce"). A run claims a block when it books the first free time there, and prefers blocks without calls.
So two runs with the same users claim different blocks. If room is scarce, calls are closer together, and a
run also books the times of its cancelled calls again.
"""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from video_calls_contract.booking_policy import Policy, discover, discover_notice
from video_calls_contract.created_calls import OPEN, OVERLAP, CreatedCalls
from video_calls_contract.exceptions import OutsidePolicy
from video_calls_contract.exchange import Exchange, instant
from video_calls_contract.pagination import visible_calls
from video_calls_contract.pairs import Pair

_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
_FURTHEST = timedelta(days=1280)
_SOONEST = timedelta(hours=3)
_DAY, _MONTH = timedelta(days=1), timedelta(days=32)
_MOST_ATTEMPTS = 5
_SHARE = 8  # one test may use 1/8 of all bookable times
_ALWAYS_BOOKED = timedelta(days=8)  # every policy books calls this far ahead
_LEAST_ROOM = timedelta(hours=6000)
"""Below this, room is scarce: a run uses some 400 times, three hours apart; other runs need room, too."""

_GAP = OVERLAP + timedelta(minutes=1)
_REACH = timedelta(minutes=75)
_SEARCH_STEP = timedelta(minutes=5)
_MOST_WAIT = timedelta(seconds=120)
_MOST_CALL_LENGTH = timedelta(seconds=60)  # from the creation of a near call to its last request

_ODD_TIMES = ((4, 22), (5, 3), (6, 12))
"""Weekdays and hours. A backend that books `_ODD` after these probably has no booking policy."""

_ODD = timedelta(minutes=7, seconds=41)
_POLICY_REFUSALS = (400, 409, 422)


@dataclass(frozen=True, slots=True)
class _Block:
    start: datetime
    end: datetime


_Span = tuple[datetime, datetime]


class FreeTimes:
    """Finds times at which the run's users have no other call near. Several threads may use it at once.

    Args:
        pair: the participants of the calls that discover the policy and claim blocks.
        ended: an event that is set when the run ends; it ends every wait.

    Attributes:
        policy: the backend's booking policy, as far as it is known.
        scarce: whether there are few free times, so that each test's calls are closed right after it.
    """

    def __init__(self, calls: CreatedCalls, pair: Pair, policy: Policy, ended: threading.Event) -> None:
        self._calls = calls
        self._pair = pair
        self._ended = ended
        self._configured = self.policy = self._far_policy = policy
        self._lock = threading.RLock()
        self._own_blocks: list[_Block] = []
        self._block = _Block(_EPOCH, _EPOCH)
        self._next = _EPOCH
        self._existing: list[datetime] = []
        self._reserved: dict[datetime, timedelta] = {}
        self._refusals: list[tuple[datetime, Exchange]] = []
        self._discovered_policy = False
        self._may_have_notice = True
        self._books_nothing = False
        self._reuses: bool | None = None
        self.scarce = False

    # -- At the start ---------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Read the existing calls, discover the booking policy, and claim a first block."""
        self._existing = sorted(
            start
            for user in self._calls.participants()
            for call in visible_calls(user)
            if call.get("status") in OPEN and (start := instant(call.get("scheduled_time"))) is not None
        )
        with self._lock:
            self.scarce = self.policy.room(_FURTHEST) < _LEAST_ROOM
            self._claim()
            if not self._discovered_policy and not self._books_odd_times():
                self._find_policy()
                self._claim()
            if self.scarce:
                self.reuses()

    def describe_policy(self) -> list[str]:
        """Return the booking policy in sentences."""
        return self.policy.describe(self._now())

    def require_allowed(self, at: datetime) -> None:
        """Check that the booking policy allows a time.

        Raises:
            OutsidePolicy: if it does not.
        """
        if objection := self.policy.objection(at, self._now()):
            raise self._outside_policy(objection)

    def _outside_policy(self, objection: str, advice: str = "") -> OutsidePolicy:
        now = self._now()
        evidence = (
            exchange for at, exchange in self._refusals if self.policy.objection(at, now) == objection
        )
        return OutsidePolicy(objection + advice, next(evidence, None))

    def _now(self) -> datetime:
        return self._calls.clock.now()

    # -- The booking policy ---------------------------------------------------------------------------

    def is_of_policy(self, exchange: Exchange) -> bool:
        """Return whether a refusal may come from the booking policy."""
        return exchange.status in _POLICY_REFUSALS

    def _accepts(self, at: datetime) -> bool | None:
        return self._probe(self._pair, at, lambda: self._is_taken(at))

    def _accepts_soon(self, pair: Pair, at: datetime) -> bool | None:
        return self._probe(pair, at, lambda: bool(self._calls.conflict(pair, at, own=True)))

    def _probe(self, pair: Pair, at: datetime, is_taken: Callable[[], bool]) -> bool | None:
        exchange = self._calls.create(pair, at)
        if exchange.succeeded:
            self._calls.close_created(exchange)
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
        self._discovered_policy = True
        self._own_blocks.clear()
        policy = discover(self._accepts, self._now(), self._configured)
        if policy is None:
            # Use times that every policy allows: the refusals of the tests' calls then show the true cause.
            self._books_nothing = self.scarce = True
            self._far_policy = replace(self._configured, furthest=_ALWAYS_BOOKED)
            return
        self.policy = self._far_policy = policy
        if policy.hours != self._configured.hours:
            self._far_policy = policy.cautious()
        self.scarce = self._far_policy.room(_FURTHEST) < _LEAST_ROOM

    def find_notice(self, pair: Pair, at: datetime, refusal: Exchange) -> None:
        """Discover the backend's shortest notice, if it explains why the backend refused a near time."""
        with self._lock:
            is_explained = not self.policy.allows(at, self._now())
            if self._may_have_notice and not is_explained and self._configured.notice_minutes is None:
                self._refusals.append((at, refusal))
                policy = discover_notice(
                    lambda later: self._accepts_soon(pair, later), self._now(), self.policy, at
                )
                # If the backend now accepts the time, another run's call had caused the refusal.
                if policy is not None and not self._accepts_soon(pair, at):
                    self.policy = policy
                else:
                    self._may_have_notice = False

    def reuses(self) -> bool:
        """Return whether the backend accepts a new call at the time of a cancelled one."""
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
            # The time stays reserved, because another run may have a call there.
        return False

    # -- Far times ------------------------------------------------------------------------------------

    def take(self, reach: int = 0) -> datetime:
        """Reserve and return a bookable time without another call near.

        Args:
            reach: the caller may also book times up to so many minutes before and after it.

        Raises:
            OutsidePolicy: if there is no room within the policy.
        """
        length = timedelta(minutes=reach)
        with self._lock:
            if not self.scarce:
                length = max(length, _REACH)
            while (at := self._free(length)) is None:
                if not self._claim():
                    sentences = ["no free time is left for another call", *self.describe_policy()]
                    raise OutsidePolicy("; ".join(sentences))
            self._reserved[at] = length
            self._next = at + length + OVERLAP
            return at

    def midnight(self, reach: int) -> datetime | None:
        """Reserve a midnight in UTC with `reach` free minutes on both sides; None if there is none."""
        length = timedelta(minutes=reach)
        with self._lock:
            busy = self._busy(reused=False)
            at = self._block.end.replace(hour=0, minute=0, second=0, microsecond=0)
            # Try later midnights first, because the block may begin with the call that claimed it.
            while at >= max(self._block.start - _DAY, self._now() + _SOONEST):
                edges = (at - length, at + length)
                if all(map(self.policy.is_open, edges)) and _end_of_conflict(busy, *edges) is None:
                    self._reserved[at] = length
                    return at
                at -= _DAY
        return None

    def at_most(self, number: int) -> int:
        """Return how many times one test may use: this number, or fewer if room is scarce."""
        room = self._far_policy.room(_FURTHEST)
        return min(number, max(3, int(room / _GAP / _SHARE)))

    def give_back(self, *times: datetime) -> None:
        """Release these times, because their calls are closed; without arguments, all reserved times."""
        with self._lock:
            for at in times or list(self._reserved):
                self._reserved.pop(at, None)

    def _free(self, reach: timedelta) -> datetime | None:
        """Return the next free time; if room is scarce, search all of this run's blocks from their start."""
        searches = [(self._block, self._next)]
        if self.scarce:
            searches += [(block, block.start) for block in self._own_blocks]
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
        now, policy = self._now(), self._far_policy
        busy = [span for span in busy if span[1] > block.start - _DAY and span[0] < block.end + _DAY]
        at = policy.next_allowed(start + reach, now)
        while at is not None and at + reach < block.end:
            after = _end_of_conflict(busy, at - reach, at + reach)
            if after is None and policy.is_open(at - reach) and policy.is_open(at + reach):
                return at
            later = at + (policy.step or _SEARCH_STEP)
            at = policy.next_allowed(later if after is None else after + _GAP + reach, now)
        return None

    def _busy(self, *, reused: bool) -> list[_Span]:
        """Return the times that are taken: the starts of calls, and the spans reserved for tests."""
        spans = [(at, at) for at in self._starts(reused=reused)]
        return spans + [(at - reach, at + reach) for at, reach in self._reserved.items()]

    def _starts(self, *, reused: bool) -> list[datetime]:
        """Return the times of existing calls, and of this run's calls.

        Args:
            reused: whether to leave out closed calls, because their times are free.
        """
        own = [
            call.at
            for call_id, call in list(self._calls.calls.items())
            if call.at is not None and not (reused and self._calls.is_closed(call_id))
        ]
        return [*self._existing, *own]

    def _is_taken(self, at: datetime) -> bool:
        """Return whether an open call is near, which may explain a refusal instead of the policy."""
        return any(abs(start - at) < _GAP for start in self._starts(reused=True))

    def _claim(self) -> bool:
        """Claim a block, and return whether there was one.

        If the backend books nothing, use a block without a booking: then the tests report why.
        """
        blocks = self._blocks()
        for block, first in blocks[: 0 if self._books_nothing else _MOST_ATTEMPTS]:
            exchange = self._calls.create(self._pair, first)
            if exchange.succeeded:
                self._begin(block, first)
                return True
            if (
                not self._discovered_policy
                and self.is_of_policy(exchange)
                and not self._calls.conflict(self._pair, first)
            ):
                self._refusals.append((first, exchange))
                self._find_policy()
                return self._claim()
        if not blocks or (self.scarce and self._own_blocks and not self._books_nothing):
            return False
        self._begin(*blocks[0])
        return True

    def _begin(self, block: _Block, first: datetime) -> None:
        self._own_blocks.append(block)
        self._block, self._next = block, first

    def _blocks(self) -> list[tuple[_Block, datetime]]:
        """Return blocks that this run has not claimed, each with its first free time; fewest calls first."""
        now = self._now()
        length, soonest = (_DAY, now + _SOONEST) if self.scarce else (_MONTH, now + _MONTH)
        until = now + min(self._far_policy.furthest or _FURTHEST, _FURTHEST)
        start = _EPOCH + (soonest - _EPOCH) // length * length
        busy = self._busy(reused=False)
        candidates: list[tuple[int, int, _Block, datetime]] = []
        while start < until:
            block = _Block(max(start, soonest), min(start + length, until))
            start += length
            first = self._first_free(block, block.start, timedelta(0), busy)
            is_own = any(own.start < block.end and block.start < own.end for own in self._own_blocks)
            if first is not None and not is_own:
                calls = sum(block.start <= at < block.end for at, _ in busy)
                candidates.append((calls, secrets.randbelow(2**32), block, first))
        return [(block, first) for _, _, block, first in sorted(candidates, key=lambda one: one[:2])]

    # -- Near times -----------------------------------------------------------------------------------

    def near(self, ahead: timedelta, window: timedelta, *, within: timedelta | None = None) -> datetime:
        """Return the time `ahead` of now or, if it is not bookable, the next bookable one in the window.

        Args:
            within: how much later than `ahead` the time may be, or how much earlier if negative; None allows
                any time in the window.

        Raises:
            OutsidePolicy: if there is no such time.
        """
        now, policy = self._now(), self.policy
        if policy.notice > window:
            raise self._outside_policy(policy.describe(now)[-1])
        soonest = policy.notice + _MOST_CALL_LENGTH / 2 if policy.notice else timedelta(0)
        if within is not None:
            return self._close_to(now + ahead, now + soonest, within)
        soonest = max(soonest, min(ahead, _MOST_CALL_LENGTH))
        at = policy.next_allowed(now + max(ahead, soonest), now)
        if at is None or at > now + window:
            at = policy.next_allowed(now + soonest, now)
        if at is None:
            raise self._outside_policy(policy.objection(now + ahead, now))
        wait = at - window - now
        if wait > _MOST_WAIT:
            when = f"{at - window:%Y-%m-%d %H:%M} and {at:%H:%M} UTC"
            raise self._outside_policy(policy.objection(now + ahead, now), f"; run the suite between {when}")
        self._ended.wait(max(0.0, wait.total_seconds()))
        return at

    def _close_to(self, target: datetime, soonest: datetime, within: timedelta) -> datetime:
        now, policy = self._now(), self.policy
        if within > timedelta(0):
            at = policy.next_allowed(max(target, soonest), now)
        else:
            at = policy.last_open(target)
        if at is None or abs(at - target) > abs(within) or at < soonest:
            raise self._outside_policy(policy.objection(target, now))
        return at


def _end_of_conflict(busy: list[_Span], start: datetime, end: datetime) -> datetime | None:
    """Return the end of the last busy span that is less than `_GAP` from this one; None if there is none."""
    return max((last for first, last in busy if first - _GAP < end and start < last + _GAP), default=None)
