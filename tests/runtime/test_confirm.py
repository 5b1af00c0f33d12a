"""Publishing until it is confirmed: what is tried again, how long the pauses are, and when it is given up."""

import asyncio
from itertools import pairwise

import pytest

from pipeline.amqp.publish import Outgoing
from pipeline.clock import FakeClock
from pipeline.errors import ConnectionLost, Nacked, NotConnected, PublishRefused, Unroutable
from pipeline.message import Message
from pipeline.runtime.confirm import GaveUp, until_confirmed
from tests.runtime.stand_ins import Answer, ScriptedPublisher, in_time

OUT = Outgoing.of(Message(b"", message_id="m-1"), exchange="", routing_key="invoices", mandatory=True)


async def confirmed(answers: list[Answer], *, worth: int = 10**6) -> tuple[ScriptedPublisher, list[tuple[str, float]]]:
    """`worth` is how often another try is worth it."""
    publisher, clock, troubles = ScriptedPublisher(answers), FakeClock(), list[tuple[str, float]]()
    left = iter(range(worth))
    sending = until_confirmed(
        publisher,
        OUT,
        clock=clock,
        worth_it=lambda: next(left, None) is not None,
        troubled=lambda reason, pause: troubles.append((reason, pause)),
    )
    await in_time(clock, sending)
    return publisher, troubles


async def test_a_confirm_ends_it_without_a_word() -> None:
    publisher, troubles = await confirmed([])
    assert (len(publisher.sent), troubles) == (1, [])


async def test_what_may_mend_itself_is_tried_again_under_the_same_id() -> None:
    publisher, troubles = await confirmed([Nacked("full"), ConnectionLost("reset"), NotConnected("down")])
    assert publisher.ids == ["m-1"] * 4
    assert [reason for reason, _ in troubles] == ["full", "reset", "down"]


async def test_pauses_grow_from_short_to_bounded() -> None:
    _, troubles = await confirmed([Nacked("full")] * 20)
    pauses = [pause for _, pause in troubles]
    assert 0 < pauses[0] <= 0.1
    assert all(later <= 4 * earlier for earlier, later in pairwise(pauses))
    assert all(2.5 <= pause <= 5 for pause in pauses[8:])


@pytest.mark.parametrize(("refusals", "doubts"), [(4, 0), (5, 1), (7, 3)])
async def test_what_is_refused_again_and_again_is_doubted(refusals: int, doubts: int) -> None:
    """Not the message, which another try may mend, but the channel that it went through."""
    publisher, _ = await confirmed([Nacked("full")] * refusals)
    assert len(publisher.doubted) == doubts


async def test_a_lost_connection_is_no_reason_to_doubt() -> None:
    publisher, _ = await confirmed([ConnectionLost("reset")] * 7)
    assert publisher.doubted == []


@pytest.mark.parametrize(
    "refusal", [Unroutable(exchange="", routing_key="invoices"), PublishRefused("403"), ValueError("a bug of ours")]
)
async def test_what_another_try_cannot_mend_is_raised_at_once(refusal: Exception) -> None:
    with pytest.raises(type(refusal)):
        await confirmed([refusal])


@pytest.mark.parametrize("worth", [0, 3])
async def test_it_is_given_up_when_it_is_no_longer_worth_it(worth: int) -> None:
    publisher = ScriptedPublisher([Nacked("a queue is full")] * 50)
    clock, left = FakeClock(), iter(range(worth))
    sending = until_confirmed(
        publisher, OUT, clock=clock, worth_it=lambda: next(left, None) is not None, troubled=lambda *_: None
    )
    with pytest.raises(GaveUp, match="a queue is full"):
        await in_time(clock, sending)
    assert len(publisher.sent) == worth + 1


async def test_a_cancellation_ends_it() -> None:
    clock = FakeClock()
    publisher = ScriptedPublisher([Nacked("full")] * 50)
    sending = asyncio.create_task(
        until_confirmed(publisher, OUT, clock=clock, worth_it=lambda: True, troubled=lambda *_: None)
    )
    for _ in range(20):
        await asyncio.sleep(0)
    sending.cancel()
    await asyncio.wait({sending})
    assert sending.cancelled()
    assert clock.waiting == 0
