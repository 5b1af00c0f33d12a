"""Where items come from. The table from the type in the file to the module that reads it, written by hand; a module is
loaded when a file names it. What the options mean is each module's own."""

from collections.abc import Callable

from pipeline.clock import Clock
from pipeline.config import model
from pipeline.sources.base import Item, Source

__all__ = ["Item", "Source", "check", "open_source"]


def open_source(
    settings: model.Source,
    *,
    producer: str,
    clock: Clock,
    keep_checkpoint: bool,
    find: Callable[[str], object],
) -> Source:
    """The source that these settings describe; nothing is read before `async with`.

    Without `keep_checkpoint` a file is always read from its beginning and nothing is written. `find` turns
    `package.module:name` into the object; what it raises passes through, and so does `SourceProblem`."""
    match settings:
        case model.IntervalSource():
            from pipeline.sources.interval import Interval

            return Interval(settings, clock=clock)
        case model.FileSource():
            from pipeline.sources.file import File

            return File(settings, producer=producer, clock=clock, keep_checkpoint=keep_checkpoint)
        case model.StdinSource():
            from pipeline.sources.stdin import StandardInput, descriptor

            return StandardInput(settings, descriptor())
        case model.PythonSource():
            from pipeline.sources.python import Generator

            return Generator(settings.generator, find(settings.generator), producer=producer, clock=clock)


def check(settings: model.Source, find: Callable[[str], object]) -> None:
    """Whether these settings can work as far as that is known before anything runs. Raises `SourceProblem`, and what
    `find` raises."""
    if isinstance(settings, model.PythonSource):
        from pipeline.sources.python import check_generator

        check_generator(settings.generator, find(settings.generator))
