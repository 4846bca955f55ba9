"""The clock of a namespace, to read, set, put forward, stop and let run."""

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
    """What the clock shows; `offset` is how many seconds that is ahead of the machine's time."""

    time: datetime
    running: bool
    offset: float


class ClockChange(Struct, forbid_unknown_fields=True):
    """Where to put the clock: to a time, or to when a call's join window opens; and whether it runs."""

    time: datetime | None = None
    running: bool | None = None
    join_window_of: ExternalId | None = None


class Step(Struct, forbid_unknown_fields=True):
    """How far to put the clock forward, or back where it is negative; the parts are added."""

    days: float = 0
    hours: float = 0
    minutes: float = 0
    seconds: float = 0


@get("/", summary="Read the clock")
async def read_clock(namespace: NamedDependency[Namespace]) -> ClockState:
    """The time by which the rules decide. JWTs and Agora tokens follow real time."""
    return _state(namespace.clock)


@put("/", summary="Set, freeze or resume the clock")
async def set_clock(namespace: NamedDependency[Namespace], data: JSONBody[ClockChange]) -> ClockState:
    """Put the clock to a time, stop it, or let it run on; what becomes due happens before this answers."""
    if data.time is not None and data.join_window_of is not None:
        raise ControlRefusal("time and join_window_of are two times; give one", field="time")
    time = data.time
    if data.join_window_of is not None:
        call_id = data.join_window_of
        call = await namespace.store.read(lambda connection: find_call(connection, namespace.ids, call_id))
        time = join_opens_at(call)
    _put(namespace.clock, time, running=data.running)
    await namespace.end_due_calls()
    return _state(namespace.clock)


@post("/advance", status_code=200, summary="Put the clock forward or back")
async def advance_clock(namespace: NamedDependency[Namespace], data: JSONBody[Step]) -> ClockState:
    """A call that is two hours away can be joined a moment later."""
    try:
        step = timedelta(days=data.days, hours=data.hours, minutes=data.minutes, seconds=data.seconds)
        namespace.clock.advance(step)
    except OverflowError as error:  # whose text is about C
        raise ControlRefusal("the clock cannot be put there: that leads out of the calendar") from error
    except ValueError as error:
        raise ControlRefusal(f"the clock cannot be put there: {error}") from error
    await namespace.end_due_calls()
    return _state(namespace.clock)


@delete("/", summary="Let the clock show the machine's time again")
async def reset_clock(namespace: NamedDependency[Namespace]) -> None:
    """It runs, too."""
    namespace.clock.reset()
    await namespace.end_due_calls()


def _put(clock: SettableClock, time: datetime | None, *, running: bool | None) -> None:
    try:
        if running is False:
            clock.freeze(time)
        elif time is not None:
            clock.set(time)
        if running:
            clock.resume()
    except ValueError as error:
        raise ControlRefusal(str(error), field="time") from error


def _state(clock: SettableClock) -> ClockState:
    return ClockState(clock.now(), clock.running, clock.offset.total_seconds())


def clock_router() -> Router:
    """The operations on the clock."""
    handlers = [read_clock, set_clock, advance_clock, reset_clock]
    return Router("/clock", route_handlers=handlers, tags=["clock"])
