"""Fixtures for the tests of the suite: the altered reference server, and certificates."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import support
from support.alterations import slug
from support.certificates import write_pems
from support.suite_runs import backend_process


@pytest.fixture(scope="session")
def altered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Write the configuration for the reference server with the alterations of these names."""
    directory, tests = tmp_path_factory.mktemp("altered"), str(Path(support.__file__).parents[1])
    with backend_process(
        ["-m", "support.altered_reference"], directory, "# ready", PYTHONPATH=tests
    ) as config:
        yield lambda *names: config.replace("ALTERATIONS", "+".join(map(slug, names)))


@pytest.fixture(scope="session")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a private authority's certificates."""
    directory = tmp_path_factory.mktemp("pems")
    write_pems(directory)
    return directory
