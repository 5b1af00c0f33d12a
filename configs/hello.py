"""What hello.yaml, hello_iterator.yaml and hello_receive.yaml do with a message: print it."""

from collections.abc import AsyncIterator

from pipeline import Message


async def on_message(body: str) -> None:
    """The callback form: called once per message."""
    print(f" [x] Received {body}", flush=True)


async def receive(messages: AsyncIterator[Message]) -> None:
    """The iterator form: one loop over all messages."""
    async for message in messages:
        print(f" [x] Received {message.body.decode()}", flush=True)
