"""A transaction of one channel (specification, class tx; RabbitMQ's reading of it): what is published and settled
after tx.select waits for tx.commit. Not atomic where something fails in the middle, as in RabbitMQ."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.embedded.channels.deliveries import Deliveries
from pipeline.embedded.channels.publishing import Publishing
from pipeline.embedded.ground.memory import MESSAGE_WEIGHT
from pipeline.embedded.queues.entry import Back, Entry
from pipeline.embedded.queues.queue import Queue
from pipeline.embedded.vhosts.routing import Target
from pipeline.embedded.wire import refusals
from pipeline.embedded.wire.content import Message
from pipeline.embedded.wire.frames import Tx


@dataclass(frozen=True, kw_only=True)
class _Published:
    message: Message
    targets: Collection[Target]
    names: Collection[str]  # of the queues, for a RabbitMQ that looks them up when it commits
    mandatory: bool

    @property
    def weight(self) -> int:
        return len(self.message.header) + len(self.message.body) + MESSAGE_WEIGHT


class _End(NamedTuple):
    """What is to become of deliveries. `how` says it of those that are handed back."""

    acknowledged: bool
    requeue: bool = False
    how: Back = Back.HANDED_BACK


class Transaction:
    """From tx.select to the end of the channel; each commit and rollback begins anew. Takes acknowledgements and
    rejections in the place of the channel's `Deliveries`."""

    def __init__(self, publishing: Publishing, deliveries: Deliveries) -> None:
        self._publishing = publishing
        self._deliveries = deliveries
        self._line = deliveries.line
        self._vhost = deliveries.session.vhost
        self._published: list[_Published] = []
        self._settled: list[tuple[_End, dict[int, Entry]]] = []  # by delivery tag

    # What waits

    def check_room(self) -> None:
        most = self._vhost.behaviour.transaction_max
        if most is not None and len(self._published) >= most:
            raise refusals.transaction_full(most)

    def publish(self, message: Message, targets: Collection[Target], *, mandatory: bool) -> None:
        names = [target.name for target in targets] if message.exchange else message.keys
        published = _Published(message=message, targets=targets, names=names, mandatory=mandatory)
        self._published.append(published)
        self._deliveries.session.hold(published.weight)

    def acknowledge(self, tag: int, *, multiple: bool) -> None:
        self._settle_later(_End(acknowledged=True), tag, multiple)

    def hand_back(self, tag: int, *, multiple: bool, requeue: bool, how: Back) -> None:
        self._settle_later(_End(acknowledged=False, requeue=requeue, how=how), tag, multiple)

    def _settle_later(self, end: _End, tag: int, multiple: bool) -> None:
        """Those that end alike, one after the other, are settled together."""
        named = self._deliveries.set_aside(tag, multiple=multiple)
        if self._settled and self._settled[-1][0] == end:
            self._settled[-1][1].update(named)
        else:
            self._settled.append((end, named))

    # How it ends

    def commit(self) -> None:
        """Refuses (406) where a queue has not taken a message, and (506) where it is gone; all else is done."""
        taken = True
        for published in self._take_published():
            taken = self._deliver(published) and taken
        if taken:
            self._line.send(Tx.CommitOk())  # before what consumers get because others are settled
        settled, self._settled = self._settled, []
        self._deliveries.aside.clear()
        for end, named in settled:
            self._settle(end, [named[tag] for tag in sorted(named)])
        if not taken:
            raise refusals.partial_commit()

    def rollback(self) -> None:
        """Nothing was published; what was settled is in the channel's hands again."""
        self._take_published()
        self._settled.clear()
        self._deliveries.take_back()

    def _take_published(self) -> list[_Published]:
        published, self._published = self._published, []
        self._deliveries.session.hold(-sum(each.weight for each in published))
        return published

    def _deliver(self, published: _Published) -> bool:
        targets = published.targets
        if self._vhost.behaviour.transactions_keep_names:
            targets = self._vhost.queues_named(published.names)
        for target in targets:
            if isinstance(target, Queue) and target.deleted:
                raise refusals.cannot_deliver(self._vhost.name, target.name)
        return self._publishing.deliver(published.message, targets, mandatory=published.mandatory)

    def _settle(self, end: _End, entries: list[Entry]) -> None:
        if end.acknowledged:
            self._deliveries.acknowledged(entries)
        else:
            self._deliveries.handed_back(entries, requeue=end.requeue, how=end.how)
