"""One producer from its source to confirmed messages: an item counts when the broker has it, only so many are on their
way, and every way to end leaves the numbers and the source in order."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clock import FakeClock
from pipeline.errors import ConnectionLost, Nacked, NotConnected, PublishRefused, SourceError, Unroutable
from pipeline.events import Notice, ProducerFailed, ProducerFinished, ProducerStarted, PublishTroubled, Unconfirmed
from pipeline.message import Message
from pipeline.runtime.produce import ProducerRun
from pipeline.sources.base import Item
from tests.models import a_producer, a_publish
from tests.runtime.stand_ins import (
    NEVER,
    Answer,
    Recorder,
    ScriptedPublisher,
    a_producer_ledger,
    counts,
    in_time,
    some_turns,
)


def an_item(number: int, **changes: Any) -> Item:
    return Item(**{"body": f"item {number}", "headers": {}, "message_id": f"i-{number}", **changes})


class ScriptedSource:
    """Gives the items of a list, raises the exceptions in it, and waits for ever where `...` stands."""

    def __init__(self, script: Sequence[object], *, opens: Exception | None = None, closes: Exception | None = None):
        self.script = script
        self.opens, self.closes = opens, closes
        self.journal: list[str] = []
        self.asked = 0
        self.keeps: Exception | None = None  # what keeping the place of an item raises

    async def __aenter__(self) -> Self:
        self.journal.append("open")
        if self.opens is not None:
            raise self.opens
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.journal.append("close")
        if self.closes is not None:
            raise self.closes

    async def __aiter__(self) -> AsyncIterator[Item]:
        for each in self.script:
            self.asked += 1
            await asyncio.sleep(0)
            if isinstance(each, Exception):
                raise each
            if each is ...:
                await asyncio.Event().wait()
            assert isinstance(each, Item)
            yield each

    async def sent(self, item: Item) -> None:
        self.journal.append(f"sent {item.message_id}")
        if self.keeps is not None:
            raise self.keeps

    async def failed(self, item: Item, why: str) -> None:
        self.journal.append(f"failed {item.message_id}")

    def progress(self) -> tuple[int, int | None, str] | None:
        return None

    def note(self) -> str | None:
        return "it goes on at line 7"


class Works:
    line_is_up = False  # whether messages go at once, or have to wait

    def __init__(
        self,
        script: Sequence[object] = (),
        answers: Sequence[Answer] = (),
        *,
        source: Any = None,
        **producer: Any,
    ) -> None:
        self.clock = FakeClock()
        self.seen = Recorder()
        self.ledger = a_producer_ledger()
        self.source = source or ScriptedSource(script)
        self.publisher = ScriptedPublisher(answers)
        self.publisher.at_once = Works.line_is_up
        self.run = ProducerRun(
            producer=a_producer(**producer),
            source=self.source,
            publisher=self.publisher,
            ledger=self.ledger,
            clock=self.clock,
            emit=self.seen,
            mask=lambda text: text.replace("hunter-two", "***"),
        )

    async def to_the_end(self) -> None:
        await in_time(self.clock, self.run.run())
        async with asyncio.timeout(5):
            await self.run.settled()


@pytest.fixture(autouse=True, params=["line up", "line to come"])
def line(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test twice: with publishes that go at once, and with such as have to wait first."""
    monkeypatch.setattr(Works, "line_is_up", request.param == "line up")


async def test_an_item_counts_as_sent_when_it_is_confirmed() -> None:
    works = Works([an_item(1)])
    works.publisher.gate = asyncio.Event()
    running = asyncio.create_task(works.run.run())
    await some_turns()
    assert works.source.journal == ["open"]
    assert counts(works.ledger) == {"read": 1, "pending": 1}
    works.publisher.gate.set()
    await in_time(works.clock, running)
    assert works.source.journal == ["open", "sent i-1", "close"]
    assert counts(works.ledger) == {"read": 1, "confirmed": 1}


async def test_a_source_that_ends_has_finished() -> None:
    works = Works([an_item(number) for number in range(5)])
    await works.to_the_end()
    assert (works.run.failure, works.ledger.finished) == (None, True)
    assert works.seen.of(ProducerStarted) == [ProducerStarted(producer="nightly")]
    assert works.seen.of(ProducerFinished) == [ProducerFinished(producer="nightly", confirmed=5)]
    assert works.seen.of(Notice) == [Notice(subject="producer.nightly", sentence="it goes on at line 7")]


async def test_items_become_messages_as_the_file_says() -> None:
    items = [
        an_item(1, headers={"line": 1}, content_type="text/csv"),
        an_item(2, body={"id": 7}, message_id=None),
        an_item(
            3, body=Message("own", message_id="own", routing_key="other", headers={"line": "own"}), headers={"line": 3}
        ),
    ]
    works = Works(items, publish=a_publish(exchange="orders", routing_key="order.created", headers={"origin": "file"}))
    await works.to_the_end()
    first, second, third = works.publisher.sent
    assert (first.exchange, first.routing_key, first.message.body) == ("orders", "order.created", b"item 1")
    assert (first.message.message_id, first.message.content_type) == ("i-1", "text/csv")
    assert first.message.headers == {"origin": "file", "line": 1}
    assert (second.message.body, second.message.content_type) == (b'{"id":7}', "application/json")
    assert second.message.message_id
    assert (third.routing_key, third.message.message_id) == ("other", "own")
    assert third.message.headers == {"origin": "file", "line": "own"}


@pytest.mark.parametrize("most", [1, 3])
async def test_only_so_many_are_on_their_way_and_the_source_is_asked_for_no_more(most: int) -> None:
    works = Works([an_item(number) for number in range(10)], max_in_flight=most)
    works.publisher.gate = asyncio.Event()
    running = asyncio.create_task(works.run.run())
    await some_turns(60)
    assert len(works.publisher.sent) == works.source.asked == most
    works.publisher.gate.set()
    await in_time(works.clock, running)
    assert counts(works.ledger) == {"read": 10, "confirmed": 10}


async def test_a_full_queue_or_a_lost_line_is_only_a_delay() -> None:
    works = Works([an_item(1)], [Nacked("a queue is full"), ConnectionLost("hunter-two reset"), NotConnected("down")])
    await works.to_the_end()
    assert works.publisher.ids == ["i-1"] * 4
    assert [each.reason for each in works.seen.of(PublishTroubled)] == ["a queue is full", "*** reset", "down"]
    assert counts(works.ledger) == {"read": 1, "confirmed": 1}
    assert works.run.failure is None


# Failing for good


@pytest.mark.parametrize("fault", [Unroutable(exchange="orders", routing_key="x"), PublishRefused("hunter-two: 403")])
async def test_what_the_broker_does_not_take_fails_the_producer(fault: Exception) -> None:
    works = Works([an_item(1), an_item(2), ...], [None, fault])
    await works.to_the_end()
    assert works.run.failure == str(fault).replace("hunter-two", "***")
    assert works.seen.of(ProducerFailed) == [ProducerFailed(producer="nightly", reason=works.run.failure)]
    assert works.seen.of(ProducerFinished) == []
    assert works.source.journal == ["open", "sent i-1", "failed i-2", "close"]
    assert counts(works.ledger) == {"read": 2, "confirmed": 1, "failed": 1}
    assert not works.ledger.finished


async def test_what_cannot_be_a_body_fails_the_producer() -> None:
    works = Works([an_item(1), an_item(2, body=object()), ...])
    await works.to_the_end()
    assert works.run.failure == "a object cannot be sent as a body: JSON cannot hold a object here"
    assert counts(works.ledger) == {"read": 2, "confirmed": 1, "failed": 1}
    assert works.source.journal[-1] == "close"


@pytest.mark.parametrize(
    ("made", "journal", "counted"),
    [
        (lambda: ScriptedSource([], opens=SourceError("no such file")), ["open"], {}),
        (
            lambda: ScriptedSource([an_item(1)], closes=SourceError("no such file")),
            ["open", "sent i-1", "close"],
            {"confirmed"},
        ),
        (
            lambda: ScriptedSource([an_item(1), SourceError("no such file")]),
            ["open", "sent i-1", "close"],
            {"confirmed"},
        ),
    ],
)
async def test_a_source_that_fails_fails_the_producer(
    made: Callable[[], ScriptedSource], journal: list[str], counted: set[str]
) -> None:
    source = made()
    works = Works(source=source)
    await works.to_the_end()
    assert works.run.failure == "no such file"
    assert source.journal == journal
    assert counts(works.ledger) == {term: 1 for term in ("read", *counted) if counted}


async def test_a_place_that_cannot_be_kept_fails_the_producer() -> None:
    works = Works([an_item(1), ...])
    works.source.keeps = SourceError("the checkpoint cannot be written: disk full")
    await works.to_the_end()
    assert works.run.failure == "the checkpoint cannot be written: disk full"
    assert counts(works.ledger) == {"read": 1, "confirmed": 1}


async def test_the_first_failure_is_the_one_that_is_told() -> None:
    faults = [Unroutable(exchange="", routing_key=name) for name in ("a", "b", "c")]
    works = Works([an_item(number) for number in range(3)], faults)
    works.publisher.gate = asyncio.Event()
    running = asyncio.create_task(works.run.run())
    await some_turns()
    works.publisher.gate.set()
    await in_time(works.clock, running)
    assert works.run.failure == str(faults[0])
    assert len(works.seen.of(ProducerFailed)) == 1
    assert counts(works.ledger) == {"read": 3, "failed": 3}


async def test_a_bug_in_a_source_is_not_taken_for_its_failure() -> None:
    works = Works([an_item(1), ZeroDivisionError("ours")])
    with pytest.raises(ZeroDivisionError):
        await in_time(works.clock, works.run.run())
    assert works.source.journal == ["open", "sent i-1", "close"]


# Stopping


async def test_a_stop_ends_the_source_and_what_was_read_is_still_confirmed() -> None:
    works = Works([an_item(1), ...])
    works.publisher.gate = asyncio.Event()
    running = asyncio.create_task(works.run.run())
    await some_turns()
    works.run.end_source()
    await some_turns()
    assert not running.done()
    works.publisher.gate.set()
    await in_time(works.clock, running)
    assert works.source.journal == ["open", "sent i-1", "close"]
    assert (works.run.failure, works.ledger.finished) == (None, False)
    assert counts(works.ledger) == {"read": 1, "confirmed": 1}


@pytest.mark.parametrize("later", [True, False])
async def test_a_producer_that_was_never_begun_is_stopped_at_once(later: bool) -> None:
    works = Works([...])
    works.run.end_source()
    async with asyncio.timeout(5):
        await works.run.settled()
        if later:
            await works.run.run()
    assert works.source.journal == []


async def test_when_time_is_up_what_has_no_answer_is_named() -> None:
    works = Works([an_item(1), an_item(2), ...], [None, NEVER])
    running = asyncio.create_task(works.run.run())
    await some_turns(40)
    works.run.cut_off()
    await in_time(works.clock, running)
    assert works.seen.of(Unconfirmed) == [Unconfirmed(producer="nightly", message_id="i-2")]
    assert works.source.journal == ["open", "sent i-1", "close"]
    assert counts(works.ledger) == {"read": 2, "confirmed": 1, "pending": 1}


async def test_a_source_that_waits_for_a_place_is_stopped_too() -> None:
    works = Works([an_item(number) for number in range(5)], [NEVER] * 5, max_in_flight=1)
    running = asyncio.create_task(works.run.run())
    await some_turns(40)
    works.run.end_source()
    works.run.cut_off()
    await in_time(works.clock, running)
    assert counts(works.ledger) == {"read": 1, "pending": 1}


# Whatever happens

FAULTS: list[Any] = [None, Nacked("full"), ConnectionLost("reset"), NotConnected("down")]
FATAL: list[Any] = [Unroutable(exchange="", routing_key="x"), PublishRefused("403"), NEVER]
scripts = st.lists(st.sampled_from(["item", "nothing", "error", "wait"]), max_size=8)


@given(
    scripts,
    st.lists(st.sampled_from(FAULTS + FATAL), max_size=12),
    st.integers(1, 4),
    st.none() | st.integers(0, 80),
    st.none() | st.integers(0, 80),
)
def test_the_numbers_add_up_and_the_source_is_closed_whatever_happens(
    script: list[str], answers: list[Answer], most: int, ends_after: int | None, up_after: int | None
) -> None:
    things: dict[str, Any] = {"error": SourceError("no such file"), "wait": ...}
    given = [
        things[each] if each in things else an_item(number, body=object() if each == "nothing" else "x")
        for number, each in enumerate(script)
    ]

    async def play() -> None:
        works = Works(given, answers, max_in_flight=most)
        running = asyncio.create_task(works.run.run())
        for turn in range(3_000):
            await asyncio.sleep(0)
            if running.done():
                break
            if turn == ends_after:
                works.run.end_source()
            if turn == up_after or turn > 2_500:
                works.run.cut_off()
            if turn > 80:
                works.clock.advance(1.0)
        await asyncio.wait_for(running, 5)
        numbers = works.ledger.numbers()
        assert numbers["read"] == numbers["confirmed"] + numbers["failed"] + numbers["pending"]
        assert numbers["confirmed"] == sum(line.startswith("sent") for line in works.source.journal)
        assert numbers["pending"] <= len(works.seen.of(Unconfirmed))
        assert works.source.journal[:1] + works.source.journal[-1:] in ([], ["open", "close"])
        assert len(works.publisher.sent) <= len(given) + len(answers)
        assert bool(numbers["failed"]) <= (works.run.failure is not None)

    asyncio.run(play())
