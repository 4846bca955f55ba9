"""The suite's tests have short ids and start processes that can be interrupted, as the server's tests do."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from altering import slug
from conftest import pytest_make_parametrize_id
from runs import serving

__all__ = ["pytest_make_parametrize_id"]


@pytest.fixture(scope="session")
def altered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Write the configuration for the reference server with the alterations of these names."""
    program = str(Path(__file__).with_name("altered_reference.py"))
    with serving([program], tmp_path_factory.mktemp("altered"), "# ready") as said:
        yield lambda *names: said.replace("ALTERATIONS", "+".join(map(slug, names)))
