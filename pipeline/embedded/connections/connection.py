"""One connection: bytes in, bytes out. Handshake, open and close as a table of transitions, channel numbers,
heartbeats by the time that is handed in, and the answer to whatever is refused. Sockets and clocks are `server`'s."""

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any

from pipeline.embedded.channels.channel import Channel
from pipeline.embedded.channels.session import Session
from pipeline.embedded.connections.login import CREDENTIALS, negotiated
from pipeline.embedded.connections.pulse import Pulse
from pipeline.embedded.vhosts.node import Node
from pipeline.embedded.wire import frames, refusals
from pipeline.embedded.wire.frames import Answer, Cutter, FieldTable, Method
from pipeline.embedded.wire.frames import Channel as ChannelMethods
from pipeline.embedded.wire.frames import Connection as Methods
from pipeline.embedded.wire.outbox import Outbox
from pipeline.embedded.wire.refusals import Ends, Refusal

CHANNEL_MAX = 2047
FRAME_MAX = 131_072
HEARTBEAT = 60
HANDSHAKE_SECONDS = 10
CLOSING_SECONDS = 5  # how long a peer has to answer our close, or to hang up after its own

# Clients decide by `product` what they may ask for: kombu reads basic.qos otherwise where it is not RabbitMQ.
_PRODUCT: FieldTable = {"product": "RabbitMQ", "platform": "piperun embedded broker"}
_CAPABILITIES: FieldTable = {
    "publisher_confirms": True,
    "exchange_exchange_bindings": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "consumer_priorities": True,
    "authentication_failure_close": True,
    "per_consumer_qos": True,
    "direct_reply_to": True,
}


class State(Enum):
    """Where a connection stands (specification 2.2.4: header, start, tune, open, use, close)."""

    HEADER = auto()
    STARTING = auto()
    TUNING = auto()
    OPENING = auto()
    OPEN = auto()
    CLOSING = auto()  # we have sent close and wait for close-ok; all else is ignored
    LEAVING = auto()  # the peer has sent close and has our close-ok: it hangs up
    CLOSED = auto()


class Connection:
    """Give it what was read (`receive`), send what it has to say (`outbox`), tell it the time (`tick`), and hang up
    once it is `finished`."""

    def __init__(self, node: Node, peer: str, wake: Callable[[], None]) -> None:
        self.peer = peer
        self.state = State.HEADER
        self.outbox = Outbox(wake)
        self.client_properties: Mapping[str, Any] = {}
        self.channels: dict[int, Channel] = {}
        self._node = node
        self._cutter = Cutter()
        self._cutter.frame_max = node.behaviour.smallest_frame_max
        self._session: Session | None = None
        self._user = ""
        self._closing: set[int] = set()  # channels we have closed and that have not answered yet
        self._deaf = False  # frames can no longer be told apart, or are no longer wanted
        self._stopped = False  # published under an alarm: not read until it is over
        self._channel_max = CHANNEL_MAX
        self._frame_max = FRAME_MAX
        self._pulse = Pulse()
        self._heard = True  # since the last tick

    @property
    def finished(self) -> bool:
        """Nothing more will be said; what is in the outbox is the last."""
        return self.state is State.CLOSED

    @property
    def wants_octets(self) -> bool:
        return not self._stopped and not self.outbox.clogged

    @property
    def name(self) -> str:
        """What the client calls this connection."""
        return str(self.client_properties.get("connection_name", ""))

    # Octets

    def receive(self, octets: bytes) -> None:
        self._heard = True
        if self._deaf or self.finished:
            return
        self._cutter.feed(octets)
        if self.wants_octets:
            self._work()

    def _work(self) -> None:
        """All whole frames that have come, until the peer is stopped."""
        if self.state is State.HEADER and not self._protocol_header():
            return
        try:
            for kind, number, payload in self._cutter.frames():
                self._frame(kind, number, payload)
                if self._stopped or self._deaf or self.finished or self.outbox.clogged:
                    break
        except Refusal as refusal:
            self._deaf = True
            self._refuse(refusal, (0, 0))
        self.send_confirms()

    def _protocol_header(self) -> bool:
        """Specification 4.2.2: answer a wrong protocol header with the right one and hang up."""
        header = self._cutter.protocol_header()
        if header is None:
            return False
        behaviour = self._node.behaviour
        if header not in frames.PROTOCOL_HEADERS:
            later = header.startswith(frames.PROTOCOL_HEADERS[0][:7])  # 0-0-9 and another revision
            self.outbox.put(frames.PROTOCOL_HEADERS[0] if later else behaviour.best_protocol_header)
            self._end()
            return False
        properties: FieldTable = {**_PRODUCT, "version": behaviour.full_version, "capabilities": _CAPABILITIES}
        self._send(Methods.Start(0, 9, properties, "PLAIN AMQPLAIN", "en_US"))
        self.state = State.STARTING
        return True

    def _frame(self, kind: int, number: int, payload: bytes) -> None:
        if number:
            self._channel_frame(kind, number, payload)
        elif kind != frames.HEARTBEAT or payload:
            self._connection_frame(kind, payload)

    def _send(self, method: Answer, number: int = 0) -> None:
        self.outbox.put(frames.encode_method(number, method))

    # Channel 0

    def _connection_frame(self, kind: int, payload: bytes) -> None:
        at = (0, 0)
        try:
            if not _is_whole(kind, payload):
                raise refusals.unknown_frame(kind, payload)
            if kind != frames.METHOD:
                raise refusals.unexpected_kind(kind, payload)
            at = frames.ids_of(payload)
            method = frames.decode_method(payload)
            act = _TRANSITIONS.get((self.state, type(method)))
            if act is not None:
                act(self, method)
            elif self.state is not State.CLOSING:
                raise refusals.unexpected_method(_STATE_NAMES[self.state])
        except Refusal as refusal:
            self._refuse(refusal, at)

    def _start_ok(self, method: Methods.StartOk) -> None:
        self.client_properties = method.client_properties or {}
        mechanism = method.mechanism or ""
        credentials = CREDENTIALS.get(mechanism)
        if credentials is None:
            raise refusals.unknown_mechanism(mechanism)
        user = self._node.login(*credentials(method.response))
        if user is None:
            self._refuse_login(mechanism)
            return
        self._user = user
        self._send(Methods.Tune(CHANNEL_MAX, FRAME_MAX, HEARTBEAT))
        self.state = State.TUNING

    def _refuse_login(self, mechanism: str) -> None:
        """RabbitMQ says why only to clients that announced they would understand; the others are hung up on."""
        if self._client_can("authentication_failure_close"):
            self._refuse_connection(refusals.login(mechanism), (0, 0))
        else:
            self._end()

    def _client_can(self, capability: str) -> bool:
        capabilities = self.client_properties.get("capabilities")
        return isinstance(capabilities, dict) and capabilities.get(capability) is True

    def _tune_ok(self, method: Methods.TuneOk) -> None:
        self._channel_max = negotiated("channel_max", method.channel_max or 0, 1, CHANNEL_MAX)
        least = self._node.behaviour.smallest_frame_max
        self._frame_max = negotiated("frame_max", method.frame_max or 0, least, FRAME_MAX)
        self._cutter.frame_max = self._frame_max
        self._pulse.heartbeat = method.heartbeat or 0
        self.state = State.OPENING

    def _open(self, method: Methods.Open) -> None:
        name = method.virtual_host or ""
        vhost = self._node.vhosts.get(name)
        if vhost is None:
            raise refusals.vhost_not_found(name)
        self._session = Session(
            vhost=vhost,
            user=self._user,
            outbox=self.outbox,
            frame_max=self._frame_max,
            cancel_notify=self._client_can("consumer_cancel_notify"),
            peer=self.peer,
            name=self.name,
            refuse=self.close_channels,
        )
        self._send(Methods.OpenOk())
        self.state = State.OPEN
        self._node.journal.tell_if_open("connection opened", self._session.who())

    def _update_secret(self, method: Methods.UpdateSecret) -> None:
        self._send(Methods.UpdateSecretOk())

    def _close(self, method: Methods.Close) -> None:
        self.send_confirms()
        self.lost(f"closed by the client: {method.reply_code} {method.reply_text}")
        self._send(Methods.CloseOk())
        # Hanging up while something of the peer's is still on its way would reset the line, and the peer might never
        # read our close-ok. RabbitMQ, too, reads on until the peer has gone.
        self._deaf = True
        self.state = State.LEAVING
        self._pulse.start_again()

    def _close_too(self, method: Methods.Close) -> None:
        self._send(Methods.CloseOk())

    def _close_ok(self, method: Methods.CloseOk) -> None:
        self._end()

    # Channels

    def _channel_frame(self, kind: int, number: int, payload: bytes) -> None:
        if self.state is State.CLOSING:
            return
        channel = self.channels.get(number)
        received = False
        try:
            if not _is_whole(kind, payload):
                raise refusals.unknown_frame(kind, payload)
            if kind == frames.HEARTBEAT or self.state is not State.OPEN:
                raise refusals.unexpected_kind(kind, payload)
            if channel is None:
                self._without_channel(kind, number, payload)
            elif kind == frames.METHOD and payload[:4] == _CLOSE and not channel.publishing.in_content:
                self._close_channel(channel, payload)
            else:
                received = True
                if self._node.blocked is not None and kind != frames.METHOD:
                    self._stop()  # as by RabbitMQ, with the first frame of content, header or body
                channel.receive(kind, payload)
        except Refusal as refusal:
            at = (0, 0)
            if refusal.early:
                pass
            elif channel is not None and received:
                at = channel.at  # what comes now may be content of a method before it
            elif kind == frames.METHOD:
                at = frames.ids_of(payload)
            if channel is not None and refusal.ends is Ends.CHANNEL:
                self._refuse_channel(channel, refusal, at)
            else:
                self._refuse(refusal, at)

    def _without_channel(self, kind: int, number: int, payload: bytes) -> None:
        """Only channel.open may come, or the answer to a close of ours; what was on its way before it is ignored."""
        method = frames.decode_method(payload) if kind == frames.METHOD else None
        if number in self._closing:
            if isinstance(method, ChannelMethods.CloseOk):
                self._closing.remove(number)
            elif isinstance(method, ChannelMethods.Close):
                self._send(ChannelMethods.CloseOk(), number)
            elif isinstance(method, ChannelMethods.Open):
                raise refusals.channel_open_already()
            return
        if method is None:
            raise refusals.method_expected()
        if not isinstance(method, ChannelMethods.Open):
            raise refusals.channel_not_open()
        if len(self.channels) >= self._channel_max:
            raise refusals.too_many_channels(len(self.channels), self._channel_max)
        assert self._session is not None  # the state is OPEN
        self.channels[number] = channel = Channel(number, self._session)
        self._node.journal.tell_if_open("channel opened", channel.line.who)
        self.outbox.put(frames.channel_open_ok(number))

    def _close_channel(self, channel: Channel, payload: bytes) -> None:
        frames.decode_method(payload)  # refused if it cannot be read; what it says is for the peer's own logs
        self.send_confirms()
        del self.channels[channel.line.number]
        self._end_channel(channel, "closed by the client")
        self._send(ChannelMethods.CloseOk(), channel.line.number)

    # The end of it

    def _refuse_channel(self, channel: Channel, refusal: Refusal, at: tuple[int, int]) -> None:
        """Specification, channel.close: all that still comes for it is ignored until close-ok."""
        self.send_confirms()  # what was published before is confirmed before the channel goes
        del self.channels[channel.line.number]
        self._closing.add(channel.line.number)
        self._end_channel(channel, f"{refusal.code} {refusal.text}")
        self._send(ChannelMethods.Close(refusal.code, refusal.text, *at), channel.line.number)

    def _refuse(self, refusal: Refusal, at: tuple[int, int]) -> None:
        """RabbitMQ says nothing to a peer that has not come as far as naming a virtual host: it hangs up."""
        if self.state in (State.STARTING, State.TUNING):
            self._end()
        elif self.state is not State.CLOSING:  # in which a close was sent already
            self._refuse_connection(refusal, at)

    def _refuse_connection(self, refusal: Refusal, at: tuple[int, int]) -> None:
        self.send_confirms()
        self.lost(f"{refusal.code} {refusal.text}")
        self._send(Methods.Close(refusal.code, refusal.text, *at))
        self.state = State.CLOSING
        self._stopped = False  # the answer must be read, alarm or not
        self._pulse.start_again()

    def _end(self) -> None:
        self.state = State.CLOSED

    def _end_channel(self, channel: Channel, why: str) -> None:
        self._node.journal.tell_if_open("channel closed", channel.line.who, reason=why)
        channel.end()

    def lost(self, why: str = "the line is gone") -> None:
        """However it ended: deliveries go back to their queues, exclusive queues go. Safe to call twice."""
        channels, self.channels = list(self.channels.values()), {}
        for channel in channels:  # first of all of them, so that nothing comes back to this connection
            channel.stop_consuming()
        for channel in channels:
            self._end_channel(channel, "its connection is gone")
        session, self._session = self._session, None
        if session is not None:
            session.vhost.release(session)
            self._node.journal.tell_if_open("connection closed", session.who(), reason=why)

    # From outside

    def close(self, refusal: Refusal) -> None:
        """Tell the peer to go, as far as it has come to know AMQP."""
        if self.state in (State.HEADER, State.LEAVING):
            self._end()
        elif self.state not in (State.CLOSING, State.CLOSED):
            self._refuse_connection(refusal, (0, 0))

    def fail(self) -> None:
        """What has happened in here is no fault of the peer's; it is told so, if it has come as far as being open."""
        told = self.state in (State.OPENING, State.OPEN)
        self._end()  # if what follows goes wrong as well, that was all
        if told:
            self._refuse_connection(refusals.internal_error(), (0, 0))

    def close_channels(self, number: int | None, refusal: Refusal) -> None:
        """Close the channel of that number, or all of them."""
        for channel in list(self.channels.values()):
            if number in (None, channel.line.number):
                self._refuse_channel(channel, refusal, (0, 0))

    def close_consuming(self, queue: str, refusal: Refusal) -> None:
        """Close each channel that has a consumer of this queue."""
        for channel in list(self.channels.values()):
            if any(consumer.queue.name == queue for consumer in channel.deliveries.consumers.values()):
                self._refuse_channel(channel, refusal, (0, 0))

    def cancel_consumers(self, queue: str | None, tag: str | None) -> int:
        """Cancel the consumers of this queue, of this tag, or all. How many there were."""
        return sum(channel.deliveries.revoke(queue, tag) for channel in list(self.channels.values()))

    def send_confirms(self) -> None:
        """All that are due, unless a test holds them."""
        if self._session is not None and self._session.confirming:
            self._session.send_confirms()

    def drained(self) -> None:
        """The peer reads: what it has sent and what is to be delivered need not wait for that any more."""
        if self.outbox.clogged:
            self.outbox.clogged = False
            if not (self._stopped or self._deaf or self.finished):
                self._work()
        if self.outbox.full:
            self.outbox.full = False
            for channel in list(self.channels.values()):
                channel.deliveries.look_again()

    def _stop(self) -> None:
        """RabbitMQ's alarm: who publishes is not read until it is over, and is told so if it would understand."""
        self._stopped = True
        if self._client_can("connection.blocked"):
            self._send(Methods.Blocked(self._node.blocked or ""))

    def go_on(self) -> None:
        """The alarm is over: work off what has come in the meantime."""
        if self._stopped and not self.finished:
            self._stopped = False
            if self._client_can("connection.blocked"):
                self._send(Methods.Unblocked())
            self._work()

    def tick(self, now: float) -> None:
        """Called from time to time with seconds on a clock that never goes back. Ends a handshake that takes too
        long and a close that nobody answers; sends heartbeats and misses them."""
        if self.state is State.OPEN:
            if self._pulse.beat_is_due(now, spoken=self.outbox.has_spoken()):
                self.outbox.put(frames.HEARTBEAT_FRAME)
            heard, self._heard = self._heard or self._stopped, False
            if self._pulse.is_lost(now, heard=heard):
                # There is nobody to send a close to.
                self.lost("missed heartbeats")
                self._end()
        elif self._pulse.is_late(now, CLOSING_SECONDS if self.state in _ENDING else HANDSHAKE_SECONDS):
            self._end()


_ENDING = (State.CLOSING, State.LEAVING)
_CLOSE = ChannelMethods.Close.index.to_bytes(4)

# RabbitMQ's words for the states in which something may come too early or too late.
_STATE_NAMES = {
    State.STARTING: "starting",
    State.TUNING: "tuning",
    State.OPENING: "opening",
    State.OPEN: "running",
}


# What a frame must have at the least: its ids, or class, weight and size of the body.
_LEAST = {frames.METHOD: 4, frames.HEADER: 12, frames.BODY: 0}


def _is_whole(kind: int, payload: bytes) -> bool:
    """RabbitMQ looks at this before it asks where a frame belongs."""
    least = _LEAST.get(kind)
    return (kind == frames.HEARTBEAT and not payload) if least is None else len(payload) >= least


# Specification 2.2.4 and 1.4: what a client may send in which state, and what it leads to.
_TRANSITIONS: dict[tuple[State, type[Method]], Callable[[Connection, Any], None]] = {
    (State.STARTING, Methods.StartOk): Connection._start_ok,  # -> TUNING, or refused
    (State.TUNING, Methods.TuneOk): Connection._tune_ok,  # -> OPENING
    (State.OPENING, Methods.Open): Connection._open,  # -> OPEN
    (State.OPEN, Methods.UpdateSecret): Connection._update_secret,
    (State.OPEN, Methods.Close): Connection._close,  # -> LEAVING
    (State.CLOSING, Methods.Close): Connection._close_too,  # both at once; the answer to ours is still to come
    (State.CLOSING, Methods.CloseOk): Connection._close_ok,  # -> CLOSED
}
