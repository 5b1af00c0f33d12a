"""What tests of queues say again and again: declare some, put something in, take it out, look what is there."""

from typing import Any

from pamqp.commands import Basic, Queue
from pamqp.common import FieldTable

from tests.embedded.conversation import Talk, headers, new_node, only


def with_queues(*names: str, rabbitmq_version: str = "4.3", **queues: FieldTable) -> Talk:
    """A client of a new node on which these queues are declared, those that are named with arguments with those."""
    talk = Talk(new_node(rabbitmq_version=rabbitmq_version)).open()
    for name, arguments in {**dict.fromkeys(names, FieldTable()), **queues}.items():
        talk.say(1, Queue.Declare(0, name, durable=True, arguments=arguments))
    return talk


def to_queue(name: str, **more: Any) -> FieldTable:
    """Dead letters go to the queue of that name."""
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": name, **more}


def publish(talk: Talk, queue: str, *bodies: bytes, **properties: Any) -> None:
    for body in bodies:
        talk.publish(1, queue, body, **properties)


def get(talk: Talk, queue: str) -> int:
    """Take the next message in hand; its delivery tag."""
    tag = only(talk.say(1, Basic.Get(0, queue)), Basic.GetOk).delivery_tag
    assert isinstance(tag, int)
    return tag


def next_headers(talk: Talk, queue: str) -> dict[str, Any]:
    return headers(talk.say(1, Basic.Get(0, queue)))


def reject_next(talk: Talk, queue: str) -> None:
    talk.say(1, Basic.Reject(get(talk, queue), False))


def depths(talk: Talk) -> dict[str, int]:
    return talk.node.queue_depths()


def reasons(found: dict[str, Any]) -> list[tuple[str, str, int]]:
    """Queue, reason and count of each death, newest first."""
    return [(death["queue"], death["reason"], death["count"]) for death in found["x-death"]]
