"""The pytest plugin: `pytest --pyargs video_calls_contract --contract-config contract.toml`.

Loaded into every pytest of an environment that has this distribution, so it imports nothing but pytest until
one of its options is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from video_calls_contract.suite import Suite

SUITE: pytest.StashKey[Suite] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of a run by plain pytest."""
    group = parser.getgroup("video-calls-contract", "contract suite of the Video Calls API")
    group.addoption("--contract-config", metavar="FILE", type=Path, help="Configuration of the contract suite.")
    group.addoption("--contract-base-url", metavar="URL", help="Base URL, in place of the configuration's.")
    group.addoption(
        "--contract-fuzz",
        choices=["quick", "long", "off"],
        default="quick",
        help="How long generated requests are sent.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Begin a run where the option asks for one."""
    path = config.getoption("--contract-config", None)
    if path is None:
        return
    from video_calls_contract.config import ConfigError, read_config
    from video_calls_contract.run import Options, Run
    from video_calls_contract.suite import Suite

    try:
        contract_config = read_config(path, base_url=config.getoption("--contract-base-url"))
    except ConfigError as error:
        raise pytest.UsageError(str(error)) from None
    run = Run(contract_config, Options(fuzz=config.getoption("--contract-fuzz")))
    config.pluginmanager.register(Suite(run), "video_calls_contract_suite")
