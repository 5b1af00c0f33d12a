"""`piperun run`: check the files, then run them until told to stop or, with `until: idle`, until nothing is left."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.cli import exits
from pipeline.cli.files import checked, read
from pipeline.cli.options import AppDir, Files
from pipeline.cli.progress import ProgressBars
from pipeline.cli.report import count, show
from pipeline.clock import SystemClock
from pipeline.config.load import Loaded, Overrides
from pipeline.config.model import Log, LogFormat, LogLevel, Runtime
from pipeline.errors import UsageError
from pipeline.events import Events
from pipeline.observe.logs import LogLines, set_up_logging
from pipeline.runtime.launch import Launch, launch
from pipeline.runtime.plan import check_names
from pipeline.runtime.run import End
from pipeline.secret import Masker


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
    overrides = Overrides(broker_url=broker, until=until)
    loaded = read(files, overrides)
    prepared, problems = checked(loaded, app_dir, only=names)
    show(problems)
    if any(problem.severity == "error" for problem in problems):
        print(count(problems, len(files)), file=sys.stderr)
        raise typer.Exit(exits.CONFIGURATION)
    check_names(loaded.pipelines, names)
    runtime = loaded.pipelines[0].runtime  # one for all files of a run
    if broker_required:
        _require_broker(loaded)
    log = _log(runtime, log_format, log_level, log_bodies)
    mask = Masker(secret for each in loaded.pipelines for secret in each.secrets)
    clock = SystemClock()
    events = Events()
    lines = LogLines(log, now=clock.now)
    progress = sys.stderr.isatty() and log.format != "json"
    if progress:
        events.listen(ProgressBars())
    set_up_logging(log, mask=mask)
    events.listen(lines)
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


def _require_broker(loaded: Loaded) -> None:
    for pipeline in loaded.pipelines:
        if pipeline.broker.embedded:
            raise UsageError(
                f"{pipeline.path.name} would run on the embedded broker, in memory only, and --broker-required forbids "
                "it; set `broker:` in the file, or --broker URL"
            )


def _leave(end: End) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exits.of_end(end))


def _log(runtime: Runtime, form: LogFormat | None, level: LogLevel | None, bodies: str | None) -> Log:
    """The file's settings, overruled by the command line."""
    log = replace(runtime.log, format=form or runtime.log.format, level=level or runtime.log.level)
    if bodies is not None:
        log = replace(log, bodies=_bodies(bodies))
    return log


def _bodies(text: str) -> int | None:
    kind, _, number = text.partition(":")
    if kind == "none" and not number:
        return None
    if kind == "head" and number.isdecimal() and int(number) > 0:
        return int(number)
    raise UsageError(f'--log-bodies is none or head:N, not "{text}"; for example head:200')
