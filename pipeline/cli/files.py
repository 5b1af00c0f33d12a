"""From file names on the command line to files that are read and prepared: the steps that verbs share."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from pipeline.config.load import Loaded, Overrides, Text, load
from pipeline.problems import Problem
from pipeline.runtime.prepare import Prepared, prepare


def read(files: Sequence[str], overrides: Overrides | None = None) -> Loaded:
    """Everything but imports."""
    texts = [Text(path=file, text=None) for file in files]
    return load(texts, environment=os.environ, overrides=overrides or Overrides())


def checked(
    loaded: Loaded, app_dir: Path, *, only: Collection[str]
) -> tuple[tuple[Prepared, ...], tuple[Problem, ...]]:
    """What is ready to run, and all problems: those of the files, then those of imports and signatures."""
    prepared, problems = prepare(loaded, app_dir=app_dir, only=only)
    return prepared, tuple(sorted((*loaded.problems, *problems), key=lambda problem: problem.place))
