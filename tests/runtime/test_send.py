"""Messages sent by hand, over a real line to both brokers: each end has its name, and what came before it is there."""

import asyncio

from pipeline.clock import SystemClock
from pipeline.embedded import EmbeddedBroker
from pipeline.message import Message
from pipeline.runtime.send import Failure, Sent, send
from pipeline.runtime.target import Target
from tests.amqp.parts import broker_of
from tests.brokers import BrokerUnderTest, EmbeddedUnderTest
from tests.models import a_pipeline
from tests.waiting import deadline

BILLING = Target(exchange="", routing_key="billing")


async def sent(url: str, *ids: str, to: Target = BILLING, timeout: float = 10.0, **properties: object) -> Sent:
    """In a thread, since it has a loop of its own."""
    pipeline = a_pipeline(broker=broker_of(url))
    messages = [Message(each.encode(), message_id=each, headers=properties) for each in ids]
    return await asyncio.to_thread(send, pipeline, to, messages, timeout=timeout, clock=SystemClock())


def only(sent: Sent) -> Failure:
    (failure,) = sent.failures
    return failure


async def test_many_arrive_in_their_order(broker: BrokerUnderTest) -> None:
    await broker.declare("billing")
    ids = [str(number) for number in range(600)]
    assert await sent(broker.url, *ids) == Sent(confirmed=tuple(ids), failures=())
    assert [each.message_id for each in await broker.get_all("billing")] == ids


async def test_what_a_full_queue_refuses_is_told_and_the_rest_is_there(broker: BrokerUnderTest) -> None:
    await broker.declare("billing", arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    end = await sent(broker.url, "1", "2", "3")
    assert end.confirmed == ("1", "2")
    assert (only(end).number, only(end).message_id, only(end).kind) == (3, "3", "nacked")
    assert 'the default exchange with routing key "billing" (basic.nack)' in only(end).sentence
    assert broker.queue_depths() == {"billing": 2}


async def test_after_a_failure_nothing_more_is_begun(broker: BrokerUnderTest) -> None:
    end = await sent(broker.url, *map(str, range(300)))
    assert end.confirmed == ()
    assert [each.kind for each in end.failures] == ["unroutable"] * 256


async def test_an_exchange_that_is_not_there_and_a_header_that_cannot_be_written_are_told(
    broker: BrokerUnderTest,
) -> None:
    missing = only(await sent(broker.url, "1", to=Target(exchange="orders", routing_key="a.b")))
    assert (missing.kind, missing.hint[:26]) == ("refused", "a start of the pipeline de")
    assert 'a message to exchange "orders" with routing key "a.b": NOT_FOUND' in missing.sentence
    unwritable = only(await sent(broker.url, "1", number=2**80))
    assert (unwritable.kind, unwritable.hint) == ("unwritable", "change the header or property; nothing was sent")


async def test_what_is_too_large_is_told_and_not_sent_whatever_the_broker_says(broker: BrokerUnderTest) -> None:
    await broker.declare("billing")
    broker.block()
    pipeline = a_pipeline(broker=broker_of(broker.url, max_message_size=10))
    large = [Message(bytes(11), message_id="1")]
    end = await asyncio.to_thread(send, pipeline, BILLING, large, timeout=10.0, clock=SystemClock())
    broker.unblock()
    assert (only(end).kind, only(end).hint[:17]) == ("too-large", "nothing was sent;")
    assert "too large: 11 bytes, and `max_message_size` is 10 bytes" in only(end).sentence
    assert broker.queue_depths() == {"billing": 0}


async def test_an_alarm_is_told_after_the_timeout(broker: BrokerUnderTest) -> None:
    await broker.declare("billing")
    broker.block()
    failure = only(await sent(broker.url, "1", timeout=0.2))
    broker.unblock()
    assert failure.kind == "blocked"
    assert failure.sentence == (
        "the broker has not confirmed a message to the default exchange with routing key "
        '"billing" within 0.2 s: it takes no messages for now (memory or disk alarm)'
    )


async def test_a_confirm_that_does_not_come_and_a_line_that_ends_are_told() -> None:
    with EmbeddedBroker() as broker:
        await EmbeddedUnderTest(broker).declare("billing")
        broker.delay_confirms()
        failure = only(await sent(broker.url, "1", timeout=0.2))
        assert (failure.kind, failure.sentence[-12:]) == ("unconfirmed", "within 0.2 s")

        with broker.recording() as events:
            waiting = asyncio.create_task(sent(broker.url, "2"))
            await events.seen("published", seconds=deadline(10))
            broker.drop_connections()
            failure = only(await waiting)
    assert failure.kind == "unconfirmed"
    assert failure.sentence.endswith("it may have arrived")
