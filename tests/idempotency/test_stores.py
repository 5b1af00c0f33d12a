"""What every store of keys promises, on each of them; and what only one of them does: to forget early, to be shared, to
work while the loop does not turn."""

import asyncio
import sqlite3
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.clock import FakeClock, SystemClock
from pipeline.config.model import Idempotency
from pipeline.idempotency import Claim, Found, Store, open_store
from pipeline.idempotency.memory import MemoryStore
from pipeline.idempotency.sqlite import SqliteStore

WINDOW, LEASE = 3_600.0, 30.0


class Keys:
    """One store with its clock. `another` is a second owner of the same keys: another process, for a file."""

    def __init__(self, path: Path | None, *, max_keys: int = 1_000, lease: float = LEASE) -> None:
        self.clock = FakeClock()
        self.path = path
        self.forgot = 0
        self.settings = Idempotency(
            store="memory" if path is None else "sqlite",
            header=None,
            path=path,
            window=WINDOW,
            max_keys=max_keys,
            lease=lease,
        )
        self.opened: list[Store] = []

    def _forgets(self) -> None:
        self.forgot += 1

    async def another(self, scope: str = "shop.charge") -> Store:
        store = open_store(self.settings, scope=scope, clock=self.clock, forgets=self._forgets)
        await store.open()
        self.opened.append(store)
        return store


@asynccontextmanager
async def opened(path: Path | None, **settings: Any) -> AsyncIterator[tuple[Store, Keys]]:
    keys = Keys(path, **settings)
    try:
        yield await keys.another(), keys
    finally:
        for store in keys.opened:
            await store.close()


@pytest.fixture(params=["memory", "sqlite"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return None if request.param == "memory" else tmp_path / "state" / "keys.sqlite"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "keys.sqlite"


async def claimed(store: Store, key: str) -> Claim:
    claim = await store.begin(key)
    assert isinstance(claim, Claim), claim
    return claim


# Every store


async def test_a_key_is_claimed_once_and_then_done(path: Path | None) -> None:
    async with opened(path) as (store, _):
        claim = await claimed(store, "order 1")
        assert await store.begin("order 1") is Found.IN_HAND
        assert isinstance(await store.begin("order 2"), Claim)
        await store.finish(claim)
        await store.finish(claim)
        assert await store.begin("order 1") is Found.DONE


async def test_a_claim_that_is_given_back_is_free(path: Path | None) -> None:
    async with opened(path) as (store, _):
        first = await claimed(store, "order 1")
        store.release(first)
        second = await claimed(store, "order 1")
        assert first != second
        store.release(first)  # comes late, and is nobody's any more
        assert await store.begin("order 1") is Found.IN_HAND
        await store.finish(second)
        store.release(second)
        assert await store.begin("order 1") is Found.DONE


async def test_a_key_is_forgotten_after_its_window(path: Path | None) -> None:
    async with opened(path) as (store, keys):
        await store.finish(await claimed(store, "order 1"))
        keys.clock.advance(WINDOW - 1)
        assert await store.begin("order 1") is Found.DONE
        keys.clock.advance(1)
        await claimed(store, "order 1")


async def test_of_many_who_ask_at_the_same_time_one_gets_the_claim(path: Path | None) -> None:
    async with opened(path) as (store, _):
        found = await asyncio.gather(*(store.begin("order 1") for _ in range(20)))
        assert Counter(type(each) for each in found) == {Claim: 1, Found: 19}


@pytest.mark.parametrize("key", ["m-1", "'; DROP TABLE keys", "заказ 1", "\x00", " ", "a" * 255])
async def test_keys_are_any_text(path: Path | None, key: str) -> None:
    async with opened(path) as (store, _):
        await store.finish(await claimed(store, key))
        assert await store.begin(key) is Found.DONE
        await claimed(store, key + "x")


STEPS = st.lists(st.tuples(st.sampled_from(["begin", "finish", "release", "wait"]), st.sampled_from("ab")), max_size=25)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_a_store_agrees_with_a_dictionary(kind: str, steps: list[tuple[str, str]], tmp_path_factory: Any) -> None:
    # Given a store, and a model of it: which keys are in hand, and until when others are done
    path = None if kind == "memory" else tmp_path_factory.mktemp("keys") / "keys.sqlite"
    in_hand: dict[str, Claim] = {}
    done: dict[str, float] = {}

    async def play() -> None:
        async with opened(path, lease=1e9) as (store, keys):  # the dictionary knows no leases
            for step, key in steps:
                now = keys.clock.now()
                if step == "wait":
                    keys.clock.advance(WINDOW / 2)
                elif step == "begin":
                    found = await store.begin(key)
                    if done.get(key, 0.0) > now:
                        assert found is Found.DONE
                    elif key in in_hand:
                        assert found is Found.IN_HAND
                    else:
                        assert isinstance(found, Claim)
                        in_hand[key] = found
                elif key in in_hand:
                    claim = in_hand.pop(key)
                    if step == "release":
                        store.release(claim)
                    else:
                        await store.finish(claim)
                        done[key] = now + WINDOW

    # When both do the same, then they always give the same answer
    asyncio.run(play())


# Memory


async def test_memory_holds_so_many_keys_and_says_once_when_it_forgets_early() -> None:
    async with opened(None, max_keys=2) as (store, keys):
        for number in range(2):
            await store.finish(await claimed(store, f"order {number}"))
        assert keys.forgot == 0
        for number in range(2, 5):
            await store.finish(await claimed(store, f"order {number}"))
        assert keys.forgot == 1
        assert [await store.begin(f"order {number}") is Found.DONE for number in range(5)] == [False] * 3 + [True] * 2


async def test_memory_that_forgets_in_time_needs_no_limit() -> None:
    clock = FakeClock()
    store = MemoryStore(window=10.0, max_keys=5, clock=clock, forgets=pytest.fail)
    for number in range(100):
        await store.finish(await claimed(store, str(number)))
        clock.advance(3.0)


# A file


async def test_a_file_is_shared_and_outlives_its_process(file: Path) -> None:
    async with opened(file) as (store, keys):
        other = await keys.another()
        claim = await claimed(store, "order 1")
        assert await other.begin("order 1") is Found.IN_HAND
        await store.finish(claim)
        assert await other.begin("order 1") is Found.DONE
    async with opened(file) as (store, _):
        assert await store.begin("order 1") is Found.DONE


async def test_consumers_that_share_a_file_have_nothing_to_do_with_each_other(file: Path) -> None:
    async with opened(file) as (store, keys):
        other = await keys.another("shop.refund")
        await store.finish(await claimed(store, "order 1"))
        await claimed(other, "order 1")


async def test_a_living_process_renews_its_leases_whether_or_not_its_loop_turns(file: Path) -> None:
    stores = [SqliteStore(file, scope="s", window=WINDOW, lease=0.6, clock=SystemClock()) for _ in range(2)]
    for store in stores:
        await store.open()
    claim = await claimed(stores[0], "order 1")
    threading.Event().wait(1.2)  # a handler that blocks the loop for longer than a lease
    assert await stores[1].begin("order 1") is Found.IN_HAND
    stores[0].release(claim)
    for store in stores:
        await store.close()


async def test_a_claim_that_nobody_waits_for_any_more_is_given_back(file: Path) -> None:
    async with opened(file) as (store, _):
        asking = asyncio.create_task(store.begin("order 1"))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        await claimed(store, "order 1")


async def test_a_file_that_another_process_just_makes_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "keys.sqlite"
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    store = SqliteStore(file, scope="s", window=WINDOW, lease=LEASE, clock=SystemClock())
    opening = asyncio.create_task(store.open())
    await asyncio.wait([opening], timeout=1.3)
    assert not opening.done()
    other.execute("ROLLBACK")
    other.close()
    await opening
    await store.close()
