"""The private RabbitMQ of the tests keeps what it promises: it is private, it can be hurt, and nothing outlives it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import AMQPConnectionError

from tests.erlang import ErlangError
from tests.guard import start_guard
from tests.rabbitmq import PrivateRabbitMQ
from tests.rabbitmq_installation import Installation
from tests.rabbitmq_process import accepts
from tests.waiting import deadline, eventually, wait_until

# Starts a node, tells where it is, and then waits to be killed.
HOST = """
import sys
from tests.rabbitmq import PrivateRabbitMQ
from tests.rabbitmq_installation import find_installation

with PrivateRabbitMQ.start(find_installation()) as node:
    print(node.pid, node.port, node.place.outside, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def own_node(rabbitmq_installation: Installation) -> Iterator[PrivateRabbitMQ]:
    """A node that these tests may stop and kill."""
    with PrivateRabbitMQ.start(rabbitmq_installation, {"max_message_size": "1000"}) as node:
        yield node


async def ignore(message: AbstractIncomingMessage) -> None:
    """A consumer that never settles anything."""


async def test_each_virtual_host_is_new_and_empty(rabbitmq: PrivateRabbitMQ) -> None:
    one, two = rabbitmq.add_vhost(), rabbitmq.add_vhost()
    async with await aio_pika.connect(rabbitmq.url(one), timeout=deadline(10)) as connection:
        channel = await connection.channel()
        await channel.set_qos(7)
        queue = await channel.declare_queue("orders", durable=True)
        await channel.default_exchange.publish(aio_pika.Message(b"1"), "orders")
        await queue.consume(ignore, consumer_tag="me")
        assert rabbitmq.list_queues(one) == {"orders": 1}
        assert rabbitmq.list_consumers(one) == [("orders", "me", 7, True)]
        assert rabbitmq.list_queues(two) == {}
    rabbitmq.delete_vhost(one)
    rabbitmq.delete_vhost(two)
    wait_until(lambda: one not in rabbitmq.ctl("list_vhosts"), told="the end of the virtual host")


@pytest.mark.parametrize("end", [PrivateRabbitMQ.drop_connections, PrivateRabbitMQ.close_connections])
async def test_only_the_connections_of_one_virtual_host_are_ended(
    rabbitmq: PrivateRabbitMQ, end: Callable[[PrivateRabbitMQ, str], None]
) -> None:
    async with (
        await aio_pika.connect(rabbitmq.url(rabbitmq.add_vhost()), timeout=deadline(10)) as kept,
        await aio_pika.connect(rabbitmq.url(lost_vhost := rabbitmq.add_vhost()), timeout=deadline(10)) as lost,
    ):
        ended: list[BaseException | None] = []
        lost.close_callbacks.add(lambda _, error: ended.append(error))
        end(rabbitmq, lost_vhost)
        await eventually(lambda: ended, told="the end of the connection")
        assert isinstance(ended[0], AMQPConnectionError)
        await (await kept.channel()).declare_queue("still here", durable=True)


async def test_a_user_may_do_what_was_permitted_and_logs_in_with_the_newest_password(
    rabbitmq: PrivateRabbitMQ,
) -> None:
    vhost = rabbitmq.add_vhost()
    rabbitmq.add_user("ann", 'first "secret"')
    rabbitmq.change_password("ann", "second")
    rabbitmq.set_permissions("ann", vhost, configure="^mine")
    async with await aio_pika.connect(rabbitmq.url(vhost, "ann", "second"), timeout=deadline(10)) as connection:
        await (await connection.channel()).declare_queue("mine", durable=True)
        with pytest.raises(aio_pika.exceptions.ChannelClosed, match="ACCESS_REFUSED"):
            await (await connection.channel()).declare_queue("yours", durable=True)


def test_rabbitmqctl_and_the_short_way_answer_alike(rabbitmq: PrivateRabbitMQ) -> None:
    assert rabbitmq.ctl("eval", "node().").strip().strip("'") == rabbitmq.nodename
    assert rabbitmq.eval("node()").strip("'") == rabbitmq.nodename
    with pytest.raises(ErlangError, match="badarith"):
        rabbitmq.eval("1 / 0")
    with pytest.raises(ErlangError, match="no_such_command"):
        rabbitmq.ctl("no_such_command")


def test_the_alarm_is_raised_and_cleared(own_node: PrivateRabbitMQ) -> None:
    own_node.set_alarm()
    assert "memory" in own_node.eval("rabbit_alarm:get_alarms()")
    own_node.clear_alarm()
    assert own_node.eval("rabbit_alarm:get_alarms()") == "[]"


async def test_a_delivery_without_an_answer_ends_its_channel_after_the_consumer_timeout(
    own_node: PrivateRabbitMQ,
) -> None:
    if own_node.version >= (4, 3):
        pytest.skip("RabbitMQ 4.3 keeps the consumer timeout in another way")
    own_node.set_consumer_timeout(1000)
    async with await aio_pika.connect(own_node.url(own_node.add_vhost()), timeout=deadline(10)) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("slow", durable=True)
        await queue.consume(ignore)
        ended: list[BaseException | None] = []
        channel.close_callbacks.add(lambda _, error: ended.append(error))
        await channel.default_exchange.publish(aio_pika.Message(b"1"), "slow")
        await eventually(lambda: ended, 20, told="the end of the channel")
        assert "timeout" in str(ended[0])


async def test_confirmed_messages_survive_a_kill_and_a_stop(own_node: PrivateRabbitMQ) -> None:
    vhost = own_node.add_vhost()
    async with await aio_pika.connect(own_node.url(vhost), timeout=deadline(10)) as connection:
        channel = await connection.channel()
        await channel.declare_queue("orders", durable=True)
        message = aio_pika.Message(b"1", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, "orders")
        before = own_node.pid
        own_node.kill()
    assert not accepts(own_node.port)
    own_node.boot()
    assert own_node.pid != before
    assert own_node.list_queues(vhost) == {"orders": 1}
    own_node.stop_app()
    assert not accepts(own_node.port)
    own_node.start_app()
    assert own_node.list_queues(vhost) == {"orders": 1}


def test_the_pid_is_that_of_the_node_itself(own_node: PrivateRabbitMQ) -> None:
    assert own_node.eval("os:getpid()").strip('"') == str(own_node.pid)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads listening sockets from /proc")
def test_everything_listens_on_this_machine_only(own_node: PrivateRabbitMQ) -> None:
    sockets = {str(each.readlink()) for each in Path(f"/proc/{own_node.pid}/fd").iterdir() if each.is_symlink()}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    rows += [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    listening = {row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets}
    assert listening == {"0100007F"}


def test_nothing_outlives_a_test_run_that_is_killed(rabbitmq_installation: Installation) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOST], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as host:
        assert host.stdout is not None
        pid, port, folder = host.stdout.readline().split()
        assert accepts(int(port))
        host.kill()
    wait_until(lambda: not Path(folder).exists(), 30, told="the end of what the run had started")
    assert not accepts(int(port))
    wait_until(lambda: _gone(int(pid)), told="the end of the node")


def test_the_guard_ends_what_does_not_heed_a_term(tmp_path: Path) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE, process_group=0) as process:
        assert process.stdout is not None
        process.stdout.readline()
        guard = start_guard(process.pid, tmp_path, patience=0.2)
        guard.communicate(timeout=deadline(10))
        assert process.wait(deadline(10)) == -signal.SIGKILL
    assert not tmp_path.exists()


def _gone(pid: int) -> bool:
    """Ended, even if nobody has asked for its exit status yet."""
    status = Path(f"/proc/{pid}/stat")
    try:
        os.kill(pid, 0)
        return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"
    except ProcessLookupError:
        return True
