"""The two subscribers of publish_subscribe.yaml, and the counter that one of them keeps for the whole run."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipeline import Context


@asynccontextmanager
async def statistics() -> AsyncIterator[Counter[str]]:
    """Made once at the start, found by handlers in `context.state`, and shown at the end."""
    seen: Counter[str] = Counter()
    yield seen
    for text, times in seen.items():
        print(f" [statistics] {times} times: {text}", flush=True)


async def show(body: str) -> None:
    print(f" [screen] {body}", flush=True)


async def count(body: str, context: Context) -> None:
    context.state[body] += 1
