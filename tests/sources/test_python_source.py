"""Generators of the user's as sources: of both kinds, asked step by step, ended in order, named when they fail."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from pipeline.clock import FakeClock, SystemClock
from pipeline.errors import SourceError, SourceProblem
from pipeline.message import Message
from pipeline.sources.base import Item
from pipeline.sources.python import Generator, check_generator
from tests.waiting import deadline, eventually

HERE = Path(__file__)


def source(target: object, clock: FakeClock | SystemClock | None = None) -> Generator:
    return Generator("shop.orders:items", target, producer="nightly", clock=clock or FakeClock())


async def items_of(target: object) -> list[Item]:
    async with asyncio.timeout(deadline(10)), source(target) as opened:
        return [item async for item in opened]


def three() -> Iterator[int]:
    yield from (1, 2, 3)


async def three_async() -> AsyncIterator[int]:
    for number in (1, 2, 3):
        await asyncio.sleep(0)
        yield number


def returned_iterator() -> Iterator[int]:
    return iter([1, 2, 3])


def returned_list() -> list[int]:
    return [1, 2, 3]


def returned_async() -> AsyncIterator[int]:
    return three_async()


class Countdown:
    """Iterators without anything more."""

    def __init__(self) -> None:
        self.number = 0

    def __iter__(self) -> "Countdown":
        return self

    def __next__(self) -> int:
        self.number += 1
        if self.number > 3:
            raise StopIteration
        return self.number


class AsyncCountdown:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()  # made where it is used
        self.number = 0

    def __aiter__(self) -> "AsyncCountdown":
        return self

    async def __anext__(self) -> int:
        self.number += 1
        if self.number > 3:
            raise StopAsyncIteration
        return self.number


class Callable3:
    def __init__(self, last: int) -> None:
        self.last = last

    def __call__(self) -> Iterator[int]:
        yield from range(1, self.last + 1)


def with_default(last: int = 3, *more: int, **named: int) -> Iterator[int]:
    yield from range(1, last + 1)


GOOD = [
    three,
    three_async,
    returned_iterator,
    returned_list,
    returned_async,
    Countdown,
    AsyncCountdown,
    Callable3(3),
    partial(Callable3(3)),
    with_default,
]


@pytest.mark.parametrize("target", GOOD)
async def test_whatever_gives_an_iterator_is_a_source(target: object) -> None:
    assert [item.body for item in await items_of(target)] == [1, 2, 3]


async def test_what_is_yielded_is_the_body_and_none_is_nothing() -> None:
    message = Message({"a": 1}, routing_key="eu.new", message_id="own")
    plain = Message(b"x")

    def mixed() -> Iterator[object]:
        yield from (b"bytes", "text", None, {"json": 1}, 0, message, plain)

    items = await items_of(mixed)
    assert [item.body for item in items] == [b"bytes", "text", {"json": 1}, 0, message, plain]
    assert items[4].message_id == "own"
    assert len({item.message_id for item in items}) == 6
    assert all(item.message_id and item.content_type is None for item in items)


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ([1, 2], "shop.orders:items is a value of type list, not a function; a source is a generator function: `def`, "
                 "no parameters, `yield` for each item"),
        (None, "shop.orders:items is None, not a function; a source is a generator function: `def`, no parameters, "
               "`yield` for each item"),
        (three(), "shop.orders:items is a value of type generator, not a function; a source is a generator function: "
                  "`def`, no parameters, `yield` for each item"),
        (asyncio.sleep, "shop.orders:items is an `async def` without `yield`, so it gives no items; "
                        "`yield` each of them"),
        (lambda context, other: [], "shop.orders:items has parameters without a default (context, other); "
                                    "a source is called without arguments"),
        (Callable3, "shop.orders:items has parameters without a default (last); a source is called without arguments"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_source_is_told_before_anything_runs(target: object, sentence: str) -> None:
    with pytest.raises(SourceProblem) as caught:
        check_generator("shop.orders:items", target)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("value", "kind"), [(None, "None"), ("text", "a value of type str"), (3, "a value of type int")]
)
async def test_a_function_that_returns_no_iterator_is_told(value: object, kind: str) -> None:
    with pytest.raises(SourceError) as caught:
        await items_of(lambda: value)
    assert str(caught.value) == f"shop.orders:items returned {kind}, which gives no items; use `yield` for each item"


@pytest.mark.parametrize("make", [three, three_async])
async def test_the_next_step_is_made_only_when_it_is_asked_for(make: Callable[[], object]) -> None:
    asked: list[int] = []

    def told() -> Iterator[int]:
        for number in three():
            asked.append(number)
            yield number

    async def told_async() -> AsyncIterator[int]:
        async for number in three_async():
            asked.append(number)
            yield number

    async with source(told if make is three else told_async) as opened:
        items = aiter(opened)
        await anext(items)
        assert asked == [1]
        await opened.sent(await anext(items))
        assert asked == [1, 2]
        assert opened.progress() == (1, None, "items")


async def test_a_plain_generator_runs_in_one_thread_and_not_on_the_loop() -> None:
    def threads() -> Iterator[str]:
        for _ in range(3):
            yield threading.current_thread().name

    assert [item.body for item in await items_of(threads)] == ["source shop.orders:items"] * 3


async def test_the_loop_goes_on_while_a_plain_generator_waits() -> None:
    go = threading.Event()

    def waits() -> Iterator[int]:
        assert go.wait(deadline(10))
        yield 1

    async with source(waits) as opened:
        first = asyncio.ensure_future(anext(aiter(opened)))
        await asyncio.sleep(0)
        go.set()  # from the loop, which therefore runs
        assert (await first).body == 1


async def test_an_async_generator_that_never_waits_leaves_the_loop_to_others() -> None:
    async def eager() -> AsyncIterator[int | None]:
        while True:
            yield None

    async with source(eager) as opened:
        never = asyncio.ensure_future(anext(aiter(opened)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # comes back, though nothing ever comes
        never.cancel()
        with pytest.raises(asyncio.CancelledError):
            await never


# Failing


def fails() -> Iterator[int]:
    yield 1
    raise ValueError("no\nsuch order")


async def fails_async() -> AsyncIterator[int]:
    yield 1
    raise ValueError("no\nsuch order")


def line_of(function: Callable[..., object], number: int) -> int:
    return function.__code__.co_firstlineno + number


@pytest.mark.parametrize("target", [fails, fails_async])
async def test_an_exception_is_told_with_its_place_after_the_items_before_it(target: Callable[[], object]) -> None:
    async with source(target) as opened:
        items = aiter(opened)
        await anext(items)
        with pytest.raises(SourceError) as caught:
            await anext(items)
    place = f"tests/sources/{HERE.name}:{line_of(target, 2)}"
    assert str(caught.value) == f"shop.orders:items failed: ValueError: no such order ({place})"
    assert caught.value.frames == (place,)
    assert isinstance(caught.value.__cause__, ValueError)


def leaves() -> Iterator[int]:
    yield sys.exit(3)


async def leaves_async() -> AsyncIterator[int]:
    yield sys.exit(3)


def fails_at_once() -> Iterator[int]:
    raise KeyError


async def cancelled_inside() -> AsyncIterator[int]:
    raise asyncio.CancelledError
    yield 1


def stops_wrongly() -> Iterator[int]:
    yield next(iter([]))


class BadIterator:
    def __iter__(self) -> Iterator[int]:
        raise StopIteration


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (leaves, "SystemExit: 3"),
        (leaves_async, "SystemExit: 3"),
        (fails_at_once, "KeyError"),
        (cancelled_inside, "CancelledError"),
        (stops_wrongly, "RuntimeError: generator raised StopIteration"),
        (BadIterator, "StopIteration"),
    ],
)
async def test_strange_exceptions_are_the_generators_own(target: object, text: str) -> None:
    with pytest.raises(SourceError, match=f"^shop.orders:items failed: {text} "):
        await items_of(target)


# Ending


class Closing:
    """What a generator did at its end, and in which thread."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    def plain(self) -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            self.closed.append(threading.current_thread().name)

    async def asynchronous(self) -> AsyncIterator[int]:
        try:
            for number in range(100):
                yield number
        finally:
            await asyncio.sleep(0)
            self.closed.append("loop")


async def test_a_stop_runs_the_finally_of_the_generator() -> None:
    closing = Closing()
    for target in (closing.plain, closing.asynchronous):
        async with source(target) as opened:
            await anext(aiter(opened))
    assert closing.closed == ["source shop.orders:items", "loop"]


async def test_a_generator_that_was_never_asked_is_left_alone() -> None:
    closing = Closing()
    for target in (closing.plain, closing.asynchronous):
        async with source(target):
            pass
    assert closing.closed == []


async def test_a_cancelled_wait_runs_the_finally_of_an_async_generator() -> None:
    closed = asyncio.Event()

    async def waits() -> AsyncIterator[int]:
        try:
            await asyncio.Event().wait()
            yield 1
        finally:
            closed.set()

    async def reads() -> None:
        async with source(waits) as opened:
            await anext(aiter(opened))

    task = asyncio.create_task(reads())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed.is_set()


async def test_a_step_that_ends_soon_after_the_stop_is_followed_by_the_finally() -> None:
    begun, go, closed = threading.Event(), threading.Event(), threading.Event()

    def slow() -> Iterator[int]:
        try:
            begun.set()
            assert go.wait(deadline(10))
            yield 1
        finally:
            closed.set()

    clock = FakeClock()

    async def reads() -> None:
        async with source(slow, clock) as opened:
            await anext(aiter(opened))

    task = asyncio.create_task(reads())
    await eventually(begun.is_set, told="the first step")
    task.cancel()
    await eventually(lambda: clock.waiting == 1, told="the stop to wait for the step")
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed.is_set()


async def test_a_step_that_does_not_end_is_left_behind_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    begun, go = threading.Event(), threading.Event()

    def stuck() -> Iterator[int]:
        begun.set()
        go.wait(deadline(30))
        yield 1

    clock = FakeClock()

    async def reads() -> None:
        async with source(stuck, clock) as opened:
            await anext(aiter(opened))

    task = asyncio.create_task(reads())
    await eventually(begun.is_set, told="the first step")
    task.cancel()
    await eventually(lambda: clock.waiting == 1, told="the stop to wait for the step")
    clock.advance(2.0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "producer.nightly: shop.orders:items still runs 2 s after it was to stop, and is left behind" in caplog.text
    go.set()


@pytest.mark.parametrize("kind", ["plain", "asynchronous"])
async def test_a_finally_that_fails_is_told_and_does_not_stop_the_stop(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    def plain() -> Iterator[int]:
        try:
            yield 1
        finally:
            raise ValueError("at the end")

    async def asynchronous() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise ValueError("at the end")

    async with source(plain if kind == "plain" else asynchronous) as opened:
        await anext(aiter(opened))
    assert "shop.orders:items failed while it was closed: ValueError: at the end (" in caplog.text


async def test_no_thread_is_left_when_all_is_read() -> None:
    await items_of(three)
    await eventually(
        lambda: not [each for each in threading.enumerate() if each.name == "source shop.orders:items"],
        told="the end of the thread",
    )
