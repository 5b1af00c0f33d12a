"""`piperun run`: check the files, then run them until told to stop or, with `until: idle`, until nothing is left."""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.cli import exits
from pipeline.cli.files import checked, read
from pipeline.cli.loading import uncollected
from pipeline.cli.options import AppDir, Files
from pipeline.cli.progress import ProgressBars
from pipeline.cli.report import count, log_error, show
from pipeline.cli.report import log as log_problems
from pipeline.clock import SystemClock
from pipeline.config.address import DEFAULT_PORTS, THIS_MACHINE
from pipeline.config.build import log_settings
from pipeline.config.load import Loaded, Overrides
from pipeline.config.model import Log, LogFormat, LogLevel, Loop, Workers
from pipeline.config.schema import lookup, variant
from pipeline.errors import BrokerError, UsageError, innermost
from pipeline.events import Events
from pipeline.observe.logs import LogLines, set_up_logging
from pipeline.problems import Problem
from pipeline.runtime.plan import check_names
from pipeline.secret import Masker
from pipeline.values import replace

if TYPE_CHECKING:
    from pipeline.runtime.run import End


def run(
    files: Files,
    broker: Annotated[
        str | None,
        typer.Option("--broker", envvar="PIPERUN_BROKER", metavar="URL", help="Use this broker instead of the files'."),
    ] = None,
    app_dir: AppDir = Path(),
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Run only these producers and consumers; repeat, or a,b,c."),
    ] = None,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", metavar="", help="End when nothing is left to do.")
    ] = False,
    forever: Annotated[
        bool, typer.Option("--forever", metavar="", help="Run until told to stop, whatever the file says.")
    ] = False,
    workers: Annotated[
        str | None,
        typer.Option(
            "--workers", envvar="PIPERUN_WORKERS", metavar="N|auto", help="So many processes, whatever the file says."
        ),
    ] = None,
    loop: Annotated[
        Loop | None, typer.Option("--loop", envvar="PIPERUN_LOOP", help="The event loop, whatever the file says.")
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(
            "--http",
            envvar="PIPERUN_HTTP",
            metavar="ADDRESS",
            help="Serve health and metrics there, whatever the file says.",
        ),
    ] = None,
    broker_required: Annotated[
        bool,
        typer.Option(
            "--broker-required",
            envvar="PIPERUN_BROKER_REQUIRED",
            metavar="",
            help="Refuse the embedded broker: for production.",
        ),
    ] = False,
    log_format: Annotated[
        Literal["text", "json"] | None, typer.Option("--log-format", envvar="PIPERUN_LOG_FORMAT", help="Of log lines.")
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        typer.Option("--log-level", envvar="PIPERUN_LOG_LEVEL", help="The least that is logged; default: info."),
    ] = None,
    log_bodies: Annotated[
        str | None,
        typer.Option(
            "--log-bodies", envvar="PIPERUN_LOG_BODIES", metavar="none|head:N", help="Show the first N bytes of bodies."
        ),
    ] = None,
) -> None:
    """Run pipeline files until told to stop, or until nothing is left to do.

    Ctrl-C or SIGTERM stops in order and loses nothing; a second one forces.

    Exit status: 0 fine, 1 a producer failed, 2 usage or configuration, 3 broker unreachable or refused us,
    4 the broker differs from the file, 5 handlers were cut off, 70 a bug in piperun, 130 forced.
    """
    if until_idle and forever:
        raise UsageError("--until-idle and --forever contradict each other; keep one")
    until: Literal["idle", "stopped"] | None = "idle" if until_idle else "stopped" if forever else None
    names = tuple(name for each in only or () for name in each.split(",") if name)
    overrides = Overrides(broker_url=broker, until=until, workers=_workers(workers), loop=loop, http=_http(http))
    loaded = read(files, overrides)
    # The settings of files with errors are not known; what is said of them follows the command line alone.
    written = loaded.pipelines[0].runtime.log if loaded.pipelines else log_settings(None)
    log = _log(written, log_format, log_level, log_bodies)
    mask = Masker(secret for each in loaded.pipelines for secret in each.secrets)
    set_up_logging(log, mask=mask)  # before handlers are imported, for what they log then
    with _told_to_machines(log):
        prepared, problems = checked(loaded, app_dir, only=names)
        _tell(problems, log, len(files))
        check_names(loaded.pipelines, names)
        runtime = loaded.pipelines[0].runtime  # one for all files of a run
        if broker_required:
            _require_broker(loaded)
        # The line to RabbitMQ is half of what a start loads: a command that ends above does without.
        with uncollected():
            from pipeline.runtime.launch import Launch, launch

        clock = SystemClock()
        events = Events()
        progress = sys.stderr.isatty() and log.format != "json"
        if progress:
            events.listen(ProgressBars())
        events.listen(LogLines(log, now=clock.now))
        with _way_out(loaded, broker, broker_required):
            end = launch(
                Launch(
                    loaded=loaded,
                    overrides=overrides,
                    prepared=prepared,
                    runtime=runtime,
                    log=log,
                    app_dir=app_dir,
                    only=names,
                    progress=progress,
                    clock=clock,
                    emit=events.emit,
                    mask=mask,
                    leave=_leave,
                )
            )
    raise typer.Exit(exits.of_end(end))


def _tell(problems: Sequence[Problem], log: Log, files: int) -> None:
    """All problems; with an error among them the run ends here."""
    if log.format == "json":
        log_problems(problems)
    else:
        show(problems)
    if any(problem.severity == "error" for problem in problems):
        if log.format != "json":
            print(count(problems, files), file=sys.stderr)
        raise typer.Exit(exits.CONFIGURATION)


@contextmanager
def _told_to_machines(log: Log) -> Iterator[None]:
    """Where the log is JSON, the error that ends a run is a line of it, and not a text at the door."""
    try:
        yield
    except Exception as error:
        if log.format != "json" or isinstance(error, typer.Exit):
            raise
        failure = innermost(error)
        status = exits.of_error(failure)
        log_error(failure, status, bug=status == exits.BUG)
        raise typer.Exit(status) from None


@contextmanager
def _way_out(loaded: Loaded, given: str | None, required: bool) -> Iterator[None]:
    """Whoever has no RabbitMQ on this machine, and named none, is told that it goes without."""
    try:
        yield
    except Exception as raised:
        error = innermost(raised)
        at = {(address.host, address.port) for each in loaded.pipelines for address in each.broker.addresses}
        at_home = at == {(host, port) for host, port in at if host in THIS_MACHINE and port == DEFAULT_PORTS["amqp"]}
        if isinstance(error, BrokerError) and at_home and given is None and not required:
            error.add_note("start RabbitMQ there, name another with --broker URL, or try it without: --broker embedded")
        raise


def _require_broker(loaded: Loaded) -> None:
    for pipeline in loaded.pipelines:
        if pipeline.broker.embedded:
            raise UsageError(
                f"{pipeline.path.name} would run on the embedded broker, in memory only, and --broker-required forbids "
                "it; set `broker:` in the file, or --broker URL"
            )


def _leave(end: "End") -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # a terminal that was closed
            stream.flush()
    os._exit(exits.of_end(end))


def _log(written: Log, form: LogFormat | None, level: LogLevel | None, bodies: str | None) -> Log:
    """The file's settings, overruled by the command line."""
    log = replace(written, format=form or written.format, level=level or written.level)
    if bodies is not None:
        log = replace(log, bodies=_bodies(bodies))
    return log


def _workers(text: str | None) -> Workers | None:
    if text is None:
        return None
    if text == "auto":
        return "auto"
    most: int = lookup("runtime", "workers")["maximum"]
    if text.isdecimal() and text.isascii() and len(text) < 9 and int(text) <= most:
        return int(text)
    raise UsageError(f'--workers is a whole number from 0 to {most}, or auto, not "{text}"')


def _http(text: str | None) -> str | None:
    if text is None or re.fullmatch(variant("http")["pattern"], text):
        return text
    raise UsageError(f'--http is a port, or an IP address with a port such as 127.0.0.1:9419, not "{text}"')


def _bodies(text: str) -> int | None:
    kind, _, number = text.partition(":")
    if kind == "none" and not number:
        return None
    if kind == "head" and number.isdecimal() and int(number) > 0:
        return int(number)
    raise UsageError(f'--log-bodies is none or head:N, not "{text}"; for example head:200')
