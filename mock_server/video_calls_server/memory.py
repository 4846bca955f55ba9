"""Memory that a dropped namespace gives back to the operating system."""

import sys


def give_back_memory() -> None:
    """Return freed memory to the operating system, if the C library is one that keeps it (glibc).

    SQLite frees the pages of a database in memory when it is closed; glibc would keep them for this process.
    """
    if sys.platform == "linux":
        import ctypes

        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # which musl does not have
        if trim is not None:
            trim(0)
