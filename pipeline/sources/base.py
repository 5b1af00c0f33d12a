"""What a source is: the whole contract in one file. A source gives items and is told what became of each. Exchanges,
queues, publishing and how many items may be outstanding are the runtime's."""

import base64
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from pipeline.values import Light


class Item(Light):
    """What a source gives, to become one message.

    `body` is bytes, text, a value that becomes JSON, or (from a Python generator) a whole `Message`. `message_id` is
    made once, so that a repeat can be recognised. `mark` is the source's own, to know the item again."""

    body: object
    headers: Mapping[str, object]
    message_id: str | None
    content_type: str | None = None
    mark: object = None

    def __repr__(self) -> str:
        return f"<Item {self.message_id or 'without id'}>"


class Source(Protocol):
    """Used as `async with source: async for item in source: ...`, once."""

    async def __aenter__(self) -> Self:
        """Open what is read. Raises `SourceError`."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it and keep what must be kept. Safe at any moment, also while items are unconfirmed and after
        iteration was cancelled. Raises `SourceError` when the place reached could not be kept, unless another
        exception is on its way."""
        ...

    def __aiter__(self) -> AsyncIterator[Item]:
        """Ends when the source is finished. An item is read only when it is asked for. Raises `SourceError` when the
        source failed for good; what was given before stays valid and may still be confirmed."""
        ...

    async def sent(self, item: Item) -> None:
        """The broker has confirmed this item. Comes in any order, and once per item."""
        ...

    async def failed(self, item: Item, why: str) -> None:
        """The broker did not take this item. A source that can read again gives it again in the next run."""
        ...

    def progress(self) -> tuple[int, int | None, str] | None:
        """How much is done, of how much where that is known, and the unit: `bytes` or `items`."""
        ...

    def note(self) -> str | None:
        """A sentence to be said once the source is open, such as where it goes on."""
        ...


class Counted:
    """The part that sources without a memory share: they count what was confirmed, and forget what failed because it
    cannot be read again."""

    def __init__(self) -> None:
        self.confirmed = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def sent(self, item: Item) -> None:
        self.confirmed += 1

    async def failed(self, item: Item, why: str) -> None:
        return None

    def progress(self) -> tuple[int, int | None, str] | None:
        return self.confirmed, None, "items"

    def note(self) -> str | None:
        return None


def ids() -> Iterator[str]:
    """Message ids without end: no other run and no other source has the same, for they begin with 80 random bits. They
    are short because RabbitMQ works half as long again for a message whose properties take more than 64 octets."""
    run = base64.b32encode(secrets.token_bytes(10)).decode().lower()
    return (f"{run}:{number}" for number in count(1))


def shown(path: Path) -> str:
    """A path as a person reads it: relative to the current folder where it lies below, in one line."""
    here = Path.cwd()
    text = str(path.relative_to(here) if path.is_relative_to(here) else path)
    return text if text.isprintable() else repr(text)
