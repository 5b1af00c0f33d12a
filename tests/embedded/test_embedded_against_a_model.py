"""Random publishing, consuming, settling and dying, held against a model that is a list: nothing is lost, nothing
comes twice, what is ready keeps its order, nobody gets more than the prefetch, `redelivered` tells the truth."""

from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from pamqp.commands import Basic, Channel, Connection, Queue

from tests.embedded.conversation import Seen, Talk, deliveries, new_node

PREFETCH = 3


class Worker:
    """A connection with one consumer, and what the model knows it has in hand: delivery tag to body."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.in_hand: dict[int, bytes] = {}


class QueueMachine(RuleBasedStateMachine):
    workers = Bundle("workers")

    def __init__(self) -> None:
        super().__init__()
        self.node = new_node()
        self.publisher = Talk(self.node).open()
        self.publisher.say(1, Queue.Declare(0, "q"))
        self.published = 0
        self.settled: set[bytes] = set()
        self.delivered: set[bytes] = set()
        self.all_workers: list[Worker] = []

    # What may happen

    @rule(count=st.integers(1, 5))
    def publish(self, count: int) -> None:
        for _ in range(count):
            self.publisher.publish(1, "q", b"%04d" % self.published)
            self.published += 1
        self.look()

    @rule(target=workers)
    def join(self) -> Worker:
        worker = Worker(Talk(self.node).open())
        self.all_workers.append(worker)
        heard = worker.talk.say(1, Basic.Qos(0, PREFETCH), Basic.Consume(0, "q", "c"))
        self.take(worker, heard)
        self.look()
        return worker

    @rule(worker=workers, place=st.integers(0, PREFETCH), multiple=st.booleans())
    def acknowledge(self, worker: Worker, place: int, multiple: bool) -> None:
        tags = self.named(worker, place, multiple)
        if tags:
            self.settled |= {worker.in_hand.pop(tag) for tag in tags}
            self.take(worker, worker.talk.say(1, Basic.Ack(tags[-1], multiple)))
            self.look()

    @rule(worker=workers, place=st.integers(0, PREFETCH), multiple=st.booleans(), requeue=st.booleans())
    def give_back(self, worker: Worker, place: int, multiple: bool, requeue: bool) -> None:
        tags = self.named(worker, place, multiple)
        if tags:
            bodies = {worker.in_hand.pop(tag) for tag in tags}
            if not requeue:
                self.settled |= bodies
            self.take(worker, worker.talk.say(1, Basic.Nack(tags[-1], multiple, requeue)))
            self.look()

    @rule(worker=workers)
    def recover(self, worker: Worker) -> None:
        worker.in_hand.clear()
        self.take(worker, worker.talk.say(1, Basic.Recover(True)))
        self.look()

    @rule(worker=consumes(workers), how=st.sampled_from(["lost", "connection.close", "channel.close", "mistake"]))
    def leave(self, worker: Worker, how: str) -> None:
        match how:
            case "lost":
                worker.talk.core.lost()
            case "connection.close":
                worker.talk.say(0, Connection.Close(200, "", 0, 0))
            case "channel.close":
                worker.talk.say(1, Channel.Close(200, "", 0, 0))
            case "mistake":
                worker.talk.say(1, Basic.Ack(10_000))
        worker.in_hand.clear()
        self.all_workers.remove(worker)
        self.look()

    # What the model sees

    def named(self, worker: Worker, place: int, multiple: bool) -> list[int]:
        tags = list(worker.in_hand)
        if place >= len(tags):
            return []
        return tags[: place + 1] if multiple else [tags[place]]

    def look(self) -> None:
        for worker in self.all_workers:
            self.take(worker, worker.talk.heard())

    def take(self, worker: Worker, heard: Sequence[Seen]) -> None:
        for _, tag, redelivered, body in deliveries(heard):
            assert redelivered == (body in self.delivered), body
            assert body not in self.settled, body
            self.delivered.add(body)
            worker.in_hand[tag] = body

    # What must always hold

    @invariant()
    def each_message_is_in_exactly_one_place(self) -> None:
        queue = self.node.vhosts["/"].queues["q"]
        ready = [entry.message.body for entry in queue.ready]
        out = [body for worker in self.all_workers for body in worker.in_hand.values()]
        everything = sorted([*ready, *out, *self.settled])
        assert everything == [b"%04d" % number for number in range(self.published)]
        assert queue.unacked == len(out)

    @invariant()
    def what_is_ready_stands_in_the_order_it_came(self) -> None:
        ready = [entry.message.body for entry in self.node.vhosts["/"].queues["q"].ready]
        assert ready == sorted(ready)

    @invariant()
    def nobody_has_more_than_the_prefetch_and_nobody_idles(self) -> None:
        assert all(len(worker.in_hand) <= PREFETCH for worker in self.all_workers)
        if self.node.vhosts["/"].queues["q"].ready:
            assert all(len(worker.in_hand) == PREFETCH for worker in self.all_workers)


QueueMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAgainstAModel = QueueMachine.TestCase
