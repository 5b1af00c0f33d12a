"""The private RabbitMQ as the benchmark needs it: fresh queues, filled by prepared octets, counted afterwards. Who
consumes and publishes under measurement is not known here."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pamqp.commands import Queue

from benchmarks.embedded_broker import load
from benchmarks.embedded_broker.shapes import Letter
from benchmarks.embedded_broker.shapes import Shape as Load
from benchmarks.embedded_broker.wire import Line
from benchmarks.speed.shapes import QueueType
from benchmarks.speed.task import IN, OUT
from tests.rabbitmq import PrivateRabbitMQ
from tests.rabbitmq_installation import Installation

_PATIENCE = 120  # seconds to fill a queue
_SETTLING = 10  # seconds until what clients have acknowledged shows in the counts


@dataclass(frozen=True, kw_only=True)
class Node:
    """Queues `bench.in` and `bench.out` on the virtual host `/` of a RabbitMQ that nobody else uses."""

    rabbitmq: PrivateRabbitMQ

    @classmethod
    @contextmanager
    def start(cls, installation: Installation) -> Iterator["Node"]:
        with PrivateRabbitMQ.start(installation) as rabbitmq:
            yield cls(rabbitmq=rabbitmq)

    @property
    def url(self) -> str:
        return self.rabbitmq.url()

    @property
    def pid(self) -> int:
        return self.rabbitmq.pid

    @property
    def version(self) -> str:
        return ".".join(map(str, self.rabbitmq.version))

    def prepare(self, queue_type: QueueType, names: tuple[str, ...] = (IN, OUT)) -> None:
        """Empty queues, whatever was there before. The dead-letter queues that piperun declares go, too."""
        with Line(self.url) as line:
            for name in names:
                for each in (name, f"{name}.dlq"):
                    line.call(Queue.Delete(queue=each), Queue.DeleteOk)
                line.call(
                    Queue.Declare(queue=name, durable=True, arguments=dict(arguments(queue_type))), Queue.DeclareOk
                )
            line.finish()

    def fill(self, messages: int, *, body: int, persistent: bool) -> None:
        """So many into `bench.in`, as fast as it takes them."""
        letter = Letter(routing_key=IN, properties={"delivery_mode": 2 if persistent else 1})
        load.fill(Load(name="fill", about="", body=body, letters=(letter,)), self.url, messages, self._end(_PATIENCE))

    def await_counts(self, outside: int, *, returned: int = 0) -> None:
        """Return when `bench.in` is empty, but for so many that may have come back to it, and `bench.out` holds so
        many. Raises RuntimeError where they do not: a figure with a message missing is none."""
        end = self._end(_SETTLING)
        while (counts := self.counts())[0] > returned or counts[1] != outside:
            if time.monotonic() > end:
                raise RuntimeError(f"{IN} and {OUT} should hold 0 and {outside} messages and hold {counts}")
            time.sleep(0.05)

    def counts(self) -> tuple[int, int]:
        """Of messages, ready and unacknowledged."""
        queues = self.rabbitmq.list_queues("/")
        return queues.get(IN, 0), queues.get(OUT, 0)

    def consumers(self, vhost: str = "/") -> int:
        return len(self.rabbitmq.list_consumers(vhost))

    def _end(self, seconds: float) -> float:
        return time.monotonic() + seconds


def arguments(queue_type: QueueType) -> dict[str, str]:
    return {"x-queue-type": "quorum"} if queue_type == "quorum" else {}
