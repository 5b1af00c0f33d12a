"""Which keys the deliveries of one consumer have in hand, from the claim to `done`, which comes before the ack. Where
keys are kept (`idempotency`), and what a key that is done means for a message (`once`), is not known here."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote

from pipeline.clock import Clock
from pipeline.config.model import Idempotency
from pipeline.errors import StoreError
from pipeline.events import Event, Notice, SettleTroubled
from pipeline.idempotency import Claim, Found, Store, open_store
from pipeline.idempotency.key import key_of
from pipeline.message import Message
from pipeline.runtime.settle import LONGEST_HOLD, Case
from pipeline.values import replace

# Between two tries, or two looks at a key that somebody has in hand: mostly a matter of milliseconds, sometimes of a
# lease.
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0


class Claims:
    """What one consumer asks its store. `stopping`: from then on no ack is held any longer."""

    def __init__(
        self,
        store: Store,
        *,
        header: str | None,
        consumer: str,
        clock: Clock,
        emit: Callable[[Event], None],
        stopping: asyncio.Event,
    ) -> None:
        self._store = store
        self.header = header
        self.consumer = consumer
        self.clock = clock
        self.emit = emit
        self._stopping = stopping
        self._held: dict[Case, Claim] = {}

    async def open(self) -> None:
        """Raises `StoreError`."""
        await self._store.open()

    async def close(self) -> None:
        await self._store.close()

    def key_of(self, message: Message) -> str | None:
        return key_of(message, self.header)

    async def take(self, case: Case, key: str) -> Found | None:
        """Claim the key for this delivery. None: it is claimed, until `done` or `let_go`. Raises `StoreError`."""
        found = await self._store.begin(key)
        if isinstance(found, Found):
            return found
        self._held[case] = found
        return None

    def let_go(self, case: Case) -> None:
        """Where it has not come to `done`, whoever gets the message next may handle it."""
        claim = self._held.pop(case, None)
        if claim is not None:
            self._store.release(claim)

    async def done(self, case: Case) -> None:
        """What a store that fails now costs is patience: the delivery is held for as long as it may be. Then it is
        acknowledged all the same, for given back it would be handled twice for certain. Raises nothing."""
        claim = self._held.get(case)
        if claim is None:
            return
        since, pause = self.clock.now(), FIRST_PAUSE
        while True:
            try:
                await self._store.finish(claim)
                self._held.pop(case, None)
                return
            except StoreError as error:
                reason = str(error)
            if not case.delivery.alive or self._stopping.is_set() or self.clock.now() - since >= LONGEST_HOLD:
                self.warn(f"{case.message!r} is done, and that is not kept: {reason}")
                return
            self.hold(case.message, reason, pause)
            await self.clock.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def hold(self, message: Message, reason: str, pause: float) -> None:
        """Say that it is held."""
        which = message.message_id
        self.emit(SettleTroubled(consumer=self.consumer, message_id=which, reason=reason, next_attempt=pause))

    def warn(self, sentence: str) -> None:
        self.emit(_warning(self.consumer, sentence))


def store_of(
    settings: Idempotency,
    *,
    pipeline: str,
    consumer: str,
    folder: Path | None,
    clock: Clock,
    emit: Callable[[Event], None],
) -> Store:
    """`folder`, where there is one, is that of the run: on the embedded broker keys live as long as that, in the memory
    of its one process or, for its workers, in a file of the run's own."""
    if settings.store == "sqlite" and settings.path is None and folder is not None:
        settings = replace(settings, path=folder / f"{quote(consumer, safe='')}.sqlite")
    full = "`max_keys` of `idempotency` is reached: keys are forgotten before their `window` is over"
    return open_store(
        settings,
        scope=f"{quote(pipeline)}.{quote(consumer)}",
        clock=clock,
        forgets=lambda: emit(_warning(consumer, full)),
    )


def _warning(consumer: str, sentence: str) -> Notice:
    return Notice(subject=f"consumer.{consumer}", sentence=sentence, level="warning")
