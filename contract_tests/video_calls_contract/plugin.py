"""The pytest plugin: `pytest --pyargs video_calls_contract --contract-config contract.toml`.

Loaded into every pytest of an environment that has this distribution, so it imports nothing but pytest until
one of its options is used.
"""

from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of a run by plain pytest."""
    group = parser.getgroup("video-calls-contract", "contract suite of the Video Calls API")
    group.addoption(
        "--contract-config", metavar="FILE", type=Path, help="Configuration of the contract suite."
    )
    group.addoption("--contract-base-url", metavar="URL", help="Base URL, in place of the configuration's.")
    group.addoption(
        "--contract-level",
        choices=["must", "should"],
        default="must",
        help="The least level whose deviations fail the run.",
    )
    group.addoption("--contract-baseline", metavar="FILE", type=Path, help="Deviations that are known.")
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
    if config.getoption("numprocesses", None) or hasattr(config, "workerinput"):
        raise pytest.UsageError(
            "the contract suite is one run with one set of calls: leave out -n of pytest-xdist"
        )
    from video_calls_contract.baseline import read_baseline
    from video_calls_contract.catalogue import selected
    from video_calls_contract.config import ConfigError, read_config
    from video_calls_contract.run import Options, Run
    from video_calls_contract.suite import Suite

    baseline: Path | None = config.getoption("--contract-baseline")
    fuzz: Any = config.getoption("--contract-fuzz")  # argparse has seen to the choices
    level: Any = config.getoption("--contract-level")
    try:
        contract_config = read_config(path, base_url=config.getoption("--contract-base-url"))
        known = read_baseline(baseline) if baseline else []
        options = Options(
            rules=selected((), (), fuzz=fuzz != "off"),
            fuzz=fuzz,
            level=level,
            baseline=tuple(known),
        )
        run = Run(contract_config, options)
    except ConfigError as error:
        raise pytest.UsageError(str(error)) from None
    config.pluginmanager.register(Suite(run, lenient=True), "video_calls_contract_suite")
