"""What every part of one broker may ask for: the time and what is due, the weight of all messages, the version of
RabbitMQ it behaves like, how long it waits for consumers, what a test does to publishers, and where to tell what
happens."""

from dataclasses import dataclass

from pipeline.embedded.ground.journal import Journal
from pipeline.embedded.ground.memory import Memory
from pipeline.embedded.ground.patience import Patience
from pipeline.embedded.ground.publish_faults import PublishFaults
from pipeline.embedded.ground.timeline import Timeline
from pipeline.embedded.ground.versions import Behaviour


@dataclass(frozen=True, eq=False, kw_only=True)
class Shared:
    timeline: Timeline
    memory: Memory
    behaviour: Behaviour
    consumer_timeout: float  # seconds that a delivery may be without an answer
    patience: Patience
    publish_faults: PublishFaults
    journal: Journal
