"""What a handler may ask of its context, on the loop and in a thread."""

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from pipeline.errors import ConnectionLost, NotConnected, PublishError
from pipeline.handlers.context import Context
from pipeline.outcome import DONE
from tests.handlers.stage import Stage
from tests.waiting import deadline, eventually


async def test_the_context_knows_its_surroundings() -> None:
    stage = Stage(state={"db": "here"})
    context = stage.context()
    assert (context.consumer, context.logger.name) == ("charge", "piperun.handler.charge")
    assert context.state == {"db": "here"}
    assert not context.is_stopping
    stage.around.stopping.set()
    assert context.is_stopping
    await context.stopping.wait()


async def test_publishing_from_a_thread_ends_with_the_confirm() -> None:
    # Given a confirm that comes when told
    confirm = asyncio.Event()
    told: list[str] = []

    async def publish(body: object, **where: object) -> None:
        told.append(f"published {body} on {threading.current_thread().name}")
        await confirm.wait()

    stage = Stage()
    context = Context(stage.around, publish)

    def handle() -> None:
        context.publish("a", queue="there")
        told.append("confirmed")

    # When a plain function publishes
    running = asyncio.create_task(stage.threads.run(handle))
    await eventually(lambda: told)
    assert told == ["published a on MainThread"]
    # Then it goes on after the confirm
    confirm.set()
    await running
    assert told[1:] == ["confirmed"]


async def test_a_refused_publish_raises_in_the_thread() -> None:
    async def publish(body: object, **where: object) -> None:
        raise PublishError("queue is full")

    stage = Stage()
    context = Context(stage.around, publish)
    with pytest.raises(PublishError, match="queue is full"):
        await stage.threads.run(lambda: context.publish("a"))


async def test_a_loop_of_its_own_in_a_thread_may_await_the_publish() -> None:
    async def main(context: Context) -> None:
        await context.publish("a")

    def handle(context: Context) -> None:
        asyncio.run(main(context))

    stage = Stage()
    assert await stage.run(handle) is DONE
    assert stage.published == [("a", {})]


async def test_queue_and_exchange_exclude_each_other() -> None:
    context = Stage().context()
    with pytest.raises(ValueError, match="not to both"):
        context.publish("a", queue="there", exchange="orders")
    with pytest.raises(ValueError, match="not to both"):
        context.publish("a", queue="there", routing_key="paid")


def context_on(loop: asyncio.AbstractEventLoop, publish: Any) -> Context:
    async def made() -> Context:
        return Context(Stage().around, publish)

    return loop.run_until_complete(made())


async def never(
    body: object,
    *,
    exchange: str | None,
    routing_key: str | None,
    queue: str | None,
    headers: Mapping[str, object] | None,
) -> None:
    await asyncio.Event().wait()


def test_publishing_after_the_pipeline_has_ended_is_told() -> None:
    loop = asyncio.new_event_loop()
    context = context_on(loop, never)
    loop.close()
    with pytest.raises(NotConnected, match="nothing was sent"):
        context.publish("a")


def test_a_pipeline_that_ends_before_the_confirm_is_told_in_the_thread() -> None:
    # Given a thread that waits for a confirm
    raised: list[BaseException] = []
    left: list[threading.Thread] = []

    async def main() -> None:
        begun = asyncio.Event()

        async def publish(body: object, **where: object) -> None:
            begun.set()
            await asyncio.Event().wait()

        context = Context(Stage().around, publish)

        def handle() -> None:
            try:
                context.publish("a")
            except BaseException as error:
                raised.append(error)

        left.append(threading.Thread(target=handle, daemon=True))
        left[0].start()
        await begun.wait()

    # When the loop ends
    asyncio.run(main())
    # Then the thread hears of it
    left[0].join(deadline(10))
    assert [type(error) for error in raised] == [ConnectionLost]
