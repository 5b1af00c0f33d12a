"""The options that verbs share, each described once."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Files = Annotated[list[str], typer.Argument(metavar="FILE", help="Pipeline files; several share one process.")]
AppDir = Annotated[
    Path,
    typer.Option(
        "--app-dir",
        envvar="PIPERUN_APP_DIR",
        metavar="DIR",
        exists=True,
        file_okay=False,
        help="Where handlers are imported from, after each file's own folder.",
        show_default="the current folder",
    ),
]
File = Annotated[str, typer.Argument(metavar="FILE", help="A pipeline file.")]
BrokerUrl = Annotated[
    str | None,
    typer.Option("--broker", envvar="PIPERUN_BROKER", metavar="URL", help="This broker instead of the file's."),
]
Format = Annotated[Literal["text", "json"], typer.Option("--format", help="Lines for people, or one JSON object.")]
