"""Where RabbitMQ's programs lie on this machine, and how to get them where they do not.
Run as a script it prints the folder, or the way to get it and exit status 1. Starting one is `tests.rabbitmq`'s."""

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

HOW_TO_GET_IT = (
    "RabbitMQ is not installed: `apt-get install --no-install-recommends rabbitmq-server`, `brew install rabbitmq`, "
    "or RABBITMQ_HOME=<its folder>; tests that need it are skipped, and fail where CI is set"
)

# Debian's wrappers in /usr/sbin change to another user and to /var/lib/rabbitmq; the real scripts come first.
FOLDERS = (
    "/usr/lib/rabbitmq/bin",
    "/opt/homebrew/opt/rabbitmq/sbin",
    "/usr/local/opt/rabbitmq/sbin",
    "/usr/local/sbin",
)

# In mounts of its own, so that the end of the process is the end of the mount. RabbitMQ reads its memory in /proc.
ENTER = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'


@dataclass(frozen=True, kw_only=True)
class Installation:
    """`programs` is the folder with `rabbitmq-server`; `root`, where given, the system to change root into first."""

    programs: str
    root: Path | None = None

    def command(self, program: str, *arguments: str) -> list[str]:
        """How to run one of RabbitMQ's or Erlang's programs."""
        path = f"{self.programs}/{program}" if program.startswith("rabbitmq") else program
        enter = [] if self.root is None else ["unshare", "--mount", "sh", "-c", ENTER, str(self.root)]
        return [*enter, path, *arguments]


def find_installation() -> Installation | None:
    """The RabbitMQ that tests shall use: PIPERUN_TEST_RABBITMQ_ROOT, RABBITMQ_HOME, the usual folders, PATH."""
    if root := os.environ.get("PIPERUN_TEST_RABBITMQ_ROOT"):
        return Installation(programs="/usr/lib/rabbitmq/bin", root=Path(root))
    home = os.environ.get("RABBITMQ_HOME")
    folders = [f"{home}/sbin"] if home else []
    on_path = shutil.which("rabbitmq-server")
    candidates = [*folders, *FOLDERS, *([str(Path(on_path).parent)] if on_path else [])]
    for folder in candidates:
        if os.access(f"{folder}/rabbitmq-server", os.X_OK) and shutil.which("epmd") and shutil.which("erl"):
            return Installation(programs=folder)
    return None


def version_to_behave_like() -> str:
    """What the embedded broker behaves like beside the RabbitMQ that tests use: the known version that is nearest to
    it. The one that is given by its URL is a 4.3, see `make test-4.3`."""
    if os.environ.get("PIPERUN_TEST_AMQP_URL"):
        return "4.3"
    installation = find_installation()
    return "4.3" if installation is not None and _major_version(installation) >= 4 else "3.10"


def _major_version(installation: Installation) -> int:
    """By the name of the folder or the plugin that RabbitMQ lies in, without starting it; 0 if that tells nothing."""
    inside = Path(installation.programs).parent
    there = inside if installation.root is None else installation.root / inside.relative_to("/")
    for found in (*there.glob("lib/rabbitmq_server-*"), *there.glob("plugins/rabbit-*")):
        if version := re.search(r"-([0-9]+)[.]", found.name):
            return int(version[1])
    return 0


if __name__ == "__main__":
    found = find_installation()
    print(found.programs if found else HOW_TO_GET_IT)
    sys.exit(0 if found else 1)
