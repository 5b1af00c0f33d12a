"""The contract of a store of keys. A key is unknown, in hand under one claim, or done; it is done for its window, and
then unknown again. What happens to a message is decided by whoever asks."""

from enum import Enum, auto
from typing import Protocol

from pipeline.values import Frozen


class Found(Enum):
    """Why a key cannot be claimed."""

    DONE = auto()
    IN_HAND = auto()


class Claim(Frozen, frozen=True, kw_only=True):
    """The right to work on a key. No two of them have the same owner, in whichever process they are made."""

    key: str
    owner: str


class Store(Protocol):
    """All of it is called from one event loop, and never blocks that."""

    async def open(self) -> None:
        """Before anything else. Raises `StoreError` when the store cannot be used."""
        ...

    async def begin(self, key: str) -> Claim | Found:
        """Claim the key, unless it is done or a live owner has it in hand. Of all who ask at the same time one gets a
        claim. It holds until it is finished or released, or its owner dies. When it is cancelled, nothing is claimed.
        Raises `StoreError`."""
        ...

    async def finish(self, claim: Claim) -> None:
        """The key is done, also when the claim was lost meanwhile. Safe to call twice. Raises `StoreError`."""
        ...

    def release(self, claim: Claim) -> None:
        """Give an unfinished claim back, without waiting: whoever asks next gets one. Nothing happens where the claim
        is finished or lost. Raises nothing."""
        ...

    async def close(self) -> None:
        """Write what is left to write. Raises nothing; the caller bounds it."""
        ...
