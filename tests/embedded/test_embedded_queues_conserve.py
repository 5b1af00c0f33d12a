"""Random lives of messages in queues of every kind that bury in each other: each message stands in one place at most,
what is lost had a reason to be, and when all is gone, nothing is left in the books."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from pamqp.commands import Basic, Queue

from pipeline.embedded.ground.versions import VERSIONS
from tests.embedded.conversation import Seen, Talk, deliveries, new_node

QUEUES = ("a", "b", "c")


def arguments() -> st.SearchStrategy[dict[str, Any]]:
    """What a queue may be declared with; where it buries is added."""
    common: dict[str, st.SearchStrategy[Any]] = {
        "x-message-ttl": st.sampled_from([0, 10, 500]),
        "x-max-length": st.integers(0, 4),
        "x-max-length-bytes": st.integers(0, 40),
        "x-overflow": st.sampled_from(["drop-head", "reject-publish"]),
        "x-single-active-consumer": st.booleans(),
    }
    classic = st.fixed_dictionaries({}, optional={**common, "x-max-priority": st.integers(1, 3)})
    own = {"x-delivery-limit": st.integers(0, 3), "x-dead-letter-strategy": st.just("at-least-once")}
    quorum = st.fixed_dictionaries({"x-queue-type": st.just("quorum")}, optional={**common, **own})
    return st.one_of(classic, quorum)


class QueuesMachine(RuleBasedStateMachine):
    @initialize(version=st.sampled_from(VERSIONS), all_arguments=st.tuples(*[arguments()] * 3))
    def begin(self, version: str, all_arguments: tuple[dict[str, Any], ...]) -> None:
        self.node = new_node(rabbitmq_version=version)
        self.publisher = Talk(self.node).open()
        self.worker = Talk(self.node).open()
        self.in_hand: dict[int, bytes] = {}
        self.settled: set[bytes] = set()
        self.published = 0
        for name, after, each in zip(QUEUES, QUEUES[1:] + QUEUES[:1], all_arguments, strict=True):
            bury = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": after}
            self.publisher.say(1, Queue.Declare(0, name, durable=True, arguments={**each, **bury}))

    # What may happen

    @rule(queue=st.sampled_from(QUEUES), properties=st.sampled_from([{}, {"expiration": "10"}, {"priority": 2}]))
    def publish(self, queue: str, properties: dict[str, Any]) -> None:
        self.publisher.publish(1, queue, b"%04d" % self.published, **properties)
        self.published += 1
        self.take(self.worker.heard())

    @rule(queue=st.sampled_from(QUEUES), priority=st.sampled_from([0, 5]))
    def consume(self, queue: str, priority: int) -> None:
        tag = f"{queue}{priority}"
        if tag not in self.worker.core.channels[1].deliveries.consumers:
            consume = Basic.Consume(0, queue, tag, arguments={"x-priority": priority})
            self.take(self.worker.say(1, Basic.Qos(0, 2), consume))

    @rule(queue=st.sampled_from(QUEUES), priority=st.sampled_from([0, 5]))
    def cancel(self, queue: str, priority: int) -> None:
        self.take(self.worker.say(1, Basic.Cancel(f"{queue}{priority}")))

    @rule(how=st.sampled_from(["ack", "nack", "reject", "discard"]))
    def settle(self, how: str) -> None:
        if not self.in_hand:
            return
        tag = min(self.in_hand)
        body = self.in_hand.pop(tag)
        if how == "ack":
            self.settled.add(body)
        method = {
            "ack": Basic.Ack(tag),
            "nack": Basic.Nack(tag),
            "reject": Basic.Reject(tag, True),
            "discard": Basic.Reject(tag, False),
        }[how]
        self.take(self.worker.say(1, method))

    @rule()
    def lose(self) -> None:
        self.worker.core.lost()
        self.in_hand.clear()
        self.worker = Talk(self.node).open()

    @rule(seconds=st.sampled_from([0.01, 0.2, 200]))
    def wait(self, seconds: float) -> None:
        self.publisher.wait(seconds)
        self.take(self.worker.heard())

    @rule(queue=st.sampled_from(QUEUES))
    def purge(self, queue: str) -> None:
        self.publisher.say(1, Queue.Purge(0, queue))

    def take(self, heard: list[Seen]) -> None:
        for _, tag, _, body in deliveries(heard):
            self.in_hand[tag] = body

    # What must always hold

    @invariant()
    def each_message_is_in_one_place_at_most(self) -> None:
        ready = [entry.message.body for queue in self.queues() for entry in queue.ready]
        everything = [*ready, *self.in_hand.values(), *self.settled]
        assert len(everything) == len(set(everything))
        assert sum(queue.unacked for queue in self.queues()) == len(self.in_hand)

    @invariant()
    def nothing_is_ready_that_has_expired(self) -> None:
        now = self.node.timeline.now
        for queue in self.queues():
            queue.run()  # what basic.get has brought to the head of a quorum queue waits for the next thing to happen
            due = queue.ready.next_due()
            assert due is None or due > now

    @invariant()
    def no_queue_is_over_its_limit(self) -> None:
        for queue in self.queues():
            limit = queue.arguments.get("x-max-length")
            if isinstance(limit, int) and queue.arguments.get("x-overflow") != "reject-publish":
                assert len(queue.ready) <= limit

    def queues(self) -> list[Any]:
        return list(self.node.vhosts["/"].queues.values())

    def teardown(self) -> None:
        """All that came in has a way out of the books."""
        if hasattr(self, "node"):
            for name in QUEUES:
                self.publisher.say(1, Queue.Delete(0, name))
            self.worker.core.lost()
            assert self.node.memory.used == 0


QueuesMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestQueuesConserve = QueuesMachine.TestCase
