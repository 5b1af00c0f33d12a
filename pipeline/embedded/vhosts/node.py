"""What all connections share: virtual hosts, the login, the alarm, the time, and the version it behaves like. Pure;
who is connected, the server knows."""

import hmac
from collections.abc import Iterator, Sequence

from pipeline.embedded.ground.journal import Journal
from pipeline.embedded.ground.memory import MEMORY_LIMIT, Memory
from pipeline.embedded.ground.patience import CONSUMER_TIMEOUT, Patience
from pipeline.embedded.ground.publish_faults import PublishFaults
from pipeline.embedded.ground.shared import Shared
from pipeline.embedded.ground.timeline import Timeline
from pipeline.embedded.ground.versions import NEWEST, behaviour_of
from pipeline.embedded.queues.queue import Queue
from pipeline.embedded.vhosts.vhost import VHost

LOW_ON_MEMORY = "low on memory"  # RabbitMQ's words


class Node:
    """Time is handed to `timeline` from outside before each step, and `look` is asked after it. `blocked` is the reason
    of an alarm, or None: memory's, or one that was raised by hand. Raises ValueError for a version that nobody here
    behaves like."""

    def __init__(
        self,
        *,
        username: str,
        password: str,
        vhosts: Sequence[str],
        rabbitmq_version: str = NEWEST,
        memory_limit: int = MEMORY_LIMIT,
        consumer_timeout: float = CONSUMER_TIMEOUT,
    ) -> None:
        self.behaviour = behaviour_of(rabbitmq_version)
        self.timeline = Timeline()
        self.memory = Memory(memory_limit)
        self.publish_faults = PublishFaults()
        self.journal = Journal(self.timeline)
        self._shared = Shared(
            timeline=self.timeline,
            memory=self.memory,
            behaviour=self.behaviour,
            consumer_timeout=consumer_timeout,
            patience=Patience(self.timeline, consumer_timeout),
            publish_faults=self.publish_faults,
            journal=self.journal,
        )
        self.blocked: str | None = None
        self._alarm: str | None = None  # raised by hand
        self.vhosts: dict[str, VHost] = {}
        self._username = username
        self._password = password
        for name in vhosts:
            self.add_vhost(name)

    def add_vhost(self, name: str) -> None:
        """One that exists stays as it is."""
        if name not in self.vhosts:
            self.vhosts[name] = VHost(name, self._shared)

    def block(self, reason: str | None) -> None:
        """Raise an alarm by hand, or end it; `look` tells who is stopped then."""
        self._alarm = reason

    def look(self) -> bool:
        """Whether an alarm has begun or is over since this was asked last."""
        before = self.blocked
        if self.memory.look() or self._alarm != before:
            of_memory = LOW_ON_MEMORY if self.memory.alarm else None
            self.blocked = of_memory if self._alarm is None else self._alarm
        return (self.blocked is None) is not (before is None)

    def login(self, username: str, password: str) -> str | None:
        """The user, or None. Compared in constant time: loopback is open to other users of the machine."""
        right_name = hmac.compare_digest(username.encode(), self._username.encode())
        right_password = hmac.compare_digest(password.encode(), self._password.encode())
        return self._username if right_name and right_password else None

    def queue_depths(self) -> dict[str, int]:
        """Messages in each queue, ready or handed out. Queues outside of `/` are named `vhost:queue`."""
        return {name: queue.message_count for name, queue in self._queues()}

    def queue(self, name: str) -> Queue | None:
        """The queue that is named so there."""
        return dict(self._queues()).get(name)

    def _queues(self) -> Iterator[tuple[str, Queue]]:
        for vhost in self.vhosts.values():
            for queue in vhost.queues.values():
                yield (queue.name if vhost.name == "/" else f"{vhost.name}:{queue.name}"), queue
