"""Retry over a real line, on both brokers: how often and when a message is handled again, what it looks like then,
where it ends, and that nothing is lost on the way."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.clock import SystemClock
from pipeline.config.model import Binding, Exchange
from pipeline.embedded import EmbeddedBroker
from pipeline.errors import Retry
from pipeline.events import AttemptDisbelieved, MessageRetried
from pipeline.message import Message
from pipeline.runtime.outgoing import outgoing
from tests.brokers import BrokerUnderTest, EmbeddedUnderTest, RabbitMQUnderTest
from tests.models import a_consumer, a_pipeline, a_publish, a_queue, a_retry
from tests.rabbitmq import PrivateRabbitMQ
from tests.rabbitmq_installation import find_installation, version_to_behave_like
from tests.runtime.line import Line
from tests.runtime.stand_ins import counts
from tests.runtime.test_over_the_line import adds_up, send, settled
from tests.waiting import deadline, eventually

pytestmark = pytest.mark.usefixtures("both_lines")

QUORUM: dict[str, Any] = {
    "type": "quorum",
    "arguments": {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "billing.dlq",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        "x-delivery-limit": 50,
    },
    "dead_letter": "billing.dlq",
}
HEADERS = {"region": "eu", "n": 7, "deep": {"a": [1, True]}}
PROPERTIES: dict[str, Any] = {
    "headers": HEADERS,
    "content_type": "text/x-order",
    "content_encoding": "none",
    "correlation_id": "c-1",
    "priority": 3,
    "type": "order",
    "app_id": "shop",
    "timestamp": 1_700_000_000,
    "reply_to": "answers",
}


def a_file(*delays: float, queue: Any = (), retry: Any = (), **more: Any) -> Any:
    consumer = a_consumer(retry=a_retry(*delays, **dict(retry)), **more)
    return a_pipeline(queues=(a_queue("billing", **dict(queue)),), consumers=(consumer,))


class Handler:
    """Fails as long as it is told to, and keeps what it has seen."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.seen: list[Message] = []
        self.moments: list[float] = []

    async def __call__(self, message: Message) -> None:
        self.seen.append(message)
        self.moments.append(SystemClock().now())
        if self.errors:
            raise self.errors.pop(0)

    @property
    def pauses(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.moments, self.moments[1:], strict=False)]


def identity(message: Message) -> dict[str, Any]:
    return {
        "body": message.body,
        "message_id": message.message_id,
        **{name: getattr(message, name) for name in PROPERTIES if name != "headers"},
        "headers": {name: value for name, value in message.headers.items() if name in HEADERS},
        "exchange": message.exchange,
        "routing_key": message.routing_key,
    }


@pytest.mark.parametrize("queue", [{}, QUORUM], ids=["classic", "quorum"])
async def test_a_message_that_raises_has_exactly_its_attempts_with_their_delays_and_stays_what_it_was(
    broker: BrokerUnderTest, queue: dict[str, Any]
) -> None:
    handler = Handler(*(ValueError("boom") for _ in range(9)))
    async with Line(broker.url, a_file(0.1, 0.2, 0.4, queue=queue), {"charge": handler}).open() as line:
        await send(line, b"\x00\xff", expiration=60_000, **PROPERTIES)
        await settled(line, 4)
        assert counts(line.ledger) == {"delivered": 4, "retried": 3, "dead_lettered": 1}
        assert [(each.attempt, each.after) for each in line.seen.of(MessageRetried)] == [(1, 0.1), (2, 0.2), (3, 0.4)]
    assert [each.attempt for each in handler.seen] == [1, 2, 3, 4]
    assert all(pause >= delay for pause, delay in zip(handler.pauses, [0.1, 0.2, 0.4], strict=True))
    first, *others = map(identity, handler.seen)
    assert others == [first] * 3
    assert (first["exchange"], first["routing_key"], first["headers"]) == ("", "billing", HEADERS)
    (dead,) = await broker.get_all("billing.dlq")
    assert (dead.body, dead.message_id, dead.correlation_id) == (b"\x00\xff", "m-0", "c-1")
    assert {name: dead.headers[name] for name in HEADERS} == HEADERS
    assert dead.headers["x-piperun-attempt"] == 4
    assert dead.headers["x-piperun-reason"] == "max_attempts"
    assert dead.headers["x-piperun-error"] == "boom"
    assert dead.headers["x-piperun-orig-expiration"] == 60_000  # from the first copy through all the others
    first_failure, last_failure = (dead.headers[f"x-piperun-{which}-failure"] for which in ("first", "last"))
    assert isinstance(first_failure, int) and isinstance(last_failure, int)
    assert last_failure - first_failure >= 600
    assert not any(broker.queue_depths().get(f"billing.retry.{each}ms") for each in (100, 200, 400))


async def test_a_message_that_succeeds_at_last_is_done_and_only_its_own_queue_gets_it_again(
    broker: BrokerUnderTest,
) -> None:
    # Given two queues that are bound to one exchange, of which one has a consumer that fails
    orders = Exchange(
        key="orders", name="orders", type="fanout", durable=True, auto_delete=False, internal=False, arguments={},
        bindings=(), declare="assert",
    )  # fmt: skip
    bound = (Binding(exchange="orders", routing_key="", arguments={}),)
    charge, ship = Handler(TimeoutError("later")), Handler()
    consumers = (a_consumer(retry=a_retry(0.1)), a_consumer("ship", queue="shipping", retry=a_retry(0.1)))
    queues = (a_queue("billing", bindings=bound), a_queue("shipping", bindings=bound))
    file = a_pipeline(exchanges=(orders,), queues=queues, consumers=consumers)
    async with Line(broker.url, file, {"charge": charge, "ship": ship}).open() as line:
        # When a message comes through it
        to_orders = a_publish(exchange="orders", routing_key="order.paid")
        message = Message(b"tea", message_id="m-1")
        await line.publisher.send(outgoing(message, to_orders, message_id=""), timeout=deadline(10))
        await eventually(lambda: line.ledgers["charge"].numbers()["done"], told="the second attempt")
        # Then the other queue has it once, and the handler is told where it came from first
        assert counts(line.ledgers["charge"]) == {"delivered": 2, "retried": 1, "done": 1}
        assert counts(line.ledgers["ship"]) == {"delivered": 1, "done": 1}
    assert [(each.exchange, each.routing_key) for each in charge.seen] == [("orders", "order.paid")] * 2


async def test_which_failures_are_worth_another_attempt(broker: BrokerUnderTest) -> None:
    errors = {
        b"covered": ConnectionResetError("again"),  # derived from what `only` names
        b"excluded": BrokenPipeError("never"),
        b"other": ValueError("never"),
        b"asked": Retry(after=0.05),  # who asks for it gets it, whatever `only` says: the shortest that is long enough
        b"asked for long": Retry(after="1h"),  # the longest, as none is
    }
    attempts: list[tuple[bytes, int]] = []

    async def charge(message: Message) -> None:
        attempts.append((message.body, message.attempt))
        if message.attempt == 1 and message.body == b"slow":
            await asyncio.sleep(60)
        if message.attempt == 1:
            raise errors[message.body]

    retry = {"only": ("ConnectionError", "TimeoutError"), "excluded": ("BrokenPipeError",)}
    file = a_file(0.02, 0.1, 0.2, retry=retry, timeout=0.3, concurrency=8)
    async with Line(broker.url, file, {"charge": charge}).open() as line:
        for body in [*errors, b"slow"]:
            await send(line, body, message_id=body.decode())
        await settled(line, 10)
        assert counts(line.ledger) == {"delivered": 10, "retried": 4, "done": 4, "dead_lettered": 2}
        after = {str(each.message_id): each.after for each in line.seen.of(MessageRetried)}
    assert after == {"covered": 0.02, "slow": 0.02, "asked": 0.1, "asked for long": 0.2}
    dead = {each.body: each.headers["x-piperun-reason"] for each in await broker.get_all("billing.dlq")}
    assert dead == {b"excluded": "fatal", b"other": "fatal"}
    again = {body for body, attempt in attempts if attempt == 2}
    assert again == {b"covered", b"asked", b"asked for long", b"slow"}


def newest() -> list[str]:
    """The brokers that have delayed retry of their own: the embedded one always."""
    return ["embedded", *(["rabbitmq"] if find_installation() and version_to_behave_like() == "4.3" else [])]


@pytest.fixture(params=newest())
def broker_4_3(request: pytest.FixtureRequest) -> Iterator[BrokerUnderTest]:
    if request.param == "rabbitmq":
        node: PrivateRabbitMQ = request.getfixturevalue("rabbitmq")
        yield RabbitMQUnderTest(node, node.add_vhost())
    else:
        with EmbeddedBroker(rabbitmq_version="4.3") as embedded:
            yield EmbeddedUnderTest(embedded)


async def test_with_the_native_strategy_the_broker_counts_and_delays(broker_4_3: BrokerUnderTest) -> None:
    delayed = {"x-delayed-retry-type": "failed", "x-delayed-retry-min": 200, "x-delayed-retry-max": 300}
    queue = {**QUORUM, "arguments": {**QUORUM["arguments"], **delayed, "x-delivery-limit": 2}}
    file = a_file(0.2, 0.3, queue=queue, retry={"strategy": "native"}, ack="manual")
    seen: list[tuple[int, bool]] = []
    moments: list[float] = []

    async def charge(message: Message) -> None:
        seen.append((message.attempt, message.redelivered))
        moments.append(SystemClock().now())
        await message.retry(after="1h")  # how long it waits in its own queue is the broker's to say

    async with Line(broker_4_3.url, file, {"charge": charge}).open() as line:
        # When a message comes that says it was delivered twice already, which is not its to say
        await send(line, b"tea", headers={"x-delivery-count": 2, "region": "eu"})
        await settled(line, 3)
        assert counts(line.ledger) == {"delivered": 3, "retried": 2, "dead_lettered": 1}
        assert [each.after for each in line.seen.of(MessageRetried)] == [0.2, 0.3]
    assert seen == [(1, False), (2, True), (3, True)]
    assert moments[1] - moments[0] >= 0.2 and moments[2] - moments[1] >= 0.3
    (dead,) = await broker_4_3.get_all("billing.dlq")
    assert (dead.headers["x-piperun-attempt"], dead.headers["x-piperun-reason"]) == (3, "max_attempts")
    assert "billing.retry.200ms" not in broker_4_3.queue_depths()


async def test_a_handler_that_settles_by_hand_asks_for_another_attempt(broker: BrokerUnderTest) -> None:
    async def charge(message: Message) -> None:
        if message.attempt < 3:
            await message.retry(after="10ms")
        else:
            await message.ack()

    async with Line(broker.url, a_file(0.05, 0.05, ack="manual"), {"charge": charge}).open() as line:
        await send(line, b"tea")
        await settled(line, 3)
        assert counts(line.ledger) == {"delivered": 3, "retried": 2, "done": 1}


async def more_retried(line: Line, count: int) -> None:
    await eventually(lambda: line.ledger.numbers()["retried"] >= count, seconds=20, told=f"{count} copies")


@pytest.mark.parametrize(
    ("forged", "attempts", "told"),
    [(-1, [1, 2], True), (99, [1, 2], True), ("2", [1, 2], True), (True, [1, 2], True), (1, [2], False)],
)
async def test_a_forged_count_of_attempts_does_no_harm(
    broker: BrokerUnderTest, forged: object, attempts: list[int], told: bool
) -> None:
    handler = Handler(ValueError("boom"), ValueError("boom"), ValueError("boom"))
    async with Line(broker.url, a_file(0.02), {"charge": handler}).open() as line:
        headers = {"x-piperun-attempt": forged, "x-piperun-queue": "billing", "x-piperun-exchange": 5}
        await send(line, b"tea", headers=headers)
        await settled(line, len(attempts))
        assert line.ledger.numbers()["dead_lettered"] == 1
        assert bool(line.seen.of(AttemptDisbelieved)) == told
    assert [each.attempt for each in handler.seen] == attempts


async def test_a_wait_queue_that_was_deleted_is_made_again(broker: BrokerUnderTest) -> None:
    handler = Handler(ValueError("boom"))
    async with Line(broker.url, a_file(0.1), {"charge": handler}).open() as line:
        async with broker.channel() as channel:
            await channel.queue_delete("billing.retry.100ms")
        await send(line, b"tea")
        await settled(line, 2)
        assert counts(line.ledger) == {"delivered": 2, "retried": 1, "done": 1}


async def test_nothing_is_lost_when_the_line_is_cut_while_copies_are_on_their_way(broker: BrokerUnderTest) -> None:
    ids = {f"m-{number}" for number in range(40)}
    done: set[str] = set()

    async def charge(message: Message) -> None:
        if message.attempt == 1:
            raise ValueError("boom")
        done.add(str(message.message_id))

    async with Line(broker.url, a_file(0.05, 0.05, concurrency=4), {"charge": charge}).open() as line:
        await send(line, *[b"tea"] * len(ids))
        for retried in (1, 10, 20):
            await more_retried(line, retried)
            broker.drop_connections()
        await eventually(lambda: done == ids, seconds=30, told="all of them")
        await eventually(lambda: line.ledger.in_hand == 0, seconds=20)
        assert adds_up(line)
        assert line.ledger.numbers()["dropped"] == line.ledger.numbers()["dead_lettered"] == 0


async def test_inline_keeps_the_order_and_a_stop_gives_back_what_it_holds(broker: BrokerUnderTest) -> None:
    handled: list[tuple[bytes, int]] = []

    async def charge(message: Message) -> None:
        handled.append((message.body, message.attempt))
        if message.body == b"3" or (message.body == b"1" and message.attempt < 3):
            raise ValueError("boom")

    file = a_file(0.02, 0.05, 300.0, retry={"strategy": "inline"})
    async with Line(broker.url, file, {"charge": charge}).open() as line:
        await send(line, b"1", b"2", b"3", b"4")
        # When the third one has begun to wait for its last attempt, which is minutes away, and the pipeline stops
        await eventually(lambda: len(line.seen.of(MessageRetried)) == 5, told="five failures")
    # Then nothing has overtaken, and what was held goes back at once, as does what was behind it
    assert handled == [(b"1", 1), (b"1", 2), (b"1", 3), (b"2", 1), (b"3", 1), (b"3", 2), (b"3", 3)]
    assert counts(line.ledger) == {"delivered": 4, "done": 2, "returned": 2}
    assert [each.body for each in await broker.get_all("billing")] == [b"3", b"4"]
