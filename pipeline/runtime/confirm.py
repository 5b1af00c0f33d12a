"""Publish until the broker has confirmed it: the one loop behind source items, outputs of handlers and dead-letter
copies. How often and how long is decided here; what a message is worth is the caller's."""

import random
from collections.abc import Awaitable, Callable
from typing import Final

from pipeline.amqp.publish import Outgoing, Publisher
from pipeline.clock import Clock
from pipeline.errors import ChannelGone, ConnectionLost, Nacked, NotConnected
from pipeline.failpoints import ARMED, reach

_FIRST_PAUSE = 0.1  # seconds
_LONGEST_PAUSE = 5.0
_DOUBT_FROM = 1.5  # a pause as long as this comes after the fifth refusal
_CONNECT_WAIT = 10.0  # how long one try waits for a connection before it is asked again whether it is worth it

MAY_MEND: Final = (Nacked, ConnectionLost, NotConnected)  # with another try: a full queue, a lost connection

Troubled = Callable[[str, float], None]


class GaveUp(ChannelGone):
    """Raised when a message is unconfirmed and no longer worth another try: the delivery behind it goes back."""


async def until_confirmed(
    publisher: Publisher,
    outgoing: Outgoing,
    *,
    clock: Clock,
    worth_it: Callable[[], bool],
    troubled: Troubled,
    begun: Awaitable[None] | None = None,
) -> None:
    """Returns when the broker has taken the message. A refusal that another try may mend is tried again under the same
    message id, so that a repeat can be recognised, as long as `worth_it` says so; then `GaveUp` is raised. `Unroutable`
    and `PublishRefused` are raised at once. `begun`: the answer to a first try that somebody has begun, which may have
    ended."""
    pause = _FIRST_PAUSE
    while True:
        try:
            ARMED and reach("confirm.before_publish")
            # A coroutine less for what can go at once: 1.5 us of a message.
            await (begun or publisher.begin(outgoing) or publisher.send(outgoing, timeout=_CONNECT_WAIT))
            ARMED and reach("confirm.after_confirm")
            return
        except MAY_MEND as error:
            begun, reason = None, str(error)
            if isinstance(error, Nacked) and pause >= _DOUBT_FROM:
                publisher.doubt(outgoing)
        if not worth_it():
            raise GaveUp(reason)
        wait = pause * random.uniform(0.5, 1.0)
        troubled(reason, wait)
        ARMED and reach("confirm.before_next_try")
        await clock.sleep(wait)
        pause = min(pause * 2, _LONGEST_PAUSE)
