"""The commands `watch` and `har`."""

import multiprocessing
import queue
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from rich.console import Console
from video_calls_spec import RULES, Level, RuleId

from video_calls_contract.catalogue import NOTED
from video_calls_contract.config import Agora, Config, ConfigError, Tls, read_config, valid_base_url
from video_calls_contract.observers.registry import Finding
from video_calls_contract.options import certificate_options, report_options
from video_calls_contract.output_files import DestinationError
from video_calls_contract.reports import count, short, terminal, visible
from video_calls_contract.reports.files import CommandError, ReportFiles
from video_calls_contract.results import Results
from video_calls_contract.watch.capture import Capture
from video_calls_contract.watch.har import HarError, check_recordings
from video_calls_contract.watch.history import Report
from video_calls_contract.watch.target import TargetError, find_target
from video_calls_contract.watch.traffic import Traffic

_FILE = click.Path(path_type=Path)
_CONFIG = click.option("--config", type=_FILE, help="A contract.toml with `agora`, `ca`, `cert` and `key`.")
_LEVEL = click.option("--level", type=click.Choice(["must", "should"]), default="must", show_default=True,
                      help="Lowest level whose violations fail.")  # fmt: skip
_MOST_WAITING = 2_000  # captures that wait for their check


@click.command()
@click.option("--target", metavar="URL", help="Root of the API, by default that of --config.")
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:8900", show_default=True,
              help="Address of the proxy.")  # fmt: skip
@_CONFIG
@certificate_options
@_LEVEL
@report_options
def watch(
    *,
    target: str | None,
    listen: str,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    config: Path | None,
    level: Level,
    **reports: Path | None,
) -> None:
    """Forward requests to a backend, and check every exchange, until Ctrl-C.

    Exit status: 0 if no rule is broken, 1 if rules are broken, 2 if nothing could be checked.
    """
    if target is None and config is None:
        raise click.UsageError("give --target URL, or --config FILE with a base_url")
    if key and not cert:
        raise click.UsageError("--key needs its certificate; add --cert")
    tls = Tls(ca, cert, key)
    with _problems_in_a_line():
        if config:
            backend = read_config(config, base_url=target, tls=tls)
        else:
            backend = Config(valid_base_url(target or ""), {}, tls=tls)
        files = ReportFiles(reports)
        files.check()
        _watch(backend, listen, level, files)


def _watch(config: Config, listen: str, level: Level, files: ReportFiles) -> None:
    from video_calls_contract.watch.proxy import Captures, serve  # other commands need no uvicorn

    config, own_host = find_target(config, listen)
    console = terminal.console()
    traffic = Traffic(config.base_url, config.agora, level, datetime.now(UTC), _printer(console))
    if own_host:
        traffic.notes.append(
            "the target accepts only its own Host, so `next` and `previous` lead past the proxy"
        )
    context = multiprocessing.get_context("spawn")
    captures: Captures[Capture | int] = context.Queue(_MOST_WAITING)
    with _listener(listen) as listener:
        process = context.Process(target=serve, args=(config, own_host, listener, captures), daemon=True)
        # The new process inherits this: it ignores Ctrl-C until it has its own handler.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        process.start()
        signal.signal(signal.SIGINT, handler)
        host, port = listener.getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    root = urlsplit(config.base_url).path
    console.print(
        visible(f"Watching {config.base_url}: send requests to http://{address}{root}; Ctrl-C ends it")
    )

    def stop(_signal: int, _frame: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)  # a second Ctrl-C does not wait for the proxy
        process.terminate()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    dropped = _check_until_end(captures, process, traffic)
    if dropped:
        traffic.notes.append(f"{count(dropped, 'exchange')} came faster than the suite could check them")
    _end(console, traffic.results(), files)


def _check_until_end(captures: Any, process: Any, traffic: Traffic) -> int:  # noqa: ANN401 (private types)
    """Check captures until the proxy ends; return how many captures it dropped."""
    while True:
        try:
            capture: Capture | int = captures.get(timeout=1)
        except queue.Empty:
            if process.is_alive():
                continue
            return 0
        if isinstance(capture, int):
            return capture
        traffic.check(capture)


@click.command()
@click.argument("files", type=_FILE, nargs=-1, required=True, metavar="FILE...")
@click.option("--base-url", metavar="URL", help="Root of the API, by default the one with most requests.")
@_CONFIG
@_LEVEL
@report_options
def har(
    *,
    files: tuple[Path, ...],
    base_url: str | None,
    config: Path | None,
    level: Level,
    **reports: Path | None,
) -> None:
    """Check the exchanges in HAR files, which browsers and Playwright record.

    Exit status: 0 if no rule is broken, 1 if rules are broken, 2 if nothing could be checked.
    """
    with _problems_in_a_line():
        agora = read_config(config, base_url=base_url).agora if config else Agora()
        destinations = ReportFiles(reports)
        destinations.check()
        console = terminal.console()
        root = valid_base_url(base_url) if base_url else None
        results = check_recordings(files, root, agora, level, _printer(console))
        _end(console, results, destinations)


@contextmanager
def _problems_in_a_line() -> Generator[None]:
    try:
        yield
    except (ConfigError, DestinationError, TargetError, HarError) as error:
        raise CommandError(str(error)) from None


def _printer(console: Console) -> Report:
    """Return a function that prints the first violation of a rule."""

    def show(rule: RuleId, finding: Finding) -> None:
        word = "note" if rule in NOTED else "warning" if RULES[rule].level == "should" else "violation"
        line = short(finding.exchanges[-1])
        console.print(visible(f"{word}  {rule}: expected {finding.expected} ({line})"), soft_wrap=True)

    return show


def _end(console: Console, results: Results, files: ReportFiles) -> None:
    terminal.report(console, results)
    console.print()
    problems = files.write(results, lambda text: console.print(visible(text), soft_wrap=True))
    terminal.verdict(console, results)
    if problems:
        raise CommandError("; ".join(problems))
    raise SystemExit(results.exit_status)


def _listener(listen: str) -> socket.socket:
    """Return a socket that listens at HOST:PORT."""
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]") or "127.0.0.1", int(port)), family=family)
    except (OSError, ValueError, OverflowError) as error:
        why = getattr(error, "strerror", None) or "it is not HOST:PORT, such as 127.0.0.1:8900"
        raise CommandError(f"--listen {listen}: cannot listen there: {why}") from None
