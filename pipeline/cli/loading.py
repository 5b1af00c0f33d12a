"""How parts of piperun are loaded when they are wanted: without the garbage collector. What the parts are is not known
here."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """For imports. Classes and functions come by ten thousands and stay for good, and each of them brings the collector
    nearer to a walk through all of them: a tenth of a start. Later walks leave them out, too; one of them would stop
    everything for tens of milliseconds."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
