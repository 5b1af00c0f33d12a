"""What goes back to a work queue in the place of a dead letter: the same message with its attempts forgotten. Pure;
where it goes is decided elsewhere."""

import uuid

from pipeline.failure.headers import ATTEMPT, NOT_COPIED, copy_with
from pipeline.failure.story import REPLAYS, Story
from pipeline.message import Message


def replayed(message: Message, story: Story, *, username: str) -> Message:
    """Body, properties and headers stay. Attempts are counted anew and replays one on; the broker's own history and
    what would act on the copy are left out, a foreign `user_id` (406) and `expiration` with them, and kept as headers.
    Where the message first came from stays, or is taken over from the broker's history."""
    headers = {name: value for name, value in message.headers.items() if name not in NOT_COPIED}
    headers.pop(ATTEMPT, None)
    headers[REPLAYS] = story.replays + 1
    origin = {"queue": story.queue or None, "exchange": story.exchange, "routing-key": story.routing_key}
    for name, value in origin.items():
        if value is not None:
            headers[f"x-piperun-{name}"] = value
    copy = copy_with(headers, message, username=username)
    # Returns are matched by message id, and repeats can only be recognised by one.
    copy.message_id = copy.message_id or uuid.uuid4().hex
    return copy
