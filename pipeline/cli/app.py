"""The command line: `FILE...` as `run FILE...`, the verbs, and the one door where errors end. A verb's work stands in
its own file, which is loaded when the verb is called."""

import os
import platform
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pipeline.cli import exits
from pipeline.cli.loading import uncollected
from pipeline.cli.report import show, show_error
from pipeline.errors import FileError, UsageError, innermost
from pipeline.problems import did_you_mean

# A verb is the function of this name in the file of this name; the sentence is what the list of verbs says of it.
_VERBS = {
    "run": "Run pipeline files until told to stop, or until nothing is left to do.",
    "validate": "Check files and nothing else: nothing connects, nothing is written. Exit status 0 or 2.",
    "doctor": "Say what is wrong between a file and its live broker, and what to do about it.",
    "send": "Send messages to a queue or an exchange of a file, and wait until the broker has confirmed them.",
    "dlq": "Work with dead letters: list them, show them, send them back, throw them away.",
}


class _Verbs(TyperGroup):
    """Loads a verb when it is called, or its own help is wanted. Nobody waits for the client and the schema to read
    the list, or a misspelt option."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in _VERBS:
            self.add_command(load_verb(args[0]))
        return super().resolve_command(ctx, args)


def load_verb(verb: str) -> Any:
    """The command with its options. Loads the file of the verb."""
    with uncollected():
        module = import_module(f"pipeline.cli.{verb}")
    if group := getattr(module, "verbs", None):  # a verb that is followed by another one, as in `dlq ls`
        command = typer.main.get_command(group)
        command.name = verb
        return command
    alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
    alone.command(name=verb)(getattr(module, verb))
    return typer.main.get_command(alone)


app = typer.Typer(
    name="piperun",
    cls=_Verbs,
    no_args_is_help=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # errors end at the door below, and never show local variables
    context_settings={"help_option_names": ["-h", "--help"]},
)

_DEFAULT_FILE = Path("pipeline.yaml")
# What the command line itself answers; everything else in the first place is a file for `run`.
_OWN_OPTIONS = ("-h", "--help", "--version", "--install-completion", "--show-completion")


def _piperun() -> str:
    from importlib.metadata import version  # reads it as a mail is read, for which much is loaded

    return f"piperun {version('piperun')}"


def _show_version(wanted: bool) -> None:
    if wanted:
        python = f"Python {platform.python_version()}"
        typer.echo(f"{_piperun()} ({python}, {platform.system()} {platform.machine()})")
        raise typer.Exit()


@app.callback(
    epilog="[bold]Examples[/bold]\n\n"
    "[cyan]piperun configs/hello.yaml[/cyan]\n\n"
    "   Run a pipeline; on the embedded broker, if the file names no other.\n\n"
    "[cyan]piperun configs/hello.yaml --broker amqp://localhost[/cyan]\n\n"
    "   The same file on RabbitMQ.\n\n"
    "[cyan]piperun validate configs/*.yaml[/cyan]\n\n"
    "   Check files, for CI: exit status 0, or 2 with every problem named."
)
def piperun(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, metavar="", help="Show the version and leave."
        ),
    ] = False,
) -> None:
    """Run RabbitMQ pipelines that are written down in YAML.

    [bold]piperun FILE...[/bold] is short for [bold]piperun run FILE...[/bold]; without a FILE, ./pipeline.yaml is run.
    """


def _listed() -> None:
    """Stands in the list for a verb that is not loaded."""


for _name, _sentence in _VERBS.items():
    app.command(name=_name, help=_sentence)(_listed)


def main() -> None:
    """The entry point of the `piperun` command. Does not return: every way to end becomes an exit status here, and
    every error a text for a person."""
    _open_closed_streams()
    _complete_short_form()
    arguments = _with_verb(sys.argv[1:])
    try:
        _check_verb(arguments)
        app(arguments or ["--help"])  # leaves by SystemExit; usage errors are its own, with status 2
    except SystemExit as end:
        sys.exit(exits.CONFIGURATION if arguments is None else end.code)
    except BaseException as error:
        sys.exit(_ended_by(innermost(error)))
    finally:
        _let_go_of_streams()


def _open_closed_streams() -> None:
    """A command may be started with its streams closed. Their numbers must not go to a connection, where what somebody
    writes to standard error would end."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115 - as long as we run


def _let_go_of_streams() -> None:
    """A terminal that was closed, or a reader that has gone, takes no more. Python would try once more at its very end,
    and leave with a status of its own, 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _complete_short_form() -> None:
    """A shell that completes `piperun FILE --lo` asks for what `piperun run FILE --lo` would be completed to."""
    words = os.environ.get("COMP_WORDS", "").split()
    number = os.environ.get("COMP_CWORD", "")
    if len(words) < 2 or not number.isdecimal() or int(number) < 2 or _with_verb(words[1:]) == words[1:]:
        return
    os.environ["COMP_WORDS"] = " ".join([words[0], "run", *words[1:]])
    os.environ["COMP_CWORD"] = str(int(number) + 1)


def _check_verb(arguments: list[str] | None) -> None:
    """A misspelt verb would be a file that is not there."""
    word = arguments[1] if arguments and len(arguments) > 1 and arguments[0] == "run" else ""
    if word.isalpha() and not Path(word).exists() and (hint := did_you_mean(word, _VERBS)):
        raise UsageError(f'there is no file and no command called "{word}"; {hint}')


def _with_verb(arguments: list[str]) -> list[str] | None:
    """The arguments with their verb; None when there is nothing to do."""
    if not arguments:
        return ["run", str(_DEFAULT_FILE)] if _DEFAULT_FILE.exists() else None
    if arguments[0] in _VERBS or arguments[0] in _OWN_OPTIONS:
        return arguments
    return ["run", *arguments]


def _ended_by(error: BaseException) -> int:
    match error:
        case FileError():
            show(error.problems)
        case _ if exits.of_error(error) != exits.BUG:
            show_error(error)
        case _:
            _report_bug(error)
    return exits.of_error(error)


def _report_bug(error: BaseException) -> None:
    print("This is a bug in piperun, and none of yours. Please report it with what follows.\n", file=sys.stderr)
    traceback.print_exception(error, file=sys.stderr)
    python = platform.python_version()
    print(f"\n{_piperun()}, Python {python}, {platform.platform()}", file=sys.stderr)
