"""The booking policy of a backend: the times that it books, and how the suite discovers them.

The document allows any future time. But a backend may have opening hours, a furthest day, a grid of slots or
a shortest notice, because the document does not forbid them. The suite discovers the limits that `[booking]`
of the configuration does not give. This module sends no requests.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta, tzinfo

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_DAY, _HOUR, _MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
_WEEK = 7 * _DAY
_MIDNIGHT, _END_OF_DAY = time(0), time(23, 59, 59, 999999)
_EVERY_DAY = frozenset(range(7))

_SOME_DAY = datetime(2020, 1, 1)  # noqa: DTZ001 (times of day have no zone)

_ANCHOR_HOURS = (10, 15, 3, 20)
"""Hours in UTC. At least one of them is within the opening hours of any place."""

_ANCHOR_DAYS = 3
_MIDDLES_OF_WEEKS = ((1, 2), (0, 1, 2, 3))
"""The order in which to try weekdays: first those between two workdays, then other usual workdays."""

_MOST_HOURS = 23
_MOST_WEEKS = 200
_STEPS = (1, 5, 10, 15, 20, 30, 60)
_NOTICES = (2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 360, 720, 1440, 2880)
_OFF_GRID = timedelta(minutes=7, seconds=41)
"""This long after a full hour, a time is on no usual grid."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The times that a backend books. None stands for no limit, or for an unknown one.

    Attributes:
        furthest: how far ahead a call may be.
        hours: the first and the last start of a day. If the last is before the first, it is on the next day.
        weekdays: the days on which the hours begin, Monday being 0.
        timezone: the timezone of hours and weekdays.
        step_minutes: the minutes between two possible starts, counted from midnight.
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
        """The time between two possible starts; zero if calls may start at any time."""
        return timedelta(minutes=self.step_minutes or 0)

    def allows(self, at: datetime, now: datetime) -> bool:
        """Return whether a call at this time can be booked."""
        return not self.objection(at, now)

    def objection(self, at: datetime, now: datetime) -> str:
        """Return why the policy excludes a time, as a sentence; empty if it can be booked."""
        if self.furthest is not None and at > now + self.furthest:
            return self._describe_furthest(now)
        if at < now + self.notice:
            return self._describe_notice()
        if not self.is_open(at):
            return self._describe_opening()
        if self._on_grid(at) != at:
            return self._describe_grid()
        return ""

    def next_allowed(self, at: datetime, now: datetime) -> datetime | None:
        """Return the first bookable time that is not before `at`; None if there is none."""
        earliest = self._on_grid(max(at, now + self.notice))
        first, last = self.hours or (_MIDNIGHT, _END_OF_DAY)
        local = earliest.astimezone(self.timezone)
        # Start with yesterday, whose hours may end today. Two weeks have each weekday, even if clocks change.
        for offset in range(-1, 15):
            day = local.date() + timedelta(days=offset)
            if day.weekday() not in (self.weekdays or _EVERY_DAY):
                continue
            opening = datetime.combine(day, first, self.timezone).astimezone(UTC)
            closing = datetime.combine(day + (last < first) * _DAY, last, self.timezone).astimezone(UTC)
            start = max(earliest, self._on_grid(opening)).astimezone(UTC)
            if start <= closing:
                return start if self.furthest is None or start <= now + self.furthest else None
        return None

    def last_open(self, at: datetime) -> datetime:
        """Return the last time, up to `at`, that hours, weekdays and grid allow; it may be in the past."""
        if not self.limits_starts:
            return at
        step = self.step or timedelta(minutes=30)
        start = self._on_grid(at - step) if self._on_grid(at) != at else at
        for _ in range(14 * _DAY // step):
            if self.is_open(start):
                break
            start -= step
        return start

    @property
    def limits_starts(self) -> bool:
        """Whether there are hours, weekdays or a grid."""
        return bool(self.hours or self.weekdays or self.step_minutes)

    def minutes_on_grid(self, minutes: int, *, outwards: bool = False) -> int:
        """Return minutes rounded to the grid: towards zero, or away from zero if `outwards`."""
        step = self.step_minutes or 1
        whole = -(-abs(minutes) // step) if outwards else abs(minutes) // step
        return whole * step * (1 if minutes >= 0 else -1)

    def room(self, most: timedelta) -> timedelta:
        """Return how much bookable time there is between now and `most` from now."""
        span = min(self.furthest or most, most)
        first, last = self.hours or (_MIDNIGHT, _END_OF_DAY)
        a_day = (_since_midnight(last) - _since_midnight(first)) % _DAY
        return span * (a_day / _DAY) * (len(self.weekdays or _EVERY_DAY) / 7)

    def cautious(self) -> "Policy":
        """Return the policy with an hour less at both ends of a day, so that it holds when clocks change."""
        if self.hours is None:
            return self
        first, last = map(_since_midnight, self.hours)
        if (last - first) % _DAY < 4 * _HOUR:
            return self
        return replace(self, hours=(_time_of(first + _HOUR), _time_of(last - _HOUR)))

    def describe(self, now: datetime) -> list[str]:
        """Return the policy in sentences."""
        sentences = [
            self._describe_furthest(now) if self.furthest is not None else "",
            self._describe_opening() if self.hours or self.weekdays else "",
            self._describe_grid() if self.step_minutes else "",
            self._describe_notice() if self.notice_minutes else "",
        ]
        return [sentence for sentence in sentences if sentence]

    # -- Parts of the policy --------------------------------------------------------------------------

    def _on_grid(self, at: datetime) -> datetime:
        """Return the first time on the grid that is not before `at`."""
        if not self.step_minutes:
            return at
        local = at.astimezone(self.timezone)
        midnight = datetime.combine(local.date(), _MIDNIGHT, self.timezone)
        steps = -(-(local.replace(tzinfo=None) - midnight.replace(tzinfo=None)) // self.step)
        return (midnight + steps * self.step).astimezone(UTC)

    def is_open(self, at: datetime) -> bool:
        """Return whether a time is within hours and weekdays."""
        local = at.astimezone(self.timezone)
        first, last = self.hours or (_MIDNIGHT, _END_OF_DAY)
        wraps, clock = last < first, local.time()
        is_of_yesterday = wraps and clock <= last
        if not is_of_yesterday and (clock < first or (clock > last and not wraps)):
            return False
        day = local.date() - is_of_yesterday * _DAY
        return day.weekday() in (self.weekdays or _EVERY_DAY)

    def _describe_furthest(self, now: datetime) -> str:
        furthest = self.furthest or timedelta(0)
        days = round(furthest / _DAY)
        return f"the backend refuses times after {now + furthest:%Y-%m-%d} (about {days} days ahead)"

    def _describe_opening(self) -> str:
        parts: list[str] = []
        if self.weekdays:
            parts.append(f"on {', '.join(WEEKDAYS[day] for day in sorted(self.weekdays))}")
        if self.hours:
            first, last = self.hours
            parts.append(f"from {first:%H:%M} to {last:%H:%M} {self.timezone}")
        return f"the backend books {' '.join(parts)}"

    def _describe_grid(self) -> str:
        if self.step_minutes == 1:
            return "the backend books only whole minutes"
        return f"the backend books only every {self.step_minutes} minutes"

    def _describe_notice(self) -> str:
        return f"the backend books no call less than {self.notice_minutes} minutes ahead"


def _since_midnight(clock: time) -> timedelta:
    return datetime.combine(_SOME_DAY, clock) - _SOME_DAY


def _time_of(since_midnight: timedelta) -> time:
    return (_SOME_DAY + since_midnight % _DAY).time()


# -- Discovery ----------------------------------------------------------------------------------------

Accepts = Callable[[datetime], bool | None]
"""Books a time; returns whether the backend accepts it, or None if an existing call conflicts with it."""


def discover(accepts: Accepts, now: datetime, configured: Policy) -> Policy | None:
    """Return the policy of a backend that has refused a time; None if the backend books nothing.

    The result keeps the configured limits. Discovered hours and weekdays are in UTC. A time with an existing
    call counts as bookable.
    """
    return _Discovery(accepts, now, configured).policy()


def discover_notice(accepts: Accepts, now: datetime, policy: Policy, at: datetime) -> Policy | None:
    """Return the policy with the shortest notice that explains why the backend refused a time.

    Return None if the backend books no later time within two days either, or if an existing call conflicts.
    """
    while longer := [minutes for minutes in _NOTICES if now + minutes * _MINUTE > at]:
        later = policy.next_allowed(now + (longer[0] + 1) * _MINUTE, now)
        is_accepted = accepts(later) if later is not None else None
        if later is None or is_accepted is None:
            return None
        if is_accepted:
            return replace(policy, notice_minutes=longer[0])
        at = later
    return None


class _Discovery:
    def __init__(self, accepts: Accepts, now: datetime, configured: Policy) -> None:
        self._accepts = accepts
        self._now = now
        self._configured = configured
        self._anchor = now

    def policy(self) -> Policy | None:
        anchor = next(filter(self._accepts, self._anchors()), None)
        if anchor is None:
            return None
        self._anchor = anchor
        policy = self._configured
        if policy.furthest is None:
            policy = replace(policy, furthest=self._furthest())
        if policy.weekdays is None:
            policy = replace(policy, weekdays=self._weekdays(policy.furthest))
        if policy.hours is None:
            policy = replace(policy, hours=self._hours())
            if policy.hours and policy.weekdays and self._anchor.time() < policy.hours[0]:
                # The anchor is after midnight, and its opening hours began on the day before.
                policy = replace(policy, weekdays=frozenset((day - 1) % 7 for day in policy.weekdays))
        if policy.step_minutes is None:
            policy = replace(policy, step_minutes=self._step(policy.hours))
        if policy.furthest is not None and self._configured.furthest is None:
            policy = replace(policy, furthest=self._furthest_day(policy))
        return policy

    def _books(self, at: datetime) -> bool:
        return self._accepts(at) is not False

    def _anchors(self) -> list[datetime]:
        """Return times to try first, on the hour: days in the middle of the week first, tomorrow last."""
        midnight = self._now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        # At most 6 days ahead: a backend may book only a week ahead, and later hours are tried, too.
        days = [midnight + days * _DAY for days in range(2, 7)]
        days.sort(key=lambda day: (*(day.weekday() not in week for week in _MIDDLES_OF_WEEKS), day))
        times = [
            day + hour * _HOUR for day in [*days[:_ANCHOR_DAYS], midnight + _DAY] for hour in _ANCHOR_HOURS
        ]
        return [at for at in times if self._configured.allows(at, self._now)]

    def _furthest(self) -> timedelta | None:
        """Return how far ahead the last bookable week is; None if there is no limit."""
        if self._books(self._anchor + _MOST_WEEKS * _WEEK):
            return None
        weeks = range(1, _MOST_WEEKS)
        last = bisect_left(weeks, True, key=lambda week: not self._books(self._anchor + week * _WEEK))
        return self._anchor + last * _WEEK - self._now

    def _weekdays(self, furthest: timedelta | None) -> frozenset[int] | None:
        own = self._anchor.weekday()

        def books(weekday: int) -> bool:
            at = self._anchor + ((weekday - own) % 7) * _DAY
            if furthest is not None and at > self._now + furthest and at - _WEEK > self._now + _HOUR:
                at -= _WEEK
            return self._books(at)

        weekdays = frozenset(weekday for weekday in _EVERY_DAY if weekday == own or books(weekday))
        return None if weekdays == _EVERY_DAY else weekdays

    def _hours(self) -> tuple[time, time] | None:
        """Return the opening hours; None if the backend also books 8 and 12 hours later, and 8 earlier."""
        if all(self._books(self._anchor + hours * _HOUR) for hours in (8, -8, 12)):
            return None
        return self._edge(-1), self._edge(1)

    def _edge(self, direction: int) -> time:
        """Return the last bookable half hour before the first gap, such as a lunch break."""
        hours = 0
        while hours < _MOST_HOURS and self._books(self._anchor + direction * (hours + 1) * _HOUR):
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

    def _furthest_day(self, policy: Policy) -> timedelta:
        """Return how far ahead the last bookable day is; `policy.furthest` is exact only to the week."""
        week_end = self._now + (policy.furthest or timedelta(0))
        open_days = replace(policy, furthest=None)
        days = [at for days in range(1, 7) if open_days.allows(at := week_end + days * _DAY, self._now)]
        last = bisect_left(days, True, key=lambda at: not self._books(at))
        return (days[last - 1] if last else week_end) - self._now
