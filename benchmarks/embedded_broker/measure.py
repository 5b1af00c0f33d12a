"""One measurement: a fresh broker, a short run to learn how fast it is, then one of the wanted length. Says what
went through and what it cost, and refuses to give a figure where a message is missing."""

import time
from dataclasses import dataclass

from benchmarks.embedded_broker import load
from benchmarks.embedded_broker.load import Done
from benchmarks.embedded_broker.process import BrokerProcess, Function, Reading
from benchmarks.embedded_broker.shapes import Settle, Shape

FEW = 1_000  # messages of the first run
_MANY = 500_000
_MUCH = 64 * 1024 * 1024  # octets of bodies at most, since a queue may have to hold them all
_PATIENCE = 30  # seconds, beyond ten times the wanted length


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """`left` is what the broker still held at the end."""

    messages: int
    done: Done
    left: int
    cpu_seconds: float  # of the broker
    peak_mib: float

    @property
    def rate(self) -> float:
        return self.messages / self.done.seconds


def measure(shape: Shape, *, seconds: float) -> Measurement:
    """A run of about so many seconds."""
    with BrokerProcess() as broker:
        measurement = _measure(shape, broker, seconds)
        broker.stop()
    return measurement


def profile(shape: Shape, *, seconds: float) -> tuple[Measurement, list[Function]]:
    """The same with the broker under a profiler, which makes it several times slower."""
    with BrokerProcess(profile=True) as broker:
        return _measure(shape, broker, seconds), broker.stop()


def _measure(shape: Shape, broker: BrokerProcess, seconds: float) -> Measurement:
    load.declare(shape, broker.url)
    first = pass_through(shape, broker, FEW, seconds=seconds)
    messages = min(max(FEW, int(first.rate * seconds)), _MANY, _MUCH // shape.body)
    return pass_through(shape, broker, messages, seconds=seconds)


def pass_through(shape: Shape, broker: BrokerProcess, messages: int, *, seconds: float) -> Measurement:
    """So many messages through a broker that knows the shape's queues. Raises RuntimeError where counts differ."""
    deadline = time.monotonic() + 10 * seconds + _PATIENCE
    if not shape.publishes:
        load.fill(shape, broker.url, messages, deadline)
    before = broker.read()
    done = load.run(shape, broker.url, messages, deadline)
    after = broker.read()
    _check(shape, messages, done, before, after)
    return Measurement(
        messages=messages,
        done=done,
        left=after.messages,
        cpu_seconds=after.cpu_seconds - before.cpu_seconds,
        peak_mib=after.peak_mib,
    )


def _check(shape: Shape, messages: int, done: Done, before: Reading, after: Reading) -> None:
    copies = messages * len(shape.queues)
    due = (
        messages * shape.publishes,
        messages * shape.confirms,
        copies * shape.consumes,
        copies * (shape.consumes and shape.settle is not Settle.NOT),
    )
    found = (done.published, done.confirmed, done.delivered, done.acknowledged)
    left = before.messages + copies * (shape.publishes - shape.consumes)
    if found != due or after.messages != left:
        raise RuntimeError(
            f"{shape.name}: published, confirmed, delivered, acknowledged should be {due} and are {found}; "
            f"{left} messages should be left, and {after.messages} are"
        )
