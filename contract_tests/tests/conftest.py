"""The reference server, altered, for the tests of the suite."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import support
from support.alterations import slug
from support.suite_runs import backend_process


@pytest.fixture(scope="session")
def altered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Write the configuration for the reference server with the alterations of these names."""
    directory, tests = tmp_path_factory.mktemp("altered"), str(Path(support.__file__).parents[1])
    with backend_process(
        ["-m", "support.altered_reference"], directory, "# ready", PYTHONPATH=tests
    ) as config:
        yield lambda *names: config.replace("ALTERATIONS", "+".join(map(slug, names)))
