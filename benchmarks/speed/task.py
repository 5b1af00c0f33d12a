"""What a program under measurement is told, as environment variables that any language can read, and what it says at
its end, as one line of JSON. Both sides of each stand here; how a program carries it out is its own."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, Self

Kind = Literal["consume", "publish", "pipe"]

IN = "bench.in"
OUT = "bench.out"
_PREFIX = "BENCH_"


@dataclass(frozen=True, kw_only=True)
class Task:
    """`messages` in all, of which the first `skip` are not timed: connections, caches and compilers come to speed."""

    url: str
    kind: Kind
    messages: int
    skip: int
    prefetch: int  # 0: no_ack, the broker does not wait for acknowledgements
    body: int  # octets of a message that the program publishes
    persistent: bool
    node_pid: int  # RabbitMQ's process, whose CPU time the program reads beside its own
    gather: int = 1  # acknowledge so many with one `multiple`; only the C program does it
    in_flight: int = 100  # publishes without a confirm
    latency: bool = False  # each body begins with the time of its publish, by the monotonic clock, in nanoseconds
    work: int = 0  # rounds of `computing.compute` that a handler goes through
    profile: str = ""  # where Python writes a profile of what was timed

    def environment(self) -> dict[str, str]:
        values = {"in": IN, "out": OUT, **asdict(self)}
        return {f"{_PREFIX}{name.upper()}": _text(value) for name, value in values.items()}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        def number(name: str) -> int:
            return int(environment[_PREFIX + name])

        kinds: dict[str, Kind] = {"consume": "consume", "publish": "publish", "pipe": "pipe"}
        return cls(
            url=environment[_PREFIX + "URL"],
            kind=kinds[environment[_PREFIX + "KIND"]],
            messages=number("MESSAGES"),
            skip=number("SKIP"),
            prefetch=number("PREFETCH"),
            body=number("BODY"),
            persistent=bool(number("PERSISTENT")),
            node_pid=number("NODE_PID"),
            gather=number("GATHER"),
            in_flight=number("IN_FLIGHT"),
            latency=bool(number("LATENCY")),
            work=number("WORK"),
            profile=environment[_PREFIX + "PROFILE"],
        )


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was seen between the first timed message and the last. `first` and `last` are moments of the monotonic
    clock, which all processes of a machine share; CPU time is user and system together."""

    messages: int
    first: float
    last: float
    cpu_seconds: float
    node_cpu_seconds: float
    peak_mib: float
    latencies: tuple[float, ...] = ()  # milliseconds, sorted

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / (self.last - self.first)

    @property
    def cpu_per_message(self) -> float:
        """Microseconds."""
        return self.cpu_seconds * 1e6 / self.messages

    @property
    def node_cpu_per_message(self) -> float:
        """Microseconds."""
        return self.node_cpu_seconds * 1e6 / self.messages

    def line(self) -> str:
        return json.dumps({"bench": asdict(self)})


def results(output: str) -> list[Result]:
    """Those in a program's output, which may hold other lines, too; one for each of its processes."""
    found = [json.loads(line)["bench"] for line in output.splitlines() if line.startswith('{"bench"')]
    return [Result(**{**each, "latencies": tuple(each.get("latencies", ()))}) for each in found]
