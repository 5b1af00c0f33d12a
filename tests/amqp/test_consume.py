"""One consumer: what comes is handed over and settled once; whatever the broker ends is started again, by itself and
without the others; and a queue that is not ours to consume is a conflict, told and tried again slowly."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aio_pika
import pytest

from pipeline.amqp.consume import Subscription
from pipeline.amqp.declare import Topology, declare
from pipeline.amqp.fast.deliveries import FastDelivery
from pipeline.amqp.link import Generation, Link
from pipeline.amqp.plain.delivery import PlainDelivery
from pipeline.clock import Clock, FakeClock, SystemClock
from pipeline.embedded import EmbeddedBroker
from pipeline.errors import ChannelGone, SettlementError
from pipeline.events import ConnectionLost, ConsumerInConflict, ConsumerInterrupted, ConsumerStarted
from pipeline.message import Delivery
from tests.amqp.parts import Recorder, broker_of, linked, queue, topology
from tests.brokers import BrokerUnderTest, EmbeddedUnderTest, RabbitMQUnderTest
from tests.proxy import Proxy
from tests.rabbitmq import PrivateRabbitMQ
from tests.waiting import deadline, eventually

pytestmark = pytest.mark.usefixtures("both_lines")


class Inbox:
    """What a consumer was handed, and its subscription."""

    def __init__(
        self, name: str = "q", *, recorder: Recorder, clock: Clock, wanted: Topology | None = None, **changes: Any
    ) -> None:
        self.name = name
        self.deliveries: list[Delivery] = []
        self.wanted = wanted or topology(queue(name))
        usual: dict[str, Any] = {"prefetch": 10, "no_ack": False, "exclusive": False, "arguments": {}}
        self.subscription = Subscription(
            consumer=f"reader-of-{name}",
            tag=f"test.{name}",
            queue=name,
            receive=self.deliveries.extend,
            redeclare=self._redeclare,
            clock=clock,
            emit=recorder,
            **{**usual, **changes},
        )

    async def _redeclare(self, generation: Generation) -> Any:
        return await declare(generation, self.wanted)

    @property
    def bodies(self) -> list[object]:
        return [each.message.body for each in self.deliveries]

    async def first(self, number: int) -> list[Delivery]:
        """The first so many deliveries, as soon as they are there."""
        await eventually(lambda: len(self.deliveries) >= number, told=f"{number} deliveries to {self.name}")
        return self.deliveries[:number]


Opened = tuple[Inbox, Link, Recorder]


@asynccontextmanager
async def consuming(url: str, *, clock: Clock | None = None, **changes: Any) -> AsyncIterator[Opened]:
    """A consumer of queue `q` that has started."""
    recorder = Recorder()
    inbox = Inbox(recorder=recorder, clock=clock or SystemClock(), **changes)
    async with linked(
        broker_of(url), inbox.subscription, wanted=topology(queue("q")), emit=recorder, purpose="consume", clock=clock
    ) as link:
        async with asyncio.timeout(deadline(10)):
            await inbox.subscription.wait_started()
        yield inbox, link, recorder


# Settling


async def test_a_message_is_handed_over_with_everything_it_carries(broker: BrokerUnderTest) -> None:
    async with consuming(broker.url) as (inbox, _, recorder):
        await broker.publish(
            "q", b"hello", message_id="m-1", headers={"a": 1}, content_type="text/plain", correlation_id="c"
        )
        (delivery,) = await inbox.first(1)

        message = delivery.message
        assert (message.body, message.message_id, message.headers) == (b"hello", "m-1", {"a": 1})
        assert (message.content_type, message.correlation_id, message.queue) == ("text/plain", "c", "q")
        assert (message.exchange, message.routing_key, message.redelivered) == ("", "q", False)
        assert delivery.alive
        assert state(inbox) == "consuming"
        assert recorder.of(ConsumerStarted) == [ConsumerStarted(consumer="reader-of-q", queue="q")]


async def ack(delivery: Delivery) -> None:
    await delivery.ack()


async def nack(delivery: Delivery) -> None:
    await delivery.nack()


async def reject(delivery: Delivery) -> None:
    await delivery.reject(requeue=False)


async def reject_to_queue(delivery: Delivery) -> None:
    await delivery.reject(requeue=True)


Way = Callable[[Delivery], Awaitable[None]]


@pytest.mark.parametrize("way", [ack, reject])
async def test_a_settled_message_leaves_the_queue(broker: BrokerUnderTest, way: Way) -> None:
    async with consuming(broker.url) as (inbox, _, _recorder):
        await broker.publish("q", b"1")
        (delivery,) = await inbox.first(1)
        await way(delivery)
        await eventually(lambda: broker.queue_depths() == {"q": 0})

    assert len(inbox.deliveries) == 1


@pytest.mark.parametrize("way", [nack, reject_to_queue])
async def test_a_message_that_was_given_back_comes_again_and_says_so(broker: BrokerUnderTest, way: Way) -> None:
    async with consuming(broker.url) as (inbox, _, _recorder):
        await broker.publish("q", b"1")
        (delivery,) = await inbox.first(1)
        await way(delivery)
        _, again = await inbox.first(2)

        assert again.message.redelivered
        await again.ack()


@pytest.mark.parametrize("way", [ack, nack, reject])
async def test_settling_twice_raises_before_anything_reaches_the_broker(broker: BrokerUnderTest, way: Way) -> None:
    async with consuming(broker.url) as (inbox, _, recorder):
        await broker.publish("q", b"1", message_id="m-1")
        (delivery,) = await inbox.first(1)

        # When two settle it at the same moment
        ends = await asyncio.gather(delivery.ack(), way(delivery), return_exceptions=True)

        # Then the second is told, and the broker never hears of it: it would have closed the channel
        assert ends[0] is None
        assert isinstance(ends[1], SettlementError)
        assert str(ends[1]) == "message m-1 is settled already"
        await broker.publish("q", b"2")
        await (await inbox.first(2))[1].ack()
        assert not recorder.of(ConsumerInterrupted)


async def test_no_more_than_the_prefetch_is_in_hand(broker: BrokerUnderTest) -> None:
    async with consuming(broker.url, prefetch=2) as (inbox, _, _recorder):
        for number in range(5):
            await broker.publish("q", b"%d" % number)
        first, second = await inbox.first(2)
        assert len(inbox.deliveries) == 2
        await second.ack()
        await inbox.first(3)
        await first.ack()
        await inbox.first(4)

        assert inbox.bodies == [b"0", b"1", b"2", b"3"]


async def test_without_acknowledgement_there_is_nothing_to_settle(broker: BrokerUnderTest) -> None:
    async with consuming(broker.url, no_ack=True) as (inbox, _, _recorder):
        await broker.publish("q", b"1")
        (delivery,) = await inbox.first(1)

        assert broker.queue_depths() == {"q": 0}
        with pytest.raises(SettlementError, match="`ack: none`"):
            await delivery.ack()


# Losing the line


async def test_after_a_lost_line_it_consumes_again_and_what_was_in_hand_comes_again(
    broker: BrokerUnderTest, proxy: Proxy
) -> None:
    async with consuming(proxy.url(broker.url)) as (inbox, _, recorder):
        await broker.publish("q", b"1")
        (delivery,) = await inbox.first(1)
        proxy.cut()
        _, again = await inbox.first(2)

        assert again.message.redelivered
        assert not delivery.alive
        with pytest.raises(ChannelGone, match="the broker delivers the message again"):
            await delivery.ack()
        await again.ack()
        # It was the connection, not the consumer
        assert recorder.of(ConnectionLost)
        assert not recorder.of(ConsumerInterrupted)


async def test_a_settlement_that_is_stuck_ends_with_the_line(broker: BrokerUnderTest, proxy: Proxy) -> None:
    async with consuming(proxy.url(broker.url)) as (inbox, _, _recorder):
        for number in range(10):
            await broker.publish("q", b"%d" % number)
        deliveries = await inbox.first(10)
        proxy.freeze()
        settling = [asyncio.create_task(delivery.ack()) for delivery in deliveries]
        proxy.cut()

        async with asyncio.timeout(deadline(10)):
            ends = await asyncio.gather(*settling, return_exceptions=True)
        assert all(end is None or isinstance(end, ChannelGone) for end in ends)
        proxy.thaw()


# Ended by the broker


async def test_a_deleted_queue_is_declared_and_consumed_again(broker: BrokerUnderTest) -> None:
    async with consuming(broker.url) as (inbox, _, recorder):
        async with broker.channel() as channel:
            await channel.queue_delete("q")
        interrupted = await recorder.first(ConsumerInterrupted)
        assert interrupted.reason.startswith("the broker cancelled it: its queue was deleted, or the queue's node went")
        await eventually(lambda: len(recorder.of(ConsumerStarted)) == 2)

        await broker.publish("q", b"again")
        (delivery,) = await inbox.first(1)
        await delivery.ack()


async def test_what_was_in_hand_when_the_queue_was_deleted_can_still_be_settled(broker: BrokerUnderTest) -> None:
    async with consuming(broker.url) as (inbox, _, recorder):
        await broker.publish("q", b"1")
        (delivery,) = await inbox.first(1)
        async with broker.channel() as channel:
            await channel.queue_delete("q")
        await eventually(lambda: len(recorder.of(ConsumerStarted)) == 2)

        await delivery.ack()
        await broker.publish("q", b"2")
        await (await inbox.first(2))[1].ack()
        assert len(recorder.of(ConsumerInterrupted)) == 1


@pytest.mark.parametrize("unanswered", ["basic.cancel", "basic.consume"])
async def test_a_beginning_without_an_answer_costs_its_channel_and_nothing_else(
    broker: BrokerUnderTest, proxy: Proxy, unanswered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client closes the channel over it, and RabbitMQ ends the connection over what comes for a closed channel."""

    class Frozen(Inbox):
        async def _redeclare(self, generation: Generation) -> Any:
            differences = await super()._redeclare(generation)
            intake = self.subscription._intake
            if recorder.of(ConsumerInterrupted)[1:] or intake is None:
                return differences
            if unanswered == "basic.cancel":
                proxy.freeze()
            else:
                monkeypatch.setattr(intake.channel, "basic_cancel", partial(frozen_after, intake.channel.basic_cancel))
            return differences

    async def frozen_after(step: Callable[..., Awaitable[object]], tag: str) -> None:
        await step(tag)
        proxy.freeze()

    recorder = Recorder()
    inbox = Frozen(recorder=recorder, clock=SystemClock())
    slow = broker_of(proxy.url(broker.url), connect_timeout=1.0)
    async with linked(slow, inbox.subscription, wanted=inbox.wanted, emit=recorder, purpose="consume") as link:
        generation = link.generation
        await broker.publish("q", b"1")
        (delivery,) = await inbox.first(1)
        # Given a message in hand whose queue was deleted, and a broker that does not answer what comes then
        async with broker.channel() as channel:
            await channel.queue_delete("q")
        await recorder.first(ConsumerInterrupted, lambda event: f"no answer to {unanswered}" in event.reason)

        # When it is settled, then not over that channel
        with pytest.raises(ChannelGone):
            await delivery.ack()
        proxy.thaw()
        await eventually(lambda: len(recorder.of(ConsumerStarted)) == 2)
        await broker.publish("q", b"2")
        await (await inbox.first(2))[1].ack()
        assert link.generation is generation
        assert not recorder.of(ConnectionLost)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("check", 'queue "q" is not on the broker, and `declare: check` does not make it'),
        ("skip", "NOT_FOUND - no queue 'q' in vhost"),
    ],
)
async def test_a_deleted_queue_that_is_not_ours_to_make_is_a_conflict_until_somebody_makes_it(
    broker: BrokerUnderTest, how: str, reason: str
) -> None:
    theirs = topology(queue("q", declare=how))
    async with consuming(broker.url, wanted=theirs) as (inbox, _, recorder):
        async with broker.channel() as channel:
            await channel.queue_delete("q")
        conflict = await recorder.first(ConsumerInConflict)
        assert conflict.reason.startswith(reason)
        assert state(inbox) == "conflict"

        await broker.declare("q", arguments={"x-queue-type": "classic"})
        await broker.publish("q", b"1")
        await (await inbox.first(1))[0].ack()
        # On the fast line a delivery may be there some turns before the client tells of consume-ok.
        await eventually(lambda: state(inbox) == "consuming")


async def test_a_channel_that_the_broker_closes_costs_only_its_own_consumer(broker: BrokerUnderTest) -> None:
    # Given two consumers on one connection
    recorder = Recorder()
    both = topology(queue("q"), queue("other"))
    inboxes = [Inbox(name, recorder=recorder, clock=SystemClock()) for name in ("q", "other")]
    subscriptions = [inbox.subscription for inbox in inboxes]
    async with linked(broker_of(broker.url), *subscriptions, wanted=both, emit=recorder, purpose="consume") as link:
        generation = link.generation
        for name in ("q", "other"):
            await broker.publish(name, b"1")
        first, other = (await inboxes[0].first(1))[0], (await inboxes[1].first(1))[0]

        # When one of them acknowledges what was never delivered, behind the gate
        await acknowledge_unknown(first, 77)

        # Then it is interrupted with the broker's words, starts again, and gets its message again
        interrupted = await recorder.first(ConsumerInterrupted)
        assert (interrupted.consumer, interrupted.reason) == (
            "reader-of-q",
            "PRECONDITION_FAILED - unknown delivery tag 77",
        )
        with pytest.raises(ChannelGone):
            await first.ack()
        again = (await inboxes[0].first(2))[1]
        assert again.message.redelivered
        await again.ack()
        # When that comes again and again, then the pauses grow
        await acknowledge_unknown(again, 78)
        await eventually(lambda: len(recorder.of(ConsumerStarted)) == 4)
        first_pause, second_pause = (each.next_attempt for each in recorder.of(ConsumerInterrupted))
        assert second_pause > first_pause
        # And the other one never noticed
        await other.ack()
        assert link.generation is generation


async def test_the_brokers_consumer_timeout_names_the_key_to_write(rabbitmq: PrivateRabbitMQ) -> None:
    if rabbitmq.version >= (4, 3):
        pytest.skip("RabbitMQ 4.3 has a consumer timeout for quorum queues only, and none that a test could shorten")
    vhost = rabbitmq.add_vhost()
    rabbitmq.set_consumer_timeout(500)
    try:
        async with consuming(rabbitmq.url(vhost)) as (inbox, _, recorder):
            await publish(rabbitmq.url(vhost), "q")
            await inbox.first(1)

            interrupted = await recorder.first(ConsumerInterrupted)
            assert "write a `timeout` for the consumer" in interrupted.reason
    finally:
        rabbitmq.set_consumer_timeout(1_800_000)
        rabbitmq.delete_vhost(vhost)


@pytest.mark.parametrize("kind", ["embedded", "rabbitmq"])
async def test_a_consumer_that_held_a_message_for_too_long_is_not_there_twice_afterwards(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """RabbitMQ 4.3 says that it is cancelled, and keeps it."""
    if kind == "embedded":
        with EmbeddedBroker(rabbitmq_version="4.3") as embedded:
            await held_for_too_long(EmbeddedUnderTest(embedded))
        return
    node: PrivateRabbitMQ = request.getfixturevalue("rabbitmq")
    if node.version < (4, 3):
        pytest.skip("RabbitMQ 4.3 only")
    await held_for_too_long(RabbitMQUnderTest(node, node.add_vhost()))


async def held_for_too_long(broker: BrokerUnderTest) -> None:
    patient = queue("q", type="quorum", arguments={"x-queue-type": "quorum", "x-consumer-timeout": 500})
    recorder = Recorder()
    inbox = Inbox(recorder=recorder, clock=SystemClock(), wanted=topology(patient), prefetch=1)
    async with linked(broker_of(broker.url), inbox.subscription, wanted=inbox.wanted, emit=recorder, purpose="consume"):
        for body in (b"1", b"2"):
            await broker.publish("q", body)
        (held,) = await inbox.first(1)
        interrupted = await recorder.first(ConsumerInterrupted)
        assert "a message stayed unacknowledged for too long" in interrupted.reason
        # Given that it comes again, to the new one
        again = (await inbox.first(2))[1]
        # When the late answer comes, then the old one does not take a second message beside it
        await held.ack()
        async with broker.channel() as channel:
            found = await channel.declare_queue("q", passive=True)
        assert (found.declaration_result.consumer_count, inbox.bodies) == (1, [b"1", b"1"])
        await again.ack()
        await (await inbox.first(3))[2].ack()


# In conflict


async def test_a_queue_that_differs_is_a_conflict_of_its_consumer_alone(broker: BrokerUnderTest) -> None:
    # Given two consumers, and a queue that somebody makes anew, otherwise, while the line is down
    recorder = Recorder()
    both = topology(queue("q"), queue("other"))
    inboxes = [Inbox(name, recorder=recorder, clock=SystemClock()) for name in ("q", "other")]
    subscriptions = [inbox.subscription for inbox in inboxes]
    with Proxy.before(broker.url) as proxy:
        settings = broker_of(proxy.url(broker.url))
        async with linked(settings, *subscriptions, wanted=both, emit=recorder, purpose="consume") as link:
            await eventually(lambda: len(recorder.of(ConsumerStarted)) == 2)
            proxy.refuse()
            proxy.cut()
            await eventually(lambda: not link.up)
            async with broker.channel() as channel:
                await channel.queue_delete("q")
                await channel.declare_queue("q", durable=True, auto_delete=False, arguments={"x-max-length": 7})

            # When it is back
            proxy.accept()
            conflict = await recorder.first(ConsumerInConflict)

            # Then this consumer is in conflict, with both values, and the other one consumes
            assert conflict.consumer == "reader-of-q"
            assert conflict.reason == 'queue "q" is on the broker with x-max-length 7, the file has none'
            assert 0.5 <= conflict.next_attempt <= 1
            await broker.publish("other", b"1")
            await (await inboxes[1].first(1))[0].ack()

            # And once the queue is as it should be, it consumes too
            async with broker.channel() as channel:
                await channel.queue_delete("q")
            await eventually(lambda: subscriptions[0].state == "consuming")


async def test_a_queue_in_exclusive_use_is_a_conflict(broker: BrokerUnderTest) -> None:
    clock = FakeClock()
    async with consuming(broker.url), consuming(broker.url, exclusive=True, clock=clock) as (inbox, _, recorder):
        conflict = await recorder.first(ConsumerInConflict)

        assert conflict.reason.startswith("ACCESS_REFUSED - queue 'q' in vhost ")
        assert conflict.reason.endswith("in exclusive use")
        assert state(inbox) == "conflict"
        # And it is tried again, more slowly each time, up to a minute
        for number in range(1, 9):
            await eventually(lambda: clock.waiting)
            clock.advance(60)
            await eventually(partial(conflicts, recorder, number + 1))
        pauses = [each.next_attempt for each in recorder.of(ConsumerInConflict)]
        assert pauses[0] <= 1
        assert all(30 <= pause <= 60 for pause in pauses[-2:])


async def test_a_name_that_the_client_cannot_send_is_a_conflict(broker: BrokerUnderTest) -> None:
    left_alone = topology(queue("ключ", declare="skip"))
    async with consuming(broker.url, name="ключ", wanted=left_alone, clock=FakeClock()) as (inbox, _, recorder):
        conflict = await recorder.first(ConsumerInConflict)

        assert conflict.reason == "it cannot be asked for: Invalid value for queue"
        assert state(inbox) == "conflict"


# Stopping and pausing


async def test_after_cancel_nothing_new_comes_and_what_is_in_hand_is_settled(broker: BrokerUnderTest) -> None:
    async with consuming(broker.url) as (inbox, _, recorder):
        await broker.publish("q", b"1")
        (delivery,) = await inbox.first(1)
        await inbox.subscription.cancel()
        await broker.publish("q", b"2")
        await delivery.ack()
        await eventually(lambda: broker.queue_depths() == {"q": 1})

        assert state(inbox) == "cancelled"
        assert len(inbox.deliveries) == 1
        assert not recorder.of(ConsumerInterrupted)


async def test_what_arrives_while_cancelling_goes_back_to_the_queue(broker: BrokerUnderTest) -> None:
    async with consuming(broker.url, prefetch=1000) as (inbox, _, _recorder):
        # Given a stream of messages
        async with broker.channel() as channel:
            for number in range(300):
                await channel.default_exchange.publish(aio_pika.Message(b"%d" % number), "q")
                if number == 150:
                    cancelling = asyncio.create_task(inbox.subscription.cancel())
        await cancelling
        taken = len(inbox.deliveries)
        for delivery in inbox.deliveries:
            await delivery.ack()

        # Then what was not handed over is ready for somebody else
        await eventually(lambda: broker.queue_depths() == {"q": 300 - taken})
        assert len(inbox.deliveries) == taken


async def test_cancelling_does_not_wait_for_a_line_that_is_down(broker: BrokerUnderTest, proxy: Proxy) -> None:
    async with consuming(proxy.url(broker.url)) as (inbox, link, _):
        proxy.refuse()
        proxy.cut()
        await eventually(lambda: not link.up)

        async with asyncio.timeout(deadline(2)):
            await inbox.subscription.cancel()
            await inbox.subscription.wait_started()
        # Nor does it begin again when the line is back
        proxy.accept()
        await eventually(lambda: link.up)
        await broker.publish("q", b"1")
        assert broker.queue_depths() == {"q": 1}
        assert inbox.deliveries == []


async def test_cancelling_ends_a_conflict(broker: BrokerUnderTest) -> None:
    async with consuming(broker.url), consuming(broker.url, exclusive=True, clock=FakeClock()) as (inbox, _, recorder):
        await recorder.first(ConsumerInConflict)
        async with asyncio.timeout(deadline(5)):
            await inbox.subscription.cancel()

        assert state(inbox) == "cancelled"


async def test_a_paused_consumer_asks_for_nothing_until_it_is_resumed(broker: BrokerUnderTest) -> None:
    async with consuming(broker.url, no_ack=True) as (inbox, _, recorder):
        await inbox.subscription.pause()
        assert state(inbox) == "paused"
        await broker.publish("q", b"1")
        await broker.publish("q", b"2")
        assert broker.queue_depths() == {"q": 2}
        assert inbox.deliveries == []

        await inbox.subscription.resume()
        await inbox.first(2)
        assert state(inbox) == "consuming"
        assert len(recorder.of(ConsumerStarted)) == 1


async def test_a_paused_consumer_stays_paused_on_a_new_line(broker: BrokerUnderTest, proxy: Proxy) -> None:
    async with consuming(proxy.url(broker.url), no_ack=True) as (inbox, link, _):
        first = link.generation
        await inbox.subscription.pause()
        proxy.cut()
        await eventually(lambda: link.generation not in (None, first))
        await eventually(lambda: state(inbox) == "paused")
        await broker.publish("q", b"1")
        assert broker.queue_depths() == {"q": 1}

        await inbox.subscription.resume()
        await inbox.first(1)


async def test_pausing_and_resuming_in_quick_succession_ends_as_last_wished(broker: BrokerUnderTest) -> None:
    async with consuming(broker.url, no_ack=True) as (inbox, _, _recorder):
        steps = [inbox.subscription.pause, inbox.subscription.resume] * 5
        await asyncio.gather(*(step() for step in steps))
        await broker.publish("q", b"1")
        await inbox.first(1)

        assert state(inbox) == "consuming"


def conflicts(recorder: Recorder, number: int) -> bool:
    return len(recorder.of(ConsumerInConflict)) == number


def state(inbox: Inbox) -> str:
    return inbox.subscription.state


async def acknowledge_unknown(delivery: Delivery, tag: int) -> None:
    """Behind the gate, what our own code never does."""
    if isinstance(delivery, FastDelivery):
        delivery._channel.note_ack(tag)
    else:
        assert isinstance(delivery, PlainDelivery)
        await delivery._channel.basic_ack(tag)


async def publish(url: str, to: str) -> None:
    async with await aio_pika.connect(url, timeout=deadline(10)) as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(aio_pika.Message(b"1"), to)
