"""Loading one file from a text, for tests."""

from collections.abc import Mapping
from textwrap import dedent

from pipeline.config.load import Loaded, Overrides, Text, load
from pipeline.config.model import Pipeline
from pipeline.problems import render

Environment = Mapping[str, str] | None


def loaded(text: str, environment: Environment = None, overrides: Overrides | None = None) -> Loaded:
    return load([Text(path="pipeline.yaml", text=dedent(text))], environment=environment or {}, overrides=overrides)


def answers(text: str, environment: Environment = None) -> str:
    """Everything that is said of a file, as it is printed."""
    return "\n".join(render(problem) for problem in loaded(text, environment).problems)


def pipeline_of(text: str, environment: Environment = None, overrides: Overrides | None = None) -> Pipeline:
    """The one pipeline of a file in which nothing is wrong."""
    result = loaded(text, environment, overrides)
    assert not result.has_errors, "\n".join(render(problem) for problem in result.problems)
    (pipeline,) = result.pipelines
    return pipeline
