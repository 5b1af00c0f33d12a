"""Ends a group of processes as soon as whoever started them is gone, in whatever way: waits for the end of its
own input, then TERM, then KILL, then removes a folder. A script of its own: a killed test run cannot tidy up."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path


def start_guard(group: int, folder: Path, patience: float = 15) -> subprocess.Popen[bytes]:
    """A guard over process group `group` and `folder`. Close its input to let it act; it ends when both are gone.
    `patience` is the time between TERM and KILL."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__)), str(group), str(folder), str(patience)],
        stdin=subprocess.PIPE,
        start_new_session=True,  # an interrupt typed at the terminal is for the tests, not for their guard
    )


def end_group(group: int, patience: float) -> None:
    """TERM to the whole group, KILL to what is left of it after a while. A group that is gone is fine."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
        end = time.monotonic() + patience
        while time.monotonic() < end:
            os.killpg(group, 0)
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)


def main() -> None:
    group, folder, patience = sys.argv[1:]
    for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    sys.stdin.buffer.read()
    end_group(int(group), float(patience))
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
