"""The report files of a command, and the error that ends a command."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from video_calls_contract.output_files import DestinationError, check, write
from video_calls_contract.reports import Writer, visible
from video_calls_contract.reports.html import as_html
from video_calls_contract.reports.junit import as_junit
from video_calls_contract.reports.markdown import as_markdown
from video_calls_contract.results import NOT_JUDGED, Results, as_json

_WRITERS: dict[str, Writer] = {
    "junit": as_junit,
    "json": lambda results: json.dumps(as_json(results), indent=2) + "\n",
    "html": as_html,
    "markdown": as_markdown,
}


class CommandError(click.ClickException):
    """The suite could not do its work; the message is one line that says why."""

    exit_code = NOT_JUDGED

    def show(self, file: Any = None) -> None:  # noqa: ANN401 (click's)
        """Print the message."""
        click.echo(f"video-calls-contract: {visible(self.message)}", file=file, err=file is None)


class ReportFiles:
    """The files of the requested reports, by kind: junit, json, html, markdown."""

    def __init__(self, paths: Mapping[str, Path | None]) -> None:
        self._paths = {kind: path for kind, path in paths.items() if path is not None}

    def check(self, other: Path | None = None) -> None:
        """Check that the reports and one other file can be written.

        Raises:
            DestinationError: if a file cannot be written, or is used for two reports.
        """
        paths: set[Path] = set()
        for file in (*self._paths.values(), *([other] if other else [])):
            check(file)
            path = file.resolve()
            if path in paths and (path.is_file() or not path.exists()):
                raise DestinationError(f"{file}: is used for two reports")
            paths.add(path)

    def write(self, results: Results, say: Callable[[str], None]) -> list[str]:
        """Write each report and return the errors."""
        problems: list[str] = []
        for kind, path in self._paths.items():
            try:
                write(path, _WRITERS[kind](results))
            except DestinationError as error:
                problems.append(str(error))
            except Exception as error:  # noqa: BLE001 (the other reports are still written)
                problems.append(
                    f"{path}: the {kind} report crashed: {describe_error(error)}; please report it"
                )
            else:
                say(f"{kind} report: {path}")
        return problems


def describe_error(error: BaseException) -> str:
    """Return an error with its type."""
    return f"{type(error).__name__}: {error}".rstrip(": ")
