"""A quorum queue of one replica: how deliveries come back to it, how often they may, and what it tells of that. All
that it has in common with classic queues is in `queue`."""

from collections.abc import Sequence

from pipeline.embedded.queues.at_least_once import Forwarding
from pipeline.embedded.queues.attended import number
from pipeline.embedded.queues.delayed import delayed_of
from pipeline.embedded.queues.entry import Back, Entry, Reason, Taker
from pipeline.embedded.queues.limits import Limit, body_and_properties, body_size, limit_of
from pipeline.embedded.queues.queue import Queue
from pipeline.embedded.queues.store import Levels, Line, ReturnedFirst, Store
from pipeline.embedded.queues.surroundings import Surroundings, Undertaker
from pipeline.embedded.queues.turns import RoundRobin, SingleActive, SingleActiveYielding, Turns
from pipeline.embedded.wire.content import DeadLetter, Message
from pipeline.embedded.wire.frames import FieldTable
from pipeline.embedded.wire.tables import Table

LEVELS, USUAL_LEVEL = 32, 4  # strict priorities of RabbitMQ 4.3, and that of a message without one


class QuorumQueue(Queue):
    """`Entry.failed` is what counts towards the delivery limit, `Entry.acquired` how often a message was out."""

    at_least_to_live = 0.001  # so that a consumer who waits gets a message with a TTL of 0

    def __init__(
        self,
        *,
        name: str,
        durable: bool,
        auto_delete: bool,
        arguments: Table,
        owner: object | None,
        surroundings: Surroundings,
    ) -> None:
        super().__init__(
            name=name,
            durable=durable,
            auto_delete=auto_delete,
            arguments=arguments,
            owner=owner,
            surroundings=surroundings,
        )
        self._delivery_limit = self._find_delivery_limit()
        if self._shared.behaviour.queues_have_patience:
            own = number(self.arguments, "x-consumer-timeout")  # milliseconds
            self.patience = self._shared.consumer_timeout if own is None else own / 1000
        self._refusing = False  # full; it takes messages again when it is well below its limit
        self._gotten = 0  # deliveries by basic.get that are not settled
        self._leaving: list[Taker] = []  # cancelled, with deliveries in hand then
        self._forwarding = self._make_forwarding(surroundings.undertaker)
        self._delayed = delayed_of(arguments, surroundings.shared.timeline, self._ready_again)

    # What it is made of

    def _find_delivery_limit(self) -> int | None:
        limit = number(self.arguments, "x-delivery-limit")
        if limit is None:
            return self._shared.behaviour.usual_delivery_limit
        return None if limit < 0 and self._shared.behaviour.counts_failures_only else limit

    def _make_forwarding(self, undertaker: Undertaker) -> Forwarding | None:
        """RabbitMQ falls back to at most once where the queue could not refuse what it has no room for."""
        wanted = self.arguments.get("x-dead-letter-strategy") == "at-least-once"
        if not (wanted and self._buries and self.arguments.get("x-overflow") == "reject-publish"):
            return None
        return Forwarding(undertaker, self._shared.timeline, self._forwarded)

    def _make_turns(self) -> Turns:
        if not self.single_active:
            return RoundRobin()
        yields = self._shared.behaviour.quorum_priorities
        return SingleActiveYielding() if yields else SingleActive(by_priority=False)

    def _make_store(self) -> Store:
        priorities = self._shared.behaviour.quorum_priorities
        messages = Levels(LEVELS - 1, USUAL_LEVEL, each_head=True) if priorities else Line()
        return ReturnedFirst(messages, each_head=priorities)

    def _make_limit(self) -> Limit | None:
        weigh = body_and_properties if self._shared.behaviour.quorum_weighs_properties else body_size
        overflow = self.arguments.get("x-overflow")
        return limit_of(self.arguments, "drop-head" if overflow == "reject-publish-dlx" else overflow, weigh)

    # Who uses it

    @property
    def consumer_count(self) -> int:
        """Whoever has something in hand counts: cancelled consumers, and each basic.get. Those that wait for being
        the single active one do not."""
        leaving = sum(taker.in_hand > 0 for taker in self._leaving)
        return self.turns.active() + leaving + self._gotten

    def is_closed_to(self, *, exclusive: bool) -> bool:
        """A quorum queue knows no exclusive consumers."""
        return False

    def remove(self, taker: Taker) -> None:
        self._leaving = [each for each in (*self._leaving, taker) if each.in_hand]
        super().remove(taker)

    def cancelled(self) -> None:
        self.run()

    def declared(self) -> None:
        """That is no use of a quorum queue."""

    # Coming in

    def _refuses(self, message: Message) -> bool:
        return self._refusing

    def _look_at_limit(self) -> None:
        """Whoever publishes is told to stop once the queue is over its limit, so one more fits in than in a classic
        queue, and to go on when it is well below. What waits for being forwarded counts, too."""
        limit = self._contents.limit
        if limit is None or limit.drops:
            return
        count = octets = 0
        if self._forwarding is not None:
            count, octets = len(self._forwarding), self._forwarding.octets
        if limit.is_over(count, octets):
            self._refusing = True
        elif limit.is_well_below(count, octets):
            self._refusing = False

    def _trim(self) -> None:
        super()._trim()
        self._look_at_limit()

    def _dispatch(self) -> None:
        super()._dispatch()
        self._look_at_limit()

    def push_dead(self, letter: DeadLetter) -> None:
        """Taken over the limit, too."""
        self._take_letter(letter)

    def _take_letter(self, letter: DeadLetter) -> None:
        entry = self._new_entry(letter)
        entry.failed = letter.failures
        entry.redelivered = letter.failures > 0
        self._come_in(entry)

    # Coming back

    def _count(self, entry: Entry, how: Back) -> None:
        entry.acquired += 1
        entry.failed += how is not Back.HANDED_BACK or not self._shared.behaviour.counts_failures_only

    def _return(self, entries: Sequence[Entry], how: Back) -> None:
        kept = [entry for entry in entries if not self._is_worn_out(entry)]
        self._contents.came_back(kept)
        if self._delayed is not None and self._delayed.concerns(failed=how is not Back.HANDED_BACK):
            for entry in kept:
                self._delayed.add(entry)
        else:
            self._make_ready(kept, how)
        for entry in entries:
            if self._is_worn_out(entry):
                self._die(entry, Reason.DELIVERY_LIMIT)
        self._contents.drop_expired()
        self._dispatch()
        self._trim()

    def _make_ready(self, entries: Sequence[Entry], how: Back) -> None:
        """In RabbitMQ 3.10 those that were handed back stand behind all others, unless there is a delivery limit;
        otherwise what came back goes out first."""
        if how is Back.LOST or self._delivery_limit is not None or not self._shared.behaviour.requeues_at_end:
            self.ready.put_back(entries)
        else:
            for entry in entries:
                self.ready.push(entry)

    def _ready_again(self) -> None:
        if self._delayed is not None:
            self.ready.put_back(self._delayed.take_ready())
            self._contents.drop_expired()
            self.run()

    @property
    def _delayed_count(self) -> int:
        return 0 if self._delayed is None else len(self._delayed)

    def _is_worn_out(self, entry: Entry) -> bool:
        return self._delivery_limit is not None and entry.failed > self._delivery_limit

    # Going out

    def counts(self, entry: Entry, *, got: bool) -> FieldTable:
        """RabbitMQ 3.10 says so from the first basic.get on, but to consumers only when there is something to say."""
        if not self._shared.behaviour.counts_failures_only:
            return {"x-delivery-count": entry.failed} if got or entry.failed else {}
        if not entry.redelivered:
            return {}
        acquired: FieldTable = {"x-acquired-count": entry.acquired or entry.failed}
        return {**acquired, "x-delivery-count": entry.failed} if entry.failed else acquired

    def _got(self) -> None:
        """Its head is looked at when something else happens, so basic.get still counts what has expired there."""
        self._contents.look_at_the_head()
        self._look_at_limit()

    def get(self, *, no_ack: bool) -> Entry | None:
        entry = super().get(no_ack=no_ack)
        self._gotten += entry is not None and not no_ack
        return entry

    # Settling

    def acknowledge(self, entry: Entry) -> None:
        self._books.left(entry.message)
        if not self.deleted:
            self._settled((entry,))
            if self.single_active:
                self.run()  # the active consumer may have yielded to another one by that

    def purge(self) -> int:
        count = super().purge()
        if self._delayed is not None:
            delayed = self._delayed.take_all()
            self._books.all_left(delayed)
            count += len(delayed)
        if self._forwarding is not None and self._shared.behaviour.purges_forwarded:
            count += self._forwarding.forget()
        self._look_at_limit()
        return count

    def delete(self) -> int:
        count = super().delete()
        if self._forwarding is not None:
            self._forwarding.forget()
        return count

    def _settled(self, entries: Sequence[Entry]) -> None:
        self.unacked -= len(entries)
        self._gotten -= sum(entry.taker is None for entry in entries)
        if self._lease is not None and not self._is_used():
            self._lease.renew()

    # Forwarding, where dead letters go at least once

    @property
    def message_count(self) -> int:
        forwarded = 0 if self._forwarding is None else len(self._forwarding)
        return super().message_count + self._delayed_count + forwarded

    def _die(self, entry: Entry, reason: Reason) -> None:
        if self._forwarding is None:
            super()._die(entry, reason)
        else:
            self._books.died(entry, reason)
            self._forwarding.add(entry, reason)

    def _forwarded(self, entry: Entry) -> None:
        self._books.left(entry.message)
        self._look_at_limit()
