"""What a handler needs around it in a test: a context, a place for its outputs, and a plan made from a function."""

import asyncio
import logging
from collections.abc import Mapping

from pipeline.clock import Clock, SystemClock
from pipeline.codec import Content
from pipeline.handlers.call import Handler, Output, handler
from pipeline.handlers.context import Context, Surroundings
from pipeline.handlers.signature import CallPlan, plan
from pipeline.handlers.threads import Threads
from pipeline.message import Message
from pipeline.outcome import DONE, Done, Outcome


class Stage:
    """Runs handlers and keeps what they publish: `outputs` what they return or yield, `published` what goes through
    `context.publish`."""

    def __init__(self, *, size: int = 2, state: object = None, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.threads = Threads("charge", size)
        self.outputs: list[object] = []
        self.published: list[tuple[object, dict[str, object]]] = []
        self.around = Surroundings(
            consumer="charge",
            logger=logging.getLogger("piperun.handler.charge"),
            stopping=asyncio.Event(),
            state=state,
            loop=asyncio.get_running_loop(),
        )

    def context(self) -> Context:
        return Context(self.around, self._publish)

    async def output(self, value: object) -> None:
        self.outputs.append(value)

    def handler(self, function: object, content: Content | None = None) -> Handler:
        """What it returned goes to `outputs` too, as the runtime sends it on."""
        call = handler(planned(function, content), threads=self.threads, clock=self.clock)

        async def handle(message: Message, context: Context, output: Output) -> Outcome:
            outcome = await call(message, context, output)
            if outcome is DONE or not isinstance(outcome, Done):
                return outcome
            self.outputs.append(outcome.value)
            return DONE

        return handle

    async def run(self, function: object, message: Message | None = None) -> Outcome:
        return await self.handler(function)(message or Message(b"hello"), self.context(), self.output)

    async def _publish(
        self,
        body: object,
        *,
        exchange: str | None,
        routing_key: str | None,
        queue: str | None,
        headers: Mapping[str, object] | None,
    ) -> None:
        where = {"exchange": exchange, "routing_key": routing_key, "queue": queue, "headers": headers}
        self.published.append((body, {name: value for name, value in where.items() if value is not None}))


def planned(function: object, content: Content | None = None) -> CallPlan:
    return plan(function, name="charge", content=content, ack="on_success")
