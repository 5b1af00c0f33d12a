"""Which keys are done and which are in hand. The table from the settings to the module that keeps them; a module is
loaded when a file asks for it. What a key stands for, and what follows from it, is not known here."""

from collections.abc import Callable

from pipeline.clock import Clock
from pipeline.config.model import Idempotency
from pipeline.idempotency.store import Claim, Found, Store

__all__ = ["Claim", "Found", "Store", "open_store"]


def open_store(settings: Idempotency, *, scope: str, clock: Clock, forgets: Callable[[], None]) -> Store:
    """The store that these settings describe; nothing is read or written before its `open`. Keys of different scopes
    have nothing to do with each other. `forgets` is called, once, when a key is forgotten before its window is over."""
    if settings.path is None:
        from pipeline.idempotency.memory import MemoryStore

        return MemoryStore(window=settings.window, max_keys=settings.max_keys, clock=clock, forgets=forgets)
    from pipeline.idempotency.sqlite import SqliteStore

    return SqliteStore(settings.path, scope=scope, window=settings.window, lease=settings.lease, clock=clock)
