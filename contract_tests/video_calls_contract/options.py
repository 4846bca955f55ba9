"""The options that several commands share: files of certificates, and report files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _file_options(**helps: str) -> Decorator:
    """Return a decorator that adds an option for each name; its value is a file."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for name, text in reversed(helps.items()):
            path = click.Path(path_type=Path)
            command = click.option(f"--{name}", type=path, metavar="FILE", help=text)(command)
        return command

    return add


certificate_options = _file_options(
    ca="PEM file of the authorities to trust.",
    cert="PEM file of the client certificate.",
    key="PEM file of its private key, unless --cert has it.",
)
report_options = _file_options(
    junit="Write a JUnit report.",
    json="Write a JSON report.",
    html="Write an HTML report in one file.",
    markdown="Write a Markdown report for a CI summary.",
)
