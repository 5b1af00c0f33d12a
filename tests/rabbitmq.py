"""A private RabbitMQ for tests, from its start to its end, and what a test may do to it and ask of it. A broker that
runs already is never touched. Its files, variables and processes are made in `tests.rabbitmq_process`."""

import json
import secrets
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from tests.erlang import ErlangError, ErlangShell, binary
from tests.rabbitmq_installation import Installation
from tests.rabbitmq_process import Place, environment, epmd, launch, prepare
from tests.waiting import deadline, wait_until

BY = binary("piperun tests")  # RabbitMQ notes who asked for a change


class Consumer(NamedTuple):
    """One consumer as the broker sees it."""

    queue: str
    tag: str
    prefetch: int
    active: bool


class PrivateRabbitMQ:
    """One node, from `with PrivateRabbitMQ.start(installation) as node:` until the end of the block."""

    def __init__(self, installation: Installation, place: Place, env: dict[str, str], group: int) -> None:
        self.installation = installation
        self.nodename = env["RABBITMQ_NODENAME"]
        self.port = int(env["RABBITMQ_NODE_PORT"])
        self.place = place
        self._env = env
        self._group = group
        self._shell = ErlangShell(installation.command("erl"), env, self.nodename, process_group=group)
        self._server = self._launch()

    @classmethod
    @contextmanager
    def start(
        cls, installation: Installation, settings: Mapping[str, str] | None = None
    ) -> Iterator["PrivateRabbitMQ"]:
        """Start a node and wait until it serves; `settings` are lines of rabbitmq.conf. Ends it in every case."""
        place = Place.make(installation.root)
        prepare(place.outside, settings or {})
        env = environment(place.inside)
        with epmd(installation, place, env) as group:
            node = cls(installation, place, env, group)
            try:
                node.await_startup()
                yield node
            finally:
                node.close()

    # Its life

    def boot(self) -> None:
        """Start the server process again after its end, with what it had written down."""
        self._server = self._launch()
        self.await_startup()

    def await_startup(self) -> None:
        """Return when clients are served."""
        wait_until(self._serves, 60, told="the start of RabbitMQ")

    @property
    def pid(self) -> int:
        """The process of the node itself."""
        return self._server.pid

    @property
    def running(self) -> bool:
        """Whether that process is alive."""
        return self._server.poll() is None

    @property
    def version(self) -> tuple[int, ...]:
        """Such as (3, 10, 8)."""
        return tuple(int(part) for part in self.eval("rabbit_misc:version()").strip('"').split("."))

    def kill(self) -> None:
        """KILL, as a power cut would. `boot` starts it again with what it had written down."""
        self._server.kill()
        self._server.wait()

    def restart(self) -> None:
        """An orderly end of the process, and a new one."""
        self._end_server()
        self.boot()

    def stop_app(self) -> None:
        """Stop serving, as `rabbitmqctl stop_app`: every connection is closed with 320."""
        self.eval("rabbit:stop()")

    def start_app(self) -> None:
        """Serve again."""
        self.eval("rabbit:start()")
        self.await_startup()

    def close(self) -> None:
        """End the server by its pid, and the line into it."""
        self._end_server()
        self._shell.close()

    # Virtual hosts and users

    def url(self, vhost: str = "/", user: str = "guest", password: str = "guest") -> str:
        return f"amqp://{user}:{password}@127.0.0.1:{self.port}/{'%2F' if vhost == '/' else vhost}"

    def add_vhost(self) -> str:
        """A new, empty virtual host that guest may use; its name."""
        vhost = f"test-{secrets.token_hex(4)}"
        self.eval(f"rabbit_vhost:add({binary(vhost)}, {BY}), " + _permitted("guest", vhost, ".*", ".*", ".*"))
        return vhost

    def delete_vhost(self, vhost: str) -> None:
        """Delete it with all its queues, without waiting for the end of that."""
        self.eval(f"spawn(fun() -> rabbit_vhost:delete({binary(vhost)}, {BY}) end)")

    def add_user(self, user: str, password: str) -> None:
        """A user who may do nothing yet."""
        self.eval(f"rabbit_auth_backend_internal:add_user({binary(user)}, {binary(password)}, {BY})")

    def change_password(self, user: str, password: str) -> None:
        self.eval(f"rabbit_auth_backend_internal:change_password({binary(user)}, {binary(password)}, {BY})")

    def set_permissions(
        self, user: str, vhost: str, configure: str = ".*", write: str = ".*", read: str = ".*"
    ) -> None:
        self.eval(_permitted(user, vhost, configure, write, read))

    # What it does to its clients

    def set_alarm(self) -> None:
        """Memory alarm: whoever publishes is blocked."""
        self._set_watermark("0.00001")

    def clear_alarm(self) -> None:
        self._set_watermark("0.4")

    def _set_watermark(self, share: str) -> None:
        """Asking for the alarms afterwards waits until all connections have been told of them."""
        self.eval(f"vm_memory_monitor:set_vm_memory_high_watermark({share}), rabbit_alarm:get_alarms()")

    def set_consumer_timeout(self, milliseconds: int) -> None:
        """For channels opened from now on: the longest time that a delivery may stay without an answer. RabbitMQ 4.3
        keeps this time in another way, and does not heed this."""
        self.eval(
            f"application:set_env(rabbit, consumer_timeout, {milliseconds}), "
            "application:set_env(rabbit, channel_tick_interval, 1000)"
        )

    def drop_connections(self, vhost: str) -> None:
        """Cut every connection to `vhost` without a word."""
        self._each_connection(vhost, "exit(Pid, kill)")

    def close_connections(self, vhost: str) -> None:
        """Close every connection to `vhost` with 320 CONNECTION_FORCED."""
        self._each_connection(vhost, f"rabbit_networking:close_connection(Pid, {json.dumps('closed by the test')})")

    # What it holds

    def list_queues(self, vhost: str) -> dict[str, int]:
        """Name to number of messages, ready and unacknowledged."""
        rows = self.eval(
            "rabbit_json:encode([[element(4, proplists:get_value(name, Q)), proplists:get_value(messages, Q)]"
            f" || Q <- rabbit_amqqueue:info_all({binary(vhost)}, [name, messages])])"
        )
        return dict(json.loads(rows))

    def list_consumers(self, vhost: str) -> list[Consumer]:
        rows = self.eval(
            "rabbit_json:encode([[element(4, proplists:get_value(queue_name, C)) | "
            "[proplists:get_value(Key, C) || Key <- [consumer_tag, prefetch_count, active]]]"
            f" || C <- rabbit_amqqueue:consumers_all({binary(vhost)})])"
        )
        return [Consumer(*row) for row in json.loads(rows)]

    def list_channels(self, vhost: str) -> set[str]:
        """The channels of all connections to `vhost`, by the names of their processes."""
        rows = self.eval(
            "rabbit_json:encode([list_to_binary(pid_to_list(Pid)) || Pid <- rabbit_channel:list_local(), "
            f"rabbit_channel:info(Pid, [vhost]) =:= [{{vhost, {binary(vhost)}}}]])"
        )
        return set(json.loads(rows))

    def eval(self, expression: str) -> str:
        """What `rabbitmqctl eval` would say, in milliseconds."""
        return self._shell.eval(expression)

    def ctl(self, *arguments: str) -> str:
        """The output of `rabbitmqctl`; a second or more for each call."""
        command = self.installation.command("rabbitmqctl", "-q", "-n", self.nodename, *arguments)
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=deadline(60))
        if done.returncode:
            raise ErlangError(f"rabbitmqctl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    # Inside

    def _launch(self) -> subprocess.Popen[bytes]:
        return launch(self.installation.command("rabbitmq-server"), self.place, self._env, self._group)

    def _serves(self) -> bool:
        if self._server.poll() is not None:
            console = (self.place.outside / "console.log").read_text(errors="replace")
            raise ErlangError(f"RabbitMQ ended with status {self._server.returncode}:\n{console[-2000:]}")
        try:
            # While the mark of the last start is there, the node would take the next `rabbit:start()` for the same one.
            return self.eval("rabbit:is_booted() andalso whereis(rabbit_boot) =:= undefined") == "true"
        except ErlangError as error:
            if "nodedown" in str(error):
                return False  # not registered with epmd yet
            raise

    def _end_server(self) -> None:
        self._server.send_signal(signal.SIGTERM)
        try:
            self._server.wait(deadline(20))
        except subprocess.TimeoutExpired:
            self.kill()

    def _each_connection(self, vhost: str, act: str) -> None:
        self.eval(
            "[try [{vhost, V}] = rabbit_reader:info(Pid, [vhost]), "
            f"case V of {binary(vhost)} -> {act}; _ -> other end catch _:_ -> gone end"
            " || Pid <- rabbit_networking:local_connections()]"
        )


def _permitted(user: str, vhost: str, *patterns: str) -> str:
    words = ", ".join(binary(word) for word in (user, vhost, *patterns))
    return f"rabbit_auth_backend_internal:set_permissions({words}, {BY})"
