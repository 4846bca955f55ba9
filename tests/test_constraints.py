"""constraints.txt has one version of each package, and it fits the requirements of pyproject.toml."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_line_is_one_version_of_one_package() -> None:
    assert [line for line in LINES if not re.fullmatch(r"[a-z\d-]+==[a-z\d.]+( ; [^#@]+)?", line)] == []


def test_every_requirement_has_one_version_that_fits() -> None:
    here = [each for each in map(Requirement, LINES) if each.marker is None or each.marker.evaluate()]
    versions = {each.name: next(iter(each.specifier)).version for each in here}
    assert len(versions) == len(here)
    project = PYPROJECT["project"]
    lists = (
        PYPROJECT["build-system"]["requires"],
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *PYPROJECT["dependency-groups"].values(),
    )
    declared = [Requirement(text) for each in lists for text in each]
    assert [
        str(each)
        for each in declared
        if each.name != project["name"]
        and (each.marker is None or each.marker.evaluate())
        and versions.get(canonicalize_name(each.name), "none") not in each.specifier
    ] == []
