"""What stands before the processor of a consumer with `idempotency`: a message whose key is done is acknowledged, not
handled, and one whose key is in hand elsewhere waits. How a message is handled is not known here."""

import asyncio

from pipeline.errors import StoreError
from pipeline.events import DuplicateHeld, DuplicateSkipped
from pipeline.failure.verdict import ACKNOWLEDGE, GIVE_BACK
from pipeline.handlers.call import Handler
from pipeline.idempotency import Found
from pipeline.ledger import ConsumerLedger
from pipeline.runtime.claims import FIRST_PAUSE, LONGEST_PAUSE, Claims
from pipeline.runtime.process import Processor
from pipeline.runtime.settle import LONGEST_HOLD, Case, Settler


class Once:
    """Takes the processor's place. The settler asks the same claims before it acknowledges."""

    def __init__(self, claims: Claims, processor: Processor, settler: Settler, ledger: ConsumerLedger) -> None:
        self._claims = claims
        self._processor = processor
        self._settler = settler
        self._ledger = ledger
        self._stopping = False
        self._warned = False

    async def process(self, case: Case, handler: Handler) -> None:
        """As `Processor.process`, which carries through what is to be handled."""
        key = self._claims.key_of(case.message)
        if key is None:
            self._warn()
            await self._processor.process(case, handler)
            return
        try:
            claimed = await self._claim(case, key)
        except asyncio.CancelledError:  # nothing is claimed then
            await self._settler.abandon(case)
            raise
        if not claimed:
            return
        try:
            await self._processor.process(case, handler)
        finally:
            self._claims.let_go(case)

    @property
    def undisturbed(self) -> bool:
        return self._processor.undisturbed

    @undisturbed.setter
    def undisturbed(self, so: bool) -> None:
        self._processor.undisturbed = so

    def stop_waiting(self) -> None:
        """What waits here goes back to its queue, as what waits in the processor does."""
        self._stopping = True
        self._processor.stop_waiting()

    async def _claim(self, case: Case, key: str) -> bool:
        """Whether it is to be handled. Otherwise it has come to its end, or goes back after a while in vain."""
        claims = self._claims
        since, pause, told = claims.clock.now(), FIRST_PAUSE, False
        while True:
            try:
                found = await claims.take(case, key)
            except StoreError as error:
                claims.hold(case.message, str(error), pause)
            else:
                if found is None:
                    return True
                if found is Found.DONE:
                    await self._skip(case, key)
                    return False
                if not told:
                    told = True
                    claims.emit(DuplicateHeld(consumer=claims.consumer, message_id=case.message.message_id, key=key))
            await claims.clock.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            if not case.delivery.alive:
                await self._settler.abandon(case)
                return False
            if self._stopping or claims.clock.now() - since >= LONGEST_HOLD:
                await self._settler.settle(case, GIVE_BACK)
                return False

    async def _skip(self, case: Case, key: str) -> None:
        self._ledger.duplicate()
        claims = self._claims
        claims.emit(DuplicateSkipped(consumer=claims.consumer, message_id=case.message.message_id, key=key))
        await self._settler.settle(case, ACKNOWLEDGE)

    def _warn(self) -> None:
        if self._warned:
            return
        self._warned = True
        header = self._claims.header
        if header is None:
            what, way = "`message_id`", "set it where they are published, or name a `header` in `idempotency`"
        else:
            what, way = f'header "{header}" that is text or a whole number', "set it where they are published"
        sentence = f"messages come without a {what}, and are handled as if there were no `idempotency`; {way}"
        self._claims.warn(sentence)
