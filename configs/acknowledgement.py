"""What the workers of acknowledgement.yaml and no_acknowledgement.yaml do: work for a while, and sometimes die."""

import asyncio
import os
import signal

from pipeline import Context, Message


async def work(body: str, message: Message, context: Context) -> None:
    again = " again (redelivered)" if message.redelivered else ""
    context.logger.info("begins%s: %s", again, body)
    await asyncio.sleep(0.3)
    if "kills" in body and not message.redelivered:
        context.logger.info("dies now, in the middle of: %s", body)
        os.kill(os.getpid(), signal.SIGKILL)  # no clean-up, no goodbye: as if the machine had lost its power
    context.logger.info("has finished: %s", body)
