"""The command `video-calls-contract`: run, watch, har, init, rules.

What a person can get wrong ends in one line that says what and how to mend it, and exit status 2. Nothing
that the current directory holds for pytest has a part in a run.
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

import video_calls_contract
from video_calls_contract.baseline import Known, read_baseline, write_baseline
from video_calls_contract.catalogue import catalogue, selected
from video_calls_contract.config import TEMPLATE, Config, ConfigError, Tls, read_config
from video_calls_contract.destination import DestinationError, check, write
from video_calls_contract.interrupts import terminated_as_interrupted
from video_calls_contract.outcomes import Unreachable
from video_calls_contract.preflight import PreflightError, preflight
from video_calls_contract.pytest_plugin import SuitePlugin
from video_calls_contract.reference import ReferenceServerError, reference_server
from video_calls_contract.reports import count, terminal, visible
from video_calls_contract.reports.files import CommandError, ReportFiles, describe_error
from video_calls_contract.results import NO_WORK, Results
from video_calls_contract.run import INTERRUPTED, FuzzLength, Options, Run
from video_calls_contract.watch.command import har, watch

DEFAULT_CONFIG = Path("contract.toml")
_PACKAGE = Path(video_calls_contract.__file__).parent
_FILE = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="video-calls")
def main() -> None:
    """Whether a deployed backend keeps the Video Calls API, and which sentence of it does not hold."""


@main.command("run")
@click.option(
    "--config",
    type=_FILE,
    help=f"Where the backend is, and who the suite may be.  [default: {DEFAULT_CONFIG}]",
)
@click.option("--base-url", metavar="URL", help="Root of the API, in place of the configuration's.")
@click.option(
    "--ca", type=_FILE, metavar="FILE", help="PEM of the authorities that the backend's certificate may have."
)
@click.option("--cert", type=_FILE, metavar="FILE", help="PEM of the client's certificate.")
@click.option("--key", type=_FILE, metavar="FILE", help="PEM of its key, unless --cert holds it.")
@click.option("--reference", is_flag=True, help="Start the installed reference server, and test that.")
@click.option("--rule", "rules", metavar="SLUG", multiple=True, help="Only this rule; may be repeated.")
@click.option(
    "--section",
    "sections",
    metavar="NAME",
    multiple=True,
    help="Only this section, such as join; may be repeated.",
)
@click.option("--level", type=click.Choice(["must", "should"]), default="must", show_default=True,
              help="The least level whose deviations fail the run.")  # fmt: skip
@click.option("--junit", type=_FILE, metavar="FILE", help="Write a JUnit report.")
@click.option("--json", type=_FILE, metavar="FILE", help="Write a JSON report.")
@click.option(
    "--html", type=_FILE, metavar="FILE", help="Write an HTML report, one file to read in a browser."
)
@click.option("--markdown", type=_FILE, metavar="FILE", help="Write a Markdown report, as for a CI summary.")
@click.option(
    "--baseline", type=_FILE, metavar="FILE", help="Deviations that are known: they do not fail the run."
)
@click.option("--write-baseline", type=_FILE, metavar="FILE", help="List what deviates now as known.")
@click.option("--fuzz", type=click.Choice(["quick", "long", "off"]), default="quick", show_default=True,
              help="How long generated requests are sent.")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True,
              metavar="SECONDS", help="How long a request may take.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(1, 8), default=6, show_default=True,
              help="How many tests run at once; 1 for one after the other.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is drawn at random.")
def run_command(**options: Any) -> None:  # noqa: ANN401 (the options, by name)
    """Test a backend.

    Exit status: 0 it conforms, 1 it breaks rules, 2 the suite could not do its work.
    """
    raise SystemExit(_Command(**options).run())


@main.command()
@click.argument("path", type=_FILE, default=DEFAULT_CONFIG)
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def init(path: Path, *, force: bool) -> None:
    """Write a configuration with comments, to be filled in."""
    if path.exists() and not force:
        raise CommandError(f"{path} is there already; --force writes over it")
    try:
        check(path)
        write(path, TEMPLATE)
    except DestinationError as error:
        raise CommandError(str(error)) from None
    click.echo(f"{path} is written: fill it in, then: video-calls-contract run" + _other_config(path))


def _other_config(path: Path) -> str:
    return "" if path == DEFAULT_CONFIG else f" --config {path}"


@main.command()
@click.option("--json", "in_json", is_flag=True, help="Print JSON.")
def rules(*, in_json: bool) -> None:
    """List the rules, with their sections and levels."""
    if in_json:
        listed = [
            {
                name: getattr(rule, name)
                for name in ("id", "level", "section", "statement", "summary", "operation")
            }
            for rule in catalogue().values()
        ]
        click.echo(json.dumps(listed, indent=2))
    else:
        terminal.rules_table(terminal.console())


main.add_command(watch)
main.add_command(har)


class _Command:
    """`run`, with its options."""

    def __init__(
        self,
        *,
        config: Path | None,
        base_url: str | None,
        ca: Path | None,
        cert: Path | None,
        key: Path | None,
        reference: bool,
        rules: tuple[str, ...],
        sections: tuple[str, ...],
        level: Any,  # noqa: ANN401 (click has seen to it)
        baseline: Path | None,
        write_baseline: Path | None,
        fuzz: FuzzLength,
        timeout: float,
        jobs: int,
        seed: int,
        **reports: Path | None,
    ) -> None:
        if reference and (config or base_url or ca or cert or key):
            raise click.UsageError(
                "--reference brings its own configuration: leave out --config and --base-url, "
                "--ca, --cert and --key"
            )
        self._config, self._base_url, self._reference = config or DEFAULT_CONFIG, base_url, reference
        self._tls = Tls(ca, cert, key)
        self._reports = ReportFiles(reports)
        self._write_baseline = write_baseline
        self._begun = False
        try:
            known = self._known(baseline, write_baseline)
            self._options = Options(
                rules=selected(rules, sections, fuzz=fuzz != "off"),
                fuzz=fuzz,
                timeout=timeout,
                level=level,
                seed=seed,
                jobs=jobs,
                baseline=tuple(known) if baseline else (),
            )
            self._previous = self._before(known, baseline, write_baseline)
            self._reports.check(write_baseline)
        except ValueError as error:
            if fuzz == "off" and any(name.startswith("fuzz") for name in (*rules, *sections)):
                raise CommandError("--fuzz off excludes every selected rule") from None
            raise CommandError(str(error)) from None
        except (ConfigError, DestinationError) as error:
            raise CommandError(str(error)) from None

    @staticmethod
    def _known(baseline: Path | None, written: Path | None) -> list[Known]:
        # The file that this run is going to write for the first time.
        if baseline is None or (baseline == written and not baseline.exists()):
            return []
        return read_baseline(baseline)

    @staticmethod
    def _before(known: list[Known], baseline: Path | None, written: Path | None) -> list[Known]:
        """What was given reasons for, in either file; the one that is read knows better."""
        if written is None or written == baseline or not written.is_file():
            return known
        mentioned = {one.rule for one in known}
        return known + [one for one in read_baseline(written) if one.rule not in mentioned]

    def run(self) -> int:
        """Do it; the exit status."""
        with ExitStack() as stack:
            stack.enter_context(terminated_as_interrupted())
            try:
                config = self._backend(stack)
                results = self._test(config)
                return self._tell(results)
            except (ConfigError, ReferenceServerError) as error:
                raise CommandError(str(error)) from None
            except KeyboardInterrupt:
                raise CommandError(INTERRUPTED) from None

    def _backend(self, stack: ExitStack) -> Config:
        if self._reference:
            return stack.enter_context(reference_server())
        return read_config(self._config, base_url=self._base_url, tls=self._tls)

    def _test(self, config: Config) -> Results:
        self._console = terminal.console()
        progress = terminal.Progress(self._console)
        run = Run(config, self._options)
        suite = SuitePlugin(run, started=progress.started, ended=progress.ended)
        try:
            preflight(run)
            progress.begin(run.backend.base_url, count(len(self._options.rules), "rule"), run.notes)
            run.begin()
            self._begun = True
            _pytest(suite)
        except (PreflightError, Unreachable) as error:
            run.stopped = str(error)
        except KeyboardInterrupt:
            run.stopped = run.stopped or INTERRUPTED
        progress.done()
        return run.finish()

    def _tell(self, results: Results) -> int:
        if self._begun:
            terminal.report(self._console, results)
            self._console.print()
        problems = [] if self._begun else [results.why_not, *results.left]
        problems += self._reports.write(results, self._say)
        if self._begun and self._write_baseline is not None:
            try:
                listed = write_baseline(self._write_baseline, results.rules, self._previous)
            except ConfigError as error:
                problems.append(str(error))
            else:
                self._say(f"baseline: {self._write_baseline} lists {count(listed, 'deviation')}")
        if self._begun:
            terminal.verdict(self._console, results)
        if problems:
            raise CommandError("; ".join(problems))
        return results.exit_status

    def _say(self, text: str) -> None:
        self._console.print(visible(text), soft_wrap=True)


def _pytest(suite: SuitePlugin) -> None:
    """Run the tests, with nothing of the user's own pytest."""
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
    with _own_environment(), warnings.catch_warnings():
        status = pytest.main(arguments, plugins=[suite])
    if status in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR) and not suite.run.stopped:
        suite.run.stopped = "pytest could not be run; that is no fault of the backend, please report it"


@contextmanager
def _own_environment() -> Generator[None]:
    """Hide the variables of the tools that a run uses, and what is installed for them."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("PYTEST_", "HYPOTHESIS_"))]:
        del os.environ[name]
    os.environ |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "HYPOTHESIS_NO_PLUGINS": "1"}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def run() -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show stops nothing
            stream.reconfigure(errors="backslashreplace")
    status = NO_WORK
    try:
        main(standalone_mode=False)
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else NO_WORK
    except click.ClickException as error:
        error.show()
    except (click.Abort, KeyboardInterrupt):
        CommandError(INTERRUPTED).show()
    except Exception as error:  # noqa: BLE001 (a traceback does not help a user who tests a backend)
        click.echo(
            f"video-calls-contract: the suite itself broke: {describe_error(error)}; please report it",
            err=True,
        )
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        os._exit(status)  # a request that was given up would be waited for
    sys.exit(status)
