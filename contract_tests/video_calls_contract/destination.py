"""Files that a run writes: whether they can be is known before it begins, and none is ever half written."""

import contextlib
import os
import tempfile
from pathlib import Path

__all__ = ["Destination", "DestinationError"]


class DestinationError(Exception):
    """A file that cannot be written; the message names it and says why."""


class Destination:
    """A file to write. What is no plain file, such as `/dev/stdout`, is written to as it is."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self) -> None:
        """Find out whether it can be written, and leave everything as it is.

        Raises:
            DestinationError: it cannot.
        """
        path = self.path
        try:
            if path.is_dir():
                raise DestinationError(f"{path}: is a directory; give the name of a file")
            if path.exists():
                if not os.access(path, os.W_OK):
                    raise DestinationError(f"{path}: may not be written")
                return
            if not path.parent.is_dir():
                raise DestinationError(f"{path}: cannot be written: there is no directory {path.parent}")
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except (OSError, ValueError) as error:
            raise DestinationError(f"{path}: cannot be written: {_why(error)}") from None

    def write(self, text: str) -> None:
        """Write the whole file, or leave it as it was.

        Raises:
            DestinationError: it could not be written.
        """
        content = text.encode("utf-8", "backslashreplace")
        path = self.path
        try:
            if path.exists() and not path.is_file():
                path.write_bytes(content)
            else:
                self._replace(content)
        except (OSError, ValueError) as error:
            raise DestinationError(f"{path}: cannot be written: {_why(error)}") from None

    def _replace(self, content: bytes) -> None:
        target = self.path.resolve()  # a link stays one
        try:
            number, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
        except PermissionError:
            target.write_bytes(content)  # the file may be written where its directory may not
            return
        written = Path(name)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(content)
            written.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
            written.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                written.unlink()
            raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _why(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
