"""One connection: bytes in, bytes out. Handshake, open and close as a table of transitions, channel numbers,
heartbeats by the time that is handed in, and the answer to whatever is refused. Sockets and clocks are `server`'s."""

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any

from pipeline.embedded import frames, refusals
from pipeline.embedded.channel import Channel
from pipeline.embedded.frames import Answer, Cutter, FieldTable, Method
from pipeline.embedded.frames import Channel as ChannelMethods
from pipeline.embedded.frames import Connection as Methods
from pipeline.embedded.login import CREDENTIALS, negotiated
from pipeline.embedded.node import Node
from pipeline.embedded.outbox import TOO_MUCH, Outbox
from pipeline.embedded.pulse import Pulse
from pipeline.embedded.refusals import Ends, Refusal
from pipeline.embedded.session import Session

CHANNEL_MAX = 2047
FRAME_MAX = 131_072
HEARTBEAT = 60
HANDSHAKE_SECONDS = 10
CLOSING_SECONDS = 5  # how long a peer has to answer our close

SERVER_PROPERTIES: FieldTable = {
    "product": "piperun embedded broker",
    "platform": "Python",
    "capabilities": {
        "publisher_confirms": True,
        "basic.nack": True,
        "consumer_cancel_notify": True,
        "exchange_exchange_bindings": True,
        "connection.blocked": True,
        "authentication_failure_close": True,
        "per_consumer_qos": True,
        "consumer_priorities": True,
    },
}


class State(Enum):
    """Where a connection stands (specification 2.2.4: header, start, tune, open, use, close)."""

    HEADER = auto()
    STARTING = auto()
    TUNING = auto()
    OPENING = auto()
    OPEN = auto()
    CLOSING = auto()  # we have sent close and wait for close-ok; all else is ignored
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
        self._session: Session | None = None
        self._user = ""
        self._at: tuple[int, int] = (0, 0)  # what came for a channel that is not open
        self._closing: set[int] = set()  # channels we have closed and that have not answered yet
        self._deaf = False  # frames can no longer be told apart
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
        return not self._stopped and self.outbox.size < TOO_MUCH

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
        if not self._stopped:
            self._work()

    def _work(self) -> None:
        """All whole frames that have come, until the peer is stopped."""
        if self.state is State.HEADER and not self._protocol_header():
            return
        try:
            for kind, number, payload in self._cutter.frames():
                self._frame(kind, number, payload)
                if self._stopped or self.finished:
                    break
        except Refusal as refusal:
            self._deaf = True
            self._refuse_connection(refusal, (0, 0))
        self._send_confirms()

    def _protocol_header(self) -> bool:
        """Specification 4.2.2: answer a wrong protocol header with the right one and hang up."""
        header = self._cutter.protocol_header()
        if header is None:
            return False
        if header != frames.PROTOCOL_HEADER:
            self.outbox.put(frames.PROTOCOL_HEADER)
            self._end()
            return False
        self._send(Methods.Start(0, 9, SERVER_PROPERTIES, "PLAIN AMQPLAIN", "en_US"))
        self.state = State.STARTING
        return True

    def _frame(self, kind: int, number: int, payload: bytes) -> None:
        if number:
            self._channel_frame(kind, number, payload)
        elif kind != frames.HEARTBEAT or payload:
            self._connection_frame(kind, payload)

    def _send(self, method: Answer, number: int = 0) -> None:
        self.outbox.put(frames.encode_method(number, method))

    def _send_confirms(self) -> None:
        if self._session is not None and self._session.confirming:
            self._session.send_confirms()

    # Channel 0

    def _connection_frame(self, kind: int, payload: bytes) -> None:
        at = (0, 0)
        try:
            if kind != frames.METHOD or len(payload) < 4:
                raise refusals.unknown_frame(kind, payload)
            at = frames.ids_of(payload)
            method = frames.decode_method(payload)
            act = _TRANSITIONS.get((self.state, type(method)))
            if act is not None:
                act(self, method)
            elif self.state is not State.CLOSING:
                raise refusals.unexpected_method(_STATE_NAMES[self.state])
        except Refusal as refusal:
            if self.state is not State.CLOSING:
                self._refuse_connection(refusal, at)

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
        self._frame_max = negotiated("frame_max", method.frame_max or 0, frames.SMALLEST_FRAME_MAX, FRAME_MAX)
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
        )
        self._send(Methods.OpenOk())
        self.state = State.OPEN

    def _update_secret(self, method: Methods.UpdateSecret) -> None:
        self._send(Methods.UpdateSecretOk())

    def _close(self, method: Methods.Close) -> None:
        self._send_confirms()
        self.lost()
        self._send(Methods.CloseOk())
        self._end()

    def _close_ok(self, method: Methods.CloseOk) -> None:
        self._end()

    # Channels

    def _channel_frame(self, kind: int, number: int, payload: bytes) -> None:
        if self.state is State.CLOSING:
            return
        channel = self.channels.get(number)
        try:
            if self.state is not State.OPEN:
                raise refusals.unexpected_method(_STATE_NAMES[self.state])
            if kind not in _ON_CHANNELS or (kind == frames.METHOD and len(payload) < 4):
                raise _strange(kind, payload)
            if channel is None:
                self._without_channel(kind, number, payload)
            elif kind == frames.METHOD and payload[:4] in _CLOSE_OR_OK:
                self._close_channel(channel, payload)
            else:
                if self._node.blocked is not None and frames.is_publish(kind, payload):
                    self._stop()
                channel.receive(kind, payload)
        except Refusal as refusal:
            if channel is not None and refusal.ends is Ends.CHANNEL:
                self._refuse_channel(channel, refusal, channel.at)
            else:
                self._refuse_connection(refusal, self._at if channel is None else channel.at)

    def _without_channel(self, kind: int, number: int, payload: bytes) -> None:
        """Only channel.open may come, or the answer to a close of ours; what was on its way before it is ignored."""
        method = frames.decode_method(payload) if kind == frames.METHOD else None
        self._at = frames.ids_of(b"" if method is None else payload)
        if number in self._closing:
            if isinstance(method, ChannelMethods.CloseOk):
                self._closing.remove(number)
            elif isinstance(method, ChannelMethods.Close):
                self._send(ChannelMethods.CloseOk(), number)
            return
        if not isinstance(method, ChannelMethods.Open):
            raise refusals.channel_not_open()
        if len(self.channels) >= self._channel_max:
            raise refusals.too_many_channels(len(self.channels), self._channel_max)
        assert self._session is not None  # the state is OPEN
        self.channels[number] = Channel(number, self._session)
        self.outbox.put(frames.channel_open_ok(number))

    def _close_channel(self, channel: Channel, payload: bytes) -> None:
        if isinstance(frames.decode_method(payload), ChannelMethods.CloseOk):
            return  # one that answers nothing does no harm
        self._send_confirms()
        del self.channels[channel.line.number]
        channel.deliveries.end()
        self._send(ChannelMethods.CloseOk(), channel.line.number)

    # The end of it

    def _refuse_channel(self, channel: Channel, refusal: Refusal, at: tuple[int, int]) -> None:
        """Specification, channel.close: all that still comes for it is ignored until close-ok."""
        self._send_confirms()  # what was published before is confirmed before the channel goes
        del self.channels[channel.line.number]
        self._closing.add(channel.line.number)
        channel.deliveries.end()
        self._send(ChannelMethods.Close(refusal.code, refusal.text, *at), channel.line.number)

    def _refuse_connection(self, refusal: Refusal, at: tuple[int, int]) -> None:
        self._send_confirms()
        self.lost()
        self._send(Methods.Close(refusal.code, refusal.text, *at))
        self.state = State.CLOSING
        self._stopped = False  # the answer must be read, alarm or not
        self._pulse.start_again()

    def _end(self) -> None:
        self.state = State.CLOSED

    def lost(self) -> None:
        """However it ended: deliveries go back to their queues, exclusive queues go. Safe to call twice."""
        channels, self.channels = list(self.channels.values()), {}
        for channel in channels:  # first of all of them, so that nothing comes back to this connection
            channel.deliveries.stop_consuming()
        for channel in channels:
            channel.deliveries.end()
        if self._session is not None:
            self._session.vhost.release(self._session)

    # From outside

    def close(self, refusal: Refusal) -> None:
        """Tell the peer to go, as far as it has come to know AMQP."""
        if self.state is State.HEADER:
            self._end()
        elif self.state not in (State.CLOSING, State.CLOSED):
            self._refuse_connection(refusal, (0, 0))

    def close_consuming(self, queue: str, refusal: Refusal) -> None:
        """Close each channel that has a consumer of this queue."""
        for channel in list(self.channels.values()):
            if any(consumer.queue.name == queue for consumer in channel.deliveries.consumers.values()):
                self._refuse_channel(channel, refusal, (0, 0))

    def drained(self) -> None:
        """The peer reads: deliveries that waited for that may go."""
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
        if self._stopped:
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
                self.lost()
                self._end()
        elif self._pulse.is_late(now, CLOSING_SECONDS if self.state is State.CLOSING else HANDSHAKE_SECONDS):
            self._end()


_CLOSE_OR_OK = frozenset(kind.index.to_bytes(4) for kind in (ChannelMethods.Close, ChannelMethods.CloseOk))
_ON_CHANNELS = (frames.METHOD, frames.HEADER, frames.BODY)

# RabbitMQ's words for the states in which something may come too early or too late.
_STATE_NAMES = {
    State.STARTING: "starting",
    State.TUNING: "tuning",
    State.OPENING: "opening",
    State.OPEN: "running",
}


def _strange(kind: int, payload: bytes) -> Refusal:
    """A frame that has no place on a channel."""
    if kind == frames.HEARTBEAT and not payload:
        return refusals.unexpected_kind(kind, payload)
    return refusals.unknown_frame(kind, payload)


# Specification 2.2.4 and 1.4: what a client may send in which state, and what it leads to.
_TRANSITIONS: dict[tuple[State, type[Method]], Callable[[Connection, Any], None]] = {
    (State.STARTING, Methods.StartOk): Connection._start_ok,  # -> TUNING, or refused
    (State.TUNING, Methods.TuneOk): Connection._tune_ok,  # -> OPENING
    (State.OPENING, Methods.Open): Connection._open,  # -> OPEN
    (State.OPEN, Methods.UpdateSecret): Connection._update_secret,
    (State.OPENING, Methods.Close): Connection._close,  # -> CLOSED
    (State.OPEN, Methods.Close): Connection._close,  # -> CLOSED
    (State.CLOSING, Methods.Close): Connection._close,  # both at once -> CLOSED
    (State.CLOSING, Methods.CloseOk): Connection._close_ok,  # -> CLOSED
}
