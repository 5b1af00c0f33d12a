"""The checkpoint on the disk: read, replaced in one step, held by one run at a time. A checkpoint that cannot be used
ends the run with a way out, since guessing could lose items. What is kept in it is decided elsewhere."""

import errno
import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pipeline.errors import SourceError
from pipeline.sources.base import shown
from pipeline.sources.place import VERSION, Place
from pipeline.values import asdict

LARGEST: Final = 64 * 1024


def load(path: Path) -> Place | None:
    """What was kept; None where nothing was. Raises `SourceError`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _unusable(path, "it is not a regular file")
            text = file.read(LARGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, _reason(error)) from None
    try:
        return _checked(json.loads(text))
    except (ValueError, TypeError) as error:
        raise _unusable(path, f"it is damaged ({error})") from None


def save(path: Path, place: Place) -> None:
    """Whoever reads it finds the old or the new one, also after a crash of the machine. Raises `SourceError`."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # one that was left there may have had other rights
            file.write(json.dumps(asdict(place), indent=1).encode())
            file.flush()
            os.fsync(descriptor)
        # The folder is not synced: should the machine crash now, an older checkpoint repeats items and loses none.
        temporary.replace(path)
    except OSError as error:
        raise SourceError(
            f"the checkpoint {shown(path)} cannot be written: {_reason(error)}; "
            "until it can, the next run sends again what it does not hold"
        ) from None


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep other runs away. The lock is on a file beside the checkpoint, which itself is replaced again and again; it
    is free as soon as its holder ends, in whatever way. Raises `SourceError`."""
    beside = path.with_name(f"{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SourceError(
            f"the checkpoint {shown(path)} cannot be kept: {_reason(error)}; "
            "give `checkpoint:` a place that can be written, or `checkpoint: false` to begin anew each time"
        ) from None
    try:
        _lock(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SourceError(
            f"the checkpoint {shown(path)} is in use by another run; end that one, "
            "or give this producer a `checkpoint:` of its own"
        ) from None


def _checked(values: Any) -> Place:
    """Raises `ValueError` or `TypeError` where this is not what `save` writes."""
    place = Place(**values)
    if place.version != VERSION:
        raise ValueError(f"version {place.version} is not known")
    texts = (place.path, place.identity, place.beginning, place.before)
    numbers = (place.inode, place.size, place.beginning_bytes, place.offset, place.line, *(place.growing or ()))
    if not all(isinstance(text, str) for text in texts) or not all(type(each) is int for each in numbers):
        raise TypeError("a value is of the wrong kind")
    if min(numbers) < 0 or place.offset > place.size or len(place.growing or (0, 0)) != 2:
        raise ValueError("a place is outside the file")
    return place


def _reason(error: OSError) -> str:
    return "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror or str(error)


def _unusable(path: Path, why: str) -> SourceError:
    return SourceError(
        f"the checkpoint {shown(path)} cannot be used: {why}; remove it to read the file from its beginning, "
        "which sends again what was sent before"
    )
