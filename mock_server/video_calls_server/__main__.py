"""The command `video-calls-server`: serve, migrate, console, token, identities.

If the user makes a mistake, the command prints one line with the error and its fix, and exits with status 2.
"""

import io
import json
import os
import re
import shlex
import sys
import webbrowser
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import anyio
import click
from click.core import ParameterSource
from dotenv import dotenv_values

from video_calls_server.api.ids import ids_of
from video_calls_server.api.jwt import make_token
from video_calls_server.command import serving
from video_calls_server.command.contract_config import contract_toml
from video_calls_server.settings import (
    Settings,
    SettingsError,
    environment_variable,
    setting_fields,
)
from video_calls_server.store import StoreError, UnavailableError
from video_calls_server.store.database import has_password
from video_calls_server.store.factory import existing_people
from video_calls_server.store.seed import DEFAULT_SEED, Seed, SeedError, load_seed

Command = TypeVar("Command", bound=Callable[..., Any])

_EXAMPLE_USERS = 10
_HEALTH_TIMEOUT = 2.0  # seconds

_ENV_FILE_NAMES = re.compile(
    r"VIDEO_CALLS_|AGORA_|OTEL_|(PROMETHEUS_MULTIPROC_DIR|FORWARDED_ALLOW_IPS)$", re.ASCII
)
"""The variables that a `.env` file may set. Others, such as BROWSER, could run programs."""

_DATABASE = '"$VIDEO_CALLS_SERVER_DATABASE"'
_USAGE_ERROR = 2  # exit status

_DURATION = re.compile(r"(-?\d{1,9})([smhd]?)", re.ASCII)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class _Duration(click.ParamType):  # type: ignore[type-arg]  # pyright: ignore[reportMissingTypeArgument]  # click < 8.4
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        match = _DURATION.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration; give seconds, or a number with s, m, h or d", param, ctx)
        return int(match[1]) * _SECONDS[match[2]]


class _Lines(click.types.StringParamType):
    """A text option that may be repeated. In its environment variable, each line is a value."""

    def split_envvar_value(self, rv: str) -> list[str]:
        """Return the values in an environment variable: its lines, without the empty ones."""
        return [line for line in map(str.strip, rv.splitlines()) if line]


def _type_of(annotation: Any) -> Any:  # noqa: ANN401 (annotations and click's types have no common type)
    options = [option for option in get_args(annotation) if option is not type(None)]
    if annotation in (int, float, str):
        return annotation
    if Path in options:
        return click.Path(path_type=Path)
    if annotation is bool:
        return bool
    if options and all(isinstance(option, str) for option in options):
        return click.Choice(options)
    return str


def settings_options(command: Command) -> Command:
    """Add an option for each setting to a command. The setting's environment variable is the default."""
    for setting in reversed(setting_fields()):
        multiple = get_origin(setting.type) is tuple
        default = setting.default
        option = f"--{setting.name.replace('_', '-')}"
        command = click.option(
            f"{option}/--no-{option[2:]}" if setting.type is bool else option,
            setting.name,
            type=_Lines() if setting.metadata["in_lines"] else _type_of(setting.type),
            default=default,
            show_default=not multiple and default is not None,
            multiple=multiple,
            envvar=environment_variable(setting),
            show_envvar=True,
            help=setting.metadata["help"],
        )(command)
    return command


@contextmanager
def usage_errors() -> Generator[None]:
    """If the block raises an error of the configuration, print it in one line and exit with status 2."""
    try:
        yield
    except (SettingsError, SeedError, StoreError, UnavailableError) as error:
        click.echo(f"video-calls-server: {error}", err=True)
        raise SystemExit(_USAGE_ERROR) from error


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="video-calls")
def main() -> None:
    """Run the reference server of the Video Calls API."""


@main.command()
@settings_options
def serve(**options: Any) -> None:  # noqa: ANN401 (the settings, by name)
    """Run the server. Each setting can also be an environment variable, or a line of a .env file."""
    with usage_errors():
        settings = Settings(**options)
        serving.serve(settings, options=_shared_options())


@main.command()
@click.option("--print", "print_only", is_flag=True, help="Print the address and open nothing.")
@settings_options
def console(*, print_only: bool, **options: Any) -> None:  # noqa: ANN401
    """Open the console of a running server that has these settings."""
    with usage_errors():
        settings = Settings(**options)
        if not settings.has_control:
            raise SettingsError("control: the console is off; see --control and --control-key")
        url = f"http://{f'[{settings.host}]' if ':' in settings.host else settings.host}:{settings.port}/"
        if not _is_healthy(url):
            raise SettingsError(f"no server answers at {url}; start one with: video-calls-server serve")
        click.echo(url)
        if not print_only and not webbrowser.open(url):
            raise SettingsError(f"there is no browser to open; open {url} yourself")


@main.command()
@settings_options
def migrate(**options: Any) -> None:  # noqa: ANN401
    """Create or upgrade the tables of a database."""
    with usage_errors():
        from video_calls_server.store.database import database_url, name_of
        from video_calls_server.store.migrate import migrate

        settings = Settings(**options)
        url = database_url(settings.database)
        before, after = anyio.run(migrate, url, name_of(url))
        click.echo(f"revision {after}" if before == after else f"revision {before or 'none'} to {after}")


@main.command()
@click.argument("email")
@click.option(
    "--expires-in", type=_Duration(), default="1h", show_default=True, help="Such as 90s, 15m, 1h, 7d."
)
@settings_options
def token(email: str, expires_in: int, **options: Any) -> None:  # noqa: ANN401
    """Print a JWT for a seeded or registered user."""
    with usage_errors():
        settings = Settings(**options)
        users = {user.email.lower(): user for user, _, _ in _people(settings).people}
        if email.lower() not in users:
            emails = [user.email for user in users.values()]
            examples = emails[:_EXAMPLE_USERS] + ["…"] * (len(emails) > _EXAMPLE_USERS)
            raise SettingsError(f"there is no user {email}; the users are {', '.join(examples)}")
        click.echo(make_token(settings, users[email.lower()].id, expires_in=expires_in))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--contract-config", metavar="BASE_URL", help="Print the contract.toml for a run against BASE_URL."
)
@settings_options
def identities(*, as_json: bool, contract_config: str | None, **options: Any) -> None:  # noqa: ANN401
    """List the users of the server."""
    if as_json and contract_config is not None:
        raise click.UsageError("give either --json or --contract-config")
    with usage_errors():
        settings = Settings(**options)
        people, ids = _people(settings), ids_of(settings.ids)
        if contract_config is not None:
            click.echo(contract_toml(settings, people, contract_config), nl=False)
            return
        rows = [
            {
                "user": user.id,
                "email": user.email,
                "full_name": user.full_name,
                "active": user.active,
                "doctor": ids.format("doctor", doctor.id) if doctor else None,
                "patient": ids.format("patient", patient.id) if patient else None,
            }
            for user, doctor, patient in people.people
        ]
        if as_json:
            click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        else:
            _print_table(rows)


def _print_table(rows: list[dict[str, int | str | bool | None]]) -> None:
    words = {"None": "-", "True": "yes", "False": "no"}
    table = [[name.replace("_", " ") for name in rows[0]]]
    table += ([words.get(str(value), str(value)) for value in row.values()] for row in rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def _people(settings: Settings) -> Seed:
    return anyio.run(existing_people, settings.database, load_seed(settings.seed or DEFAULT_SEED))


def _is_healthy(url: str) -> bool:
    import httpx

    try:
        response = httpx.get(f"{url}healthz", timeout=_HEALTH_TIMEOUT, trust_env=False)
        return bool(response.json() == {"status": "ok"})
    except (httpx.HTTPError, ValueError):
        return False


def _shared_options() -> str:
    """Return the options on this command line that `token` and `identities` need too.

    If the database's URL has a password, the name of its environment variable replaces the URL.
    """
    context = click.get_current_context()
    options = [
        (name, str(context.params[name]))
        for name in ("database", "seed", "ids", "jwt_user_claim", "jwt_issuer", "jwt_audience")
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    return "".join(
        f" --{name.replace('_', '-')} "
        + (_DATABASE if name == "database" and has_password(value) else shlex.quote(value))
        for name, value in options
    )


def run() -> None:
    """Read `.env`, set each variable that the environment does not have yet, and run the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may be unable to show a character
            stream.reconfigure(errors="backslashreplace")
    try:
        for name, value in dotenv_values(".env").items():
            if value is not None and _ENV_FILE_NAMES.match(name):
                os.environ.setdefault(name, value)
    except (OSError, ValueError) as error:
        click.echo(f"video-calls-server: cannot read .env: {error}", err=True)
        raise SystemExit(_USAGE_ERROR) from error
    main()


if __name__ == "__main__":
    run()
