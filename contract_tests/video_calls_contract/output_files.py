"""Output files: checked before a run, and replaced as a whole at its end."""

import os
from contextlib import suppress
from pathlib import Path


class DestinationError(Exception):
    """A file cannot be written; the message names the file and the reason."""


def check(path: Path) -> None:
    """Check that a file can be written, and change nothing.

    Raises:
        DestinationError: if it cannot be written.
    """
    if path.is_dir():
        raise DestinationError(f"{path}: is a directory; give the name of a file")
    if not path.parent.is_dir():
        raise DestinationError(f"{path}: cannot be written: there is no directory {path.parent}")
    places = [path] if path.exists() else []
    places += [] if _is_device(path) else [path.resolve().parent]
    if not all(os.access(place, os.W_OK) for place in places):
        raise DestinationError(f"{path}: no permission to write")


def write(path: Path, text: str) -> None:
    """Write the whole file, or leave it unchanged. Write to a device, such as `/dev/stdout`, directly.

    Raises:
        DestinationError: if it cannot be written.
    """
    content = text.encode("utf-8", "backslashreplace")
    try:
        if _is_device(path):
            path.write_bytes(content)
            return
        target = path.resolve()  # replace the file that a symbolic link leads to, not the link
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            temporary.write_bytes(content)
            temporary.replace(target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise DestinationError(f"{path}: cannot be written: {error.strerror}") from None


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file()
