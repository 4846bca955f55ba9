"""Check that sdist and wheel have the files of the repository and no others.

`nox -s package` runs this with the two files.
"""

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("spec", "sdk", "mock_server", "contract_tests")
EXCLUDED = (".ci/", ".github/")
BUILD_FILES = {"PKG-INFO"}


def tracked_files() -> set[str]:
    """Return the files of the repository."""
    # In a container, another user may own the checkout.
    listing = ["git", "-c", "safe.directory=*", "ls-files"]
    return set(
        subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    )


def in_sdist(files: set[str]) -> set[str]:
    """Return the files that an sdist must have."""
    expected = {name for name in files if name and not name.startswith(EXCLUDED)}
    return expected | BUILD_FILES


def in_wheel(files: set[str]) -> set[str]:
    """Return the files that a wheel must have, by their installed paths."""
    packaged = {
        name.removeprefix(f"{folder}/")
        for folder in PACKAGES
        for name in files
        if name.startswith(f"{folder}/video_calls")
    }
    return packaged | {"video_calls_spec/openapi.yaml"}


def differences(archive: Path, actual: Iterable[str], expected: set[str]) -> list[str]:
    """Return a line for each missing and each unexpected file of an archive."""
    actual = set(actual)
    missing = [f"{archive.name} lacks {name}" for name in sorted(expected - actual)]
    return missing + [f"{archive.name} has the unexpected {name}" for name in sorted(actual - expected)]


def main(sdist: Path, wheel: Path) -> int:
    """Print the differences; return 1 if there are any."""
    with tarfile.open(sdist) as archive:
        in_archive = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as zipped:
        installed = {name for name in zipped.namelist() if ".dist-info/" not in name}
    files = tracked_files()
    problems = differences(sdist, in_archive, in_sdist(files))
    problems += differences(wheel, installed, in_wheel(files))
    print("\n".join(problems) or f"{sdist.name} and {wheel.name} have the expected files")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main(*map(Path, sys.argv[1:])))
