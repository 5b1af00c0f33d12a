"""One connection of a scenario: sends methods, puts the broker's frames together to events, and knows what has been
heard so far on each channel. Answers channel.close, and nothing else, by itself. When to send is the player's."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.conformance import wire
from tests.conformance.line import Line
from tests.conformance.tables import Fields, Value
from tests.conformance.transcript import Event

# Where the player looks at queues without being seen.
HIDDEN = 2000
LARGEST_FRAME = 131072 - 8  # RabbitMQ's frame_max, which aiormq accepts, without the frame's own octets


@dataclass(kw_only=True)
class Channel:
    """What was heard on one channel."""

    open: bool = False
    raw: bool = False  # frames were sent on it that are no methods
    confirms: bool = False
    published: int = 0  # in confirm mode
    confirmed: set[int] = field(default_factory=set)
    closed: int = 0  # how often it was closed, by either side
    heard: Counter[str] = field(default_factory=Counter)
    unseen: Counter[str] = field(default_factory=Counter)  # answers to what the player asked for itself
    last: dict[str, Fields] = field(default_factory=dict)

    @property
    def all_confirmed(self) -> bool:
        return len(self.confirmed) >= self.published

    @property
    def never_used(self) -> bool:
        return not (self.open or self.closed or self.raw)


class Peer:
    """`tell` is called with each event that belongs into the transcript, `wake` with everything that happens."""

    def __init__(self, name: str, tell: Callable[[Event], None], wake: Callable[[], None]) -> None:
        self.name = name
        self.channels: defaultdict[int, Channel] = defaultdict(Channel)
        self.reply_to: Value = None  # of the last message that had one
        self.over = False
        self._told_end = False
        self._deaf = False
        self._tell = tell
        self._wake = wake
        self._incomplete: dict[int, _Content] = {}
        self._line: Line

    async def connect(self, url: str) -> None:
        self._line = await Line.open(url, self._hear, self._ended)

    async def close(self) -> None:
        """Whatever comes from now on is not told."""
        self._told_end = self._deaf = True
        try:
            await self._line.close()
        except TimeoutError:
            self._line.cut()

    def cut(self) -> None:
        self._told_end = self.over = True
        self._line.cut()

    # Sending

    def send(self, channel: int, method: str, fields: Mapping[str, Value]) -> None:
        state = self.channels[channel]
        if method == "channel.open":
            state.open, state.confirms, state.published, state.confirmed = True, False, 0, set()
        self._line.write(wire.frame(wire.METHOD, channel, wire.encode_method(method, fields)))

    def ask(self, channel: int, method: str, **fields: Value) -> None:
        """Send what the player itself wants to know: the answer is counted, and not told."""
        self.channels[channel].unseen[f"{method}-ok"] += 1
        self.send(channel, method, fields)

    def send_content(self, channel: int, properties: Mapping[str, Value], body: bytes) -> None:
        self.channels[channel].published += self.channels[channel].confirms
        octets = wire.frame(wire.HEADER, channel, wire.encode_header(len(body), properties))
        for start in range(0, len(body), LARGEST_FRAME):
            octets += wire.frame(wire.BODY, channel, body[start : start + LARGEST_FRAME])
        self._line.write(octets)

    def send_frame(self, channel: int, fields: Fields) -> None:
        kind, payload = fields["type"], fields.get("payload", "")
        assert isinstance(kind, int) and isinstance(payload, str)
        self.channels[channel].raw = True
        self._line.write(wire.frame(kind, channel, bytes.fromhex(payload)))

    # Hearing

    def _hear(self, kind: int, channel: int, payload: bytes) -> None:
        """Called with each frame. Content is told when it is whole."""
        if kind == wire.METHOD:
            name, fields = wire.decode_method(payload)
            if name in ("basic.deliver", "basic.get-ok", "basic.return"):
                self._incomplete[channel] = _Content(name=name, fields=fields)
            else:
                self._told(Event(connection=self.name, channel=channel, name=name, fields=fields))
        elif kind in (wire.HEADER, wire.BODY):
            content = self._incomplete[channel]
            content.add(kind, payload)
            if content.whole:
                self._told(content.event(self.name, channel))

    def _told(self, event: Event) -> None:
        state = self.channels[event.channel]
        state.heard[event.name] += 1
        state.last[event.name] = event.fields
        self._note(event, state)
        if state.unseen[event.name]:
            state.unseen[event.name] -= 1
        elif event.channel != HIDDEN and not self._deaf:
            self._tell(event)
        if event.name == "connection.close-ok":
            self._deaf = True  # aiormq says goodbye once more, which may still be answered
        self._wake()

    def _note(self, event: Event, state: Channel) -> None:
        match event.name:
            case "confirm.select-ok":
                state.confirms = True
            case "basic.ack" | "basic.nack":
                tag, multiple = event.fields["delivery_tag"], event.fields["multiple"]
                assert isinstance(tag, int)
                new = set(range(1 if multiple else tag, tag + 1)) - state.confirmed
                state.confirmed |= new
                state.heard["confirm"] += len(new)
            case "channel.close" | "channel.close-ok":
                state.open, state.confirms = False, False
                state.closed += 1
                state.unseen.clear()
                if event.name == "channel.close":
                    self.send(event.channel, "channel.close-ok", {})
            case "connection.close" | "connection.close-ok":
                self.over = self._told_end = True
        if event.properties and "reply_to" in event.properties:
            self.reply_to = event.properties["reply_to"]

    def _ended(self) -> None:
        """The socket is gone. Worth telling only where nobody had said goodbye."""
        if not self._told_end:
            self.channels[0].heard["line.ended"] += 1
            self._tell(Event(connection=self.name, channel=0, name="line.ended", fields={}))
        self.over = True
        self._wake()


@dataclass(kw_only=True)
class _Content:
    """A method with content, while its frames come."""

    name: str
    fields: Fields
    size: int = -1
    properties: Fields = field(default_factory=dict)
    body: bytes = b""

    def add(self, kind: int, payload: bytes) -> None:
        if kind == wire.HEADER:
            self.size, self.properties = wire.decode_header(payload)
        else:
            self.body += payload

    @property
    def whole(self) -> bool:
        return len(self.body) == self.size

    def event(self, connection: str, channel: int) -> Event:
        return Event(
            connection=connection,
            channel=channel,
            name=self.name,
            fields=self.fields,
            properties=self.properties,
            body=self.body,
        )
