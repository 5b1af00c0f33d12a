"""What all connections share: virtual hosts, the login, the alarm, the time, and the version it behaves like. Pure;
who is connected, the server knows."""

import hmac
from collections.abc import Sequence

from pipeline.embedded.memory import MEMORY_LIMIT, Memory
from pipeline.embedded.shared import Shared
from pipeline.embedded.timeline import Timeline
from pipeline.embedded.versions import NEWEST, behaviour_of
from pipeline.embedded.vhost import VHost


class Node:
    """`blocked` is the reason of an alarm, or None. Time is handed to `timeline` from outside before each step.
    Raises ValueError for a version that nobody here behaves like."""

    def __init__(
        self,
        *,
        username: str,
        password: str,
        vhosts: Sequence[str],
        rabbitmq_version: str = NEWEST,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        self.behaviour = behaviour_of(rabbitmq_version)
        self.timeline = Timeline()
        self.memory = Memory(memory_limit)
        self._shared = Shared(timeline=self.timeline, memory=self.memory, behaviour=self.behaviour)
        self.blocked: str | None = None
        self.vhosts: dict[str, VHost] = {}
        self._username = username
        self._password = password
        for name in vhosts:
            self.add_vhost(name)

    def add_vhost(self, name: str) -> None:
        """One that exists stays as it is."""
        if name not in self.vhosts:
            self.vhosts[name] = VHost(name, self._shared)

    def login(self, username: str, password: str) -> str | None:
        """The user, or None. Compared in constant time: loopback is open to other users of the machine."""
        right_name = hmac.compare_digest(username.encode(), self._username.encode())
        right_password = hmac.compare_digest(password.encode(), self._password.encode())
        return self._username if right_name and right_password else None

    def queue_depths(self) -> dict[str, int]:
        """Messages in each queue, ready or handed out. Queues outside of `/` are named `vhost:queue`."""
        return {
            queue.name if vhost.name == "/" else f"{vhost.name}:{queue.name}": queue.message_count
            for vhost in self.vhosts.values()
            for queue in vhost.queues.values()
        }
