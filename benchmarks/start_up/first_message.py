"""The handler of configs/hello.yaml while the start is measured: it writes down when it was first called, and what the
process has cost until then, and ends the run."""

import os
import resource
import time
from pathlib import Path


async def on_message(body: str) -> None:
    called = time.monotonic()  # one clock for all processes of the machine
    usage = resource.getrusage(resource.RUSAGE_SELF)
    Path(__file__).with_name("called").write_text(f"{called} {usage.ru_utime + usage.ru_stime}")
    os._exit(0)
