"""What a worker process is told, as one line of JSON over a pipe: files as they were read, so that all workers run the
same text, and settings that were decided once. Holds passwords, hence never an argument or a variable."""

from pipeline.config.load import Overrides
from pipeline.config.model import Log, Loop
from pipeline.values import Frozen, as_json, from_json


class Job(Frozen, frozen=True, kw_only=True):
    worker: int  # from 1, as people count
    row: int
    rows: int
    files: tuple[tuple[str, str], ...]  # path as the user wrote it, and the text
    overrides: Overrides
    broker_urls: tuple[str | None, ...]  # per file, of the embedded broker; None: as the file and `overrides` say
    app_dir: str
    only: tuple[str, ...]
    run_id: str
    sources: bool
    shutdown_timeout: float
    checkpoints: str  # a folder of this run, for the next worker to go on where this one stood
    loop: Loop  # as the supervisor has chosen it
    log: Log

    def as_line(self) -> bytes:
        return as_json(self) + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Job":
        return from_json(line, cls)
