"""Which line this process takes: the fast one, unless somebody chose the plain one by hand or the client no longer
works as the fast one needs it. That is tried at the start, with the real client on a line in memory."""

import asyncio
import os
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Literal

from aio_pika import Connection
from aiormq.channel import Channel as ClientChannel
from aiormq.connection import TransportFactory
from pamqp import commands, frame, header
from pamqp.body import ContentBody
from pamqp.exceptions import UnmarshalingException
from yarl import URL

from pipeline.amqp.fast.deliveries import Deliveries, FastDelivery
from pipeline.amqp.fast.switch import Switch
from pipeline.amqp.faults import somebody_cancelled

PLAIN_BY_HAND = "PIPERUN_PLAIN_LINE"
_LONGEST = 2.0  # seconds
_GOODBYE = 0.5  # seconds

_NOT_OURS = "it does not use the connection that it is given"
_IN_PIECES = "it does not leave our answers whole"

Line = Literal["fast", "plain"]


async def choose_line(told: Callable[[str], None]) -> Line:
    """`told` hears why it is the plain one, where nobody chose that by hand."""
    if plain_by_hand():
        return "plain"
    why = await why_not_fast()
    if why is None:
        return "fast"
    told(
        f"the client library has changed ({why}; aiormq {version('aiormq')}): everything goes through it, which is "
        "slower and otherwise the same; a newer piperun may know it"
    )
    return "plain"


def plain_by_hand() -> bool:
    return os.environ.get(PLAIN_BY_HAND, "") not in ("", "0")


async def why_not_fast() -> str | None:
    """None if a message that is delivered on a claimed channel comes to us and not to the client, while the client gets
    everything else, and if our answer stands whole between what the client writes."""
    broker = _Broker()
    try:
        async with asyncio.timeout(_LONGEST):
            return await _try(broker)
    except TimeoutError:
        return f"it did not answer within {_LONGEST:g} s"
    except (Exception, asyncio.CancelledError) as error:  # whatever a changed client may raise
        if isinstance(error, asyncio.CancelledError) and somebody_cancelled():
            raise
        return _IN_PIECES if broker.in_pieces else f"{type(error).__name__}: {error}".removesuffix(": ")


async def _try(broker: "_Broker") -> str | None:
    # An address at which nobody listens, for the client that goes there all the same.
    connection = Connection(URL("amqp://127.0.0.1:1/?heartbeat=0"))
    connection.kwargs["transport_factory"] = broker
    try:
        await connection.connect()
        if broker.switch is None:
            return _NOT_OURS
        channel = await (await connection.channel(publisher_confirms=False)).get_underlay_channel()
        assert isinstance(channel, ClientChannel)
        return await _delivered(broker, broker.switch, channel)
    except Exception as error:
        if broker.switch is None and not isinstance(error, TimeoutError):
            return _NOT_OURS
        raise
    finally:
        closing = asyncio.ensure_future(connection.close())
        # A deadline of its own: the one above has cancelled us already when it passes, and does so once.
        await asyncio.wait({closing}, timeout=_GOODBYE)
        closing.cancel()


async def _delivered(broker: "_Broker", switch: Switch, channel: ClientChannel) -> str | None:
    ours: list[FastDelivery] = []
    theirs: list[object] = []

    async def to_client(message: object) -> None:
        theirs.append(message)

    deliveries = Deliveries(channel.number, switch, queue="q", no_ack=False, receive=ours.extend)
    if not switch.claim(channel.number, deliveries):
        return "its channels have other numbers than the broker's"
    await channel.basic_consume("q", to_client, consumer_tag="c")
    if theirs or [each.message.body for each in ours] != [b"hello"]:
        return "it gets messages past us"
    ours[0].give_back()
    await channel.basic_qos(prefetch_count=1)  # answered: everything before it has been written
    return None if broker.nacked == 1 and not broker.in_pieces else _IN_PIECES


class _Broker(TransportFactory):
    """As much of a broker as is asked above, at the other end of a line in memory."""

    def __init__(self) -> None:
        self.switch: Switch | None = None
        self.nacked: int | None = None
        self.in_pieces = False  # something was written that is not whole frames

    async def create(self, url: URL, **_: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        switch = self.switch = Switch(reader, loop)
        line = _Line(self.hear, switch, loop)
        switch.connection_made(line)
        return reader, asyncio.StreamWriter(line, switch, reader, loop)

    def hear(self, octets: bytes) -> bytes:
        """What is answered to what was written, in one write."""
        answer = b""
        while octets:
            try:
                read, channel, heard = frame.unmarshal(octets)
            except UnmarshalingException:
                self.in_pieces = True
                raise
            octets = octets[read:]
            answer += b"".join(frame.marshal(each, channel) for each in self._answers(heard))
        return answer

    def _answers(self, heard: object) -> list[Any]:
        match heard:
            case header.ProtocolHeader():
                return [commands.Connection.Start(mechanisms="PLAIN", server_properties={"capabilities": {}})]
            case commands.Connection.StartOk():
                return [commands.Connection.Tune(channel_max=9, frame_max=4096, heartbeat=0)]
            case commands.Connection.Open():
                return [commands.Connection.OpenOk()]
            case commands.Connection.Close():
                return [commands.Connection.CloseOk()]
            case commands.Channel.Open():
                return [commands.Channel.OpenOk()]
            case commands.Channel.Close():
                return [commands.Channel.CloseOk()]
            case commands.Basic.Qos():
                return [commands.Basic.QosOk()]
            case commands.Basic.Consume():
                content = [header.ContentHeader(body_size=5), ContentBody(b"hello")]
                return [commands.Basic.ConsumeOk("c"), commands.Basic.Deliver("c", 1, False, "", "q"), *content]
            case commands.Basic.Nack():
                self.nacked = heard.delivery_tag
        return []


class _Line(asyncio.Transport):
    """What one side writes is answered to it at its next turn."""

    def __init__(
        self, hear: Callable[[bytes], bytes], switch: asyncio.Protocol, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__()
        self._hear = hear
        self._switch = switch
        self._loop = loop
        self._closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        answer = self._hear(bytes(data))
        if answer:
            self._loop.call_soon(self._switch.data_received, answer)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.call_soon(self._switch.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self._closed

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        return

    def resume_reading(self) -> None:
        return
