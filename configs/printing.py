"""Handlers of several examples that show where a message has arrived."""

from pipeline import Message


async def on_screen(message: Message) -> None:
    print(f" [screen] {message.routing_key}: {message.body.decode()}", flush=True)


async def on_disk(message: Message) -> None:
    print(f" [disk] {message.routing_key}: {message.body.decode()}", flush=True)


async def with_headers(body: str, headers: dict[str, object], message: Message) -> None:
    print(f" [{message.queue}] {headers['format']} {headers['type']}: {body}", flush=True)
