"""The deliveries of one consumer: taken in order by so many slots, given back at a stop, cut off when time is up, and
paused where nothing else bounds them."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.amqp.consume import Subscription
from pipeline.errors import Reject
from pipeline.events import ConsumerPaused, ConsumerResumed, HandlerAbandoned, HandlerFreed, HandlerStuck, MessageFailed
from pipeline.message import Message
from pipeline.runtime.consume import PAUSE_AT, RESUME_AT, ConsumerRun
from pipeline.runtime.turn import LONGEST, Turn
from tests.models import a_retry
from tests.runtime.stand_ins import NEVER, HandDelivery, counts, in_time, some_turns
from tests.runtime.works import Works
from tests.waiting import deadline, eventually


class Subscribed:
    """Stands for the subscription; the real one is in the tests over the line."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.wishes: list[str] = []
        self.hangs = hangs

    async def cancel(self) -> None:
        self.wishes.append("cancel")
        if self.hangs:
            await asyncio.Event().wait()

    async def pause(self) -> None:
        self.wishes.append("pause")
        await asyncio.sleep(0)

    async def resume(self) -> None:
        self.wishes.append("resume")
        await asyncio.sleep(0)


class Shop(Works):
    """A consumer that runs."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        subscribed: Subscribed | None = None,
        turn: Turn | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(function, **{"publish": None, **settings})
        self.subscribed = subscribed or Subscribed()
        self.bugs: list[BaseException] = []
        self.deliveries: list[HandDelivery] = []
        self.run = ConsumerRun(
            plan=self.plan,
            processor=self.processor,
            settler=self.settler,
            handlers=[self.handler] * self.plan.consumer.concurrency,
            in_threads=False,
            ledger=self.ledger,
            turn=turn or Turn(self.clock),
            clock=self.clock,
            emit=self.seen,
            threads=self.threads,
        )
        self.run.subscription = cast(Subscription, self.subscribed)

    def start(self) -> None:
        self.run.start(self.bugs.append)

    def receive(self, *bodies: object, alive: bool = True) -> list[HandDelivery]:
        """Deliveries with these bodies, as the client's callback hands over what it read at once."""
        new = [
            HandDelivery(Message(str(body).encode(), message_id=f"m-{body}", queue="billing"), journal=self.journal)
            for body in bodies
        ]
        for delivery in new:
            delivery.alive = alive
        self.run.receive(new)
        self.deliveries += new
        return new

    async def drained(self) -> None:
        await in_time(self.clock, self.run.drain())

    @property
    def settled(self) -> list[str]:
        """Of each delivery, in the order in which they came."""
        return [" ".join(each.settled) for each in self.deliveries]


class Handled:
    """A handler that notes what it gets, and holds each message until it is let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.go = asyncio.Event()

    async def __call__(self, body: str) -> None:
        self.begun.append(body)
        await self.go.wait()
        self.ended.append(body)


async def test_messages_are_handled_in_their_order() -> None:
    handled = Handled()
    handled.go.set()
    shop = Shop(handled)
    shop.receive(*range(3))
    shop.start()
    shop.receive(*range(3, 6))
    await some_turns(60)
    assert handled.begun == list("012345")
    assert shop.settled == ["ack"] * 6
    await shop.drained()
    assert (counts(shop.ledger), shop.bugs) == ({"delivered": 6, "done": 6}, [])


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_so_many_are_handled_at_a_time(concurrency: int) -> None:
    handled = Handled()
    shop = Shop(handled, concurrency=concurrency)
    shop.start()
    shop.receive(*range(6))
    await some_turns()
    assert len(handled.begun) == concurrency
    assert (shop.run.in_hand, shop.ledger.in_hand) == (6, 6)
    handled.go.set()
    await some_turns(60)
    assert len(handled.ended) == 6
    assert (shop.run.in_hand, shop.ledger.in_hand) == (0, 0)
    await shop.drained()


async def test_a_slot_that_is_free_waits_for_the_next_message() -> None:
    handled = Handled()
    handled.go.set()
    shop = Shop(handled, concurrency=3)
    shop.start()
    for body in range(5):
        await some_turns()
        shop.receive(body)
    await some_turns(40)
    assert handled.ended == list("01234")
    await shop.drained()


async def test_a_delivery_whose_channel_has_ended_meanwhile_is_not_begun() -> None:
    handled = Handled()
    handled.go.set()
    shop = Shop(handled)
    shop.receive("stale", alive=False)
    shop.receive("fresh")
    shop.start()
    await some_turns(40)
    assert handled.begun == ["fresh"]
    assert counts(shop.ledger) == {"delivered": 2, "done": 1, "redelivery_expected": 1}
    await shop.drained()


async def test_without_acknowledgement_it_is_handled_all_the_same_for_nobody_has_it_any_more() -> None:
    handled = Handled()
    handled.go.set()
    shop = Shop(handled, ack="none")
    shop.receive("stale", alive=False)
    shop.start()
    await some_turns(40)
    assert handled.begun == ["stale"]
    assert counts(shop.ledger) == {"delivered": 1, "done": 1}
    await shop.drained()


async def test_an_exception_of_ours_is_told() -> None:
    async def charge(body: str) -> None:
        raise Reject("too old")

    shop = Shop(charge)
    shop.publisher.answers = [ZeroDivisionError("ours")]
    shop.start()
    shop.receive("a")
    await some_turns(60)
    assert [type(bug) for bug in shop.bugs] == [ZeroDivisionError]


# Turns of the loop


class Busy:
    """A handler that never waits for anything, and takes a third of a turn each time."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.shop: Shop | None = None

    async def __call__(self, body: str) -> None:
        self.begun.append(body)
        assert self.shop is not None
        self.shop.clock.advance(LONGEST / 3)


class AtOnce(HandDelivery):
    """Its ack waits for nothing, as one that only notes the tag; what is noted goes out when the loop turns."""

    written: list[str]

    async def ack(self) -> None:
        self.settled.append("ack")
        asyncio.get_running_loop().call_soon(self.written.append, cast(bytes, self.message.body).decode())


def at_once(written: list[str], count: int) -> list[AtOnce]:
    deliveries = [AtOnce(Message(str(number).encode(), queue="billing")) for number in range(count)]
    for each in deliveries:
        each.written = written
    return deliveries


def flooded(count: int, **settings: Any) -> tuple[Shop, Busy, list[str]]:
    busy = Busy()
    shop = busy.shop = Shop(busy, **settings)
    written: list[str] = []
    shop.start()
    shop.run.receive(at_once(written, count))
    return shop, busy, written


async def turns_until(condition: Callable[[], bool]) -> None:
    """As few turns of the loop as it needs."""
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come to that")


async def test_a_handler_that_never_waits_gives_up_its_turn() -> None:
    shop, busy, written = flooded(300)
    await turns_until(lambda: bool(written))
    assert shop.run.in_hand > 290  # acks go out while nearly everything still waits
    for _ in range(10):
        await asyncio.sleep(0)
    assert 3 < len(written) < len(busy.begun) + 1 < 50
    await turns_until(lambda: len(written) == 300)
    assert busy.begun == written == [str(number) for number in range(300)]  # `concurrency: 1` keeps the order
    await shop.drained()
    assert counts(shop.ledger) == {"delivered": 300, "done": 300}


async def test_many_slots_together_use_one_turn() -> None:
    shop, busy, written = flooded(300, concurrency=10)
    await turns_until(lambda: bool(written))
    assert len(busy.begun) < 30  # and not three for each of the ten, nor all of them
    await turns_until(lambda: len(written) == 300)
    await shop.drained()


async def test_a_flooded_consumer_does_not_keep_another_from_its_message() -> None:
    shop, _, written = flooded(300)
    handled = Handled()
    handled.go.set()
    other = Shop(handled, turn=shop.run._turn)
    other.clock = shop.clock
    other.start()
    await some_turns(3)
    other.receive("the other's")
    await some_turns(10)
    assert handled.ended == ["the other's"]
    assert shop.run.in_hand > 200
    await turns_until(lambda: len(written) == 300)
    await shop.drained()
    await other.drained()


async def test_a_message_that_comes_alone_wakes_one_of_the_slots() -> None:
    handled = Handled()
    handled.go.set()
    shop = Shop(handled, concurrency=10)
    shop.start()
    await some_turns()
    idle = len(shop.run._idle)
    shop.receive("a")
    assert (idle, len(shop.run._idle)) == (10, 9)
    await some_turns()
    assert (handled.ended, len(shop.run._idle)) == (["a"], 10)
    await shop.drained()


# A stop


async def test_at_a_stop_the_unstarted_go_back_and_the_begun_are_handled_to_their_end() -> None:
    handled = Handled()
    shop = Shop(handled, concurrency=2)
    shop.start()
    shop.receive(*range(6))
    await some_turns()
    draining = asyncio.create_task(shop.run.drain())
    await some_turns(40)
    assert shop.subscribed.wishes == ["cancel"]
    assert shop.settled == ["", "", *["nack"] * 4]
    assert not draining.done()
    handled.go.set()
    await in_time(shop.clock, draining)
    assert handled.begun == ["0", "1"]
    assert shop.settled == ["ack"] * 2 + ["nack"] * 4
    assert counts(shop.ledger) == {"delivered": 6, "done": 2, "returned": 4}


async def test_at_a_stop_without_acknowledgement_everything_is_handled_to_its_end() -> None:
    handled = Handled()
    handled.go.set()
    shop = Shop(handled, ack="none")
    shop.receive(*range(6))
    shop.start()
    await shop.drained()
    assert handled.ended == list("012345")
    assert counts(shop.ledger) == {"delivered": 6, "done": 6}


async def test_what_cannot_go_back_because_its_channel_has_ended_is_expected_again() -> None:
    shop = Shop(Handled())
    shop.receive(*range(3), alive=False)
    await shop.drained()
    assert counts(shop.ledger) == {"delivered": 3, "redelivery_expected": 3}


async def test_a_consumer_that_never_started_stops_at_once() -> None:
    shop = Shop(Handled())
    await shop.drained()
    assert await shop.run.cut_off() == 0


@pytest.mark.parametrize(("ack", "settled", "counted"), [("on_success", "nack", "returned"), ("none", "", "dropped")])
async def test_when_time_is_up_handlers_are_cancelled_given_back_and_named(
    ack: str, settled: str, counted: str
) -> None:
    handled = Handled()
    shop = Shop(handled, concurrency=2, ack=ack)
    shop.start()
    shop.receive(*range(3))
    await some_turns()
    draining = asyncio.create_task(shop.run.drain())
    await some_turns()
    cut = await in_time(shop.clock, shop.run.cut_off())
    assert cut == 2
    assert handled.ended == []
    assert shop.settled == [settled] * 3
    assert counts(shop.ledger) == {"delivered": 3, counted: 3}
    assert [(each.message_id, each.dropped) for each in shop.seen.of(HandlerAbandoned)] == [
        ("m-0", ack == "none"),
        ("m-1", ack == "none"),
    ]
    await in_time(shop.clock, draining)


async def test_a_handler_that_does_not_end_is_left_behind_and_its_message_given_back_once() -> None:
    go = asyncio.Event()

    async def stubborn(body: str) -> None:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                pass

    shop = Shop(stubborn)
    shop.start()
    shop.receive("a")
    await some_turns()
    assert await in_time(shop.clock, shop.run.cut_off()) == 1
    assert shop.settled == ["nack"]
    go.set()
    await some_turns(60)
    assert shop.settled == ["nack"]
    assert counts(shop.ledger) == {"delivered": 1, "returned": 1}
    assert shop.bugs == []


async def test_a_copy_without_an_answer_is_cut_off_too() -> None:
    async def charge(body: str) -> None:
        raise Reject("too old")

    shop = Shop(charge, answers=[NEVER])
    shop.start()
    shop.receive("a")
    await some_turns(40)
    assert await in_time(shop.clock, shop.run.cut_off()) == 1
    assert shop.settled == ["nack"]
    assert counts(shop.ledger) == {"delivered": 1, "returned": 1}


async def test_a_cancel_that_has_no_answer_does_not_keep_the_cut_from_coming() -> None:
    shop = Shop(Handled(), subscribed=Subscribed(hangs=True))
    shop.receive(*range(2))
    draining = asyncio.create_task(shop.run.drain())
    await some_turns()
    assert await in_time(shop.clock, shop.run.cut_off()) == 0
    assert shop.settled == ["nack"] * 2
    draining.cancel()
    await asyncio.wait({draining})


# The bound of `ack: none`


async def test_without_a_prefetch_limit_it_pauses_and_goes_on() -> None:
    handled = Handled()
    shop = Shop(handled, ack="none")
    shop.start()
    shop.receive(*range(PAUSE_AT + 1))
    await some_turns()
    assert shop.subscribed.wishes == ["pause"]
    shop.receive(*range(10))  # what was on its way
    handled.go.set()
    for _ in range(1_000):
        await some_turns()
        if len(handled.ended) == PAUSE_AT + 11:
            break
    assert shop.subscribed.wishes == ["pause", "resume"]
    assert shop.seen.of(ConsumerPaused) == [ConsumerPaused(consumer="charge", waiting=PAUSE_AT + 1)]
    assert shop.seen.of(ConsumerResumed) == [ConsumerResumed(consumer="charge", waiting=RESUME_AT)]
    await shop.drained()
    assert counts(shop.ledger) == {"delivered": PAUSE_AT + 11, "done": PAUSE_AT + 11}


@pytest.mark.parametrize("ack", ["on_success", "manual"])
async def test_where_the_broker_bounds_it_nothing_is_paused(ack: str) -> None:
    async def charge(message: Message) -> None:
        await asyncio.Event().wait()

    shop = Shop(charge, ack=ack)
    shop.receive(*range(PAUSE_AT + 1))
    await some_turns()
    assert shop.subscribed.wishes == []


# Whatever happens


@settings(deadline=None)
@given(
    ack=st.sampled_from(["on_success", "none"]),
    concurrency=st.integers(1, 3),
    script=st.lists(st.sampled_from(["receive", "receive two", "channel ends", "go", "wait", "fail"]), max_size=12),
    end=st.sampled_from(["drain", "cut off", "cut off twice"]),
)
def test_the_numbers_add_up_whatever_happens(ack: str, concurrency: int, script: list[str], end: str) -> None:
    async def play() -> None:
        handled = Handled()
        failing = False

        async def charge(body: str) -> None:
            if failing:
                raise Reject("too old")
            await handled(body)

        shop = Shop(charge, ack=ack, concurrency=concurrency)
        shop.start()
        for number, step in enumerate(script):
            match step:
                case "receive":
                    shop.receive(number)
                case "receive two":
                    shop.receive(number, number + 0.5)
                case "channel ends":
                    for delivery in shop.deliveries:
                        delivery.alive = False
                case "go":
                    handled.go.set()
                case "fail":
                    failing = True
                case "wait":
                    await some_turns()
        if end == "drain":
            handled.go.set()
            await shop.drained()
        else:
            draining = asyncio.create_task(shop.run.drain())
            await some_turns(5)
            for _ in end.split(" ")[1:]:
                await in_time(shop.clock, shop.run.cut_off())
            await in_time(shop.clock, draining)
        assert shop.bugs == []
        assert shop.ledger.in_hand == shop.run.in_hand == 0
        assert shop.ledger.numbers()["delivered"] == len(shop.deliveries)
        assert all(len(each.settled) <= (0 if ack == "none" else 1) for each in shop.deliveries)

    asyncio.run(play())


# A handler that cancels the task it runs in


@pytest.mark.parametrize("timeout", [None, 5.0])
@pytest.mark.parametrize("ack", ["on_success", "manual", "none"])
async def test_a_handler_that_cancels_itself_fails_its_message_and_the_slot_goes_on(
    timeout: float | None, ack: str
) -> None:
    async def handler(message: Message) -> None:
        if message.body == b"cancels":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.Event().wait()
        if ack == "manual":
            await message.ack()

    shop = Shop(handler, timeout=timeout, ack=ack)
    shop.start()
    shop.receive("cancels", "tea", "cancels", "coffee")
    await eventually(lambda: shop.run.in_hand == 0)
    await shop.drained()
    failed = "dropped" if ack == "none" else "dead_lettered"
    assert counts(shop.ledger) == {"delivered": 4, "done": 2, failed: 2}
    assert shop.bugs == []
    assert {each.error for each in shop.seen.of(MessageFailed)} == {
        "CancelledError: the handler has cancelled the task that it runs in"
    }


async def test_with_inline_retry_too_a_handler_that_cancels_itself_fails_its_message() -> None:
    async def handler(message: Message) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.Event().wait()

    shop = Shop(handler, retry=a_retry(5.0, strategy="inline"))
    shop.start()
    shop.receive("tea", "coffee")
    await eventually(lambda: shop.run.in_hand == 0)
    await shop.drained()
    assert counts(shop.ledger) == {"delivered": 2, "dead_lettered": 2}


# Threads that do not end


class Threaded:
    """A plain function that notes what it gets; "hang" holds its thread until it is let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.go = threading.Event()

    def __call__(self, body: str) -> None:
        self.begun.append(body)
        if body.startswith("hang"):
            self.go.wait(deadline(10))


async def time_is_over(shop: Shop, *, for_all_that_began: int) -> None:
    """The time of what hangs, and then the moment in which a thread may still end by itself."""
    await eventually(lambda: len(shop.threads.busy()) == for_all_that_began, told="threads that hang")
    shop.clock.advance(5.0)
    await eventually(lambda: shop.run.in_hand == 0, told="settled messages")
    await some_turns()
    shop.clock.advance(1.0)
    await eventually(lambda: len(shop.seen.of(HandlerStuck)) == for_all_that_began, told="slots that are stuck")


async def test_a_thread_that_does_not_end_keeps_its_slot_and_the_others_go_on() -> None:
    function = Threaded()
    shop = Shop(function, timeout=5.0, concurrency=2)
    shop.start()
    shop.receive("hang", "tea")
    await eventually(lambda: shop.settled == ["", "ack"])
    # When its time is over, then it is dead-lettered, and the slot is taken, which is said
    await time_is_over(shop, for_all_that_began=1)
    assert shop.settled == ["ack", "ack"]
    assert counts(shop.ledger) == {"delivered": 2, "done": 1, "dead_lettered": 1}
    assert shop.seen.of(HandlerStuck) == [HandlerStuck(consumer="charge", message_id="m-hang", stuck=1, slots=2)]
    # The other slot goes on, with everything
    shop.receive("coffee", "milk")
    await eventually(lambda: shop.settled == ["ack"] * 4)
    assert shop.subscribed.wishes == []
    # When the thread ends, then its slot handles messages again
    function.go.set()
    await eventually(lambda: shop.seen.of(HandlerFreed) == [HandlerFreed(consumer="charge", stuck=0, slots=2)])
    assert (shop.run.stuck, shop.threads.left_behind) == (0, 0)
    await shop.drained()


async def test_with_no_slot_left_the_consumer_stands_still_and_others_get_what_waits() -> None:
    function = Threaded()
    shop = Shop(function, timeout=5.0, concurrency=2)
    shop.start()
    shop.receive("hang-1", "hang-2", "tea", "coffee")
    await eventually(lambda: len(shop.threads.busy()) == 2)
    shop.clock.advance(5.0)
    await eventually(lambda: shop.settled == ["ack", "ack", "", ""])
    await some_turns()
    shop.clock.advance(1.0)
    # Then what waits is not begun, it goes back, and no more is asked for
    await eventually(lambda: shop.settled == ["ack", "ack", "nack", "nack"])
    assert shop.subscribed.wishes == ["pause"]
    assert [each.stuck for each in shop.seen.of(HandlerStuck)] == [1, 2]
    assert sorted(function.begun) == ["hang-1", "hang-2"]
    # Until a thread ends
    function.go.set()
    await eventually(lambda: shop.subscribed.wishes == ["pause", "resume"])
    shop.receive("milk")
    await eventually(lambda: shop.settled[-1] == "ack")
    await shop.drained()
    assert counts(shop.ledger) == {"delivered": 5, "done": 1, "dead_lettered": 2, "returned": 2}


async def test_a_thread_that_ends_a_moment_late_is_not_worth_a_word() -> None:
    function = Threaded()
    shop = Shop(function, timeout=5.0)
    shop.start()
    shop.receive("hang", "tea")
    await eventually(lambda: shop.threads.busy() == ["charge-1"])
    shop.clock.advance(5.0)
    await eventually(lambda: shop.settled == ["ack", ""])
    function.go.set()
    await eventually(lambda: shop.settled == ["ack", "ack"])
    assert shop.seen.of(HandlerStuck) == []
    await shop.drained()


async def test_a_stop_does_not_wait_for_a_thread_whose_message_is_settled() -> None:
    function = Threaded()
    shop = Shop(function, timeout=5.0)
    shop.start()
    shop.receive("hang")
    await time_is_over(shop, for_all_that_began=1)
    await shop.drained()
    assert counts(shop.ledger) == {"delivered": 1, "dead_lettered": 1}
    assert shop.threads.left_behind == 1
    function.go.set()
