"""Settling: whatever happens in whatever order, a strict broker finds each tag settled once and as it was asked, and a
`multiple` covers nothing else."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.amqp.fast.deliveries import Deliveries, FastDelivery
from pipeline.errors import ChannelGone, SettlementError
from tests.amqp.fast.hand import Hand
from tests.amqp.fast.octets import Settlement, close, close_ok, delivered, frames, open_ok, settlement

WAYS: dict[str, Callable[[FastDelivery], Coroutine[Any, Any, None]]] = {
    "ack": FastDelivery.ack,
    "nack": FastDelivery.nack,
    "reject": lambda delivery: delivery.reject(requeue=False),
    "requeue": lambda delivery: delivery.reject(requeue=True),
}


def now(step: Coroutine[Any, Any, None]) -> None:
    """A coroutine that waits for nothing, run to its end."""
    try:
        step.send(None)
    except StopIteration:
        return
    raise AssertionError("it waited")


class StrictBroker:
    """What a broker knows of one channel: which tags are out. Anything else is a failure, as it is to RabbitMQ, which
    closes the channel over a tag that it does not know."""

    def __init__(self) -> None:
        self.out: set[int] = set()
        self.settled: dict[int, str] = {}

    def hear(self, said: Settlement) -> list[int]:
        """Which tags it was about."""
        assert said.tag in self.out, f"unknown delivery tag {said.tag}"
        tags = [tag for tag in sorted(self.out) if tag <= said.tag] if said.multiple else [said.tag]
        way = "requeue" if said.way == "reject" and said.requeue else said.way
        assert said.way != "nack" or said.requeue
        assert not said.multiple or said.way == "ack", "only acks are ever gathered"
        for tag in tags:
            self.out.discard(tag)
            self.settled[tag] = way
        return tags


class Consumer:
    """A channel that is consumed by hand, with a strict broker at its end."""

    def __init__(self, hand: Hand) -> None:
        self.hand = hand
        self.broker = StrictBroker()
        self.asked: dict[int, str] = {}
        self.deliveries: list[FastDelivery] = []
        self.seen = 0  # writes that the broker has heard
        self.claim = Deliveries(1, hand.switch, queue="q", no_ack=False, receive=self.deliveries.extend)
        assert hand.switch.claim(1, self.claim)

    def deliver(self, number: int) -> None:
        first = len(self.deliveries) + 1
        tags = range(first, first + number)
        self.hand.receive(b"".join(delivered(1, tag, b"x") for tag in tags))
        self.broker.out.update(tags)

    def settle(self, tag: int, way: str) -> None:
        self.asked[tag] = way
        now(WAYS[way](self.deliveries[tag - 1]))

    @property
    def in_hand(self) -> list[int]:
        return [tag for tag in range(1, len(self.deliveries) + 1) if tag not in self.asked]

    def turn(self) -> list[Settlement]:
        """What one turn wrote, which the broker has heard."""
        self.hand.turn()
        writes, self.seen = self.hand.socket.writes[self.seen :], len(self.hand.socket.writes)
        assert len(writes) <= 1, "one write a turn"
        said = [settlement(each) for each in frames(b"".join(writes))]
        for each in said:
            for tag in self.broker.hear(each):
                assert self.asked.get(tag) == self.broker.settled[tag], f"{each} covers {tag}: {self.asked.get(tag)}"
        return said


steps = st.lists(
    st.tuples(
        st.sampled_from(["deliver", "deliver", "ack", "run", "run", "nack", "reject", "requeue", "turn"]),
        st.integers(0, 999),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(steps=steps, prefetch=st.integers(1, 20))
def test_every_tag_is_settled_as_it_was_asked(steps: list[tuple[str, int]], prefetch: int) -> None:
    with Hand(1) as hand:
        consumer = Consumer(hand)
        # Given deliveries, settlements in any order and turns of the loop, mixed
        for what, number in [("deliver", 5), *steps]:
            match what:
                case "deliver":
                    consumer.deliver(min(number % 8, prefetch - len(consumer.broker.out)))
                case "turn":
                    consumer.turn()
                case "run":  # of neighbours
                    for tag in consumer.in_hand[number % 7 :][: number % 4 + 1]:
                        consumer.settle(tag, "ack")
                case way:
                    if in_hand := consumer.in_hand:
                        consumer.settle(in_hand[number % len(in_hand)], way)
        # When what is left is acknowledged
        for tag in consumer.in_hand:
            consumer.settle(tag, "ack")
        consumer.turn()

        # Then the broker has nothing left, and heard each as it was meant
        assert not consumer.broker.out
        assert consumer.broker.settled == consumer.asked


@given(
    size=st.integers(1, 12),
    rounds=st.lists(st.sets(st.integers(1, 12), max_size=12), max_size=6),
    order=st.randoms(use_true_random=False),
)
def test_acks_that_join_what_is_settled_are_one_frame(size: int, rounds: list[set[int]], order: Any) -> None:
    with Hand(1) as hand:
        consumer = Consumer(hand)
        consumer.deliver(size)
        settled: set[int] = set()
        for wanted in rounds:
            # Given some deliveries that are acknowledged in one turn, in any order
            tags = sorted(wanted & set(consumer.in_hand))
            shuffled = list(tags)
            order.shuffle(shuffled)
            for tag in shuffled:
                consumer.settle(tag, "ack")
            said = consumer.turn()

            # Then those up to which everything is settled are one frame, and the others one each
            settled |= set(tags)
            floor = next(tag for tag in range(size + 1) if tag + 1 not in settled)
            together = [tag for tag in tags if tag <= floor]
            expected = [Settlement(way="ack", tag=together[-1], multiple=len(together) > 1)] if together else []
            expected += [Settlement(way="ack", tag=tag) for tag in tags if tag > floor]
            assert said == expected


@pytest.mark.parametrize("order", [range(1, 101), range(100, 0, -1)], ids=["first to last", "last to first"])
def test_a_hundred_acks_of_one_turn_are_one_frame(order: Sequence[int]) -> None:
    with Hand(1) as hand:
        consumer = Consumer(hand)
        consumer.deliver(100)
        for tag in order:
            consumer.settle(tag, "ack")

        assert consumer.turn() == [Settlement(way="ack", tag=100, multiple=True)]


@pytest.mark.parametrize("way", ["nack", "reject", "requeue"])
@pytest.mark.parametrize("failed", [1, 3, 5])
def test_a_failure_among_the_acks_of_a_turn_keeps_its_own_answer(way: str, failed: int) -> None:
    with Hand(1) as hand:
        consumer = Consumer(hand)
        consumer.deliver(5)
        for tag in range(1, 6):
            consumer.settle(tag, way if tag == failed else "ack")
        consumer.turn()

        assert not consumer.broker.out
        assert consumer.broker.settled == {tag: way if tag == failed else "ack" for tag in range(1, 6)}


@pytest.mark.parametrize("way", ["nack", "reject", "requeue"])
def test_a_failure_does_not_carry_acks_behind_it_over_what_is_in_hand(way: str) -> None:
    with Hand(1) as hand:
        consumer = Consumer(hand)
        consumer.deliver(7)
        consumer.settle(5, way)
        consumer.turn()
        consumer.settle(6, "ack")
        consumer.settle(7, "ack")

        assert consumer.turn() == [Settlement(way="ack", tag=6), Settlement(way="ack", tag=7)]


@pytest.mark.parametrize("way", ["nack", "reject", "requeue"])
def test_acks_behind_a_failure_that_was_written_are_together(way: str) -> None:
    with Hand(1) as hand:
        consumer = Consumer(hand)
        consumer.deliver(4)
        consumer.settle(1, "ack")
        consumer.settle(2, way)
        consumer.turn()
        consumer.settle(3, "ack")
        consumer.settle(4, "ack")

        assert consumer.turn() == [Settlement(way="ack", tag=4, multiple=True)]


def test_what_is_in_hand_holds_back_no_ack_behind_it() -> None:
    with Hand(1) as hand:
        consumer = Consumer(hand)
        consumer.deliver(3)
        consumer.settle(2, "ack")
        consumer.settle(3, "ack")

        assert consumer.turn() == [Settlement(way="ack", tag=2), Settlement(way="ack", tag=3)]
        consumer.settle(1, "ack")
        assert consumer.turn() == [Settlement(way="ack", tag=1)]
        # And from here on neighbours are together again
        consumer.deliver(2)
        consumer.settle(4, "ack")
        consumer.settle(5, "ack")
        assert consumer.turn() == [Settlement(way="ack", tag=5, multiple=True)]


def test_a_delivery_is_settled_once() -> None:
    for first in WAYS:
        for second in WAYS:
            with Hand(1) as hand:
                consumer = Consumer(hand)
                consumer.deliver(1)
                consumer.settle(1, first)
                with pytest.raises(SettlementError, match="is settled already"):
                    now(WAYS[second](consumer.deliveries[0]))

                assert len(consumer.turn()) == 1


@pytest.mark.parametrize("end", [close(1), close_ok(1)], ids=["by the broker", "by the client"])
@pytest.mark.parametrize("way", WAYS)
def test_when_the_channel_is_gone_nothing_is_written_for_it(end: bytes, way: str) -> None:
    with Hand(1) as hand:
        consumer = Consumer(hand)
        consumer.deliver(3)
        # Given a settlement that has not been written when the channel ends
        consumer.settle(1, way)
        assert all(each.alive for each in consumer.deliveries)
        hand.receive(end)

        # Then it is not written any more, and later ones say why
        assert not any(each.alive for each in consumer.deliveries)
        for delivery in consumer.deliveries[1:]:
            with pytest.raises(ChannelGone, match="the broker delivers the message again"):
                now(WAYS[way](delivery))
        hand.turn()
        assert hand.socket.writes == []


def test_a_new_channel_of_the_same_number_begins_at_its_own_first_tag() -> None:
    with Hand(1) as hand:
        old = Consumer(hand)
        old.deliver(4)
        old.settle(1, "ack")
        old.settle(2, "ack")
        old.turn()
        hand.receive(close(1) + open_ok(1))
        new = Consumer(hand)
        new.seen = old.seen
        new.deliver(2)
        new.settle(2, "ack")

        assert new.turn() == [Settlement(way="ack", tag=2)]
        with pytest.raises(ChannelGone):
            now(old.deliveries[3].ack())
        assert new.turn() == []


def test_what_one_turn_settles_on_two_channels_is_one_write() -> None:
    with Hand(1, 2) as hand:
        first = Consumer(hand)
        first.deliver(2)
        found: list[FastDelivery] = []
        hand.switch.claim(2, Deliveries(2, hand.switch, queue="q", no_ack=False, receive=found.extend))
        hand.receive(delivered(2, 1, b"x"))
        first.settle(1, "ack")
        now(found[0].nack())
        first.settle(2, "nack")
        hand.turn()

        (write,) = hand.socket.writes
        assert [(each.channel, settlement(each).way) for each in frames(write)] == [
            (1, "ack"),
            (1, "nack"),
            (2, "nack"),
        ]


def test_what_comes_while_something_is_received_is_settled_in_the_same_write() -> None:
    """A consumer that is cancelled gives back what still arrives, from inside the reading."""
    with Hand(1) as hand:

        def give_back(batch: Sequence[FastDelivery]) -> None:
            for delivery in batch:
                delivery.give_back()

        hand.switch.claim(1, Deliveries(1, hand.switch, queue="q", no_ack=False, receive=give_back))
        hand.receive(b"".join(delivered(1, tag, b"x") for tag in (1, 2, 3)))
        hand.turn()

        (write,) = hand.socket.writes
        assert [settlement(each) for each in frames(write)] == [
            Settlement(way="nack", tag=tag, requeue=True) for tag in (1, 2, 3)
        ]
