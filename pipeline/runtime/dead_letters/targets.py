"""Where a dead letter goes back to: a queue that somebody named, or the one that the message says it came from; and
whether that queue can take it. A header is no order: the queue must be there, and somebody must read it."""

from pipeline.amqp.inspect import depth
from pipeline.amqp.link import Generation
from pipeline.failure.story import Story


class Targets:
    """Asks the broker once for each queue."""

    def __init__(self, generation: Generation, *, source: str, named: str | None, forced: bool) -> None:
        """`forced`: a queue without a consumer will do."""
        self._generation = generation
        self._source = source
        self._named = named
        self._forced = forced
        self._known: dict[str, str | None] = {}

    async def of(self, story: Story) -> tuple[str, str | None]:
        """The queue, and why it is not for this message; None: it is. Raises `ConnectionLost`."""
        name = self._named or story.queue
        if name not in self._known:
            self._known[name] = await self._why_not(name)
        return name, self._known[name]

    async def _why_not(self, name: str) -> str | None:
        if not name:
            return "it does not say which queue it came from: use --to QUEUE"
        if name == self._source:
            return f'it came from queue "{name}" itself: use --to QUEUE'
        there = (await depth(self._generation, [name]))[name]
        if there is None:
            return f'there is no queue "{name}" on the broker: use --to QUEUE'
        if not there.consumers and not self._forced:
            return f'queue "{name}" has no consumer: start its pipeline, or use --force'
        return None
