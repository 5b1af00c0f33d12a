"""One way, for so many messages: octets as RabbitMQ writes them go into the fast line, through a consumer's real loop
and the real publisher, and come out as octets, which are counted. There are no sockets, and no broker."""

import asyncio
import sys
from itertools import repeat
from typing import Any, cast

from aiormq.channel import Channel as ClientChannel

from benchmarks.embedded_broker import wire
from benchmarks.embedded_broker.shapes import Letter
from benchmarks.handling.measure import start_consumer
from benchmarks.instructions.ways import WAYS, Way
from pipeline.amqp.fast.deliveries import Deliveries
from pipeline.amqp.fast.switch import Switch
from pipeline.amqp.generation import Generation
from pipeline.amqp.publish import Publisher
from pipeline.clock import SystemClock
from pipeline.runtime.loop import choose, run_on
from tests.amqp.fast.octets import confirmed, open_ok

_TAG_OF_CONSUMER = "ctag1.b7f5f2c0e8a94b3d"
_MOST_TURNS = 1_000  # of the loop, until something was written


class StandingClock(SystemClock):
    """Time does not go on: under a program that slows this one down, each turn of the loop would be used up at once."""

    now = staticmethod(repeat(1.0).__next__)


class Socket(asyncio.Transport):
    """Counts what is written. `switch` cuts what arrives."""

    def __init__(self) -> None:
        super().__init__()
        loop = asyncio.get_running_loop()
        self.switch = Switch(asyncio.StreamReader(loop=loop), loop)
        self.switch.connection_made(self)
        self.switch.data_received(open_ok(wire.CHANNEL))
        self.written = 0  # octets

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += len(data)

    def is_closing(self) -> bool:
        return False

    async def has_written(self, octets: int) -> None:
        """Returns when so many have gone out in all."""
        for _ in range(_MOST_TURNS):
            if self.written >= octets:
                return
            await asyncio.sleep(0)
        raise RuntimeError(f"{self.written} octets and not {octets} were written in {_MOST_TURNS} turns of the loop")


class Channel:
    """As much of the client's as an outlet asks for."""

    number = wire.CHANNEL

    def __init__(self) -> None:
        self.closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.connection = self.connection_tune = self
        self.frame_max = wire.FRAME_MAX

    async def get_underlay_channel(self) -> ClientChannel:
        return cast(ClientChannel, self)


class Open(Generation):
    """A connection that is there, and never ends."""

    def __init__(self, switch: Switch) -> None:
        self.switch = switch
        self.link = "publish"

    @property
    def ended(self) -> bool:
        return False

    @property
    def blocked(self) -> bool:
        return self.switch is not None and self.switch.blocked

    async def unblocked(self) -> None:
        return

    async def channel(self, *, confirms: bool = False) -> Any:
        return Channel()


async def carry(way: Way, messages: int) -> int:
    """Returns how many octets went out. Raises RuntimeError where a message does not come to its end."""
    incoming, outgoing = Socket(), Socket()
    clock = StandingClock()
    publisher = Publisher(clock=clock, emit=_unexpected)
    living = asyncio.create_task(publisher.live(Open(outgoing.switch)))
    receive, end = start_consumer(way.shape, clock=clock, publisher=publisher)
    deliveries = Deliveries(wire.CHANNEL, incoming.switch, queue="orders", no_ack=False, receive=receive)
    incoming.switch.claim(wire.CHANNEL, deliveries)
    publishes = "publish" in way.shape.consumer
    for tag in range(way.at_once, messages + 1, way.at_once):
        before, sent = incoming.written, outgoing.written
        incoming.switch.data_received(_deliveries(tag - way.at_once + 1, way.at_once))
        if publishes:
            await outgoing.has_written(sent + way.at_once * len(way.shape.body))
            outgoing.switch.data_received(confirmed(wire.CHANNEL, tag, multiple=way.at_once > 1))
        await incoming.has_written(before + 1)  # neighbours are one ack
    living.cancel()
    end()
    return incoming.written + outgoing.written


def _deliveries(first: int, count: int) -> bytes:
    """Each has its own delivery tag, and its own message id: of those that are alike one waits for the other."""
    return b"".join(
        part
        for tag in range(first, first + count)
        for part in (_UP_TO_TAG, tag.to_bytes(8), _UP_TO_ID, b"%08d" % tag, _REST)
    )


_ID = b"00000000"
_LETTER = Letter(routing_key="orders", properties={"delivery_mode": 2, "message_id": _ID.decode()})
_WHOLE = wire.delivered(_TAG_OF_CONSUMER, "", _LETTER, b"x" * 100)
_TAG_ENDS = wire.last_octet_of_tag(_TAG_OF_CONSUMER) + 1
_UP_TO_TAG = _WHOLE[: _TAG_ENDS - 8]
_UP_TO_ID, _REST = _WHOLE[_TAG_ENDS:].split(_ID)


def _unexpected(told: object) -> None:
    raise AssertionError(told)


def main() -> None:
    name, messages = sys.argv[1:]
    (way,) = (each for each in WAYS if each.name == name)
    run_on(choose("auto", lambda _: None), carry(way, int(messages)))


if __name__ == "__main__":
    main()
