"""Problems as text for a person. Where they came from is not known here."""

import os
import sys
from collections.abc import Iterable
from typing import TextIO

from pipeline.problems import Problem, render

_COLOURS = {"error": "1;31", "warning": "1;33"}


def show(problems: Iterable[Problem], stream: TextIO | None = None) -> None:
    """Each as `path:line:column: error[word]: sentence`, the line of the file, and a caret with the way out."""
    stream = stream or sys.stderr
    colour = wants_colour(stream)
    for problem in problems:
        text = render(problem)
        if colour:
            marked = f"{problem.severity}[{problem.word}]"
            text = text.replace(marked, f"\x1b[{_COLOURS[problem.severity]}m{marked}\x1b[0m", 1)
        print(text, file=stream)


def count(problems: Iterable[Problem], files: int) -> str:
    """`2 errors and 1 warning in 3 files`."""
    found = list(problems)
    errors = sum(problem.severity == "error" for problem in found)
    warnings = len(found) - errors
    parts = [_number(errors, "error")] if errors or not warnings else []
    if warnings:
        parts.append(_number(warnings, "warning"))
    return f"{' and '.join(parts)} in {_number(files, 'file')}"


def wants_colour(stream: TextIO) -> bool:
    """On a terminal, unless NO_COLOR says otherwise."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
