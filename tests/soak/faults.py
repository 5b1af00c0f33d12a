"""Faults that a soak chooses from. Each is made, lasts a while and is taken back before it returns, with a line that
says what it was. How long and which comes next is chance's; whether anything was lost is not known here."""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tests.proxy import Direction, Proxy
from tests.rabbitmq import PrivateRabbitMQ


@dataclass(frozen=True, kw_only=True)
class World:
    """What faults are made in."""

    node: PrivateRabbitMQ
    proxy: Proxy
    workers: Callable[[], list[int]]  # the processes there are now
    longest: float  # seconds
    chance: random.Random

    def a_while(self) -> float:
        """Let it last, and say how long that was."""
        seconds = self.chance.uniform(self.longest / 10, self.longest)
        time.sleep(seconds)
        return seconds


Fault = Callable[[World], str]


def cut(world: World) -> str:
    reset = world.chance.random() < 0.5
    world.proxy.cut(reset)
    return "every connection is reset" if reset else "every connection is cut"


def cut_after(world: World) -> str:
    directions: tuple[Direction, Direction] = ("up", "down")
    direction = world.chance.choice(directions)
    size = world.chance.randrange(1, 20_000)
    world.proxy.cut_after(size, direction)
    return f"a connection is cut after {size} bytes {direction}"


def refuse(world: World) -> str:
    world.proxy.refuse()
    world.proxy.cut()
    seconds = world.a_while()
    world.proxy.accept()
    return f"every connection is cut, new ones are refused for {seconds:.1f} s"


def freeze(world: World) -> str:
    world.proxy.freeze()
    seconds = world.a_while()
    world.proxy.thaw()
    return f"the line is frozen for {seconds:.1f} s"


def freeze_and_cut(world: World) -> str:
    world.proxy.freeze()
    seconds = world.a_while()
    world.proxy.cut()
    world.proxy.thaw()
    return f"the line is frozen for {seconds:.1f} s, and cut: what was on it is lost"


def throttle(world: World) -> str:
    rate = world.chance.choice((500, 5_000, 50_000))
    world.proxy.throttle(rate)
    seconds = world.a_while()
    world.proxy.throttle(None)
    return f"the line is throttled to {rate} bytes a second for {seconds:.1f} s"


def delay(world: World) -> str:
    wait = world.chance.uniform(0.01, 0.5)
    world.proxy.delay(wait)
    seconds = world.a_while()
    world.proxy.delay(0)
    return f"the line is delayed by {wait * 1000:.0f} ms for {seconds:.1f} s"


def kill_worker(world: World) -> str:
    pid = world.chance.choice(world.workers())
    with suppress(ProcessLookupError):  # it may have died by itself
        os.kill(pid, signal.SIGKILL)
    return f"worker process {pid} is killed"


def stop_app(world: World) -> str:
    world.node.stop_app()
    seconds = world.a_while()
    world.node.start_app()
    return f"RabbitMQ stops serving for {seconds:.1f} s"


def kill_node(world: World) -> str:
    world.node.kill()
    seconds = world.a_while()
    world.node.boot()
    return f"RabbitMQ is killed, and started {seconds:.1f} s later"


def alarm(world: World) -> str:
    world.node.set_alarm()
    seconds = world.a_while()
    world.node.clear_alarm()
    return f"a memory alarm for {seconds:.1f} s"


OF_THE_LINE: tuple[Fault, ...] = (cut, cut_after, refuse, freeze, freeze_and_cut, throttle, delay)
OF_WORKERS: tuple[Fault, ...] = (kill_worker, kill_worker)  # twice: as likely as two others
OF_THE_NODE: tuple[Fault, ...] = (stop_app, kill_node, alarm)
