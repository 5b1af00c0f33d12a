"""What every part of one broker may ask for: the time and what is due, the weight of all messages, and the version
of RabbitMQ it behaves like."""

from dataclasses import dataclass

from pipeline.embedded.memory import Memory
from pipeline.embedded.timeline import Timeline
from pipeline.embedded.versions import Behaviour


@dataclass(frozen=True, eq=False, kw_only=True)
class Shared:
    timeline: Timeline
    memory: Memory
    behaviour: Behaviour
