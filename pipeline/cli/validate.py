"""`piperun validate`: everything that can be known about a file before anything connects, for people and for CI."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import exits
from pipeline.cli.files import checked, read
from pipeline.cli.options import AppDir, Files
from pipeline.cli.report import count, show
from pipeline.problems import Problem


def validate(
    files: Files,
    app_dir: AppDir = Path(),
    no_imports: Annotated[
        bool, typer.Option("--no-imports", metavar="", help="Do not import handlers: for files from strangers.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", metavar="", help="Count warnings as errors.")] = False,
) -> None:
    """Check files and nothing else: nothing connects, nothing is written. Exit status 0 or 2.

    Imports the handlers last, when everything else is known, unless --no-imports says otherwise.
    """
    problems = [problem for file in files for problem in _problems(file, app_dir, imports=not no_imports)]
    show(problems)
    wrong = any(problem.severity == "error" for problem in problems) or (strict and bool(problems))
    print(count(problems, len(files)), file=sys.stderr)
    raise typer.Exit(exits.CONFIGURATION if wrong else exits.FINE)


def _problems(file: str, app_dir: Path, *, imports: bool) -> tuple[Problem, ...]:
    """Each file by itself: that several of them would not fit into one run is no mistake of any."""
    loaded = read([file])
    return checked(loaded, app_dir, only=())[1] if imports else loaded.problems
