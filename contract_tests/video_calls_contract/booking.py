"""Which times a backend books: its policy, and how a policy is found out. No request is sent here.

The document lets any future time be booked, but does not forbid opening hours, a furthest day, a grid of
slots or a shortest notice. What `[booking]` of the configuration does not say is found out from refusals.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta, tzinfo

__all__ = ["WEEKDAYS", "Policy", "discover", "discover_notice"]

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_DAY, _HOUR, _MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
_MIDNIGHT, _END_OF_DAY = time(0), time(23, 59, 59, 999999)
_EVERY_DAY = frozenset(range(7))

_SOME_DAY = datetime(2020, 1, 1)  # noqa: DTZ001 (times of day have no zone)

_ANCHOR_HOURS = (10, 15, 3, 20)
"""Hours in UTC, one of which lies within the opening hours of any place."""

_ANCHOR_DAYS = 3
_MIDDLES_OF_WEEKS = ((1, 2), (0, 1, 2, 3))
"""Weekdays that are workdays, as are the days before and after; weekdays that are workdays everywhere."""

_HOURS_OF_A_GAP = 23
_FARTHEST_WEEK = 200
_STEPS = (1, 5, 10, 15, 20, 30, 60)
_NOTICES = (2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 360, 720, 1440, 2880)
_OFF_GRID = timedelta(minutes=7, seconds=41)
"""From a full hour to a time that is on no usual grid."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The times that a backend books. None stands for no limit, or for one that is not known.

    Attributes:
        furthest: how far ahead a call may be.
        hours: the first and the last start of a day; a last start before the first is on the next day.
        weekdays: the days on which the hours begin, Monday being 0.
        timezone: where hours and weekdays are meant.
        step_minutes: calls start every so many minutes from midnight.
        notice_minutes: how many minutes ahead a call must be at least.
    """

    furthest: timedelta | None = None
    hours: tuple[time, time] | None = None
    weekdays: frozenset[int] | None = None
    timezone: tzinfo = UTC
    step_minutes: int | None = None
    notice_minutes: int | None = None

    @property
    def notice(self) -> timedelta:
        """How far ahead a call must be at least."""
        return timedelta(minutes=self.notice_minutes or 0)

    @property
    def step(self) -> timedelta:
        """The distance of two starts; nothing if calls may start at any time."""
        return timedelta(minutes=self.step_minutes or 0)

    def allows(self, at: datetime, now: datetime) -> bool:
        """Whether a call at this time can be booked."""
        return not self.objection(at, now)

    def objection(self, at: datetime, now: datetime) -> str:
        """Return the sentence of the policy that excludes a time; empty if it can be booked."""
        if self.furthest is not None and at > now + self.furthest:
            return self._furthest_described(now)
        if at < now + self.notice:
            return self._notice_described()
        if not self.is_open(at):
            return self._opening_described()
        if self._on_grid(at) != at:
            return self._grid_described()
        return ""

    def next_allowed(self, at: datetime, now: datetime) -> datetime | None:
        """Return the first time from `at` on that can be booked; None if there is none."""
        earliest = self._on_grid(max(at, now + self.notice))
        first, last = self.hours or (_MIDNIGHT, _END_OF_DAY)
        local = earliest.astimezone(self.timezone)
        # Two weeks have each weekday, whatever a change of clocks does; yesterday's hours may still last.
        for offset in range(-1, 15):
            day = local.date() + timedelta(days=offset)
            if day.weekday() not in (self.weekdays or _EVERY_DAY):
                continue
            opening = datetime.combine(day, first, self.timezone).astimezone(UTC)
            closing = datetime.combine(day + (last < first) * _DAY, last, self.timezone).astimezone(UTC)
            found = max(earliest, self._on_grid(opening)).astimezone(UTC)
            if found <= closing:
                return found if self.furthest is None or found <= now + self.furthest else None
        return None

    def last_open(self, at: datetime) -> datetime:
        """Return the last time until `at` that hours, weekdays and grid allow; it may have passed."""
        if not self.limits_starts:
            return at
        step = self.step or timedelta(minutes=30)
        found = self._on_grid(at - step) if self._on_grid(at) != at else at
        for _ in range(14 * _DAY // step):
            if self.is_open(found):
                break
            found -= step
        return found

    @property
    def limits_starts(self) -> bool:
        """Whether there are hours, weekdays or a grid."""
        return bool(self.hours or self.weekdays or self.step_minutes)

    def minutes_on_grid(self, minutes: int, *, outwards: bool = False) -> int:
        """Return a distance from a time on the grid to the next one, towards it or away from it."""
        step = self.step_minutes or 1
        whole = -(-abs(minutes) // step) if outwards else abs(minutes) // step
        return whole * step * (1 if minutes >= 0 else -1)

    def room(self, most: timedelta) -> timedelta:
        """Return how much time can be booked from now until `most` ahead."""
        span = min(self.furthest or most, most)
        first, last = self.hours or (_MIDNIGHT, _END_OF_DAY)
        a_day = (_since_midnight(last) - _since_midnight(first)) % _DAY
        return span * (a_day / _DAY) * (len(self.weekdays or _EVERY_DAY) / 7)

    def cautious(self) -> "Policy":
        """Return a policy that also holds after clocks are set by an hour, if the hours leave room for it."""
        if self.hours is None:
            return self
        first, last = map(_since_midnight, self.hours)
        if (last - first) % _DAY < 4 * _HOUR:
            return self
        return replace(self, hours=(_time_of(first + _HOUR), _time_of(last - _HOUR)))

    def described(self, now: datetime) -> list[str]:
        """Return the policy in sentences."""
        found = [
            self._furthest_described(now) if self.furthest is not None else "",
            self._opening_described() if self.hours or self.weekdays else "",
            self._grid_described() if self.step_minutes else "",
            self._notice_described() if self.notice_minutes else "",
        ]
        return [sentence for sentence in found if sentence]

    # -- Parts of it ----------------------------------------------------------------------------------

    def _on_grid(self, at: datetime) -> datetime:
        """Return the first time from `at` on that is on the grid."""
        if not self.step_minutes:
            return at
        local = at.astimezone(self.timezone)
        midnight = datetime.combine(local.date(), _MIDNIGHT, self.timezone)
        steps = -(-(local.replace(tzinfo=None) - midnight.replace(tzinfo=None)) // self.step)
        return (midnight + steps * self.step).astimezone(UTC)

    def is_open(self, at: datetime) -> bool:
        """Whether a time is within hours and weekdays."""
        local = at.astimezone(self.timezone)
        first, last = self.hours or (_MIDNIGHT, _END_OF_DAY)
        wraps, clock = last < first, local.time()
        is_of_yesterday = wraps and clock <= last
        if not is_of_yesterday and (clock < first or (clock > last and not wraps)):
            return False
        day = local.date() - is_of_yesterday * _DAY
        return day.weekday() in (self.weekdays or _EVERY_DAY)

    def _furthest_described(self, now: datetime) -> str:
        furthest = self.furthest or timedelta(0)
        days = round(furthest / _DAY)
        return f"the backend refuses times after {now + furthest:%Y-%m-%d} (about {days} days ahead)"

    def _opening_described(self) -> str:
        parts: list[str] = []
        if self.weekdays:
            parts.append(f"on {', '.join(WEEKDAYS[day] for day in sorted(self.weekdays))}")
        if self.hours:
            first, last = self.hours
            parts.append(f"from {first:%H:%M} to {last:%H:%M} {self.timezone}")
        return f"the backend books {' '.join(parts)}"

    def _grid_described(self) -> str:
        if self.step_minutes == 1:
            return "the backend books only whole minutes"
        return f"the backend books only every {self.step_minutes} minutes"

    def _notice_described(self) -> str:
        return f"the backend takes no booking less than {self.notice_minutes} minutes ahead"


def _since_midnight(clock: time) -> timedelta:
    return datetime.combine(_SOME_DAY, clock) - _SOME_DAY


def _time_of(since_midnight: timedelta) -> time:
    return (_SOME_DAY + since_midnight % _DAY).time()


# -- Finding it out -----------------------------------------------------------------------------------

Accepts = Callable[[datetime], bool | None]
"""Whether the backend books a time, by booking it; None if a call that exists is in the way there."""


def discover(accepts: Accepts, now: datetime, known: Policy) -> Policy | None:
    """Return the policy of a backend that has refused a time; None if it books nothing.

    What `known` says is taken as it is. Hours and weekdays are found in UTC. A time that is taken counts as
    one that can be booked, because it was.
    """
    return _Discovery(accepts, now, known).policy()


def discover_notice(accepts: Accepts, now: datetime, known: Policy, refused: datetime) -> Policy | None:
    """Return the policy with the shortest notice that explains why a time was refused.

    None if no later time of the next two days is booked either, or if calls that exist leave it open.
    """
    while longer := [minutes for minutes in _NOTICES if now + minutes * _MINUTE > refused]:
        at = known.next_allowed(now + (longer[0] + 1) * _MINUTE, now)
        if at is None:
            return None
        is_accepted = accepts(at)
        if is_accepted is None:
            return None
        if is_accepted:
            return replace(known, notice_minutes=longer[0])
        refused = at
    return None


class _Discovery:
    def __init__(self, accepts: Accepts, now: datetime, known: Policy) -> None:
        self._accepts = accepts
        self._now = now
        self._known = known
        self._anchor = now

    def policy(self) -> Policy | None:
        anchor = next(filter(self._accepts, self._anchors()), None)
        if anchor is None:
            return None
        self._anchor = anchor
        found = self._known
        if found.furthest is None:
            found = replace(found, furthest=self._furthest())
        if found.weekdays is None:
            found = replace(found, weekdays=self._weekdays(found.furthest))
        if found.hours is None:
            found = replace(found, hours=self._hours())
            if found.hours and found.weekdays and self._anchor.time() < found.hours[0]:
                # The anchor is after midnight, in hours that began the day before.
                found = replace(found, weekdays=frozenset((day - 1) % 7 for day in found.weekdays))
        if found.step_minutes is None:
            found = replace(found, step_minutes=self._step(found.hours))
        if found.furthest is not None and self._known.furthest is None:
            found = replace(found, furthest=self._furthest_day(found))
        return found

    def _books(self, at: datetime) -> bool:
        return self._accepts(at) is not False

    def _anchors(self) -> list[datetime]:
        """Full hours of days that are workdays everywhere, the middle of the week first; tomorrow last."""
        midnight = self._now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        # A backend may book no more than a week ahead: the hours around the anchor must be within that.
        days = [midnight + days * _DAY for days in range(2, 7)]
        days.sort(key=lambda day: (*(day.weekday() not in week for week in _MIDDLES_OF_WEEKS), day))
        found = [
            day + hour * _HOUR for day in [*days[:_ANCHOR_DAYS], midnight + _DAY] for hour in _ANCHOR_HOURS
        ]
        return [at for known in [self._known] for at in found if known.allows(at, self._now)]

    def _furthest(self) -> timedelta | None:
        """The furthest week, counted from the anchor."""
        booked, refused = 0, _FARTHEST_WEEK
        if self._books(self._anchor + refused * 7 * _DAY):
            return None
        while refused - booked > 1:
            week = (booked + refused) // 2
            if self._books(self._anchor + week * 7 * _DAY):
                booked = week
            else:
                refused = week
        return self._anchor + booked * 7 * _DAY - self._now

    def _weekdays(self, furthest: timedelta | None) -> frozenset[int] | None:
        own = self._anchor.weekday()

        def books(weekday: int) -> bool:
            at = self._anchor + ((weekday - own) % 7) * _DAY
            if furthest is not None and at > self._now + furthest and at - 7 * _DAY > self._now + _HOUR:
                at -= 7 * _DAY
            return self._books(at)

        found = frozenset(weekday for weekday in _EVERY_DAY if weekday == own or books(weekday))
        return None if found == _EVERY_DAY else found

    def _hours(self) -> tuple[time, time] | None:
        """Eight hours on, eight hours back and twelve on tell whether any hour is closed."""
        if all(self._books(self._anchor + hours * _HOUR) for hours in (8, -8, 12)):
            return None
        return self._edge(-1), self._edge(1)

    def _edge(self, direction: int) -> time:
        """The last half hour that is booked without a gap from the anchor on: there may be a lunch break."""
        hours = 0
        while hours < _HOURS_OF_A_GAP and self._books(self._anchor + direction * (hours + 1) * _HOUR):
            hours += 1
        edge = self._anchor + direction * hours * _HOUR
        half = edge + direction * _HOUR / 2
        return (half if self._books(half) else edge).time()

    def _step(self, hours: tuple[time, time] | None) -> int | None:
        base = self._anchor
        if hours is not None and hours[1] == base.time():
            base -= _HOUR
        if self._books(base + _OFF_GRID):
            return None
        for minutes in _STEPS:
            if self._books(base + timedelta(minutes=7 if minutes == 1 else minutes)):
                return minutes
        return _STEPS[-1]

    def _furthest_day(self, found: Policy) -> timedelta:
        """The furthest day: the last of the furthest week that is booked."""
        week_end = self._now + (found.furthest or timedelta(0))
        open_days = replace(found, furthest=None)
        days = [at for days in range(1, 7) if open_days.allows(at := week_end + days * _DAY, self._now)]
        booked, refused = 0, len(days) + 1
        while refused - booked > 1:
            middle = (booked + refused) // 2
            if self._books(days[middle - 1]):
                booked = middle
            else:
                refused = middle
        return (days[booked - 1] if booked else week_end) - self._now
