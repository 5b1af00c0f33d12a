"""The load: a publisher and a consumer that do next to nothing per message, driven by one selector until all is done.
Messages are counted by their length, and the octets that tell them apart are compared by slices. What a shape is
stands in `shapes`."""

import selectors
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from pamqp.commands import Basic, Confirm, Queue

from benchmarks.embedded_broker import wire
from benchmarks.embedded_broker.shapes import PREFETCH, WINDOW, Settle, Shape
from benchmarks.embedded_broker.wire import Line

_READ = 256 * 1024
_BATCH = 64 * 1024  # octets of messages, at least, that one write may take
_TAG = "consumer-{}"  # for up to ten queues, so that all deliveries have one length


class Role(Protocol):
    """One end of one line. `done` when nothing is left to send and all that was due has come."""

    line: Line

    @property
    def done(self) -> bool: ...

    @property
    def wants_to_send(self) -> bool: ...

    def send(self) -> None: ...

    def receive(self, octets: bytes) -> None: ...

    def progress(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Done:
    """What has been done and how long it took, from the first octet until the broker had worked off the last."""

    published: int
    confirmed: int
    delivered: int
    acknowledged: int
    seconds: float
    cpu_seconds: float  # of this process


def declare(shape: Shape, url: str) -> None:
    """The queues, durable because RabbitMQ 4.3 wants them so, and their bindings."""
    with Line(url) as line:
        for queue in shape.queues:
            line.call(Queue.Declare(queue=queue, durable=True, arguments=dict(shape.arguments)), Queue.DeclareOk)
            for key in shape.binding_keys:
                line.call(Queue.Bind(queue=queue, exchange=shape.exchange, routing_key=key), Queue.BindOk)
        line.finish()


def fill(shape: Shape, url: str, messages: int, deadline: float) -> None:
    """Publish what a shape without a publisher will consume."""
    with Line(url) as line:
        drive([Publisher(line, shape, messages)], deadline)
        line.finish()


def run(shape: Shape, url: str, messages: int, deadline: float) -> Done:
    """Raises TimeoutError where it is not done at `deadline` (of time.monotonic)."""
    with ExitStack() as lines:
        consumer = Consumer(lines.enter_context(Line(url)), shape, messages) if shape.consumes else None
        publisher = Publisher(lines.enter_context(Line(url)), shape, messages) if shape.publishes else None
        roles: list[Role] = [role for role in (consumer, publisher) if role is not None]
        start, cpu = time.perf_counter(), time.process_time()
        if consumer is not None:
            consumer.consume()
        drive(roles, deadline)
        for role in roles:
            role.line.finish()
        return Done(
            published=publisher.published if publisher else 0,
            confirmed=publisher.confirmed if publisher else 0,
            delivered=consumer.delivered if consumer else 0,
            acknowledged=consumer.acknowledged if consumer else 0,
            seconds=time.perf_counter() - start,
            cpu_seconds=time.process_time() - cpu,
        )


def drive(roles: list[Role], deadline: float) -> None:
    """Let each role read and write as its socket allows, until all are done."""
    with selectors.DefaultSelector() as selector:
        asked = {}
        for role in roles:
            role.line.socket.setblocking(False)
            asked[role] = _events(role)
            selector.register(role.line.socket, asked[role], role)
        while not all(role.done for role in roles):
            left = deadline - time.monotonic()
            ready = selector.select(left) if left > 0 else []
            if not ready:
                raise TimeoutError("not done in time: " + ", ".join(role.progress() for role in roles))
            for key, events in ready:
                _turn(key.data, events)
            for role, before in asked.items():
                if _events(role) != before:
                    asked[role] = _events(role)
                    selector.modify(role.line.socket, asked[role], role)


def _events(role: Role) -> int:
    return selectors.EVENT_READ | (selectors.EVENT_WRITE if role.wants_to_send else 0)


def _turn(role: Role, events: int) -> None:
    if events & selectors.EVENT_READ:
        octets = role.line.socket.recv(_READ)
        if not octets:
            raise RuntimeError(f"the broker closed the line: {role.progress()}")
        role.receive(octets)
    if role.wants_to_send:
        try:
            role.send()
        except BlockingIOError:
            pass  # the socket is full; the selector says when it is not


class Publisher:
    """The same few messages over and over. With confirms, as many as the window allows."""

    def __init__(self, line: Line, shape: Shape, messages: int) -> None:
        octets = b"x" * shape.body
        once = [wire.published(shape.exchange, letter, octets) for letter in shape.letters]
        self._length = _same_length(once)
        cycle = b"".join(once)
        self._batch = memoryview(cycle * (_BATCH // len(cycle) + 1))
        self._due = messages * self._length  # octets
        self._sent = 0
        self._confirms = shape.confirms
        self._rest = b""
        self.line = line
        self.confirmed = 0
        if shape.confirms:
            line.call(Confirm.Select(), Confirm.SelectOk)

    @property
    def published(self) -> int:
        return self._sent // self._length

    @property
    def done(self) -> bool:
        return self._sent == self._due and (not self._confirms or self.confirmed * self._length == self._due)

    @property
    def wants_to_send(self) -> bool:
        return self._sent < self._allowed

    @property
    def _allowed(self) -> int:
        return min(self._due, (self.confirmed + WINDOW) * self._length) if self._confirms else self._due

    def send(self) -> None:
        at = self._sent % len(self._batch)
        self._sent += self.line.socket.send(self._batch[at : at + self._allowed - self._sent])

    def receive(self, octets: bytes) -> None:
        octets = self._rest + octets
        whole = len(octets) - len(octets) % wire.ACK_LENGTH
        self._rest = octets[whole:]
        if whole:
            if not octets.startswith(wire.ACK_START):
                raise RuntimeError(f"the broker sent something else than confirms: {octets[:200]!r}")
            self.confirmed = wire.last_tag(octets[:whole])

    def progress(self) -> str:
        return f"{self.published} of {self._due // self._length} published, {self.confirmed} confirmed"


class Consumer:
    """One consumer for each queue. Each read is counted at once, and acknowledged from a table of prepared acks."""

    def __init__(self, line: Line, shape: Shape, messages: int) -> None:
        self._shape = shape
        self._due = messages * len(shape.queues)
        octets = b"x" * shape.body
        tag = _TAG.format(0)
        self._length = _same_length([wire.delivered(tag, shape.exchange, each, octets) for each in shape.letters])
        self._tag_at = wire.last_octet_of_tag(tag)
        self._tags = bytes(range(256)) * (_READ // self._length // 256 + 2)
        self._acks = memoryview(wire.acks(self._due if shape.settle is Settle.EACH else 0))
        self._rest = b""
        self._out = memoryview(b"")
        self.line = line
        self.delivered = 0
        self.acknowledged = 0

    def consume(self) -> None:
        """Where there are several queues they must be empty: a delivery before an answer is not expected."""
        self.line.call(Basic.Qos(prefetch_count=PREFETCH), Basic.QosOk)
        for number, queue in enumerate(self._shape.queues):
            no_ack = self._shape.settle is Settle.NOT
            self.line.call(Basic.Consume(queue=queue, consumer_tag=_TAG.format(number), no_ack=no_ack), Basic.ConsumeOk)

    @property
    def done(self) -> bool:
        return self.delivered == self._due and not self._out

    @property
    def wants_to_send(self) -> bool:
        return bool(self._out)

    def send(self) -> None:
        self._out = self._out[self.line.socket.send(self._out) :]

    def receive(self, octets: bytes) -> None:
        octets = self._rest + octets
        count = len(octets) // self._length
        whole = count * self._length
        self._rest = octets[whole:]
        if count:
            self._check(octets[:whole], count)
            self.delivered += count
            self._acknowledge()

    def _check(self, octets: bytes, count: int) -> None:
        """Each delivery ends where it should, and the tags rise by one."""
        first = (self.delivered + 1) % 256
        tags = octets[self._tag_at :: self._length]
        if octets[self._length - 1 :: self._length] != b"\xce" * count or tags != self._tags[first : first + count]:
            raise RuntimeError(f"the broker sent something else than deliveries: {octets[:200]!r}")

    def _acknowledge(self) -> None:
        if self._shape.settle is Settle.EACH:
            rest = len(self._out)  # still unsent, and in the table right before what is added now
            end = self.delivered * wire.ACK_LENGTH
            self._out = self._acks[self.acknowledged * wire.ACK_LENGTH - rest : end]
        elif self._shape.settle is Settle.GATHERED:
            self._out = memoryview(bytes(self._out) + wire.ack(self.delivered, multiple=True))
        else:
            return
        self.acknowledged = self.delivered

    def progress(self) -> str:
        return f"{self.delivered} of {self._due} delivered"


def _same_length(messages: list[bytes]) -> int:
    (length,) = {len(message) for message in messages}
    return length
