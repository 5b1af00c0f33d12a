"""All tests, in two halves side by side: those that mostly wait for processes and connections, and the others, which
compute. One behind the other they take nearly twice the time on two processors. `python -m tests.halves`, from the top
of the repository; a shell that starts one in the background would have it ignore Ctrl-C, which some tests are about."""

import subprocess
import sys
import tempfile

WAITING = ("tests/faults", "tests/runtime")


def main() -> int:
    """The status of the half that failed, the computing one's first; what the other half says is shown at the end."""
    with tempfile.TemporaryFile() as said:
        # The cache is the other half's: two writers would spoil it.
        waiting = subprocess.Popen(_pytest("-p", "no:cacheprovider", *WAITING), stdout=said, stderr=said)
        try:
            computing = subprocess.run(_pytest(*(f"--ignore={folder}" for folder in WAITING)), check=False).returncode
            status = waiting.wait()
        finally:
            waiting.terminate()
        said.seek(0)
        sys.stdout.buffer.write(said.read())
        sys.stdout.flush()
    return computing or status


def _pytest(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", *arguments]


if __name__ == "__main__":
    sys.exit(main())
