"""The source and the handler of topics.yaml: each message carries its own routing key."""

from collections.abc import Iterator

from pipeline import Message


def animals() -> Iterator[Message]:
    for key in ("quick.orange.rabbit", "lazy.orange.elephant", "quick.orange.fox", "lazy.brown.fox"):
        yield Message(f"a {key.replace('.', ' ')}", routing_key=key)


async def show(body: str, message: Message) -> None:
    print(f" [{message.queue}] {body}", flush=True)
