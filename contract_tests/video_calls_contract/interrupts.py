"""Interrupts: a SIGTERM is one too, and each waits until the answer to a request is recorded."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def delayed_interrupts() -> Generator[None]:
    """Delay an interrupt until this is done, so that a call that was created can be cancelled."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread is interrupted
        yield
        return
    held: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: held.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])


@contextmanager
def terminated_as_interrupted() -> Generator[None]:
    """Raise KeyboardInterrupt for a SIGTERM too, so that it cleans up as a Ctrl-C does."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread, which alone is told of signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
