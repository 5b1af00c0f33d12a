"""Publishing: confirmed, or an error that says which message and why; and whatever happens to one message, the others
get their own answer."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pipeline.amqp.link import Link
from pipeline.amqp.publish import Kept, Outgoing, Publisher
from pipeline.clock import FakeClock, SystemClock
from pipeline.errors import ConnectionLost, Nacked, NotConnected, PublishError, PublishRefused, Unroutable
from pipeline.events import Blocked, Unblocked
from pipeline.message import Message
from tests.amqp.parts import Recorder, broker_of, exchange, linked, outgoing, queue, topology
from tests.brokers import BrokerUnderTest
from tests.proxy import Proxy
from tests.rabbitmq import PrivateRabbitMQ
from tests.waiting import deadline, eventually

WAIT = deadline(10)

pytestmark = pytest.mark.usefixtures("both_lines")


@asynccontextmanager
async def publishing(
    url: str, *queues: str, recorder: Recorder | None = None, **settings: Any
) -> AsyncIterator[tuple[Publisher, Link]]:
    """A publisher whose link is up, with these queues and an exchange `e` that is bound to nothing."""
    recorder = recorder or Recorder()
    publisher = Publisher(clock=SystemClock(), emit=recorder, **settings)
    wanted = topology(exchange("e"), *map(queue, queues))
    async with linked(broker_of(url), publisher, wanted=wanted, emit=recorder) as link:
        await publisher.wait_ready()
        yield publisher, link


async def results(publisher: Publisher, *messages: Outgoing) -> list[str]:
    """What became of each when all are sent at once: `confirmed`, or the name of the error."""
    ends = await asyncio.gather(*(publisher.send(each, timeout=WAIT) for each in messages), return_exceptions=True)
    return ["confirmed" if end is None else type(end).__name__ for end in ends]


async def until_answered(publisher: Publisher, message: Outgoing) -> str:
    """As callers do: an unconfirmed message is sent again under its id."""
    while True:
        try:
            await publisher.send(message, timeout=WAIT)
        except (ConnectionLost, NotConnected):
            continue
        except PublishError as error:
            return type(error).__name__
        return "confirmed"


# Confirmed


async def test_a_confirmed_message_is_in_the_queue(broker: BrokerUnderTest) -> None:
    async with publishing(broker.url, "q") as (publisher, _):
        await publisher.send(outgoing("q", b"hello", message_id="m-1", content_type="text/plain"), timeout=WAIT)

        assert broker.queue_depths() == {"q": 1}
        assert publisher.outstanding == 0
    (message,) = await broker.get_all("q")
    assert (message.body, message.message_id, message.content_type) == (b"hello", "m-1", "text/plain")
    assert message.delivery_mode == 2


async def test_a_message_that_is_too_large_is_refused_before_anything_is_written(broker: BrokerUnderTest) -> None:
    async with publishing(broker.url, "q", longest=1024) as (publisher, _):
        # Given one that is as long as may be, and one byte more, and a copy that is to be kept
        longest, longer = outgoing("q", bytes(1024), message_id="1"), outgoing("q", bytes(1025), message_id="2")
        kept = Kept.of(Message(bytes(1026), message_id="3"), exchange="", routing_key="q", mandatory=True)
        assert await results(publisher, longest, longer, kept) == ["confirmed", "TooLarge", "confirmed"]

        # Then it is named, on a line that knows nothing of it
        with pytest.raises(
            PublishRefused,
            match=r'^a message to the default exchange with routing key "q" is too large: 1025 bytes, and '
            r"`max_message_size` is 1024 bytes$",
        ):
            await publisher.send(longer, timeout=WAIT)
        assert publisher.outstanding == 0
    assert [len(message.body) for message in await broker.get_all("q")] == [1024, 1026]


async def test_messages_to_one_destination_keep_their_order(broker: BrokerUnderTest) -> None:
    sent = [b"%d" % number for number in range(500)]
    async with publishing(broker.url, "q") as (publisher, _):
        messages = [outgoing("q", body, message_id=body.decode()) for body in sent]
        assert set(await results(publisher, *messages)) == {"confirmed"}

    assert [message.body for message in await broker.get_all("q")] == sent


async def test_whoever_comes_later_does_not_overtake_those_who_wait(broker: BrokerUnderTest) -> None:
    # Given messages that wait for a channel to be opened
    async with publishing(broker.url, "q") as (publisher, _):
        sends: list[asyncio.Task[None]] = []
        # When more come, one in each turn of the loop, until well after it is open
        while not (sends and sends[0].done()) and len(sends) < 5_000:
            message = outgoing("q", b"%d" % len(sends), message_id=str(len(sends)))
            sends.append(asyncio.create_task(publisher.send(message, timeout=WAIT)))
            await asyncio.sleep(0)
        await asyncio.gather(*sends)

    # Then they arrive in their order
    bodies = [message.body for message in await broker.get_all("q")]
    assert bodies == [b"%d" % number for number in range(len(sends))]


async def test_more_destinations_than_channels_share_them(rabbitmq: PrivateRabbitMQ) -> None:
    vhost = rabbitmq.add_vhost()
    queues = [f"q{number}" for number in range(20)]
    async with publishing(rabbitmq.url(vhost), *queues, channels=3) as (publisher, _):
        messages = [outgoing(name, message_id=name) for name in queues]
        assert set(await results(publisher, *messages)) == {"confirmed"}

        opened = f'[C || [{{vhost, V}}, {{number, C}}] <- rabbit_channel:info_all([vhost, number]), V == <<"{vhost}">>]'
        assert rabbitmq.eval(f"length({opened})") == "3"
    assert rabbitmq.list_queues(vhost) == dict.fromkeys(queues, 1)
    rabbitmq.delete_vhost(vhost)


async def test_a_body_of_several_frames_arrives_whole(broker: BrokerUnderTest) -> None:
    body = bytes(range(256)) * 2_000
    async with publishing(broker.url, "q") as (publisher, _):
        await publisher.send(outgoing("q", body), timeout=WAIT)

    (message,) = await broker.get_all("q")
    assert message.body == body


async def test_a_message_without_an_id_is_a_mistake_of_ours() -> None:
    publisher = Publisher(clock=SystemClock(), emit=Recorder())
    message = Outgoing.of(Message(b""), exchange="", routing_key="q", mandatory=True)

    with pytest.raises(ValueError, match="stamped"):
        await publisher.send(message, timeout=None)


# Not taken


async def test_an_unroutable_message_names_exchange_and_routing_key(broker: BrokerUnderTest) -> None:
    async with publishing(broker.url) as (publisher, _):
        with pytest.raises(Unroutable) as caught:
            await publisher.send(outgoing("order.lost", exchange="e"), timeout=WAIT)

    assert (caught.value.exchange, caught.value.routing_key) == ("e", "order.lost")
    assert str(caught.value) == 'exchange "e" has no queue for routing key "order.lost" (NO_ROUTE)'


async def test_a_message_that_need_not_be_routed_is_confirmed_all_the_same(broker: BrokerUnderTest) -> None:
    async with publishing(broker.url) as (publisher, _):
        message = outgoing("nowhere", exchange="e")
        message.mandatory = False
        await publisher.send(message, timeout=WAIT)


async def test_two_messages_with_one_id_get_each_their_own_answer(broker: BrokerUnderTest) -> None:
    # Given that the client tells returned messages apart by their id
    async with publishing(broker.url) as (publisher, link):
        assert link.generation is not None
        async with broker.channel() as channel:
            bound = await channel.declare_queue("q", durable=True)
            await bound.bind("e", "good")

        # When an unroutable and a good one travel at once, to one exchange, again and again
        for _ in range(20):
            ends = await results(
                publisher,
                outgoing("bad", exchange="e", message_id="same"),
                outgoing("good", exchange="e", message_id="same"),
                outgoing("bad", exchange="e", message_id="same"),
            )
            assert ends == ["Unroutable", "confirmed", "Unroutable"]

    assert broker.queue_depths()["q"] == 20


async def test_a_missing_exchange_is_refused_in_the_brokers_words(broker: BrokerUnderTest) -> None:
    async with publishing(broker.url, "q") as (publisher, _):
        with pytest.raises(PublishRefused) as caught:
            await publisher.send(outgoing("k", exchange="nowhere"), timeout=WAIT)
        assert str(caught.value).startswith(
            'the broker refused a message to exchange "nowhere" with routing key "k": '
            "NOT_FOUND - no exchange 'nowhere' in vhost "
        )

        # And the next message, to a queue that is there, is taken
        await publisher.send(outgoing("q"), timeout=WAIT)


async def test_a_refusal_among_many_messages_reaches_nobody_else(broker: BrokerUnderTest) -> None:
    """The client writes on for some turns of the loop after the broker has closed a channel, and RabbitMQ answers that
    by ending the connection: none of that may happen here."""
    async with publishing(broker.url, "q") as (publisher, link):
        generation = link.generation
        lost = [outgoing("k", exchange="nowhere", message_id=f"lost-{number}") for number in range(50)]
        good = [outgoing("q", message_id=f"good-{number}") for number in range(50)]

        ends = await asyncio.gather(
            *(until_answered(publisher, each) for pair in zip(lost, good, strict=True) for each in pair)
        )

        assert Counter(ends) == {"PublishRefused": 50, "confirmed": 50}
        assert link.generation is generation
    assert broker.queue_depths() == {"q": 50}


async def test_the_one_bad_message_of_a_channel_is_found(broker: BrokerUnderTest) -> None:
    # Given twenty messages to one queue at once, one of them under a name that is not ours
    messages = [outgoing("q", message_id=str(number)) for number in range(20)]
    messages[7] = outgoing("q", message_id="7", user_id="somebody-else")
    async with publishing(broker.url, "q") as (publisher, link):
        generation = link.generation
        # When those that are unconfirmed are sent again
        ends = await asyncio.gather(*(until_answered(publisher, each) for each in messages))

        assert ends == ["PublishRefused" if number == 7 else "confirmed" for number in range(20)]
        assert link.generation is generation


async def test_a_full_queue_nacks(rabbitmq: PrivateRabbitMQ) -> None:
    vhost = rabbitmq.add_vhost()
    full = queue("q", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    publisher = Publisher(clock=SystemClock(), emit=Recorder())
    async with linked(broker_of(rabbitmq.url(vhost)), publisher, wanted=topology(full)):
        await publisher.send(outgoing("q", message_id="1"), timeout=WAIT)

        with pytest.raises(Nacked, match='the default exchange with routing key "q"'):
            await publisher.send(outgoing("q", message_id="2"), timeout=WAIT)
    rabbitmq.delete_vhost(vhost)


async def test_a_destination_in_doubt_gets_another_channel_and_the_old_one_is_closed(rabbitmq: PrivateRabbitMQ) -> None:
    vhost = rabbitmq.add_vhost()
    full = queue("q", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    clock = FakeClock()
    publisher = Publisher(clock=clock, emit=Recorder())
    async with linked(broker_of(rabbitmq.url(vhost)), publisher, wanted=topology(full, queue("other"))):
        await publisher.send(outgoing("q", message_id="1"), timeout=WAIT)
        await publisher.send(outgoing("other", message_id="2"), timeout=WAIT)
        before = rabbitmq.list_channels(vhost)
        # When what is sent to a destination is refused again and again
        publisher.doubt(outgoing("q", message_id="3"))
        assert await results(publisher, outgoing("q", message_id="3")) == ["Nacked"]
        # Then the next message to it has gone through a new channel, and the old one is closed
        await eventually(lambda: len(rabbitmq.list_channels(vhost)) == len(before), told="as many channels as before")
        after = rabbitmq.list_channels(vhost)
        assert len(after - before) == 1
        # And not again before some time has passed, however often it is refused
        publisher.doubt(outgoing("q", message_id="4"))
        assert await results(publisher, outgoing("q", message_id="4")) == ["Nacked"]
        assert rabbitmq.list_channels(vhost) == after
        clock.advance(30)
        publisher.doubt(outgoing("q", message_id="5"))
        assert await results(publisher, outgoing("q", message_id="5")) == ["Nacked"]
        assert rabbitmq.list_channels(vhost) - after
    rabbitmq.delete_vhost(vhost)


async def test_what_is_in_flight_on_a_channel_in_doubt_still_gets_its_answer(
    broker: BrokerUnderTest, proxy: Proxy
) -> None:
    async with publishing(proxy.url(broker.url), "q") as (publisher, _):
        await publisher.send(outgoing("q", message_id="0"), timeout=WAIT)
        proxy.freeze()
        sending = asyncio.gather(*(publisher.send(outgoing("q", message_id=f"{n}"), timeout=WAIT) for n in range(1, 6)))
        await eventually(lambda: publisher.outstanding == 5, told="five in flight")
        publisher.doubt(outgoing("q", message_id="6"))
        proxy.thaw()
        await sending
        await publisher.send(outgoing("q", message_id="6"), timeout=WAIT)
        assert len(await broker.get_all("q")) == 7


@pytest.mark.parametrize("value", [object(), 2**70, 1e300], ids=["an object", "too large", "no 32-bit float"])
async def test_a_header_that_amqp_cannot_carry_is_refused_and_the_channel_lives(
    broker: BrokerUnderTest, value: object
) -> None:
    async with publishing(broker.url, "q") as (publisher, _):
        with pytest.raises(PublishRefused, match="cannot be written"):
            await publisher.send(outgoing("q", headers={"h": value}), timeout=WAIT)

        await publisher.send(outgoing("q", headers={"h": 1}), timeout=WAIT)


async def test_headers_that_do_not_fit_into_a_frame_are_refused_before_they_cost_the_connection(
    broker: BrokerUnderTest,
) -> None:
    async with publishing(broker.url, "q") as (publisher, link):
        generation = link.generation
        with pytest.raises(PublishRefused, match="headers and properties take 200"):
            await publisher.send(outgoing("q", headers={"h": "x" * 200_000}), timeout=WAIT)

        await publisher.send(outgoing("q", headers={"h": "x" * 100_000}), timeout=WAIT)
        assert link.generation is generation


# No connection, or one that is lost


async def test_without_a_connection_nothing_is_sent() -> None:
    clock = FakeClock()
    publisher = Publisher(clock=clock, emit=Recorder())
    sending = asyncio.create_task(publisher.send(outgoing("q"), timeout=3))
    await eventually(lambda: clock.waiting)
    assert publisher.outstanding == 1
    clock.advance(3)

    with pytest.raises(NotConnected, match="nothing was sent within 3 s: there is no connection to the broker"):
        await sending
    assert publisher.outstanding == 0


async def test_a_message_waits_for_the_next_connection(broker: BrokerUnderTest, proxy: Proxy) -> None:
    async with publishing(proxy.url(broker.url), "q") as (publisher, link):
        proxy.refuse()
        proxy.cut()
        await eventually(lambda: not link.up)
        sending = asyncio.create_task(publisher.send(outgoing("q"), timeout=WAIT))
        proxy.accept()
        await sending

    assert broker.queue_depths() == {"q": 1}


async def test_a_message_in_flight_when_the_line_is_cut_is_unconfirmed(broker: BrokerUnderTest, proxy: Proxy) -> None:
    async with publishing(proxy.url(broker.url), "q") as (publisher, link):
        await publisher.send(outgoing("q", message_id="before"), timeout=WAIT)
        # Given a message whose confirm does not come back
        proxy.freeze()
        sending = asyncio.create_task(publisher.send(outgoing("q", message_id="late"), timeout=0.1))
        await eventually(lambda: publisher.outstanding)
        # When the time to send it is long over, then it is still waited for
        await asyncio.wait({sending}, timeout=0.3)
        assert not sending.done()
        proxy.cut()

        with pytest.raises(ConnectionLost, match="it may have arrived"):
            await sending
        proxy.thaw()
        await eventually(lambda: link.up)
        await publisher.send(outgoing("q", message_id="after"), timeout=WAIT)


async def test_messages_get_through_a_line_that_is_cut_again_and_again(broker: BrokerUnderTest, proxy: Proxy) -> None:
    messages = [outgoing("q", message_id=str(number)) for number in range(300)]
    async with publishing(proxy.url(broker.url), "q") as (publisher, _):

        async def send_all() -> list[str]:
            return [await until_answered(publisher, each) for each in messages]

        sending = asyncio.create_task(send_all())
        for _ in range(3):
            proxy.cut_after(5_000, "up")
            await eventually(lambda: proxy.connections == 0 or sending.done())
            await eventually(lambda: proxy.connections or sending.done())
        assert set(await sending) == {"confirmed"}

    arrived = {message.message_id for message in await broker.get_all("q")}
    assert arrived == {each.message.message_id for each in messages}


async def test_a_cancelled_sender_leaves_the_channel_whole(broker: BrokerUnderTest) -> None:
    async with publishing(broker.url, "q") as (publisher, link):
        generation = link.generation
        for number in range(50):
            sending = asyncio.create_task(publisher.send(outgoing("q", message_id=f"gone-{number}"), timeout=WAIT))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            sending.cancel()
            await asyncio.wait({sending})
            await publisher.send(outgoing("q", message_id=f"kept-{number}"), timeout=WAIT)
        assert publisher.outstanding == 0
        assert link.generation is generation

    arrived = Counter(message.message_id for message in await broker.get_all("q"))
    assert all(arrived[f"kept-{number}"] == 1 for number in range(50))


async def test_a_cancelled_message_does_not_give_its_answer_to_the_next(broker: BrokerUnderTest, proxy: Proxy) -> None:
    async with publishing(proxy.url(broker.url)) as (publisher, _):
        async with broker.channel() as channel:
            bound = await channel.declare_queue("q", durable=True)
            await bound.bind("e", "good")
        await publisher.send(outgoing("good", exchange="e", message_id="before"), timeout=WAIT)
        # Given an unroutable message whose sender has gone before the answer
        proxy.freeze()
        sending = asyncio.create_task(publisher.send(outgoing("lost", exchange="e", message_id="same"), timeout=WAIT))
        await eventually(lambda: publisher.outstanding)
        sending.cancel()
        await asyncio.wait({sending})
        # When a good one follows with the same id
        again = asyncio.create_task(publisher.send(outgoing("good", exchange="e", message_id="same"), timeout=WAIT))
        await eventually(lambda: publisher.outstanding)
        proxy.thaw()

        # Then it is confirmed: the return was for the other
        await again
    assert broker.queue_depths()["q"] == 2


# Blocked


async def test_under_an_alarm_messages_wait_and_arrive_once(broker: BrokerUnderTest) -> None:
    recorder = Recorder()
    async with publishing(broker.url, "q", recorder=recorder) as (publisher, link):
        # Given an alarm, which RabbitMQ shows to those who publish
        broker.block()
        sent: list[asyncio.Task[None]] = []
        while not link.blocked:
            sent.append(asyncio.create_task(publisher.send(outgoing("q", message_id=str(len(sent))), timeout=None)))
            await asyncio.wait({sent[-1]}, timeout=0.05)
            assert len(sent) < 1_000
        await recorder.first(Blocked)

        # When more is sent, it does not leave
        with pytest.raises(NotConnected, match="memory or disk alarm"):
            await publisher.send(outgoing("q", message_id="impatient"), timeout=0.1)
        sent.append(asyncio.create_task(publisher.send(outgoing("q", message_id=str(len(sent))), timeout=None)))
        broker.unblock()
        await asyncio.gather(*sent)

        # Then everything has arrived once
        await recorder.first(Unblocked)
        assert not link.blocked
    arrived = Counter(message.message_id for message in await broker.get_all("q"))
    assert arrived == {str(number): 1 for number in range(len(sent))}


async def test_only_so_many_messages_are_unconfirmed_at_a_time(broker: BrokerUnderTest, proxy: Proxy) -> None:
    async with publishing(proxy.url(broker.url), "q", window=2) as (publisher, _):
        await publisher.send(outgoing("q", message_id="before"), timeout=WAIT)
        proxy.freeze()
        waiting = [
            asyncio.create_task(publisher.send(outgoing("q", message_id=str(n)), timeout=None)) for n in range(2)
        ]
        await eventually(lambda: publisher.outstanding == 2)

        with pytest.raises(NotConnected, match="too many messages wait for their confirms"):
            await publisher.send(outgoing("q", message_id="too many"), timeout=0.05)
        proxy.thaw()
        await asyncio.gather(*waiting)
