"""Named points at which a test kills this process: between two steps of settling, where a death may cost a duplicate
and never a message. `ARMED and reach("settle.before_ack")` stands next to each await there. Whether anything was lost
is for the tests to find out.

PIPERUN_FAILPOINT=NAME[:N][,NAME[:N]...]   at the Nth time (default: the first) that a process comes to this point
PIPERUN_FAILPOINT_ONCE=FOLDER              and only once for all processes: a file of that name there says that it was
"""

import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Final

VARIABLE: Final = "PIPERUN_FAILPOINT"
ONCE_VARIABLE: Final = "PIPERUN_FAILPOINT_ONCE"

# Looked up once, so that a point costs a look at a constant where nothing is armed, and no call.
ARMED: Final = VARIABLE in os.environ

_times: Counter[str] = Counter()


def reach(name: str) -> bool:
    """Kill this process, as a power cut would, if this is the point and the time. The answer has no meaning."""
    points = dict(each.partition(":")[::2] for each in os.environ[VARIABLE].split(","))
    if name not in points:
        return False
    _times[name] += 1
    if _times[name] == int(points[name] or 1) and _is_first(name):
        print(f"failpoint {name}: this process kills itself", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return False


def _is_first(name: str) -> bool:
    """Whether no other process was killed there before."""
    if (folder := os.environ.get(ONCE_VARIABLE)) is None:
        return True
    try:
        Path(folder, name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
