"""A process that has piperun loaded and is forked once for each run, so that a run costs no start of Python: for tests
that need many. What is run, and what must come of it, is not known here.

    python -m tests.faults.zygote      reads a request a line: {"arguments": [...], "env": {...}, "output": PATH};
                                       answers with the process, and with its status when that has ended"""

import importlib
import json
import os
import sys

# What a run imports on its way. One that is missing here is loaded by each run for itself.
LOADED = ("aio_pika", "uvloop", "jsonschema", "pipeline.cli.app", "pipeline.runtime.launch", "pipeline.runtime.run")


def main() -> None:
    for name in LOADED:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if not pid:
            _become_a_run(**request)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _become_a_run(*, arguments: list[str], env: dict[str, str], output: str) -> None:
    said = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream, number in ((os.open(os.devnull, os.O_RDONLY), 0), (said, 1), (said, 2)):
        os.dup2(stream, number)
    os.environ.update(env)
    sys.argv = ["piperun", *arguments]
    status = 70
    try:
        importlib.import_module("pipeline.cli.app").main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
