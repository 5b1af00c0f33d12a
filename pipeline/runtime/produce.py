"""One producer: from the source's items to confirmed messages, a bounded number at once. An item counts as sent when
the broker has confirmed it, and only then the source hears of it. What a source reads from is not known here."""

import asyncio
from collections.abc import Callable

from pipeline.amqp.publish import Outgoing, Publisher
from pipeline.clock import Clock
from pipeline.codec import EncodeError
from pipeline.config.model import Producer
from pipeline.errors import ConnectionLost, NotConnected, PublishError, SourceError
from pipeline.events import (
    Event,
    Notice,
    ProducerFailed,
    ProducerFinished,
    ProducerStarted,
    PublishTroubled,
    Unconfirmed,
)
from pipeline.ledger import ProducerLedger
from pipeline.message import Message
from pipeline.runtime.begun import begun
from pipeline.runtime.confirm import GaveUp, until_confirmed
from pipeline.runtime.outgoing import Stamp, outgoing
from pipeline.sources.base import Item, Source, ids


class ProducerRun:
    """Runs one source to its end, until `end_source` is called, or until it fails for good."""

    def __init__(
        self,
        *,
        producer: Producer,
        source: Source,
        publisher: Publisher,
        ledger: ProducerLedger,
        clock: Clock,
        emit: Callable[[Event], None],
        mask: Callable[[str], str],
    ) -> None:
        self.producer = producer
        self.source = source
        self.failure: str | None = None
        self.finished = False
        self._publisher = publisher
        self._ledger = ledger
        self._clock = clock
        self._emit = emit
        self._mask = mask
        self._stamp = Stamp(producer.publish)
        self._ids = ids()  # for items that bring none
        self._places = asyncio.Semaphore(producer.max_in_flight)
        # What is not over yet: the broker's answer or, where more is to be done than to wait for it, a task.
        self._sending: dict[asyncio.Future[None], tuple[Item, Outgoing]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._begun = False
        self._ending = False
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Returns when the source has ended and everything that was read is confirmed or has failed. Its failure, if
        any, stands in `failure`."""
        if self._ending:
            return
        self._begun = True
        try:
            async with self.source:
                self._started()
                self._reading = asyncio.create_task(self._read(), name=f"producer.{self.producer.name}")
                await asyncio.wait({self._reading})
                while self._sending:
                    await asyncio.wait(self._sending)
                self._read_result()
        except SourceError as error:
            self._fail(str(error))
        self.finished = True
        self._over.set()
        if self.failure is None and not self._ending:
            self._ledger.finish()
            self._emit(ProducerFinished(producer=self.producer.name, confirmed=self._ledger.numbers()["confirmed"]))

    def end_source(self) -> None:
        """Read no more; what was read may still be confirmed."""
        self._ending = True
        if not self._begun:
            self._over.set()
        if self._reading is not None:
            self._reading.cancel()

    async def settled(self) -> None:
        """Returns when everything that was read has its answer."""
        await self._over.wait()

    def cut_off(self) -> None:
        """Time is up: name what has no answer. It may have arrived, so a duplicate is possible."""
        self.end_source()
        for answer, (_, out) in list(self._sending.items()):
            self._emit(Unconfirmed(producer=self.producer.name, message_id=out.message_id))
            answer.cancel()

    async def _read(self) -> None:
        """The source is asked for an item only when there is a place for it."""
        items = aiter(self.source)
        while self.failure is None:
            await self._places.acquire()
            try:
                item = await anext(items)
            except StopAsyncIteration:
                return
            self._ledger.read()
            self._send(item)

    def _send(self, item: Item) -> None:
        try:
            out = self._outgoing(item)
        except EncodeError as error:
            self._ledger.failed()
            self._fail(str(error))
            return
        try:
            answer = self._publisher.begin(out)
        except (PublishError, ConnectionLost, NotConnected):
            answer = None  # it is told the same again, in a place where it can be waited for
        if answer is None:
            self._in_a_task(item, out, None)
        else:
            # Nearly every item, and so without a task: that costs as much as the rest of its way.
            self._sending[answer] = (item, out)
            answer.add_done_callback(self._answered)

    def _answered(self, answer: asyncio.Future[None]) -> None:
        item, out = self._sending.pop(answer)
        if answer.cancelled():
            self._places.release()
        elif answer.exception() is not None:
            self._in_a_task(item, out, answer)
        else:
            self._ledger.confirmed()
            self._tell_source(item, out)

    def _tell_source(self, item: Item, out: Outgoing) -> None:
        try:
            rest = begun(self.source.sent(item))
        except Exception as error:
            self._fail(str(error))
            rest = None
        if rest is None:
            self._places.release()
        else:
            self._sending[rest] = (item, out)
            rest.add_done_callback(self._left)

    def _in_a_task(self, item: Item, out: Outgoing, answer: asyncio.Future[None] | None) -> None:
        task = asyncio.create_task(self._confirm(item, out, answer))
        self._sending[task] = (item, out)
        task.add_done_callback(self._left)

    async def _confirm(self, item: Item, out: Outgoing, answer: asyncio.Future[None] | None) -> None:
        """Try until it is confirmed; `answer` is what a first try has ended with."""
        try:
            await until_confirmed(
                self._publisher,
                out,
                clock=self._clock,
                worth_it=_always,  # at a stop `cut_off` ends it
                troubled=self._troubled,
                begun=answer,
            )
        except (PublishError, GaveUp) as error:
            self._ledger.failed()
            await self.source.failed(item, str(error))
            self._fail(str(error))
        else:
            self._ledger.confirmed()
            await self.source.sent(item)

    def _left(self, task: asyncio.Future[None]) -> None:
        del self._sending[task]
        self._places.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(str(error))

    def _outgoing(self, item: Item) -> Outgoing:
        message_id = item.message_id or next(self._ids)
        if not (item.headers or item.content_type):
            return self._stamp.outgoing(item.body, message_id)
        value = item.body if isinstance(item.body, Message) else Message(item.body, content_type=item.content_type)
        if item.headers:
            value.headers = {**item.headers, **value.headers}
        return outgoing(value, self.producer.publish, message_id=message_id)

    def _read_result(self) -> None:
        if self._reading is None or self._reading.cancelled():
            return
        error = self._reading.exception()
        if isinstance(error, SourceError):
            self._fail(str(error))
        elif error is not None:
            raise error

    def _fail(self, reason: str) -> None:
        if self.failure is not None:
            return
        self.failure = self._mask(reason)
        self._emit(ProducerFailed(producer=self.producer.name, reason=self.failure))
        self.end_source()

    def _started(self) -> None:
        self._emit(ProducerStarted(producer=self.producer.name))
        note = self.source.note()
        if note:
            self._emit(Notice(subject=f"producer.{self.producer.name}", sentence=note))

    def _troubled(self, reason: str, pause: float) -> None:
        self._emit(PublishTroubled(producer=self.producer.name, reason=self._mask(reason), next_attempt=pause))


def _always() -> bool:
    return True
