"""Consumers and producers over a real line, on both brokers: what is promised of acknowledging, of dead letters and of
numbers that add up, also when the line is cut in the middle."""

import asyncio
from typing import Any

import pytest

from pipeline.errors import Reject
from pipeline.events import ConnectionLost
from pipeline.handlers.context import Context
from pipeline.message import Message
from pipeline.runtime.outgoing import outgoing
from pipeline.runtime.produce import ProducerRun
from pipeline.sources.base import Item
from tests.brokers import BrokerUnderTest
from tests.models import a_consumer, a_pipeline, a_producer, a_publish, a_queue
from tests.runtime.line import Line
from tests.runtime.stand_ins import a_producer_ledger, counts
from tests.runtime.test_produce import ScriptedSource, an_item
from tests.waiting import deadline, eventually

pytestmark = pytest.mark.usefixtures("both_lines")

QUEUES = (a_queue("billing"), a_queue("invoices"))


def a_file(**consumer: Any) -> Any:
    return a_pipeline(queues=QUEUES, consumers=(a_consumer(**{"publish": a_publish(), **consumer}),))


async def send(line: Line, *bodies: object, **properties: Any) -> None:
    for number, body in enumerate(bodies):
        values = {"message_id": f"m-{number}", **properties}
        to_billing = a_publish(routing_key="billing")
        await line.publisher.send(outgoing(Message(body, **values), to_billing, message_id=""), timeout=deadline(10))


async def settled(line: Line, count: int) -> None:
    """So many have come to their end."""

    def ends() -> int:
        numbers = line.ledger.numbers()
        return numbers["delivered"] - numbers["in_hand"]

    await eventually(lambda: ends() >= count, seconds=20, told=f"{count} ends; {line.ledger.numbers()}")


async def more_delivered(line: Line, before: int) -> None:
    await eventually(lambda: line.ledger.numbers()["delivered"] > before, seconds=20, told="another delivery")


def adds_up(line: Line) -> bool:
    numbers = line.ledger.numbers()
    ends = [number for term, number in numbers.items() if term not in ("delivered", "in_hand")]
    return numbers["delivered"] == sum(ends) + numbers["in_hand"]


async def test_a_message_is_done_when_its_output_has_arrived(broker: BrokerUnderTest) -> None:
    async def charge(body: str) -> str:
        return f"invoice for {body}"

    async with Line(broker.url, a_file(), {"charge": charge}).open() as line:
        await send(line, "tea", "coffee")
        await settled(line, 2)
        assert counts(line.ledger) == {"delivered": 2, "done": 2}
    invoices = await broker.get_all("invoices")
    assert [each.body for each in invoices] == [b"invoice for tea", b"invoice for coffee"]
    assert [each.message_id for each in invoices] == ["m-0:charge:1", "m-1:charge:1"]
    assert broker.queue_depths()["billing"] == 0


async def test_a_failure_is_kept_with_its_story_and_everything_that_it_came_with(broker: BrokerUnderTest) -> None:
    async def charge(message: Message) -> None:
        raise Reject("too old")

    headers = {"region": "eu", "n": 7, "deep": {"a": [1, True]}}
    properties: dict[str, Any] = {"headers": headers, "content_type": "text/x-order", "correlation_id": "c-1"}
    properties |= {"priority": 3, "type": "order", "app_id": "shop", "timestamp": 1_700_000_000, "reply_to": "answers"}
    async with Line(broker.url, a_file(), {"charge": charge}).open() as line:
        await send(line, b"\x00\xff", expiration=60_000, **properties)
        await settled(line, 1)
        assert counts(line.ledger) == {"delivered": 1, "dead_lettered": 1}
    (dead,) = await broker.get_all("billing.dlq")
    assert (dead.body, dead.message_id, dead.content_type) == (b"\x00\xff", "m-0", "text/x-order")
    assert (dead.correlation_id, dead.priority, dead.type, dead.app_id) == ("c-1", 3, "order", "shop")
    assert (dead.expiration, dead.reply_to) == (None, "answers")
    assert dead.timestamp is not None and dead.timestamp.timestamp() == 1_700_000_000
    assert {name: dead.headers[name] for name in headers} == headers
    assert dead.headers["x-piperun-reason"] == "fatal"
    assert dead.headers["x-piperun-error"] == "too old"
    assert dead.headers["x-piperun-queue"] == "billing"
    assert dead.headers["x-piperun-orig-expiration"] == 60_000


async def test_a_message_without_an_id_can_fail_too(broker: BrokerUnderTest) -> None:
    async def charge(message: Message) -> None:
        raise Reject("too old")

    async with Line(broker.url, a_file(), {"charge": charge}).open() as line:
        await broker.publish("billing", b"nameless")
        await broker.publish("billing", b"nearly nameless", message_id="")
        await settled(line, 2)
        assert counts(line.ledger) == {"delivered": 2, "dead_lettered": 2}
    dead = await broker.get_all("billing.dlq")
    assert len({each.message_id for each in dead}) == 2


async def test_a_dead_letter_queue_that_was_deleted_is_made_again(broker: BrokerUnderTest) -> None:
    async def charge(message: Message) -> None:
        raise Reject("too old")

    async with Line(broker.url, a_file(), {"charge": charge}).open() as line:
        async with broker.channel() as channel:
            await channel.queue_delete("billing.dlq")
        await send(line, "tea")
        await settled(line, 1)
        assert counts(line.ledger) == {"delivered": 1, "dead_lettered": 1}
    assert len(await broker.get_all("billing.dlq")) == 1


async def test_a_handler_that_settles_by_hand(broker: BrokerUnderTest) -> None:
    async def charge(message: Message, context: Context) -> None:
        body = message.body
        if body == b"reject":
            await message.reject("too old")
        elif body == b"retry":
            await message.retry(after="5s")
        elif body == b"ack":
            await context.publish("an invoice", queue="invoices")
            await message.ack()

    async with Line(broker.url, a_file(ack="manual", concurrency=4), {"charge": charge}).open() as line:
        await send(line, b"ack", b"reject", b"retry", b"forgotten")
        await settled(line, 4)
        assert counts(line.ledger) == {"delivered": 4, "done": 1, "dead_lettered": 3}
    reasons = {each.body: each.headers["x-piperun-reason"] for each in await broker.get_all("billing.dlq")}
    assert reasons == {b"reject": "fatal", b"retry": "no_retry", b"forgotten": "max_attempts"}
    assert len(await broker.get_all("invoices")) == 1
    assert broker.queue_depths()["billing"] == 0


async def test_what_was_not_begun_goes_back_at_a_stop_and_stays_on_the_broker(broker: BrokerUnderTest) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def charge(body: str) -> None:
        begun.set()
        await go.wait()

    async with Line(broker.url, a_file(), {"charge": charge}).open() as line:
        await send(line, "tea", "coffee", "cocoa")
        await eventually(lambda: line.ledger.numbers()["delivered"] == 3)
        await begun.wait()
        go.set()
    numbers = line.ledger.numbers()
    assert numbers["delivered"] == numbers["done"] + numbers["returned"] == 3
    assert line.ledger.in_hand == 0
    left = await broker.get_all("billing")
    assert len(left) == numbers["returned"]
    assert all(each.redelivered for each in left)


async def test_a_line_that_is_cut_leaves_handlers_alone_and_the_message_comes_again(broker: BrokerUnderTest) -> None:
    begun: list[bool] = []
    ended: list[str] = []
    go = asyncio.Event()

    async def charge(message: Message) -> None:
        begun.append(message.redelivered)
        if len(begun) == 1:
            await go.wait()
        ended.append("to its end")

    async with Line(broker.url, a_file(), {"charge": charge}).open() as line:
        await send(line, "tea")
        await eventually(lambda: begun)
        broker.drop_connections()
        await eventually(lambda: line.seen.of(ConnectionLost), seconds=20)
        await eventually(lambda: line.ledger.numbers()["delivered"] == 2, seconds=20, told="the message again")
        go.set()
        await settled(line, 2)
        assert (begun, ended) == ([False, True], ["to its end"] * 2)
        assert counts(line.ledger) == {"delivered": 2, "done": 1, "redelivery_expected": 1}
    assert broker.queue_depths()["billing"] == 0


@pytest.mark.parametrize("ack", ["on_success", "manual"])
async def test_nothing_is_lost_and_the_numbers_add_up_when_the_line_is_cut_again_and_again(
    broker: BrokerUnderTest, ack: str
) -> None:
    async def charge(message: Message) -> str | None:
        if message.message_id in ("m-3", "m-7"):
            raise Reject("too old")
        await asyncio.sleep(0)
        if ack == "manual":
            await message.ack()
            return None
        return "an invoice"

    ids = [f"m-{number}" for number in range(60)]
    done: set[str] = set()
    async with Line(broker.url, a_file(ack=ack, concurrency=4, prefetch=8), {"charge": charge}).open() as line:
        for beginning in range(0, 60, 20):
            before = line.ledger.numbers()["delivered"]
            sending = asyncio.create_task(produce(line, ids[beginning : beginning + 20]))
            await more_delivered(line, before)
            broker.drop_connections()
            await asyncio.wait_for(sending, deadline(60))
        await eventually(lambda: broker.queue_depths()["billing"] == 0, seconds=30, told="an empty queue")
        await eventually(lambda: line.ledger.in_hand == 0, seconds=20)
        assert adds_up(line)
    numbers = line.ledger.numbers()
    assert numbers["dropped"] == 0
    assert numbers["dead_lettered"] >= 2
    assert numbers["done"] >= len(ids) - 2
    done |= {str(each.message_id) for each in await broker.get_all("billing.dlq")}
    assert done == {"m-3", "m-7"}
    if ack == "on_success":
        invoices = {str(each.message_id).split(":")[0] for each in await broker.get_all("invoices")}
        assert invoices == set(ids) - done


async def produce(line: Line, ids: list[str]) -> None:
    """A real producer over the same line: everything is confirmed in the end."""
    items: list[Item] = [an_item(number, message_id=name) for number, name in enumerate(ids)]
    source = ScriptedSource(items)
    ledger = a_producer_ledger()
    run = ProducerRun(
        producer=a_producer(publish=a_publish(routing_key="billing"), max_in_flight=10),
        source=source,
        publisher=line.publisher,
        ledger=ledger,
        clock=line.clock,
        emit=line.seen,
        mask=str,
    )
    await run.run()
    assert run.failure is None
    assert counts(ledger) == {"read": len(ids), "confirmed": len(ids)}
    assert sorted(source.journal[1:-1]) == sorted(f"sent {name}" for name in ids)


async def test_without_acknowledgement_the_broker_forgets_at_once(broker: BrokerUnderTest) -> None:
    go = asyncio.Event()

    async def charge(message: Message) -> None:
        await go.wait()
        if message.body == b"coffee":
            raise Reject("too old")

    async with Line(broker.url, a_file(ack="none"), {"charge": charge}).open() as line:
        await send(line, b"tea", b"coffee", b"cocoa")
        await eventually(lambda: line.ledger.numbers()["delivered"] == 3)
        await eventually(lambda: broker.queue_depths()["billing"] == 0)
        go.set()
        await settled(line, 3)
        assert counts(line.ledger) == {"delivered": 3, "done": 2, "dropped": 1}


async def test_a_message_to_nowhere_fails_its_producer(broker: BrokerUnderTest) -> None:
    async with Line(broker.url, a_pipeline(queues=QUEUES), {}).open() as line:
        run = ProducerRun(
            producer=a_producer(publish=a_publish(routing_key="biling")),
            source=ScriptedSource([an_item(1), ...]),
            publisher=line.publisher,
            ledger=(ledger := a_producer_ledger()),
            clock=line.clock,
            emit=line.seen,
            mask=str,
        )
        await asyncio.wait_for(run.run(), deadline(20))
    assert run.failure == 'the default exchange has no queue for routing key "biling" (NO_ROUTE)'
    assert counts(ledger) == {"read": 1, "failed": 1}
