"""The state of a namespace when it is new and after a reset. The settings define it once, at the start."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import UNSET

from video_calls_server.control.faults.model import Fault, FaultError, parse_fault
from video_calls_server.control.settable_clock import EARLIEST, check_time
from video_calls_server.settings import Settings, SettingsError
from video_calls_server.store.seed import DEFAULT_SEED, Seed, load_seed

if TYPE_CHECKING:  # because the import is slow, and most servers do not need it
    from video_calls_server.control.state.document import State


@dataclass(frozen=True, slots=True)
class InitialState:
    """The clock, the faults, and either the users with a number of sample calls or a whole `state`."""

    people: Seed
    calls: int = 0
    time: datetime | None = None
    running: bool = True
    faults: tuple[Fault, ...] = ()
    state: "State | None" = None


def initial_state(settings: Settings) -> InitialState:
    """Return the initial state that the settings describe.

    Raises:
        SeedError: if the seed file is invalid.
        SettingsError: if another setting is invalid.
    """
    people = load_seed(settings.seed or DEFAULT_SEED)
    time = None if settings.clock is None else _time(settings.clock)
    faults = tuple(_fault(text) for text in settings.fault)
    state = _state(settings)
    if state is None:
        return InitialState(people, settings.seed_calls, time, faults=faults)
    running = True
    if state.clock is not UNSET:
        time, running = time or state.clock.time, state.clock.running
    return InitialState(people, 0, time, running, (*state.faults, *faults), state)


def _time(text: str) -> datetime:
    try:
        return check_time(datetime.fromisoformat(text))
    except ValueError as error:
        raise SettingsError(f"clock: {error}; give a time such as 2030-01-05T10:00:00Z") from error


def _fault(text: str) -> Fault:
    try:
        return parse_fault(text)
    except FaultError as error:
        raise SettingsError(f"fault: in {text!r}: {error}") from error


def _state(settings: Settings) -> "State | None":
    path = settings.snapshot
    if path is None:
        return None
    from video_calls_server.api.ids import ids_of
    from video_calls_server.control.state.document import StateError, read_state
    from video_calls_server.control.state.loading import contents_of

    if settings.seed is not None or settings.seed_calls:
        raise SettingsError(
            "snapshot: a snapshot already has users and calls; leave out --seed and --seed-calls"
        )
    try:
        state = read_state(path.read_bytes(), ids_of(settings.ids))
        contents_of(state, now=EARLIEST, running=True)  # raise errors now, not at the first request
    except OSError as error:
        raise SettingsError(f"snapshot: cannot read {path}: {error.strerror}") from error
    except StateError as error:
        raise SettingsError(f"snapshot: {path}: {error}") from error
    return state
