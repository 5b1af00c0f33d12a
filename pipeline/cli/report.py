"""Problems and errors as text for a person, or as lines of a JSON log for a machine. Where they came from is not known
here."""

import logging
import os
import shutil
import sys
from collections.abc import Iterable
from typing import TextIO

from pipeline.errors import TopologyDiffers
from pipeline.problems import Problem, render

_COLOURS = {"error": "1;31", "warning": "1;33"}
_LEVELS = {"error": logging.ERROR, "warning": logging.WARNING}


def show(problems: Iterable[Problem], stream: TextIO | None = None) -> None:
    """Each as `path:line:column: error[word]: sentence`, the line of the file, and a caret with the way out."""
    stream = stream or sys.stderr
    colour = wants_colour(stream)
    width = shutil.get_terminal_size().columns if stream.isatty() else None
    for problem in problems:
        text = render(problem, width=width)
        if colour:
            marked = f"{problem.severity}[{problem.word}]"
            text = text.replace(marked, f"\x1b[{_COLOURS[problem.severity]}m{marked}\x1b[0m", 1)
        print(text, file=stream)


def log(problems: Iterable[Problem]) -> None:
    """Each as one line of the log: the sentence, and as fields what stands around it in the text."""
    for problem in problems:
        place = problem.place
        fields = {
            "event": "Problem",
            "word": problem.word,
            "path": place.path,
            "line": place.line,
            "column": place.column,
            "hint": problem.hint,
        }
        logger = logging.getLogger("piperun.configuration")
        logger.log(_LEVELS[problem.severity], "%s", problem.sentence, extra={"piperun": fields})


def show_error(error: BaseException) -> None:
    """What ended the command, and below it the way out, where there is one."""
    for sentence in sentences(error):
        print(f"error: {sentence}", file=sys.stderr)
    for note in getattr(error, "__notes__", ()):
        print(f"{'':7}{note}", file=sys.stderr)


def log_error(error: BaseException, status: int, *, bug: bool) -> None:
    """The same as lines of the log; a bug of ours with its traceback."""
    fields = {"event": "Error", "status": status}
    if notes := getattr(error, "__notes__", ()):
        fields["hint"] = "; ".join(notes)
    for sentence in sentences(error):
        said = f"a bug in piperun: {sentence}" if bug else sentence
        logging.getLogger("piperun.pipeline").error(
            "%s", said, exc_info=error if bug else None, extra={"piperun": fields}
        )


def sentences(error: BaseException) -> tuple[str, ...]:
    return error.differences if isinstance(error, TopologyDiffers) else (str(error),)


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
