"""Dead letters on both brokers: read without being changed, sent back without being lost, thrown away only if meant.
What is in the two queues afterwards is compared with what was there before."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from aio_pika import Message

from pipeline.amqp.publish import Outgoing, Publisher
from pipeline.clock import SystemClock
from pipeline.config.model import Pipeline
from pipeline.errors import BrokerError, NotConnected
from pipeline.failure.wanted import Condition, Wanted
from pipeline.runtime.broker import at
from pipeline.runtime.dead_letters import replay as replay_module
from pipeline.runtime.dead_letters.look import Found, Listed, found, listing
from pipeline.runtime.dead_letters.purge import Purged, purge
from pipeline.runtime.dead_letters.queues import choose
from pipeline.runtime.dead_letters.replay import Order, Report, replay
from pipeline.runtime.stop import Stop
from tests.brokers import BrokerUnderTest
from tests.models import a_broker, a_pipeline, a_queue
from tests.proxy import Proxy
from tests.waiting import deadline, eventually

CLOCK = SystemClock()
ALL = Wanted()
CLASSIC = {"x-queue-type": "classic"}
TO_FAILED = {**CLASSIC, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "failed"}


def pipeline_at(url: str) -> Pipeline:
    queues = (a_queue("work", dead_letter="failed", arguments=TO_FAILED), a_queue("failed"))
    return a_pipeline(broker=at(a_broker(), url), queues=queues)


async def given_queues(broker: BrokerUnderTest, **failed: Any) -> None:
    await broker.declare("failed", arguments=failed or CLASSIC)
    await broker.declare("work", arguments=TO_FAILED)


async def given_dead_letters(broker: BrokerUnderTest, count: int, **headers: Any) -> list[str]:
    """Such as piperun leaves; every third of them with another error."""
    await given_queues(broker, **headers.pop("failed", {}))
    async with broker.channel() as channel:
        for number in range(count):
            error = "TimeoutError" if number % 3 == 2 else "KeyError"
            ours = {"reason": "max_attempts", "queue": "work", "error-type": error, "error-digest": error, "attempt": 1}
            await channel.default_exchange.publish(
                Message(
                    f"{number}".encode(),
                    message_id=f"m-{number}",
                    headers=cast(Any, {**{f"x-piperun-{name}": value for name, value in ours.items()}, **headers}),
                ),
                routing_key="failed",
            )
    return [str(number) for number in range(count)]


async def given_rejected(broker: BrokerUnderTest, count: int) -> None:
    """Such as RabbitMQ leaves when some other program rejects."""
    await given_queues(broker)
    for number in range(count):
        await broker.publish("work", f"{number}".encode(), headers={"region": "eu"})
    async with broker.channel() as channel:
        queue = await channel.get_queue("work")
        for _ in range(count):
            message = await queue.get(timeout=deadline(10))
            assert message is not None
            await message.reject(requeue=False)
    await until_ready(broker, count, "failed")


async def until_ready(broker: BrokerUnderTest, count: int, *queues: str) -> None:
    """So many messages are ready in these queues together."""
    depths: list[int] = []

    async def there() -> bool:
        async with broker.channel() as channel:
            found = [await channel.declare_queue(each, passive=True) for each in queues]
        depths[:] = [each.declaration_result.message_count or 0 for each in found]
        return sum(depths) >= count

    await eventually(cast(Callable[[], bool], there), 20, told=f"{count} messages in {queues}")


async def bodies(broker: BrokerUnderTest, queue: str) -> list[str]:
    return [message.body.decode() for message in await broker.get_all(queue)]


@asynccontextmanager
async def somebody_consumes(broker: BrokerUnderTest, queue: str = "work") -> AsyncIterator[list[str]]:
    """The bodies that came, each acknowledged."""
    came: list[str] = []
    async with broker.channel() as channel:

        async def take(message: Any) -> None:
            came.append(message.body.decode())
            await message.ack()

        await (await channel.get_queue(queue)).consume(take)
        yield came


async def listed(url: str, sample: int = 2_000) -> Listed:
    pipeline = pipeline_at(url)
    (one,) = await listing(pipeline, choose(pipeline, None), sample, CLOCK)
    return one


async def looked_at(url: str, wanted: Wanted = ALL, limit: int = 2_000) -> list[Found | None]:
    pipeline = pipeline_at(url)
    (queue,) = choose(pipeline, None)
    return [each async for each in found(pipeline, queue, wanted, limit, CLOCK)]


def an_order(**changes: Any) -> Order:
    usual: dict[str, Any] = {"wanted": ALL, "to": None, "limit": None, "rate": None, "dry_run": False, "force": True}
    return Order(queue="failed", **{**usual, **changes})


async def sent_back(url: str, order: Order | None = None, stop: Stop | None = None) -> Report:
    stop = stop or Stop(clock=CLOCK, shutdown_timeout=deadline(5))
    report = await replay(
        pipeline_at(url), order or an_order(), clock=CLOCK, stop=stop, progress=lambda _: None, emit=lambda _: None
    )
    assert report is not None
    return report


def where(**headers: str) -> Wanted:
    return Wanted(conditions=tuple(Condition(name=name, value=value) for name, value in headers.items()))


# Looking


async def test_looking_changes_nothing(broker: BrokerUnderTest) -> None:
    sent = await given_dead_letters(broker, 40)
    # When somebody lists, and looks at a few, and at some that match
    one = await listed(broker.url)
    few = await looked_at(broker.url, limit=3)
    some = await looked_at(broker.url, where(**{"error-type": "TimeoutError"}))
    # Then they saw what is there
    assert one.depth is not None
    assert (one.depth.ready, one.looked_into, [group.count for group in one.groups]) == (40, 40, [27, 13])
    assert [each.message.body for each in few if each] == [b"0", b"1", b"2"]
    assert [each.number for each in some if each] == list(range(3, 41, 3))
    # And all of it is still there, in its order
    await until_ready(broker, 40, "failed")
    assert await bodies(broker, "failed") == sent


async def test_a_quorum_queue_keeps_them_too_and_before_rabbitmq_4_3_in_another_order(broker: BrokerUnderTest) -> None:
    sent = await given_dead_letters(broker, 40, failed={"x-queue-type": "quorum", "x-delivery-limit": 1_000_000})
    assert (await listed(broker.url)).looked_into == 40
    assert [each.message.body for each in await looked_at(broker.url, Wanted(ids=("m-7",)), limit=1) if each] == [b"7"]
    await until_ready(broker, 40, "failed")
    assert sorted(await bodies(broker, "failed"), key=int) == sent


async def test_a_sample_is_bounded_and_says_so(broker: BrokerUnderTest) -> None:
    await given_dead_letters(broker, 9)
    one = await listed(broker.url, sample=4)
    assert (one.looked_into, sum(group.count for group in one.groups)) == (4, 4)
    counted = await listed(broker.url, sample=0)
    assert counted.depth is not None
    assert (counted.depth.ready, counted.looked_into, counted.groups) == (9, 0, ())


async def test_what_rabbitmq_dead_lettered_tells_its_own_story(broker: BrokerUnderTest) -> None:
    await given_rejected(broker, 2)
    one = await listed(broker.url)
    (group,) = one.groups
    assert (group.kind.reason, group.kind.by_broker, group.kind.queue, group.count) == ("rejected", True, "work", 2)
    assert group.newest is not None
    assert abs(group.newest / 1000 - CLOCK.time()) < deadline(60)
    first, _ = await looked_at(broker.url)
    assert first is not None
    assert first.message.headers["region"] == "eu"
    assert (first.story.queue, first.story.exchange, first.story.routing_key) == ("work", "", "work")


async def test_a_queue_that_is_not_there_is_no_error_to_look_at(broker: BrokerUnderTest) -> None:
    assert (await listed(broker.url)).depth is None
    assert await looked_at(broker.url) == [None]
    stop = Stop(clock=CLOCK, shutdown_timeout=5)
    pipeline = pipeline_at(broker.url)
    report = await replay(pipeline, an_order(), clock=CLOCK, stop=stop, progress=lambda _: None, emit=lambda _: None)
    assert report is None


# Sending back


async def test_all_go_back_in_their_order(broker: BrokerUnderTest) -> None:
    sent = await given_dead_letters(broker, 150)
    report = await sent_back(broker.url)
    assert (report.ceiling, report.sent["work"], report.failed) == (150, 150, False)
    back = await broker.get_all("work")
    assert [message.body.decode() for message in back] == sent
    assert back[0].message_id == "m-0"
    assert back[0].headers["x-piperun-replays"] == 1
    assert "x-piperun-attempt" not in back[0].headers
    assert await bodies(broker, "failed") == []


async def test_only_what_is_wanted_goes_back_and_the_others_keep_their_place(broker: BrokerUnderTest) -> None:
    sent = await given_dead_letters(broker, 12)
    report = await sent_back(broker.url, an_order(wanted=where(**{"error-type": "TimeoutError"}), limit=3))
    assert await bodies(broker, "work") == ["2", "5", "8"]
    assert await bodies(broker, "failed") == [each for each in sent if each not in ("2", "5", "8")]
    assert (report.sent["work"], report.passed_over, report.looked_at, report.failed) == (3, 6, 9, False)


async def test_one_goes_back_by_its_id(broker: BrokerUnderTest) -> None:
    await given_dead_letters(broker, 5)
    report = await sent_back(broker.url, an_order(wanted=Wanted(ids=("m-3",))))
    assert (report.sent.total(), await bodies(broker, "work")) == (1, ["3"])


async def test_a_dry_run_sends_nothing(broker: BrokerUnderTest) -> None:
    sent = await given_dead_letters(broker, 6)
    report = await sent_back(broker.url, an_order(dry_run=True, wanted=where(reason="max_attempts")))
    assert (report.sent["work"], report.failed) == (6, False)
    assert (await bodies(broker, "failed"), await bodies(broker, "work")) == (sent, [])


async def test_a_queue_that_nobody_reads_gets_nothing_unless_forced(broker: BrokerUnderTest) -> None:
    sent = await given_dead_letters(broker, 3)
    report = await sent_back(broker.url, an_order(force=False))
    assert dict(report.refused) == {'queue "work" has no consumer: start its pipeline, or use --force': 3}
    assert (report.failed, await bodies(broker, "failed"), await bodies(broker, "work")) == (True, sent, [])


async def test_what_rabbitmq_dead_lettered_goes_back_to_where_it_was(broker: BrokerUnderTest) -> None:
    await given_rejected(broker, 3)
    async with somebody_consumes(broker) as came:
        report = await sent_back(broker.url, an_order(force=False))
        await eventually(lambda: len(came) == 3)
    assert (report.sent["work"], report.failed, came) == (3, False, ["0", "1", "2"])


@pytest.mark.parametrize(
    ("origin", "reason"),
    [
        ("nowhere", 'there is no queue "nowhere" on the broker: use --to QUEUE'),
        ("failed", 'it came from queue "failed" itself: use --to QUEUE'),
        ("", "it does not say which queue it came from: use --to QUEUE"),
    ],
)
async def test_a_header_is_no_order(broker: BrokerUnderTest, origin: str, reason: str) -> None:
    sent = await given_dead_letters(broker, 2, **{"x-piperun-queue": origin})
    report = await sent_back(broker.url)
    assert (dict(report.refused), report.failed) == ({reason: 2}, True)
    assert await bodies(broker, "failed") == sent
    # And with a target that somebody named they go
    await given_dead_letters(broker, 2, **{"x-piperun-queue": origin})
    assert (await sent_back(broker.url, an_order(to="work"))).sent["work"] == 2


async def test_a_target_that_takes_no_more_ends_it_without_a_loss(broker: BrokerUnderTest) -> None:
    sent = await given_dead_letters(broker, 10)
    await broker.declare("small", arguments={**CLASSIC, "x-max-length": 4, "x-overflow": "reject-publish"})
    report = await sent_back(broker.url, an_order(to="small"))
    assert (report.sent["small"], report.failed) == (4, True)
    assert "is a queue full?" in report.stopped
    assert (await bodies(broker, "small"), await bodies(broker, "failed")) == (sent[:4], sent[4:])


async def test_an_alarm_of_the_broker_ends_it_without_a_loss(
    broker: BrokerUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_module, "_ON_ITS_WAY", 0.5)
    monkeypatch.setattr(replay_module, "_LONGEST_SILENCE", 1.0)
    sent = await given_dead_letters(broker, 3)
    broker.block()
    # What was sent as the alarm began is never confirmed, and may arrive when it ends
    report = await sent_back(broker.url)
    broker.unblock()
    assert (report.sent.total(), report.failed) == (0, True)
    assert report.uncertain + report.refused.total() == 3
    await until_ready(broker, 3, "failed")
    assert await bodies(broker, "failed") == sent


async def test_a_handler_that_still_fails_makes_no_endless_loop(broker: BrokerUnderTest) -> None:
    """Each message is in the dead-letter queue again while others are still being sent back."""
    sent = await given_dead_letters(broker, 30)
    async with broker.channel() as channel:
        handled: list[str] = []

        async def fail(message: Any) -> None:
            handled.append(message.body.decode())
            await message.reject(requeue=False)

        await (await channel.get_queue("work")).consume(fail)
        report = await sent_back(broker.url, an_order(rate=200.0, force=False))
        await eventually(lambda: len(handled) == 30)
    assert (report.ceiling, report.looked_at, report.sent["work"]) == (30, 30, 30)
    await until_ready(broker, 30, "failed")
    back = await broker.get_all("failed")
    assert sorted(message.body.decode() for message in back) == sorted(sent)
    assert {message.headers["x-piperun-replays"] for message in back} == {1}


async def test_interrupted_it_ends_what_it_began(broker: BrokerUnderTest) -> None:
    sent = await given_dead_letters(broker, 100)
    stop = Stop(clock=CLOCK, shutdown_timeout=deadline(10))
    seen: list[int] = []

    def progress(report: Report) -> None:
        seen.append(report.sent.total())
        if report.sent.total() >= 7:
            stop.request("SIGINT received")

    pipeline, order = pipeline_at(broker.url), an_order(rate=500.0)
    report = await replay(pipeline, order, clock=CLOCK, stop=stop, progress=progress, emit=lambda _: None)
    assert report is not None
    assert (report.stopped, report.failed, report.uncertain, report.twice) == ("interrupted", True, 0, 0)
    work, failed = await bodies(broker, "work"), await bodies(broker, "failed")
    assert work + failed == sent
    assert len(work) == report.sent["work"] >= 7


@pytest.mark.parametrize("size", [3_000, 12_000])
async def test_a_line_that_is_cut_anywhere_loses_nothing(broker: BrokerUnderTest, proxy: Proxy, size: int) -> None:
    sent = await given_dead_letters(broker, 40)
    proxy.cut_after(size, "up")
    try:
        report = await sent_back(proxy.url(broker.url))
    except BrokerError:
        report = None  # before anything was looked at
    await until_ready(broker, 40, "work", "failed")
    work, failed = await bodies(broker, "work"), await bodies(broker, "failed")
    assert set(work) | set(failed) == set(sent)
    assert len(set(work)) == len(work)
    assert len(set(failed)) == len(failed)
    if report is not None and report.failed:
        assert "may be in both queues" in report.stopped


@pytest.mark.parametrize("cut", [True, False])
async def test_a_message_that_finds_its_channel_closed_may_be_the_first_to_hear_of_a_cut_line(
    broker: BrokerUnderTest, monkeypatch: pytest.MonkeyPatch, cut: bool
) -> None:
    sent = await given_dead_letters(broker, 40)
    send, begun = Publisher.send, 0

    async def seven(publisher: Publisher, outgoing: Outgoing, *, timeout: float | None) -> None:
        nonlocal begun
        begun += 1
        if begun == 8 and cut:
            broker.drop_connections()
        if begun >= 8:
            raise NotConnected("the channel had just been closed")
        await send(publisher, outgoing, timeout=timeout)

    monkeypatch.setattr(Publisher, "send", seven)
    report = await sent_back(broker.url)
    assert ("may be in both queues" in report.stopped) == cut
    # And what it found is told for itself
    assert report.refused["the channel had just been closed"] >= 1
    await until_ready(broker, 40, "work", "failed")
    assert {*await bodies(broker, "work"), *await bodies(broker, "failed")} == set(sent)


# Throwing away


async def thrown_away(url: str, wanted: Wanted, most: int) -> Purged:
    return await purge(pipeline_at(url), "failed", wanted, most, CLOCK)


async def test_all_of_them_or_those_that_match_are_thrown_away(broker: BrokerUnderTest) -> None:
    sent = await given_dead_letters(broker, 9)
    some = await thrown_away(broker.url, where(**{"error-type": "TimeoutError"}), 9)
    assert (some.thrown_away, some.stay, some.unseen) == (3, 6, False)
    await until_ready(broker, 6, "failed")
    (first, *_) = await looked_at(broker.url)
    assert first is not None
    assert first.message.body.decode() == sent[0]
    everything = await thrown_away(broker.url, ALL, 6)
    assert (everything.thrown_away, everything.stay) == (6, 0)
    assert await bodies(broker, "failed") == []


async def test_several_at_once_do_not_get_in_each_others_way(broker: BrokerUnderTest) -> None:
    """Two people send back at the same time: each message goes once."""
    sent = await given_dead_letters(broker, 60)
    reports = await asyncio.gather(sent_back(broker.url), sent_back(broker.url))
    assert sum(report.sent["work"] for report in reports) == 60
    assert sorted(await bodies(broker, "work"), key=int) == sent
