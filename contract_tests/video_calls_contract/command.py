"""The command `video-calls-contract`: run, watch, har, init, rules.

After a mistake of the user, the command prints one line that names the mistake and its remedy, and exits with
status 2. The user's own settings of pytest have no effect on a run.
"""

import io
import json
import os
import sys
import threading
import warnings
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import pytest
from click.core import ParameterSource

import video_calls_contract
from video_calls_contract.baseline import read_baseline, write_baseline
from video_calls_contract.catalogue import catalogue, select_rules
from video_calls_contract.config import TEMPLATE, Config, ConfigError, Tls, read_config
from video_calls_contract.exceptions import Unreachable
from video_calls_contract.interrupts import sigterm_as_interrupt
from video_calls_contract.options import certificate_options, report_options
from video_calls_contract.output_files import DestinationError, check, write
from video_calls_contract.preflight import PreflightError, preflight
from video_calls_contract.pytest_plugin import SuitePlugin
from video_calls_contract.reference_server import ReferenceServerError, reference_server
from video_calls_contract.reports import count, terminal, visible
from video_calls_contract.reports.files import CommandError, ReportFiles, describe_error
from video_calls_contract.results import CONFORMS, NOT_JUDGED, Results
from video_calls_contract.run import INTERRUPTED, FuzzLength, Options, Run
from video_calls_contract.watch.command import har, watch

DEFAULT_CONFIG = Path("contract.toml")
_PACKAGE = Path(video_calls_contract.__file__).parent
_FILE = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="video-calls")
def main() -> None:
    """Test whether a backend keeps the Video Calls API, and name each sentence that it breaks."""


@main.command("run")
@click.option("--config", type=_FILE, default=DEFAULT_CONFIG, show_default=True,
              help="File with the address of the backend and its test users.")  # fmt: skip
@click.option("--base-url", metavar="URL", help="Root of the API. Replaces the one in the configuration.")
@certificate_options
@click.option("--reference", is_flag=True, help="Start the installed reference server and test it.")
@click.option("--rule", "rules", metavar="SLUG", multiple=True, help="Test only this rule. Can be repeated.")
@click.option("--section", "sections", metavar="NAME", multiple=True,
              help="Test only this section, such as join. Can be repeated.")  # fmt: skip
@click.option("--level", type=click.Choice(["must", "should"]), default="must", show_default=True,
              help="Lowest level whose violations fail the run.")  # fmt: skip
@report_options
@click.option("--baseline", type=_FILE, metavar="FILE",
              help="File of known violations, which do not fail the run.")  # fmt: skip
@click.option("--write-baseline", type=_FILE, metavar="FILE",
              help="Write the violations of this run as a baseline.")  # fmt: skip
@click.option("--fuzz", type=click.Choice(["quick", "long", "off"]), default="quick", show_default=True,
              help="How long to send generated requests.")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True,
              metavar="SECONDS", help="Timeout of a request.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(1, 8), default=6, show_default=True,
              help="Number of requests at the same time; with 1, tests run one after the other.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random generator.")
@click.pass_context
def run_command(context: click.Context, /, **options: Any) -> None:  # noqa: ANN401 (the options, by name)
    """Test a backend.

    Exit status: 0 if it conforms, 1 if it breaks rules, 2 if the suite could not do its work.
    """
    backend_options = ("config", "base_url", "ca", "cert", "key")
    if options["reference"] and any(
        context.get_parameter_source(name) is not ParameterSource.DEFAULT for name in backend_options
    ):
        raise click.UsageError(
            "--reference has its own configuration: leave out --config and --base-url, --ca, --cert and --key"
        )
    raise SystemExit(_RunCommand(**options).run())


@main.command()
@click.argument("path", type=_FILE, default=DEFAULT_CONFIG)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def init(path: Path, *, force: bool) -> None:
    """Write a configuration file to fill in, with comments."""
    if path.exists() and not force:
        raise CommandError(f"{path} already exists; --force overwrites it")
    try:
        check(path)
        write(path, TEMPLATE)
    except DestinationError as error:
        raise CommandError(str(error)) from None
    option = "" if path == DEFAULT_CONFIG else f" --config {path}"
    click.echo(f"Wrote {path}. Fill it in, then run: video-calls-contract run{option}")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def rules(*, as_json: bool) -> None:
    """List the rules with their sections and levels."""
    if as_json:
        names = ("id", "level", "section", "statement", "summary", "operation")
        document = [{name: getattr(rule, name) for name in names} for rule in catalogue().values()]
        click.echo(json.dumps(document, indent=2))
    else:
        terminal.print_rules(terminal.console())


main.add_command(watch)
main.add_command(har)


class _RunCommand:
    """The command `run` with its options."""

    def __init__(
        self,
        *,
        config: Path,
        base_url: str | None,
        ca: Path | None,
        cert: Path | None,
        key: Path | None,
        reference: bool,
        rules: tuple[str, ...],
        sections: tuple[str, ...],
        level: Any,  # noqa: ANN401 (click has checked it)
        baseline: Path | None,
        write_baseline: Path | None,
        fuzz: FuzzLength,
        timeout: float,
        jobs: int,
        seed: int,
        **reports: Path | None,
    ) -> None:
        self._config, self._base_url, self._reference = config, base_url, reference
        self._tls = Tls(ca, cert, key)
        self._reports = ReportFiles(reports)
        self._write_baseline = write_baseline
        self._tests_started = False
        try:
            # The file may not exist yet if this run writes it.
            is_new = baseline == write_baseline and baseline is not None and not baseline.exists()
            entries = [] if baseline is None or is_new else read_baseline(baseline)
            self._options = Options(
                rules=select_rules(rules, sections, fuzz=fuzz != "off"),
                fuzz=fuzz,
                timeout=timeout,
                level=level,
                seed=seed,
                jobs=jobs,
                baseline=tuple(entries),
            )
            self._entries = entries
            if write_baseline is not None and write_baseline != baseline and write_baseline.is_file():
                # Keep the reasons in the overwritten file; those in the run's baseline have precedence.
                rules_with_reason = {entry.rule for entry in entries}
                earlier = read_baseline(write_baseline)
                self._entries = entries + [one for one in earlier if one.rule not in rules_with_reason]
            self._reports.check(write_baseline)
        except ValueError as error:
            if fuzz == "off" and any(name.startswith("fuzz") for name in (*rules, *sections)):
                raise CommandError("--fuzz off excludes every selected rule") from None
            raise CommandError(str(error)) from None
        except (ConfigError, DestinationError) as error:
            raise CommandError(str(error)) from None

    def run(self) -> int:
        """Test the backend, write the reports and return the exit status."""
        with ExitStack() as stack:
            stack.enter_context(sigterm_as_interrupt())
            try:
                if self._reference:
                    config = stack.enter_context(reference_server())
                else:
                    config = read_config(self._config, base_url=self._base_url, tls=self._tls)
                return self._report(self._test(config))
            except (ConfigError, ReferenceServerError) as error:
                raise CommandError(str(error)) from None
            except KeyboardInterrupt:
                raise CommandError(INTERRUPTED) from None

    def _test(self, config: Config) -> Results:
        self._console = terminal.console()
        progress = terminal.Progress(self._console)
        run = Run(config, self._options)
        plugin = SuitePlugin(run, on_start=progress.show_section, on_end=progress.show_result)
        try:
            preflight(run)
            progress.begin(run.backend.base_url, count(len(self._options.rules), "rule"), run.notes)
            run.begin()
            self._tests_started = True
            _run_pytest(plugin)
        except (PreflightError, Unreachable) as error:
            run.stopped = str(error)
        except KeyboardInterrupt:
            run.stopped = run.stopped or INTERRUPTED
        progress.end_line()
        return run.finish()

    def _report(self, results: Results) -> int:
        if not self._tests_started:
            problems = [results.problem, *results.left, *self._reports.write(results, self._print)]
            raise CommandError("; ".join(problems))
        terminal.report(self._console, results)
        self._console.print()
        problems = self._reports.write(results, self._print)
        if self._write_baseline is not None:
            try:
                length = write_baseline(self._write_baseline, results.rules, self._entries)
            except ConfigError as error:
                problems.append(str(error))
            else:
                self._print(f"baseline: {self._write_baseline} lists {count(length, 'violation')}")
        terminal.verdict(self._console, results)
        if problems:
            raise CommandError("; ".join(problems))
        return results.exit_status

    def _print(self, text: str) -> None:
        self._console.print(visible(text), soft_wrap=True)


def _run_pytest(plugin: SuitePlugin) -> None:
    """Run the tests without the settings and plugins of the user's own pytest."""
    arguments = [
        str(_PACKAGE / "rules"),
        f"--config-file={_PACKAGE / 'isolated.ini'}",
        f"--rootdir={_PACKAGE}",
        f"--confcutdir={_PACKAGE}",
        "--import-mode=importlib",
        "--capture=sys",
        "--continue-on-collection-errors",
        *(f"-pno:{name}" for name in ("terminal", "cacheprovider", "faulthandler", "logging", "stepwise")),
    ]
    with _clean_environment(), warnings.catch_warnings():
        status = pytest.main(arguments, plugins=[plugin])
    if status in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR) and not plugin.run.stopped:
        plugin.run.stopped = "pytest did not run; this is a bug in the suite, please report it"


@contextmanager
def _clean_environment() -> Generator[None]:
    """Hide the environment variables and installed plugins of pytest and Hypothesis."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("PYTEST_", "HYPOTHESIS_"))]:
        del os.environ[name]
    os.environ |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "HYPOTHESIS_NO_PLUGINS": "1"}
    # so that Hypothesis writes no files into the current directory
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = os.devnull
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def run() -> None:
    """Run the command and exit with its status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may not support every printed character
            stream.reconfigure(errors="backslashreplace")
    status = NOT_JUDGED
    try:
        main(standalone_mode=False)
        status = CONFORMS
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else NOT_JUDGED
    except click.ClickException as error:
        error.show()
    except (click.Abort, KeyboardInterrupt):
        CommandError(INTERRUPTED).show()
    except Exception as error:  # noqa: BLE001 (a traceback does not help a user who tests a backend)
        CommandError(f"the suite crashed: {describe_error(error)}; please report it").show()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        os._exit(status)  # `sys.exit` would wait for threads whose requests have timed out
    sys.exit(status)
