"""A file, and the live broker that it is about: for verbs that look at one, or use it, without running the file. What
they do there is not known here."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from pipeline.cli import exits
from pipeline.cli.files import read
from pipeline.cli.report import show
from pipeline.config.load import Overrides
from pipeline.config.model import Pipeline
from pipeline.errors import BrokerError, UsageError, innermost
from pipeline.observe.logs import set_up_logging
from pipeline.secret import Masker
from pipeline.values import replace


def pipeline_of(file: str, broker: str | None) -> Pipeline:
    """Read and checked, nothing of it imported. Ends the command where the file is wrong, and raises `UsageError` where
    its broker lives inside a run."""
    loaded = read([file], Overrides(broker_url=broker))
    if loaded.has_errors:
        show(loaded.problems)
        raise typer.Exit(exits.CONFIGURATION)
    (pipeline,) = loaded.pipelines
    if pipeline.broker.embedded:
        error = UsageError(
            f"{pipeline.path.name} runs on the embedded broker, which lives inside a run, where nobody else reaches it"
        )
        error.add_note("name a broker that stands by itself, with --broker URL or `broker:` in the file;")
        error.add_note("`python -m pipeline.embedded` starts one, and its first line is the URL")
        raise error
    return pipeline


@contextmanager
def talking_to_its_broker(pipeline: Pipeline) -> Iterator[None]:
    """An error of the connection gets what can be done about it, and stands alone: the client logs the same."""
    set_up_logging(replace(pipeline.runtime.log, format="text", level="error"), mask=Masker(pipeline.secrets))
    try:
        yield
    except Exception as raised:
        error = innermost(raised)
        if isinstance(error, BrokerError):
            from pipeline.amqp.cures import ways_out

            for way in ways_out(str(error), pipeline.broker.addresses):
                error.add_note(way)
        raise
