"""What a private RabbitMQ is made of: a folder, variables, and processes on 127.0.0.1 that share nothing with any other
RabbitMQ of the machine and all end with the test run. What is done with the node is `tests.rabbitmq`'s."""

import os
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.guard import start_guard
from tests.rabbitmq_installation import Installation
from tests.waiting import deadline, wait_until

SETTINGS = """\
loopback_users.guest = true
vm_memory_high_watermark.relative = 0.4
log.file.level = info
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder as this process sees it and as the node sees it: they differ when the node has another root."""

    outside: Path
    inside: Path

    @classmethod
    def make(cls, root: Path | None) -> "Place":
        if root is None:
            path = Path(tempfile.mkdtemp(prefix="piperun-rabbitmq-"))
            return cls(outside=path, inside=path)
        path = Path(tempfile.mkdtemp(prefix="piperun-rabbitmq-", dir=root / "tmp"))
        return cls(outside=path, inside=Path("/tmp") / path.name)


def prepare(folder: Path, settings: Mapping[str, str]) -> None:
    """The files that a node and its tools read."""
    (folder / "home").mkdir()
    cookie = folder / "home" / ".erlang.cookie"
    cookie.write_text(secrets.token_hex(20))
    cookie.chmod(0o400)
    lines = "".join(f"{key} = {value}\n" for key, value in settings.items())
    (folder / "rabbitmq.conf").write_text(SETTINGS + lines)
    (folder / "enabled_plugins").write_text("[].\n")


def environment(folder: Path) -> dict[str, str]:
    """The variables of a node and its tools: everything is new, nothing is shared with another RabbitMQ."""
    port, distribution, epmd_port = free_ports(3)
    return {
        "PATH": os.environ["PATH"] + ":/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(folder / "home"),  # holds the cookie
        "HOSTNAME": "localhost",
        "LC_ALL": "C.UTF-8",
        "ERL_CRASH_DUMP": str(folder / "erl_crash.dump"),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(epmd_port),
        "RABBITMQ_NODENAME": f"piperun-{secrets.token_hex(4)}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution),
        # Without the first one the distribution port listens on all interfaces; one scheduler keeps the node small.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1",
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",  # keeps /etc/rabbitmq out
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RUNNING_UNDER_SYSTEMD": "true",  # the script then becomes the node, instead of waiting for a child
    }


@contextmanager
def epmd(installation: Installation, place: Place, env: dict[str, str]) -> Iterator[int]:
    """Erlang's port mapper in the foreground, else the node starts one that outlives it. Gives the process group
    that all of the node's processes join, and that a guard ends should this process die before it can."""
    port = env["ERL_EPMD_PORT"]
    mapper = launch(installation.command("epmd", "-port", port, "-address", "127.0.0.1"), place, env, 0)
    guard = start_guard(mapper.pid, place.outside)
    try:
        wait_until(lambda: accepts(int(port)), told="epmd")
        yield mapper.pid
    finally:
        mapper.terminate()
        mapper.wait(deadline(10))
        guard.communicate(timeout=deadline(30))


def launch(command: Sequence[str], place: Place, env: dict[str, str], process_group: int) -> subprocess.Popen[bytes]:
    """Start a process that writes into the folder; group 0 makes it the first of a new one."""
    with (place.outside / "console.log").open("ab") as console:
        return subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            process_group=process_group,
        )


def free_ports(number: int) -> list[int]:
    """So many different ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
