"""The report files of a command, and how a command says what kept it from its work."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from video_calls_contract.destination import DestinationError, check, write
from video_calls_contract.reports import Writer, visible
from video_calls_contract.reports.html import as_html
from video_calls_contract.reports.junit import as_junit
from video_calls_contract.reports.markdown import as_markdown
from video_calls_contract.results import NO_WORK, Results, as_json

__all__ = ["CommandError", "ReportFiles", "describe_error"]

_WRITERS: dict[str, Writer] = {
    "junit": as_junit,
    "json": lambda results: json.dumps(as_json(results), indent=2) + "\n",
    "html": as_html,
    "markdown": as_markdown,
}


class CommandError(click.ClickException):
    """What kept the suite from its work, in a line."""

    exit_code = NO_WORK

    def show(self, file: Any = None) -> None:  # noqa: ANN401 (click's)
        """Print it."""
        click.echo(f"video-calls-contract: {visible(self.message)}", file=file, err=file is None)


class ReportFiles:
    """The reports that were asked for, by their kind: junit, json, html, markdown."""

    def __init__(self, paths: Mapping[str, Path | None]) -> None:
        self._paths = {kind: path for kind, path in paths.items() if path is not None}

    def check(self, other: Path | None = None) -> None:
        """Find out whether the reports can be written, and one other file.

        Raises:
            DestinationError: if one cannot, or if one file is given for two of them.
        """
        seen: set[Path] = set()
        for file in (*self._paths.values(), *([other] if other else [])):
            check(file)
            path = file.resolve()
            if path in seen and (path.is_file() or not path.exists()):
                raise DestinationError(f"{file}: is given for two reports")
            seen.add(path)

    def write(self, results: Results, say: Callable[[str], None]) -> list[str]:
        """Write each report; return what kept one from being written."""
        problems: list[str] = []
        for kind, path in self._paths.items():
            try:
                write(path, _WRITERS[kind](results))
            except DestinationError as error:
                problems.append(str(error))
            except Exception as error:  # noqa: BLE001 (one report that breaks is no reason to lose the others)
                problems.append(f"{path}: the {kind} report broke: {describe_error(error)}; please report it")
            else:
                say(f"{kind} report: {path}")
        return problems


def describe_error(error: BaseException) -> str:
    """Return an error with its type."""
    return f"{type(error).__name__}: {error}".rstrip(": ")
