"""Routes that read, set, advance, freeze and reset the clock of a namespace."""

from datetime import datetime, timedelta

from litestar import Router, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Struct

from video_calls_server.api.ids import ExternalId
from video_calls_server.control.namespaces import Namespace
from video_calls_server.control.refusals import ControlRefusal
from video_calls_server.control.routes.calls import find_call
from video_calls_server.control.settable_clock import SettableClock
from video_calls_server.domain.calls import join_opens_at


class ClockState(Struct):
    """The state of the clock. `offset` is how many seconds it is ahead of the machine's clock."""

    time: datetime
    running: bool
    offset: float


class ClockChange(Struct, forbid_unknown_fields=True):
    """The new time, and whether the clock runs. `join_window_of` names a call whose window opens then."""

    time: datetime | None = None
    running: bool | None = None
    join_window_of: ExternalId | None = None


class Step(Struct, forbid_unknown_fields=True):
    """The sum of the fields is how far to advance the clock. A negative sum sets it back."""

    days: float = 0
    hours: float = 0
    minutes: float = 0
    seconds: float = 0


@get("/", summary="Read the clock")
async def read_clock(namespace: NamedDependency[Namespace]) -> ClockState:
    """Return the time that the rules use. JWTs and Agora tokens follow real time."""
    return _state(namespace.clock)


@put("/", summary="Set, freeze or resume the clock")
async def set_clock(namespace: NamedDependency[Namespace], data: JSONBody[ClockChange]) -> ClockState:
    """Set, freeze or resume the clock. Empty calls that become due end before the response."""
    if data.time is not None and data.join_window_of is not None:
        raise ControlRefusal("time and join_window_of exclude each other; give one", field="time")
    time, clock = data.time, namespace.clock
    if data.join_window_of is not None:
        call_id = data.join_window_of
        call = await namespace.store.read(lambda connection: find_call(connection, namespace.ids, call_id))
        time = join_opens_at(call)
    try:
        if data.running is False:
            clock.freeze(time)
        elif time is not None:
            clock.set(time)
    except ValueError as error:
        raise ControlRefusal(str(error), field="time") from error
    if data.running:
        clock.resume()
    await namespace.end_due_calls()
    return _state(clock)


@post("/advance", status_code=200, summary="Advance the clock")
async def advance_clock(namespace: NamedDependency[Namespace], data: JSONBody[Step]) -> ClockState:
    """Advance the clock, or set it back if the step is negative."""
    try:
        step = timedelta(days=data.days, hours=data.hours, minutes=data.minutes, seconds=data.seconds)
        namespace.clock.advance(step)
    except OverflowError as error:  # its text is about integers in C
        raise ControlRefusal("the clock cannot be set: the step leads out of the calendar") from error
    except ValueError as error:
        raise ControlRefusal(f"the clock cannot be set: {error}") from error
    await namespace.end_due_calls()
    return _state(namespace.clock)


@delete("/", summary="Reset the clock")
async def reset_clock(namespace: NamedDependency[Namespace]) -> None:
    """Let the clock run and show the machine's time."""
    namespace.clock.reset()
    await namespace.end_due_calls()


def _state(clock: SettableClock) -> ClockState:
    return ClockState(clock.now(), clock.running, clock.offset.total_seconds())


def clock_router() -> Router:
    """Return the operations on the clock."""
    handlers = [read_clock, set_clock, advance_clock, reset_clock]
    return Router("/clock", route_handlers=handlers, tags=["clock"])
