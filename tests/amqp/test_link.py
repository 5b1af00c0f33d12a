"""A link: it comes up or says why not, heals after every kind of loss, pauses longer each time it fails, and ends
within the time it is given."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from pipeline.amqp.link import Generation, Link, Part
from pipeline.amqp.self_check import plain_by_hand
from pipeline.clock import Clock, FakeClock, SystemClock
from pipeline.config.model import Broker
from pipeline.errors import BrokerError, TopologyDiffers
from pipeline.errors import ConnectionLost as Lost
from pipeline.events import Connected, ConnectFailed, ConnectionLost, Event, TopologyConflict
from tests.amqp.parts import Recorder, broker_of, linked
from tests.amqp.strangers import silent, stranger
from tests.amqp.test_connect import free_port, with_password
from tests.brokers import BrokerUnderTest
from tests.proxy import Proxy
from tests.waiting import deadline, eventually

pytestmark = [pytest.mark.usefixtures("both_lines"), pytest.mark.both_loops]


class Watcher:
    """A part that notes which generations it has lived in."""

    def __init__(self) -> None:
        self.lived: list[int] = []
        self.living = 0

    def has_lived(self, number: int) -> bool:
        return self.lived == list(range(1, number + 1))

    async def live(self, generation: Generation) -> None:
        self.lived.append(generation.number)
        self.living += 1
        try:
            await generation.wait_ended()
        finally:
            self.living -= 1


def link_to(
    broker: Broker, emit: Recorder, *, clock: Clock | None = None, declare: Any = None, parts: Sequence[Part] = ()
) -> Link:
    return Link(
        broker=broker,
        name="piperun test",
        purpose="publish",
        clock=clock or SystemClock(),
        emit=emit,
        declare=declare,
        parts=parts,
        plain=plain_by_hand(),
    )


def count_is(recorder: Recorder, kind: type[Event], number: int) -> bool:
    return len(recorder.of(kind)) == number


# Opening


async def test_an_open_link_is_up_declared_and_said_so(broker: BrokerUnderTest) -> None:
    recorder, declared = Recorder(), list[int]()

    async def declare(generation: Generation) -> None:
        declared.append(generation.number)

    link = link_to(broker_of(broker.url), recorder, declare=declare)
    assert not link.up
    await link.open(wait=False)

    assert (link.up, link.blocked, declared) == (True, False, [1])
    assert recorder.events == [Connected(link="publish", address=str(broker_of(broker.url).addresses[0]))]
    await link.close(timeout=5)
    assert not link.up
    assert link.generation is None


async def test_every_address_is_tried_once_and_every_cause_is_told() -> None:
    first, second = free_port(), free_port()
    recorder = Recorder()
    link = link_to(broker_of(f"amqp://127.0.0.1:{first}", f"amqp://127.0.0.1:{second}"), recorder)

    with pytest.raises(BrokerError) as caught:
        await link.open(wait=False)

    assert str(caught.value) == (
        f"connection refused by 127.0.0.1:{first}: nothing listens there; "
        f"connection refused by 127.0.0.1:{second}: nothing listens there"
    )
    assert recorder.events == []


async def test_the_second_address_serves_where_the_first_does_not(broker: BrokerUnderTest) -> None:
    link = link_to(broker_of(f"amqp://127.0.0.1:{free_port()}", broker.url), Recorder())
    await link.open(wait=False)
    assert link.up
    await link.close(timeout=5)


async def test_a_link_that_waits_says_why_and_tries_again_more_slowly_each_time() -> None:
    clock, recorder = FakeClock(), Recorder()
    broker = broker_of(f"amqp://127.0.0.1:{free_port()}", reconnect_initial=1, reconnect_max=8)
    opening = asyncio.create_task(link_to(broker, recorder, clock=clock).open(wait=True))
    for _ in range(6):
        await eventually(lambda: clock.waiting)
        clock.advance(8)
        await eventually(lambda: not clock.waiting)
    await eventually(lambda: clock.waiting)
    opening.cancel()

    pauses = [event.next_attempt for event in recorder.of(ConnectFailed)]
    for pause, longest in zip(pauses, [1, 2, 4, 8, 8, 8], strict=False):
        assert longest / 2 <= pause <= longest
    assert "connection refused by 127.0.0.1" in recorder.of(ConnectFailed)[0].reason
    with pytest.raises(asyncio.CancelledError):
        await opening


async def test_a_difference_ends_the_first_start_and_nothing_stays_open(broker: BrokerUnderTest, proxy: Proxy) -> None:
    async def differs(generation: Generation) -> None:
        raise TopologyDiffers(["one", "two"])

    link = link_to(broker_of(proxy.url(broker.url)), Recorder(), declare=differs)
    with pytest.raises(TopologyDiffers) as caught:
        await link.open(wait=False)

    assert caught.value.differences == ("one", "two")
    await eventually(lambda: proxy.connections == 0)


async def test_a_line_that_ends_while_declaring_is_a_broker_that_cannot_be_reached(
    broker: BrokerUnderTest, proxy: Proxy
) -> None:
    async def declare(generation: Generation) -> None:
        proxy.cut()
        await generation.channel()

    with pytest.raises(BrokerError, match="lost the connection before it was ready"):
        await link_to(broker_of(proxy.url(broker.url)), Recorder(), declare=declare).open(wait=False)


# Healing


@pytest.mark.parametrize("way", ["cut", "reset", "dropped", "closed"])
async def test_a_lost_connection_comes_back_and_the_parts_live_again(
    broker: BrokerUnderTest, proxy: Proxy, way: str
) -> None:
    recorder, watcher = Recorder(), Watcher()
    async with linked(broker_of(proxy.url(broker.url)), watcher, emit=recorder) as link:
        for number in (1, 2, 3):
            await eventually(partial(watcher.has_lived, number))
            match way:
                case "cut":
                    proxy.cut()
                case "reset":
                    proxy.cut(reset=True)
                case "dropped":
                    broker.drop_connections()
                case "closed":
                    broker.close_connections()
        await eventually(partial(watcher.has_lived, 4))
        await eventually(lambda: link.up)

        reasons = {event.reason for event in recorder.of(ConnectionLost)}
        if way == "closed":
            (reason,) = reasons
            assert reason.startswith("closed by the broker: CONNECTION_FORCED - ")
        else:
            assert reasons <= {"cut by the other side", "reset by peer", "closed by the other side"}
        assert watcher.living == 1
    assert watcher.living == 0


async def test_a_frozen_line_is_noticed_by_its_silence(broker: BrokerUnderTest, proxy: Proxy) -> None:
    recorder = Recorder()
    async with linked(broker_of(proxy.url(broker.url), heartbeat=1), emit=recorder) as link:
        proxy.freeze()
        # The client gives a peer three heartbeats and some, six seconds here
        await eventually(lambda: recorder.of(ConnectionLost), seconds=15)
        assert recorder.of(ConnectionLost)[0].reason == "no sign of life from the broker"
        proxy.thaw()
        await eventually(lambda: link.up)


async def test_while_the_broker_is_away_every_try_is_told(broker: BrokerUnderTest, proxy: Proxy) -> None:
    recorder = Recorder()
    async with linked(broker_of(proxy.url(broker.url)), emit=recorder) as link:
        proxy.refuse()
        proxy.cut()
        await eventually(lambda: len(recorder.of(ConnectFailed)) >= 3)
        assert not link.up
        assert all("connection refused by" in event.reason for event in recorder.of(ConnectFailed))

        proxy.accept()
        await eventually(lambda: link.up)


async def test_a_login_that_is_refused_later_is_told_each_time_without_the_password(broker: BrokerUnderTest) -> None:
    # Given two addresses, the second with a password that is no longer right, and a first one that goes away
    recorder = Recorder()
    with Proxy.before(broker.url) as proxy:
        addresses = broker_of(proxy.url(broker.url), with_password(broker.url, "outdated-secret"))
        async with linked(addresses, emit=recorder):
            proxy.refuse()
            proxy.cut()
            await eventually(lambda: len(recorder.of(ConnectFailed)) >= 2)

    for event in recorder.of(ConnectFailed):
        assert "login refused for user" in event.reason
        assert "outdated" not in event.reason


async def test_the_addresses_take_turns(broker: BrokerUnderTest) -> None:
    recorder = Recorder()
    with Proxy.before(broker.url) as one, Proxy.before(broker.url) as two:
        async with linked(broker_of(one.url(broker.url), two.url(broker.url)), emit=recorder):
            for number in range(1, 4):
                await eventually(partial(count_is, recorder, Connected, number))
                one.cut()
                two.cut()
            await eventually(lambda: len(recorder.of(Connected)) == 4)

        ports = [event.address.rpartition(":")[2] for event in recorder.of(Connected)]
    assert ports == [str(one.port), str(two.port)] * 2


async def test_a_difference_in_a_later_generation_is_told_and_the_parts_live(
    broker: BrokerUnderTest, proxy: Proxy
) -> None:
    recorder, watcher = Recorder(), Watcher()

    async def declare(generation: Generation) -> None:
        if generation.number > 1:
            raise TopologyDiffers(["it is otherwise now"])

    link = Link(
        broker=broker_of(proxy.url(broker.url)),
        name="test",
        purpose="consume",
        clock=SystemClock(),
        emit=recorder,
        declare=declare,
        parts=[watcher],
        plain=plain_by_hand(),
    )
    await link.open(wait=False)
    keeping = asyncio.create_task(link.keep())
    proxy.cut()
    await eventually(lambda: watcher.lived == [1, 2])
    assert recorder.of(TopologyConflict) == [TopologyConflict(sentence="it is otherwise now")]
    await link.close(timeout=5)
    await keeping


async def test_after_a_healthy_life_the_pause_is_short_again(broker: BrokerUnderTest, proxy: Proxy) -> None:
    clock, recorder = FakeClock(), Recorder()
    settings = broker_of(proxy.url(broker.url), reconnect_initial=1, reconnect_max=64)
    async with linked(settings, emit=recorder, clock=clock):
        # Given connections that end as soon as they are there
        for number in range(1, 5):
            await eventually(partial(count_is, recorder, Connected, number))
            proxy.cut()
            await eventually(partial(count_is, recorder, ConnectionLost, number))
            await eventually(lambda: clock.waiting)
            clock.advance(64)
        await eventually(lambda: len(recorder.of(Connected)) == 5)
        # When one lives for longer than the longest pause
        clock.advance(65)
        proxy.cut()
        await eventually(lambda: len(recorder.of(ConnectionLost)) == 5)

    pauses = [event.next_attempt for event in recorder.of(ConnectionLost)]
    assert pauses[3] >= 4
    assert pauses[4] <= 1


# Ending


async def test_closing_says_goodbye_to_the_broker(broker: BrokerUnderTest) -> None:
    recorder = Recorder()
    async with linked(broker_of(broker.url), emit=recorder) as link:
        generation = link.generation
        assert generation is not None
    assert (generation.ended, generation.reason) == (True, "closed")
    assert not recorder.of(ConnectionLost)


async def test_closing_a_frozen_line_keeps_to_its_time(broker: BrokerUnderTest, proxy: Proxy) -> None:
    link = link_to(broker_of(proxy.url(broker.url)), Recorder())
    await link.open(wait=False)
    keeping = asyncio.create_task(link.keep())
    proxy.freeze()
    async with asyncio.timeout(deadline(4)):
        await link.close(timeout=0.2)
        await keeping
    assert not link.up


async def test_closing_under_an_alarm_keeps_to_its_time(broker: BrokerUnderTest) -> None:
    async with linked(broker_of(broker.url)) as link:
        assert link.generation is not None
        channel = await link.generation.channel(confirms=True)
        underlay = await channel.get_underlay_channel()
        # RabbitMQ blocks a connection when it publishes
        broker.block()
        sent: list[asyncio.Task[object]] = []
        while not link.blocked:
            sent.append(asyncio.create_task(underlay.basic_publish(b"x" * 10_000_000, routing_key="nowhere")))
            await asyncio.wait({sent[-1]}, timeout=0.05)
            assert len(sent) < 100
        # A message that fills the socket, and nobody reads it
        sent.append(asyncio.create_task(underlay.basic_publish(b"x" * 10_000_000, routing_key="nowhere")))
        await asyncio.sleep(0)
        async with asyncio.timeout(deadline(4)):
            await link.close(timeout=0.2)
            ends = await asyncio.gather(*sent, return_exceptions=True)
        assert isinstance(ends[-1], BaseException)


@pytest.mark.parametrize("where", ["connecting", "pausing"])
async def test_a_link_can_be_closed_at_any_moment(broker: BrokerUnderTest, where: str) -> None:
    with Proxy.before(broker.url) as proxy:
        settings = broker_of(proxy.url(broker.url), reconnect_initial=0.01 if where == "connecting" else 60)
        recorder = Recorder()
        async with linked(settings, emit=recorder) as link:
            before = proxy.accepted
            if where == "connecting":
                proxy.freeze()
            proxy.cut()
            await recorder.first(ConnectionLost)
            if where == "connecting":
                await eventually(lambda: proxy.accepted > before)
            async with asyncio.timeout(deadline(4)):
                await link.close(timeout=1)
        proxy.thaw()


async def test_a_keeper_that_is_cancelled_ends_its_parts(broker: BrokerUnderTest) -> None:
    watcher = Watcher()
    link = Link(
        broker=broker_of(broker.url),
        name="test",
        purpose="consume",
        clock=SystemClock(),
        emit=Recorder(),
        declare=None,
        parts=[watcher],
        plain=plain_by_hand(),
    )
    await link.open(wait=False)
    keeping = asyncio.create_task(link.keep())
    await eventually(lambda: watcher.living)
    keeping.cancel()
    await asyncio.wait({keeping})

    assert watcher.living == 0
    assert link.up
    await link.close(timeout=5)


async def test_a_channel_on_a_line_that_gives_no_answer_is_given_up(broker: BrokerUnderTest, proxy: Proxy) -> None:
    async with linked(broker_of(proxy.url(broker.url), connect_timeout=0.5)) as link:
        generation = link.generation
        assert generation is not None
        proxy.freeze()
        with pytest.raises(Lost, match=r"no answer to the opening of a channel within 0\.5 s"):
            await generation.channel()
        proxy.cut()
        with pytest.raises(Lost):
            await generation.channel()
        proxy.thaw()


async def test_opening_can_be_cancelled() -> None:
    async with stranger(silent) as port:
        opening = asyncio.create_task(link_to(broker_of(f"amqp://127.0.0.1:{port}"), Recorder()).open(wait=False))
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
