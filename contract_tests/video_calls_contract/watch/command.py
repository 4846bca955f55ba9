"""The commands `watch` and `har`."""

import multiprocessing
import pickle
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from rich.console import Console
from video_calls_spec import RULES, Level, RuleId

from video_calls_contract.catalogue import NOTED
from video_calls_contract.config import Agora, Config, ConfigError, Tls, read_config, valid_base_url
from video_calls_contract.destination import DestinationError
from video_calls_contract.observers import Finding
from video_calls_contract.reports import count, short, terminal, visible
from video_calls_contract.reports.files import CommandError, ReportFiles
from video_calls_contract.results import Results
from video_calls_contract.watch.har import HarError, judge_recordings
from video_calls_contract.watch.judgement import Judge
from video_calls_contract.watch.target import TargetError, find_target

__all__ = ["har", "watch"]

_FILE = click.Path(path_type=Path)
_PORT = 8900


def _common(command: Any) -> Any:  # noqa: ANN401 (click's decorators)
    """Add the options of both commands."""
    for option in (
        click.option("--level", type=click.Choice(["must", "should"]), default="must", show_default=True,
                     help="The least level whose deviations fail."),
        click.option("--markdown", type=_FILE, metavar="FILE", help="Write a Markdown report."),
        click.option("--html", type=_FILE, metavar="FILE", help="Write an HTML report."),
        click.option("--json", type=_FILE, metavar="FILE", help="Write a JSON report."),
        click.option("--junit", type=_FILE, metavar="FILE", help="Write a JUnit report."),
        click.option("--config", type=_FILE, help="A contract.toml: its `agora`, `ca`, `cert`, `key`."),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command()
@click.option("--target", metavar="URL", help="Root of the API; without it, that of --config.")
@click.option("--listen", metavar="HOST:PORT", default=f"127.0.0.1:{_PORT}", show_default=True,
              help="Where clients reach the proxy.")  # fmt: skip
@click.option("--ca", type=_FILE, metavar="FILE", help="PEM of the authorities of the target's certificate.")
@click.option("--cert", type=_FILE, metavar="FILE", help="PEM of the client's certificate.")
@click.option("--key", type=_FILE, metavar="FILE", help="PEM of its key, unless --cert holds it.")
@_common
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
    """Pass requests on to a backend, and judge every exchange, until Ctrl-C.

    Exit status: 0 no rule was broken, 1 rules were broken, 2 nothing could be judged.
    """
    with _problems_in_a_line():
        if target is None and config is None:
            raise click.UsageError("give --target URL, or --config FILE with a base_url")
        tls = Tls(ca, cert, key)
        reached = (
            read_config(config, base_url=target, tls=tls) if config else _without_file(target or "", tls)
        )
        files = ReportFiles(reports)
        files.check()
        with _listening(listen) as listener:
            _watch(reached, listener, level, files)


def _watch(config: Config, listener: socket.socket, level: Level, files: ReportFiles) -> None:
    host, port = listener.getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    _check_no_loop(config.base_url, host, port)
    found = find_target(config, address)
    from video_calls_contract.watch.proxy import Way, serve  # other commands do not wait for uvicorn

    console = terminal.console()
    judge = Judge(found.base_url, config.agora, level, datetime.now(UTC), _printer(console))
    if found.host is not None:
        judge.notes.append(
            "the target answers only to its own Host, so that `next` and `previous` lead past the proxy"
        )
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    proxy = context.Process(
        target=serve, args=(Way(config, found.origin, found.host), listener, theirs), daemon=True
    )
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # in the new process, until it handles it
    proxy.start()
    signal.signal(signal.SIGINT, handler)
    theirs.close()
    listener.close()
    root = found.base_url.removeprefix(found.origin)
    console.print(
        visible(f"Watching {found.base_url}: send requests to http://{address}{root}; Ctrl-C ends it")
    )
    try:
        with _stopping(ours):
            dropped = _judge_until_end(ours, judge)
    finally:
        proxy.terminate()
        proxy.join()
    if dropped:
        judge.notes.append(f"{count(dropped, 'exchange')} came faster than they could be judged")
    _end(console, judge.results(), files)


@contextmanager
def _stopping(pipe: Any) -> Generator[None]:  # noqa: ANN401 (its class differs between systems)
    """Stop the proxy at an interrupt or a SIGTERM; what has passed is still judged.

    A second one does not wait for that.
    """

    def stop(_signal: int, _frame: object) -> None:
        for number in before:
            signal.signal(number, signal.default_int_handler)
        with suppress(OSError):
            pipe.send_bytes(b"stop")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _judge_until_end(pipe: Any, judge: Judge) -> int:  # noqa: ANN401 (its class differs between systems)
    """Judge what comes; return how many records were dropped, which is the last message."""
    with suppress(EOFError, OSError):
        while True:
            record = pickle.loads(pipe.recv_bytes())  # noqa: S301 (from our own process)
            if isinstance(record, int):
                return record
            judge.judge(record)
    return 0


@click.command()
@click.argument("files", type=_FILE, nargs=-1, required=True, metavar="FILE...")
@click.option("--base-url", metavar="URL", help="Root of the API; without it, where most calls were made.")
@_common
def har(
    *,
    files: tuple[Path, ...],
    base_url: str | None,
    config: Path | None,
    level: Level,
    **reports: Path | None,
) -> None:
    """Judge the exchanges of HAR files, as browsers and Playwright record them.

    Exit status: 0 no rule was broken, 1 rules were broken, 2 nothing could be judged.
    """
    with _problems_in_a_line():
        agora = read_config(config, base_url=base_url).agora if config else Agora()
        destinations = ReportFiles(reports)
        destinations.check()
        console = terminal.console()
        root = _without_file(base_url, Tls()).base_url if base_url else None
        results = judge_recordings(files, root, agora, level, _printer(console))
        _end(console, results, destinations)


@contextmanager
def _problems_in_a_line() -> Generator[None]:
    try:
        yield
    except (ConfigError, DestinationError, TargetError, HarError) as error:
        raise CommandError(str(error)) from None


def _without_file(url: str, tls: Tls) -> Config:
    if tls.key and not tls.cert:
        raise click.UsageError("--key is given without its certificate; add --cert")
    try:
        return Config(valid_base_url(url), {}, tls=tls)
    except ConfigError as error:
        raise CommandError(str(error).replace("base_url", "--target", 1)) from None


def _printer(console: Console) -> Any:  # noqa: ANN401 (a function)
    """Return what tells of the first violation of each rule, as it happens."""

    def tell(rule: RuleId, finding: Finding) -> None:
        word = "note" if rule in NOTED else "warning" if RULES[rule].level == "should" else "violation"
        shown = short(finding.exchanges[-1])
        console.print(visible(f"{word}  {rule}: expected {finding.expected} ({shown})"), soft_wrap=True)

    return tell


def _end(console: Console, results: Results, files: ReportFiles) -> None:
    terminal.report(console, results)
    console.print()
    problems = files.write(results, lambda text: console.print(visible(text), soft_wrap=True))
    terminal.verdict(console, results)
    if problems:
        raise CommandError("; ".join(problems))
    raise SystemExit(results.exit_status)


# -- Addresses ----------------------------------------------------------------------------------------


def _listening(listen: str) -> socket.socket:
    """Return a socket that listens at HOST:PORT, HOST or PORT."""
    host, _, port = listen.rpartition(":") if ":" in listen.rpartition("]")[2] else (listen, "", str(_PORT))
    if listen.isdecimal():
        host, port = "127.0.0.1", listen
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host.strip("[]"), int(port)), family=family)
    except (OSError, ValueError, OverflowError) as error:
        why = getattr(error, "strerror", None) or "it is not HOST:PORT, such as 127.0.0.1:8900"
        raise CommandError(f"--listen {listen}: cannot be listened on: {why}") from None


def _check_no_loop(url: str, host: str, port: int) -> None:
    """Refuse a target that is the proxy itself."""
    parts = urlsplit(url)
    if (parts.port or (443 if parts.scheme == "https" else 80)) != port:
        return
    with suppress(OSError):
        for *_, found in socket.getaddrinfo(parts.hostname, port):
            address = ip_address(str(found[0]).partition("%")[0])
            if str(address) == host or address.is_loopback or address.is_unspecified:
                raise CommandError(f"--target {url} is the proxy itself; give another port with --listen")
