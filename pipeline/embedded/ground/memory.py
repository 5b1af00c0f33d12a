"""How much the messages of all queues weigh together, and when that is too much. Who is stopped then, and told so,
is `connection`'s business."""

MESSAGE_WEIGHT = 512  # octets that a message weighs besides its header and body, roughly
MEMORY_LIMIT = 512 * 1024 * 1024
RELIEF = 0.95  # of the limit: below it the alarm is over, so that it does not flutter


class Memory:
    """Octets of messages in queues; one that stands in several counts in each."""

    def __init__(self, limit: int = MEMORY_LIMIT) -> None:
        self.limit = limit
        self.used = 0
        self.alarm = False

    def look(self) -> bool:
        """Whether the alarm has been raised or is over since this was asked last."""
        before = self.alarm
        self.alarm = self.used > (self.limit * RELIEF if before else self.limit)
        return self.alarm is not before
