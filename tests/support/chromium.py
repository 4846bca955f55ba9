"""Debian's Chromium for tests in a browser, without a window or a network."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="the Python package playwright is missing")
expect = playwright.expect

CHROMIUM = Path("/usr/bin/chromium")
TIMEOUT = 20_000  # milliseconds, for a busy machine
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

NEEDS_CHROMIUM = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no Chromium at {CHROMIUM}"),
]
"""The marks of a module whose tests need Chromium."""


@contextmanager
def running_chromium() -> Iterator[Any]:
    """Start a browser, in which each test opens its own tabs."""
    expect.set_options(timeout=TIMEOUT)
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()
