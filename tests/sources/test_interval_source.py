"""Interval: one item each so many seconds by the clock handed in. Time stands still until a test moves it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from pipeline.clock import FakeClock
from pipeline.config.model import IntervalSource, Value
from pipeline.sources.base import Item
from pipeline.sources.interval import Interval, next_tick
from tests.waiting import deadline, eventually


def interval(clock: FakeClock, *, every: float = 1.0, count: int | None = None, body: Value = "hello") -> Interval:
    return Interval(IntervalSource(every=every, count=count, body=body, headers={"from": "test"}), clock=clock)


async def next_after(clock: FakeClock, items: AsyncIterator[Item], seconds: float) -> Item:
    """The next item, for which the source must wait exactly that long."""
    waiting = asyncio.ensure_future(anext(items))
    await eventually(lambda: clock.waiting == 1, told="the source to wait for its next tick")
    clock.advance(seconds - 0.001)
    await asyncio.sleep(0)
    assert not waiting.done()
    clock.advance(0.001)
    async with asyncio.timeout(deadline(5)):
        return await waiting


async def test_the_first_item_comes_at_once_and_the_others_in_the_rhythm() -> None:
    clock = FakeClock()
    items = aiter(interval(clock, every=2.0))
    first = await anext(items)
    second = await next_after(clock, items, 2.0)
    third = await next_after(clock, items, 2.0)
    assert [item.body for item in (first, second, third)] == ["hello"] * 3
    assert first.headers == {"from": "test"}
    assert len({first.message_id, second.message_id, third.message_id}) == 3


async def test_it_ends_after_count_items_and_has_no_wait_at_the_end() -> None:
    clock = FakeClock()
    source = interval(clock, every=0.5, count=2)
    items = aiter(source)
    await source.sent(await anext(items))
    assert source.progress() == (1, 2, "items")
    await source.sent(await next_after(clock, items, 0.5))
    with pytest.raises(StopAsyncIteration):
        await anext(items)
    assert clock.waiting == 0
    assert source.progress() == (2, 2, "items")


async def test_no_count_has_no_end_that_could_be_told() -> None:
    assert interval(FakeClock()).progress() == (0, None, "items")


async def test_a_long_block_is_followed_by_one_late_item_and_then_the_old_rhythm() -> None:
    # Given a source whose second tick was due long ago
    clock = FakeClock()
    items = aiter(interval(clock, every=1.0))
    await anext(items)
    clock.advance(3.4)
    # When it is asked again, one item comes at once
    async with asyncio.timeout(deadline(5)):
        await anext(items)
    # Then the next comes on the beat and the missed ones do not
    await next_after(clock, items, 0.6)


@pytest.mark.parametrize(
    ("tick", "elapsed", "every", "expected"),
    [
        (0, 0.0, 1.0, 1),
        (0, 0.9, 1.0, 1),
        (0, 1.2, 1.0, 1),
        (0, 3.9, 1.0, 3),
        (3, 3.9, 1.0, 4),
        (7, 6.9999999, 1.0, 8),  # the sleep ended a little early: the tick is not served twice
        (5, 100.0, 0.0, 6),
    ],
)
def test_the_next_tick_follows_or_is_the_latest_that_passed(
    tick: int, elapsed: float, every: float, expected: int
) -> None:
    assert next_tick(tick, elapsed, every) == expected


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("text stays text", None),
        ({"total": 3}, "application/json"),
        ([1, 2], "application/json"),
        (7, "application/json"),
    ],
)
async def test_text_stays_text_and_other_values_are_json(body: Value, content_type: str | None) -> None:
    item = await anext(aiter(interval(FakeClock(), body=body)))
    assert (item.body, item.content_type) == (body, content_type)


async def test_two_runs_have_different_message_ids() -> None:
    first, second = [await anext(aiter(interval(FakeClock()))) for _ in range(2)]
    assert first.message_id != second.message_id
