"""The outputs of one message: their ids, their order, how many are on their way, and that nobody forgets one that was
sent beside the others."""

import asyncio
from typing import Any

import pytest

from pipeline.amqp.publish import Outgoing
from pipeline.clock import FakeClock
from pipeline.codec import EncodeError
from pipeline.config.model import Publish
from pipeline.errors import ChannelGone, ConnectionLost, Nacked, NotConnected, PublishRefused, Unroutable
from pipeline.message import Message
from pipeline.runtime.outputs import Outlet, Outputs
from pipeline.runtime.settle import LONGEST_HOLD
from tests.models import a_publish
from tests.runtime.stand_ins import NEVER, Answer, HandDelivery, ScriptedPublisher, in_time, some_turns

NOWHERE: dict[str, Any] = {"exchange": None, "routing_key": None, "queue": None, "headers": None}
UNROUTABLE = Unroutable(exchange="", routing_key="invoices")


class Table:
    def __init__(
        self,
        answers: list[Answer] | None = None,
        *,
        publish: Publish | None = None,
        message: Message | None = None,
        consumer: str = "charge",
    ) -> None:
        self.publisher = ScriptedPublisher(answers or [])
        self.clock = FakeClock()
        self.troubles: list[str] = []
        self.delivery = HandDelivery(message or Message(b"in", message_id="m-1", queue="billing"))
        self.outlet = Outlet(
            consumer=consumer,
            publish=publish or a_publish(),
            plain=a_publish(routing_key=""),
            publisher=self.publisher,
            clock=self.clock,
            longest_hold=LONGEST_HOLD,
            troubled=lambda _, reason, __: self.troubles.append(reason),
        )
        self.outputs = Outputs(self.outlet, self.delivery)

    @property
    def targets(self) -> list[tuple[str, str]]:
        return [(each.exchange, each.routing_key) for each in self.publisher.sent]


class Bare(Table):
    """A consumer without `publish` in the file."""

    def __init__(self) -> None:
        super().__init__()
        self.outlet.publish = None


# Ids


async def test_outputs_are_numbered_and_a_repeat_gives_the_same_numbers() -> None:
    tries = []
    for _ in range(2):
        table = Table()
        for value in ("a", "b"):
            await table.outputs.add(value)
        await table.outputs.publish("c", **NOWHERE)
        await table.outputs.confirmed()
        tries.append(table.publisher.ids)
    assert tries == [["m-1:charge:1", "m-1:charge:2", "m-1:charge:3"]] * 2


async def test_a_message_may_bring_an_id_of_its_own() -> None:
    table = Table()
    await table.outputs.add(Message("a", message_id="own"))
    await table.outputs.add("b")
    await table.outputs.confirmed()
    assert table.publisher.ids == ["own", "m-1:charge:2"]


@pytest.mark.parametrize("without", [None, ""])
async def test_outputs_of_a_message_without_an_id_have_one_beginning_that_nobody_else_has(without: str | None) -> None:
    tables = [Table(message=Message(b"in", message_id=without, queue="billing")) for _ in range(2)]
    for table in tables:
        await table.outputs.add("a")
        await table.outputs.add("b")
        await table.outputs.confirmed()
    first, second = ([str(each) for each in table.publisher.ids] for table in tables)
    beginning = first[0].removesuffix(":charge:1")
    assert beginning and first == [f"{beginning}:charge:1", f"{beginning}:charge:2"]
    assert not set(first) & set(second)


@pytest.mark.parametrize("length", [240, 255])
async def test_no_id_is_longer_than_amqp_allows(length: int) -> None:
    tries = []
    for name in ("a", "b"):
        table = Table(message=Message(b"in", message_id="ß" * (length // 2) + name, queue="billing"))
        await table.outputs.add("x")
        await table.outputs.add("y")
        await table.outputs.confirmed()
        tries.append([str(each) for each in table.publisher.ids])
    ids = [*tries[0], *tries[1]]
    assert all(len(each.encode()) <= 255 for each in ids)
    assert len(set(ids)) == 4


# Where they go


@pytest.mark.parametrize(
    ("where", "target"),
    [
        ({}, ("orders", "order.paid")),
        ({"routing_key": "order.void"}, ("orders", "order.void")),
        ({"exchange": "audit"}, ("audit", "")),
        ({"exchange": "audit", "routing_key": "k"}, ("audit", "k")),
        ({"queue": "archive"}, ("", "archive")),
    ],
)
@pytest.mark.parametrize(
    "body", ["text", Message("x", exchange="own", routing_key="own"), Message(b"x", queue="in", routing_key="in")]
)
async def test_what_the_call_says_wins_over_everything(
    where: dict[str, Any], target: tuple[str, str], body: object
) -> None:
    table = Table(publish=a_publish(exchange="orders", routing_key="order.paid"))
    await table.outputs.publish(body, **{**NOWHERE, **where})
    if isinstance(body, Message) and not body.queue and not where:
        target = ("own", "own")  # a message of the handler's own making may say where it goes
    if isinstance(body, Message) and not body.queue and set(where) == {"routing_key"}:
        target = ("own", "order.void")
    assert table.targets == [target]


async def test_a_handler_may_send_without_a_publish_in_the_file_if_it_says_where() -> None:
    table = Bare()
    await table.outputs.publish("a", **{**NOWHERE, "queue": "archive"})
    assert table.targets == [("", "archive")]
    with pytest.raises(ValueError, match="needs queue= or exchange="):
        await table.outputs.publish("b", **NOWHERE)


async def test_headers_of_the_call_are_added_and_the_users_message_stays_as_it_is() -> None:
    table = Table()
    own = Message("x", headers={"a": 1})
    await table.outputs.publish(own, **{**NOWHERE, "headers": {"b": 2}})
    assert table.publisher.sent[0].message.headers == {"a": 1, "b": 2}
    assert own.headers == {"a": 1}


# Confirms


async def test_add_returns_before_the_confirm_and_confirmed_waits_for_it() -> None:
    table = Table()
    table.publisher.gate = asyncio.Event()
    await table.outputs.add("a")
    waiting = asyncio.create_task(table.outputs.confirmed())
    await some_turns()
    assert not waiting.done()
    table.publisher.gate.set()
    await asyncio.wait_for(waiting, 5)


async def test_a_generator_without_an_end_is_asked_for_no_more_than_can_be_sent() -> None:
    table = Table()
    table.publisher.gate = asyncio.Event()

    async def yield_without_end() -> None:
        while True:
            await table.outputs.add("again")

    yielding = asyncio.create_task(yield_without_end())
    for _ in range(500):
        await asyncio.sleep(0)
    assert len(table.publisher.sent) == 100
    yielding.cancel()
    await asyncio.wait({yielding})
    table.outputs.forget()


async def test_an_output_that_is_added_while_another_is_waited_for_is_waited_for_too() -> None:
    table = Table()
    first, second = asyncio.Event(), asyncio.Event()
    table.publisher.gate = first
    await table.outputs.add("a")
    waiting = asyncio.create_task(table.outputs.confirmed())
    await some_turns()
    table.publisher.gate = second
    beside = asyncio.create_task(table.outputs.publish("b", **NOWHERE))
    await some_turns()
    first.set()
    await some_turns()
    assert not waiting.done()
    second.set()
    await asyncio.wait_for(asyncio.gather(waiting, beside), 5)


@pytest.mark.parametrize("fault", [UNROUTABLE, PublishRefused("403")])
async def test_an_output_that_was_not_taken_is_an_error(fault: Exception) -> None:
    table = Table([None, fault, fault])
    for value in ("a", "b", "c"):
        await table.outputs.add(value)
    with pytest.raises(type(fault)):
        await table.outputs.confirmed()


async def test_a_full_queue_is_waited_for_while_the_message_can_be_held() -> None:
    table = Table([Nacked("a queue is full")] * 3)
    await table.outputs.add("a")
    await in_time(table.clock, table.outputs.confirmed())
    assert table.troubles == ["a queue is full"] * 3
    assert table.publisher.ids == ["m-1:charge:1"] * 4


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("fault", [Nacked, ConnectionLost, NotConnected])
async def test_the_one_output_of_a_message_is_tried_again(fault: type[Exception], at_once: bool) -> None:
    table = Table([fault("not now")] * 3)
    table.publisher.at_once = at_once
    await in_time(table.clock, table.outputs.confirmed(table.outputs.made("a")))
    assert table.troubles == ["not now"] * 3
    assert table.publisher.ids == ["m-1:charge:1"] * 4


async def test_one_that_could_not_even_begin_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table([NotConnected("not now")])

    def begin(_: Outgoing) -> None:
        raise NotConnected("the channel had just been closed")

    monkeypatch.setattr(table.publisher, "begin", begin)
    trying = asyncio.create_task(table.outputs.confirmed(table.outputs.made("a")))
    await some_turns()
    monkeypatch.undo()
    await in_time(table.clock, trying)
    assert table.troubles == ["the channel had just been closed", "not now"]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("fault", [UNROUTABLE, PublishRefused("403")])
async def test_the_one_output_that_was_not_taken_is_an_error(fault: Exception, at_once: bool) -> None:
    table = Table([fault])
    table.publisher.at_once = at_once
    with pytest.raises(type(fault)):
        await table.outputs.confirmed(table.outputs.made("a"))
    assert table.troubles == []


async def test_what_is_not_worth_another_try_is_given_up_with_its_message() -> None:
    table = Table([Nacked("a queue is full")] * 3)
    table.delivery.alive = False
    await table.outputs.add("a")
    with pytest.raises(ChannelGone):
        await in_time(table.clock, table.outputs.confirmed())


async def test_a_send_that_fails_is_told_to_the_handler_that_waits_for_it() -> None:
    table = Table([UNROUTABLE])
    with pytest.raises(Unroutable):
        await table.outputs.publish("a", **NOWHERE)


async def test_a_handler_that_stops_waiting_has_still_sent() -> None:
    table = Table()
    table.publisher.gate = asyncio.Event()
    sending = asyncio.create_task(table.outputs.publish("a", **NOWHERE))
    await some_turns()
    sending.cancel()
    await asyncio.wait({sending})
    waiting = asyncio.create_task(table.outputs.confirmed())
    await some_turns()
    assert not waiting.done()
    table.publisher.gate.set()
    await asyncio.wait_for(waiting, 5)
    assert table.publisher.journal[-1].startswith("confirmed")


async def test_what_cannot_be_a_body_is_told_at_once() -> None:
    table = Table()
    with pytest.raises(EncodeError):
        await table.outputs.add(object())
    assert table.publisher.sent == []


async def test_after_it_was_given_up_nothing_more_goes_out() -> None:
    table = Table([NEVER])
    await table.outputs.add("a")
    await some_turns()
    table.outputs.forget()
    await some_turns()
    with pytest.raises(Exception, match="given up"):
        await table.outputs.add("b")
    with pytest.raises(Exception, match="given up"):
        await table.outputs.publish("c", **NOWHERE)
    assert len(table.publisher.sent) == 1
