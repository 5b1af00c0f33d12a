"""A client for tests of the protocol core: methods go in as the bytes a client would send, what comes out is read
back frame by frame. No socket and no loop; what is written here about the wire comes from the specification."""

import struct
from collections.abc import Sequence
from typing import Any

from pamqp import base, body, frame, header, heartbeat
from pamqp.commands import Basic, Channel, Connection

from pipeline.embedded.connections.connection import Connection as Core
from pipeline.embedded.vhosts.node import Node

CAPABILITIES = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
}
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"

Seen = tuple[int, Any]


def new_node(*vhosts: str, rabbitmq_version: str = "3.10") -> Node:
    return Node(username="user", password="secret", vhosts=vhosts or ("/",), rabbitmq_version=rabbitmq_version)


class Talk:
    """One connection of the core. `open` brings it to where channels can be used."""

    def __init__(self, node: Node | None = None) -> None:
        self.node = node or new_node()
        self.woken = 0
        self.core = Core(self.node, "test:1", self._wake)

    def _wake(self) -> None:
        self.woken += 1

    # Handshake

    def greet(self) -> list[Seen]:
        return self.raw(PROTOCOL_HEADER)

    def log_in(
        self,
        *,
        mechanism: str = "PLAIN",
        response: str = "\0user\0secret",
        capabilities: dict[str, bool] = CAPABILITIES,
    ) -> list[Seen]:
        properties: dict[str, Any] = {"capabilities": dict(capabilities), "connection_name": "test"}
        return self.say(0, Connection.StartOk(properties, mechanism, response, "en_US"))

    def open(
        self,
        *channels: int,
        vhost: str = "/",
        frame_max: int = 131_072,
        heartbeat: int = 0,
        capabilities: dict[str, bool] = CAPABILITIES,
    ) -> "Talk":
        self.greet()
        self.log_in(capabilities=capabilities)
        self.say(0, Connection.TuneOk(2047, frame_max, heartbeat))
        opened = self.say(0, Connection.Open(vhost))
        assert [type(method) for _, method in opened] == [Connection.OpenOk], opened
        for channel in channels or (1,):
            self.say(channel, Channel.Open())
        return self

    def wait(self, seconds: float) -> list[Seen]:
        """Let time pass, and read what is said by that."""
        timeline = self.node.timeline
        timeline.advance(timeline.now + seconds, timeline.time + seconds)
        return self.heard()

    # Saying and hearing

    def raw(self, octets: bytes) -> list[Seen]:
        self.core.receive(octets)
        return self.heard()

    def say(self, channel: int, *frames: frame.FrameTypes) -> list[Seen]:
        """Send these together, and read all that is answered."""
        return self.raw(b"".join(frame.marshal(each, channel) for each in frames))

    def heard(self) -> list[Seen]:
        """What the broker has said since it was read last, as the server would read it."""
        octets = self.core.outbox.take()
        self.core.drained()
        seen: list[Seen] = []
        while octets:
            if octets.startswith(b"AMQP"):
                seen.append((0, octets[:8]))
                octets = octets[8:]
                continue
            _, channel, size = struct.unpack(">BHI", octets[:7])
            whole, octets = octets[: size + 8], octets[size + 8 :]
            assert whole[-1] == 0xCE, whole
            seen.append((channel, frame.unmarshal(whole)[2]))
        return seen

    def publish(
        self,
        channel: int,
        routing_key: str,
        body: bytes = b"x",
        *,
        exchange: str = "",
        mandatory: bool = False,
        **properties: Any,
    ) -> list[Seen]:
        return self.say(channel, *publishing(routing_key, body, exchange=exchange, mandatory=mandatory, **properties))

    def bodies(self, channel: int, queue: str) -> list[bytes]:
        """Take everything out of a queue."""
        taken: list[bytes] = []
        while True:
            answer = self.say(channel, Basic.Get(0, queue, True))
            if isinstance(answer[0][1], Basic.GetEmpty):
                return taken
            taken.append(b"".join(each.value for _, each in answer if isinstance(each, body.ContentBody)))


def publishing(
    routing_key: str, octets: bytes = b"x", *, exchange: str = "", mandatory: bool = False, **properties: Any
) -> list[frame.FrameTypes]:
    """The frames of one small message."""
    frames: list[frame.FrameTypes] = [
        Basic.Publish(0, exchange, routing_key, mandatory, False),
        header.ContentHeader(0, len(octets), Basic.Properties(**properties)),
    ]
    return [*frames, body.ContentBody(octets)] if octets else frames


def methods(seen: Sequence[Seen]) -> list[str]:
    """The names of what was heard, content left out."""
    return [each.name for _, each in seen if isinstance(each, base.Frame)]


def only(seen: Sequence[Seen], kind: type[Any]) -> Any:
    """The one of that kind that was heard."""
    found = [each for _, each in seen if isinstance(each, kind)]
    assert len(found) == 1, seen
    return found[0]


def deliveries(seen: Sequence[Seen]) -> list[tuple[str, int, bool, bytes]]:
    """Consumer tag, delivery tag, redelivered and body of each small message that was delivered."""
    found = []
    for (_, method), (_, last) in zip(seen, seen[2:], strict=False):
        if isinstance(method, Basic.Deliver):
            assert isinstance(last, body.ContentBody), seen
            assert method.consumer_tag is not None and method.delivery_tag is not None
            found.append((method.consumer_tag, method.delivery_tag, bool(method.redelivered), last.value))
    return found


def headers(seen: Sequence[Seen]) -> dict[str, Any]:
    """The header table of the one message that was heard."""
    properties: Basic.Properties = only(seen, header.ContentHeader).properties
    return dict(properties.headers or {})


def closed(seen: Sequence[Seen]) -> tuple[str, int, str]:
    """What was closed, with which code and text."""
    found = [each for _, each in seen if isinstance(each, Channel.Close | Connection.Close)]
    assert len(found) == 1, seen
    what = "channel" if isinstance(found[0], Channel.Close) else "connection"
    return what, found[0].reply_code or 0, found[0].reply_text or ""


def is_heartbeat(each: object) -> bool:
    return isinstance(each, heartbeat.Heartbeat)
