"""Interrupts that wait until it is known what they would cut short."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def held_back() -> Generator[None]:
    """Have an interrupt wait until this is done; a second one does not wait.

    A call that was made without our learning of it could not be taken away.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone is interrupted
        yield
        return
    held: list[signal.Signals] = []
    before = {number: handler for number in _INTERRUPTS if callable(handler := signal.getsignal(number))}

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(signal.Signals(number))
        if len(held) > 1:
            before[held[-1]](number, frame)

    try:
        for number in before:
            signal.signal(number, hold)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if len(held) == 1:
            signal.raise_signal(held[0])
