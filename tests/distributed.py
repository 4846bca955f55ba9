"""What sdist and wheel hold: what is kept in the repository, and nothing that lay about when they were built.

`nox -s package` runs it with the two files.
"""

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("spec", "sdk", "mock_server", "contract_tests")
NOT_FOR_BUILDS_OR_TESTS = (".ci/", ".github/")
MADE_BY_THE_BUILD = {"PKG-INFO"}


def tracked_files() -> set[str]:
    """The files of the repository."""
    # The owner of a checkout may be another, as in containers.
    listing = ["git", "-c", "safe.directory=*", "ls-files"]
    return set(
        subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    )


def in_sdist(files: set[str]) -> set[str]:
    """Those of the repository's files that an sdist holds."""
    expected = {name for name in files if name and not name.startswith(NOT_FOR_BUILDS_OR_TESTS)}
    return expected | MADE_BY_THE_BUILD


def in_wheel(files: set[str]) -> set[str]:
    """Those that a wheel holds, where they are installed."""
    packaged = {
        name.removeprefix(f"{room}/")
        for room in PACKAGES
        for name in files
        if name.startswith(f"{room}/video_calls")
    }
    return packaged | {"video_calls_spec/openapi.yaml"}


def differences(archive: Path, actual: Iterable[str], expected: set[str]) -> list[str]:
    """What an archive lacks or has too much of."""
    actual = set(actual)
    missing = [f"{archive.name} lacks {name}" for name in sorted(expected - actual)]
    return missing + [f"{archive.name} has {name}, git does not" for name in sorted(actual - expected)]


def main(sdist: Path, wheel: Path) -> int:
    """Print what is wrong, and return 1 where anything is."""
    with tarfile.open(sdist) as archive:
        in_archive = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as zipped:
        installed = {name for name in zipped.namelist() if ".dist-info/" not in name}
    files = tracked_files()
    wrong = differences(sdist, in_archive, in_sdist(files)) + differences(wheel, installed, in_wheel(files))
    print("\n".join(wrong) or f"{sdist.name} and {wheel.name} hold what they should")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main(*map(Path, sys.argv[1:])))
