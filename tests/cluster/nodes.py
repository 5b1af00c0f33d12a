"""Three RabbitMQ nodes on this machine that form one cluster: one folder, one port mapper, one cookie. What is done to
each of them is `tests.rabbitmq`'s; what a cluster promises is for the tests."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.erlang import binary
from tests.rabbitmq import PrivateRabbitMQ
from tests.rabbitmq_installation import Installation
from tests.rabbitmq_process import Place, environment, epmd, prepare

SIZE = 3


class Cluster:
    """From `with Cluster.start(installation) as cluster:` until the end of the block."""

    def __init__(self, nodes: list[PrivateRabbitMQ]) -> None:
        self.nodes = nodes

    @classmethod
    @contextmanager
    def start(cls, installation: Installation) -> Iterator["Cluster"]:
        place = Place.make(installation.root)
        prepare(place.outside, {})
        envs = [environment(place.inside) for _ in range(SIZE)]
        for env in envs:
            env["ERL_EPMD_PORT"] = envs[0]["ERL_EPMD_PORT"]
            env["RABBITMQ_PID_FILE"] = f"{env['RABBITMQ_PID_FILE']}-{env['RABBITMQ_NODENAME']}"
        with epmd(installation, place, envs[0]) as group, ExitStack() as ends:
            nodes = []
            for env in envs:
                nodes.append(PrivateRabbitMQ(installation, place, env, group))
                ends.callback(nodes[-1].close)
            for node in nodes:
                node.await_startup()
            for node in nodes[1:]:
                node.ctl("stop_app")
                node.ctl("join_cluster", nodes[0].nodename)
                node.ctl("start_app")
                node.await_startup()
            yield cls(nodes)

    def urls(self) -> list[str]:
        return [node.url() for node in self.nodes]

    def leader(self, queue: str) -> PrivateRabbitMQ:
        """The node that leads a quorum queue; asks the first one that answers."""
        name = f'rabbit_misc:r(<<"/">>, queue, {binary(queue)})'
        asked = next(node for node in self.nodes if node.running)
        leader = asked.eval(
            f"{{ok, Q}} = rabbit_amqqueue:lookup({name}), atom_to_binary(element(2, amqqueue:get_pid(Q)))"
        )
        return next(node for node in self.nodes if node.nodename == leader)
