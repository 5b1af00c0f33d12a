"""The installed `piperun` command as a process: started on a file's text in a folder of its own, its output read
line by line, signalled, awaited, and ended with everything it started. What it should say is for the tests."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from tests.waiting import deadline

PROGRAM = Path(sys.executable).with_name("piperun")
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR", "CI", "PIPERUN_PLAIN_LINE")


class Command:
    """One run of `piperun`. Its output, both streams in order of arrival, is in `output` and `lines`."""

    def __init__(self, arguments: list[str], folder: Path, env: Mapping[str, str], stdin: str | None) -> None:
        self.arguments = arguments
        self.folder = folder
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._ended = False
        self._process = subprocess.Popen(
            [str(PROGRAM), *arguments],
            cwd=folder,
            env=_clean(folder, env),
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="backslashreplace",
            process_group=0,  # so that a teardown reaches the worker processes, too
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._reader.start()
        self._watcher.start()
        if stdin is not None:
            self.write(stdin)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended, with all of its output read."""
        with self._more:
            return self._ended

    @property
    def output(self) -> str:
        """Everything it has said so far."""
        with self._more:
            return "".join(line + "\n" for line in self.lines)

    def wait_for_line(self, pattern: str, seconds: float = 15, *, after: int = 0) -> str:
        """The first line, from line number `after` on, in which the pattern is found. Fails with the output."""
        with self._more:
            self._more.wait_for(lambda: self._ended or self._find(pattern, after) is not None, deadline(seconds))
            found = self._find(pattern, after)
        if found is None:
            why = "it ended" if self._ended else f"{deadline(seconds):g} s passed"
            raise AssertionError(f"{why} without a line like {pattern!r}:\n{self.output}")
        return found

    def write(self, text: str) -> None:
        """Hand text to its standard input, and end that input."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(text)
            self._process.stdin.close()

    def send_signal(self, number: signal.Signals) -> None:
        """To the command itself; what it started hears of it from there."""
        self._process.send_signal(number)

    def wait(self, seconds: float = 30) -> int:
        """Its exit status, with all of its output read. Fails with the output if it does not end."""
        try:
            status = self._process.wait(deadline(seconds))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {deadline(seconds):g} s:\n{self.output}") from None
        self._watcher.join(deadline(5))
        return status

    def close(self) -> None:
        """End the command and its whole process group, and wait for that."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._watcher.join(deadline(10))
        self._reader.join(deadline(10))
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _find(self, pattern: str, after: int) -> str | None:
        return next((line for line in self.lines[after:] if re.search(pattern, line)), None)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._more:
                self.lines.append(line.rstrip("\n"))
                self._more.notify_all()

    def _watch(self) -> None:
        self._process.wait()
        self._reader.join(1)  # a process that it left behind may hold the output open
        with self._more:
            self._ended = True
            self._more.notify_all()


class Commands:
    """Starts commands for one test. `close` ends them and gives what they said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[Command] = []

    def __call__(
        self,
        file: str | None = None,
        *arguments: str,
        verb: str = "run",
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
    ) -> Command:
        """`piperun VERB pipeline.yaml ARGUMENTS` on a file with that text; without a text, on no file."""
        words = [verb, *arguments]
        if file is not None:
            path = self.folder / "pipeline.yaml"
            path.write_text(file, encoding="utf-8")
            words.insert(1, path.name)
        command = Command(words, self.folder, env or {}, stdin)
        self.started.append(command)
        return command

    def close(self) -> str:
        """End whatever still runs; the output of each command, for the report of a failed test."""
        for command in self.started:
            command.close()
        return "\n".join(f"$ piperun {' '.join(each.arguments)}\n{each.output}" for each in self.started)


def _clean(folder: Path, env: Mapping[str, str]) -> dict[str, str]:
    """Nothing of the developer's own settings: home, credentials and colours stay outside. Output is left buffered: a
    handler's `print(..., flush=True)` is one write then, and the lines of two workers do not mix."""
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {**passed_on, "HOME": str(folder), **env}
