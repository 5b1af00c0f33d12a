"""A progress bar on a terminal for sources that know how long they are. Listens to events, like the log."""

from typing import TYPE_CHECKING

from pipeline.events import Event, ProducerFailed, ProducerFinished, ProducerProgress, Summary

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class ProgressBars:
    """One bar per producer, above which the log goes on. They leave when their producers end."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._bars: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case ProducerProgress(producer=name, done=done, total=total, unit="bytes"):
                self._show(name, done, total)
            case ProducerFinished(producer=name) | ProducerFailed(producer=name):
                self._hide(name)
            case Summary() if self._progress is not None:
                self._progress.stop()
            case _:
                pass

    def _show(self, name: str, done: int, total: int | None) -> None:
        progress = self._progress = self._progress or _progress()
        if name not in self._bars:
            self._bars[name] = progress.add_task(name, total=total)
            progress.start()
        progress.update(self._bars[name], completed=done, total=total)

    def _hide(self, name: str) -> None:
        if self._progress is not None and name in self._bars:
            self._progress.remove_task(self._bars.pop(name))
            if not self._bars:
                self._progress.stop()


def _progress() -> "Progress":
    """Loads rich for the first bar that is shown; most runs have none."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("producer.{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


class ReplayBar:
    """How far `dlq replay` has come, on a terminal."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._bar: TaskID | None = None

    def show(self, done: int, total: int) -> None:
        if self._progress is None or self._bar is None:
            self._progress = _counting()
            self._bar = self._progress.add_task("replay", total=total)
            self._progress.start()
        self._progress.update(self._bar, completed=done)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()


def _counting() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
