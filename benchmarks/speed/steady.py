"""A neutral pair for latency: publishes at a steady rate, each body beginning with the time of its publish, and reads
what comes out at the other end. It stands outside of every peer, and costs each of them the same."""

import select
import time
from collections.abc import Iterator

from pamqp.commands import Basic

from benchmarks.embedded_broker import wire
from benchmarks.embedded_broker.shapes import Letter
from benchmarks.embedded_broker.wire import Line
from benchmarks.speed.task import IN, OUT

_BODY = 3  # frame type: content body
_HEAD = 7  # octets before a frame's payload
_STAMP = 8
_READ = 65536


def publish_steadily(url: str, messages: int, *, rate: int, body: int) -> None:
    """So many into `bench.in`, at so many a second; one that is late does not move those after it."""
    with Line(url) as line:
        start = time.monotonic()
        for number in range(messages):
            time.sleep(max(0.0, start + number / rate - time.monotonic()))
            line.socket.sendall(_stamped(body))
        line.finish()


def there_and_back(url: str, messages: int, *, rate: int, body: int, patience: float) -> list[float]:
    """The same, and how long each took until it was read from `bench.out`: milliseconds, in order of arrival. Raises
    TimeoutError where some do not come."""
    with Line(url) as sending, Line(url) as receiving:
        receiving.call(Basic.Consume(queue=OUT, no_ack=True), Basic.ConsumeOk)
        receiving.socket.setblocking(False)
        start, sent = time.monotonic(), 0
        end = start + messages / rate + patience
        took: list[float] = []
        rest = b""
        while len(took) < messages:
            due = start + sent / rate if sent < messages else end
            readable, _, _ = select.select([receiving.socket], [], [], max(0.0, due - time.monotonic()))
            if readable:
                rest += receiving.socket.recv(_READ)
                now = time.monotonic_ns()
                stamps, rest = stamps_in(rest)
                took += [(now - stamp) / 1e6 for stamp in stamps]
            if sent < messages and time.monotonic() >= start + sent / rate:
                sending.socket.sendall(_stamped(body))
                sent += 1
            if time.monotonic() > end:
                raise TimeoutError(f"{len(took)} of {messages} came back")
        return took


def stamps_in(octets: bytes) -> tuple[list[int], bytes]:
    """What stands at the beginning of each body, and the frame that is not whole yet."""
    found: list[int] = []
    at = 0
    for kind, payload, end in _frames(octets):
        at = end
        if kind == _BODY:
            found.append(int.from_bytes(payload[:_STAMP]))
    return found, octets[at:]


def _frames(octets: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Of each whole frame its type, its payload and where the next one begins (AMQP 0-9-1, 2.3.5)."""
    at = 0
    while len(octets) - at >= _HEAD:
        size = int.from_bytes(octets[at + 3 : at + _HEAD])
        if len(octets) - at < _HEAD + size + 1:
            return
        payload = octets[at + _HEAD : at + _HEAD + size]
        kind, at = octets[at], at + _HEAD + size + 1
        yield kind, payload, at


def _stamped(body: int) -> bytes:
    letter = Letter(routing_key=IN, properties={"delivery_mode": 1})
    return wire.published("", letter, time.monotonic_ns().to_bytes(_STAMP).ljust(body, b"x"))
