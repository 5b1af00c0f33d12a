"""Loading one file from a text, for tests."""

from collections.abc import Mapping
from textwrap import dedent

from pipeline.config.load import Loaded, Overrides, Text, load
from pipeline.config.model import Pipeline
from pipeline.problems import render


def loaded(
    text: str,
    environment: Mapping[str, str] | None = None,
    overrides: Overrides | None = None,
    path: str = "pipeline.yaml",
) -> Loaded:
    return load([Text(path=path, text=dedent(text))], environment=environment or {}, overrides=overrides)


def answers(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Everything that is said of a file, as it is printed."""
    return "\n".join(render(problem) for problem in loaded(text, environment).problems)


def pipeline_of(
    text: str, environment: Mapping[str, str] | None = None, overrides: Overrides | None = None
) -> Pipeline:
    """The one pipeline of a file in which nothing is wrong."""
    result = loaded(text, environment, overrides)
    assert not result.has_errors, "\n".join(render(problem) for problem in result.problems)
    (pipeline,) = result.pipelines
    return pipeline
