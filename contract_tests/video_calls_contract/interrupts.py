"""Interrupts: a run handles SIGTERM like Ctrl-C. It records the response to a running request first."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def delayed_interrupts() -> Generator[None]:
    """Delay interrupts until the block ends, so that the suite knows each call that it has to cancel."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield
        return
    delayed: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _frame: delayed.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if delayed:
            signal.raise_signal(delayed[0])


@contextmanager
def sigterm_as_interrupt() -> Generator[None]:
    """Raise KeyboardInterrupt for a SIGTERM, so that a run cleans up as after a Ctrl-C."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    try:
        previous = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # only the main thread can set handlers
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
