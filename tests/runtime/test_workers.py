"""Whole runs with worker processes: each way in which a worker, its supervisor or a signal can end things. Nothing is
left running, nothing is lost unsaid, and the last line adds up."""

import os
import re
import signal
import textwrap
from collections.abc import Callable
from functools import partial
from itertools import permutations
from pathlib import Path

import pytest

from pipeline.embedded import EmbeddedBroker
from pipeline.runtime.processors import usable
from tests.brokers import BrokerUnderTest
from tests.command import Command, Commands
from tests.waiting import wait_until

STEPS = """
import asyncio, multiprocessing, os, time
from contextlib import asynccontextmanager
from pathlib import Path

HERE = Path(__file__).parent

def once(name: str) -> bool:
    try:
        (HERE / name).touch(exist_ok=False)
        return True
    except FileExistsError:
        return False

async def quick(body: str) -> None:
    print("got", body, flush=True)

async def short(body: str) -> None:
    print("begins", body, flush=True)
    await asyncio.sleep(0.5)
    print("has finished", body, flush=True)

async def waits(body: str) -> None:
    print("begins", body, flush=True)
    await asyncio.Event().wait()

async def blocks_the_loop(body: str) -> None:
    print("begins", body, flush=True)
    time.sleep(600)

async def leaves_once(body: str, message) -> None:
    if once("left"):
        os._exit(0)
    print("got", body, "redelivered:", message.redelivered, flush=True)

async def leaves_when_it_stops(body: str, context) -> None:
    print("begins", body, flush=True)
    await context.stopping.wait()
    os._exit(0)

def meets_another(body: str) -> None:
    (HERE / f"inside.{os.getpid()}").touch()
    until = time.monotonic() + 60
    while len(inside := {path.suffix for path in HERE.glob("inside.*")}) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    for other in inside - {f".{os.getpid()}"}:
        print(os.getpid(), "meets", other.removeprefix("."), flush=True)

def ends_its_child(body: str) -> None:
    fork = multiprocessing.get_context("fork")
    runs = fork.Event()
    child = fork.Process(target=lambda: (runs.set(), time.sleep(60)))
    child.start()
    runs.wait(5)
    child.terminate()
    child.join(5)
    print("its child ended with", child.exitcode, flush=True)
    child.kill()
"""


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    (tmp_path / "steps.py").write_text(STEPS)
    (tmp_path / "tmp").mkdir()
    return tmp_path


def start(
    run_piperun: Commands, text: str, *arguments: str, url: str = "embedded", stdin: str | None = None
) -> Command:
    """With a folder of its own for temporary files, to see what is left there."""
    env = {"AMQP_URL": url, "TMPDIR": str(run_piperun.folder / "tmp")}
    return run_piperun("broker: ${AMQP_URL}\n" + textwrap.dedent(text), *arguments, env=env, stdin=stdin)


def consumer(handler: str, **runtime: object) -> str:
    """One queue, one message each 10 ms, one consumer."""
    count = runtime.pop("count", 1)
    settings = ", ".join(f"{key}: {value}" for key, value in {"workers": 1, **runtime}.items())
    return f"""
        queues: {{tasks: {{}}}}
        producers:
          p: {{source: {{type: interval, every: 10ms, count: {count}, body: task}}, publish: {{queue: tasks}}}}
        consumers: {{c: {{queue: tasks, handler: "steps:{handler}"}}}}
        runtime: {{{settings}}}
        """


def pids(command: Command, worker: int = 1) -> list[int]:
    found = re.findall(rf"worker\.{worker}: started as process (\d+)", command.output)
    return [int(pid) for pid in found]


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    try:  # a zombie whose parent has died may wait for a slow init
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return not Path("/proc").exists() or True


def everything_has_gone(command: Command, folder: Path) -> None:
    for pid in pids(command) + pids(command, 2):
        wait_until(partial(is_gone, pid), 10, told=f"the end of worker {pid}")
    assert list((folder / "tmp").iterdir()) == []


def stop(command: Command) -> None:
    command.send_signal(signal.SIGTERM)
    assert command.wait() == 0


def adds_up(command: Command) -> dict[str, int]:
    """The numbers of the last line, of which nothing is left in hand."""
    last = next(line for line in reversed(command.lines) if "ended after" in line)
    numbers = {word: int(number) for number, word in re.findall(r"(\d+) ([A-Za-z][A-Za-z -]*)", last.split(": ")[-1])}
    sent = ("sent and confirmed", "without an answer", "NOT sent")
    ends = [number for word, number in numbers.items() if word not in ("delivered", *sent) and "gone" not in word]
    assert numbers["delivered"] == sum(ends), last
    assert "in hand" not in numbers, last
    return numbers


# Several at once


async def test_two_workers_handle_messages_at_the_same_time(
    broker: BrokerUnderTest, run_piperun: Commands, steps: Path
) -> None:
    # Given a handler that blocks its whole process until another one is inside of it as well
    text = consumer("meets_another", count=2, workers=2, until="idle").replace("handler:", "prefetch: 1, handler:")
    # When two messages come, then each worker has one of them while the other has the other
    command = start(run_piperun, text, url=broker.url)
    assert command.wait() == 0
    met = re.findall(r"(\d+) meets (\d+)", command.output)
    assert sorted(met) == sorted({(str(a), str(b)) for a, b in permutations(pids(command) + pids(command, 2))})
    assert adds_up(command)["done"] == 2


def test_auto_is_as_many_workers_as_there_are_processors(run_piperun: Commands, steps: Path) -> None:
    many = usable().count
    command = start(run_piperun, consumer("quick", workers="auto", until="idle"))
    command.wait_for_line(f"`workers: auto` is {many} worker")
    assert command.wait() == 0
    assert len(re.findall(r"worker\.\d+: started as process", command.output)) == many


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to a processor")
def test_auto_on_one_processor_is_one_worker(run_piperun: Commands, steps: Path) -> None:
    # Given a command that inherits this process's one processor
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        command = start(run_piperun, consumer("quick", until="idle"), "--workers", "auto")
    finally:
        os.sched_setaffinity(0, allowed)
    command.wait_for_line(
        "pipeline: `workers: auto` is 1 worker here, one for each processor that piperun may use: it may use 1"
    )
    assert command.wait() == 0
    assert len(re.findall(r"worker\.\d+: started as process", command.output)) == 1


# The supervisor dies


@pytest.mark.parametrize("handler", ["waits", "blocks_the_loop"])
def test_workers_end_in_their_time_when_the_supervisor_is_killed(
    run_piperun: Commands, steps: Path, handler: str
) -> None:
    (steps / "lines").write_text("a\n" * 1000)
    command = start(
        run_piperun,
        f"""
        queues: {{tasks: {{}}}}
        producers: {{p: {{source: {{type: file, path: lines}}, publish: {{queue: tasks}}}}}}
        consumers: {{c: {{queue: tasks, handler: "steps:{handler}"}}}}
        runtime: {{workers: 2, shutdown_timeout: 500ms}}
        """,
    )
    command.wait_for_line("begins")
    command.send_signal(signal.SIGKILL)
    if handler == "waits":
        command.wait_for_line("stopping, the supervisor has died")
    everything_has_gone(command, steps)


# A worker hangs or is stopped while it starts

HANGS_IN_A_WORKER = """
import sys, time
if "pipeline.runtime.worker" in " ".join(sys.orig_argv):
    print("imports", flush=True)
    time.sleep(600)
async def quick(body): pass
"""


def test_a_worker_that_hangs_while_it_starts_is_stopped_at_once(run_piperun: Commands, steps: Path) -> None:
    (steps / "steps.py").write_text(HANGS_IN_A_WORKER)
    command = start(run_piperun, consumer("quick"))
    command.wait_for_line("imports")
    command.send_signal(signal.SIGTERM)
    assert command.wait(10) == 0
    everything_has_gone(command, steps)


def test_a_worker_that_hangs_while_it_starts_does_not_outlive_its_supervisor(
    run_piperun: Commands, steps: Path
) -> None:
    (steps / "steps.py").write_text(HANGS_IN_A_WORKER)
    command = start(run_piperun, consumer("quick"))
    command.wait_for_line("imports")
    command.send_signal(signal.SIGKILL)
    everything_has_gone(command, steps)


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGTERM, "started as process"),
        (signal.SIGINT, "started as process"),
        (signal.SIGHUP, "ready with"),
        (signal.SIGTERM, "begins"),
    ],
)
def test_a_signal_to_the_whole_group_stops_in_order(
    run_piperun: Commands, steps: Path, number: signal.Signals, moment: str
) -> None:
    """As from a terminal or from systemd, at any moment of a worker's life."""
    command = start(run_piperun, consumer("short", workers=2, count=2))
    command.wait_for_line(moment)
    os.killpg(command.pid, number)
    assert command.wait() == 0
    assert "died" not in command.output and "Traceback" not in command.output
    assert adds_up(command)["done"] == command.output.count("has finished")
    everything_has_gone(command, steps)


# A worker dies while it runs


async def test_a_worker_that_is_told_to_stop_by_somebody_else_loses_nothing(
    broker: BrokerUnderTest, run_piperun: Commands, steps: Path
) -> None:
    command = start(run_piperun, consumer("short", count=3), url=broker.url)
    command.wait_for_line("begins")
    os.kill(pids(command)[0], signal.SIGTERM)
    os.kill(pids(command)[0], signal.SIGTERM)  # no second signal forces a worker
    wait_until(lambda: command.output.count("has finished") == 3, told="all messages")
    stop(command)
    numbers = adds_up(command)
    assert (numbers["sent and confirmed"], numbers["done"]) == (3, 3)
    assert len(pids(command)) == 2


def test_a_handler_that_leaves_the_process_is_started_again(run_piperun: Commands, steps: Path) -> None:
    command = start(run_piperun, consumer("leaves_once"))
    command.wait_for_line("got task redelivered: True")
    stop(command)
    command.wait_for_line("worker.1: process .* died: exit status 0; 1 message in hand will be delivered again")
    assert adds_up(command)["to be delivered again"] == 1


def test_a_worker_that_dies_of_its_first_message_has_been_ready(run_piperun: Commands, steps: Path) -> None:
    """Also when that message comes before its other consumers are registered."""
    others = "".join(f', c{n}: {{queue: q{n}, handler: "steps:quick"}}' for n in range(20))
    command = start(
        run_piperun,
        f"""
        queues: {{tasks: {{}}{"".join(f", q{n}: {{}}" for n in range(20))}}}
        producers: {{p: {{source: {{type: interval, count: 1, body: task}}, publish: {{queue: tasks}}}}}}
        consumers: {{c: {{queue: tasks, handler: "steps:leaves_once"}}{others}}}
        runtime: {{workers: 2}}
        """,
    )
    command.wait_for_line("got task redelivered: True")
    stop(command)


def test_a_worker_that_dies_again_and_again_is_started_ever_later(run_piperun: Commands, steps: Path) -> None:
    command = start(run_piperun, consumer("quick", until="stopped"))
    said = 0
    for _ in range(2):
        command.wait_for_line("ready with", after=said)
        said = len(command.lines)
        os.kill(pids(command)[-1], signal.SIGKILL)
        command.wait_for_line("died: killed by SIGKILL", after=said)
    found = re.findall(r"the next one starts in ([\d.]+) (ms|s)", command.output)
    pauses = [float(number) / (1000 if unit == "ms" else 1) for number, unit in found]
    assert 0.4 <= pauses[0] <= 0.6 and 0.8 <= pauses[1] <= 1.2
    command.send_signal(signal.SIGTERM)  # while nobody runs
    assert command.wait(10) == 0


def test_what_broke_under_a_running_supervisor_is_named(run_piperun: Commands, steps: Path) -> None:
    command = start(run_piperun, consumer("quick"))
    command.wait_for_line("got task")
    (steps / "steps.py").write_text("async def renamed(body): pass\n")
    os.kill(pids(command)[0], signal.SIGKILL)
    assert "unknown-name" in command.wait_for_line(r"pipeline.yaml:\d+:\d+: error")
    command.wait_for_line("died: exit status 2; the next one starts in")
    stop(command)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_child_of_a_handler_ends_by_a_signal_and_its_parent_does_not(
    run_piperun: Commands, steps: Path, workers: int
) -> None:
    command = start(run_piperun, consumer("ends_its_child", workers=workers))
    command.wait_for_line("its child ended with -15")
    stop(command)
    assert "died" not in command.output
    assert adds_up(command)["done"] == 1


def test_what_a_killed_worker_had_in_hand_is_dropped_with_ack_none(run_piperun: Commands, steps: Path) -> None:
    command = start(run_piperun, consumer("waits").replace('"steps:waits"', '"steps:waits", ack: none'))
    command.wait_for_line("begins")
    os.kill(pids(command)[0], signal.SIGKILL)
    command.wait_for_line("1 message handed out and never finished: DROPPED")
    stop(command)
    assert adds_up(command)["DROPPED"] == 1


# Sources, when their worker dies


async def test_an_interval_goes_on_counting_where_its_worker_died(
    broker: BrokerUnderTest, run_piperun: Commands, steps: Path
) -> None:
    command = start(
        run_piperun,
        """
        queues: {tasks: {}}
        producers: {p: {source: {type: interval, every: 10ms, count: 60, body: task}, publish: {queue: tasks}}}
        runtime: {workers: 2}
        """,
        url=broker.url,
    )
    wait_until(lambda: broker.queue_depths().get("tasks", 0) >= 30, told="half of it")
    os.kill(pids(command)[0], signal.SIGKILL)
    assert command.wait() == 0
    assert "60 sent and confirmed" in command.lines[-1]
    # What had no answer at that moment may have arrived.
    assert 60 <= broker.queue_depths()["tasks"] <= 65


@pytest.mark.parametrize("options", ["", ", checkpoint: false"])
def test_a_file_goes_on_where_its_worker_died(run_piperun: Commands, steps: Path, options: str) -> None:
    """On the embedded broker, and where no checkpoint is kept from one run to the next."""
    count = 3000
    (steps / "lines").write_text("".join(f"{number}\n" for number in range(count)))
    text = f"""
        queues: {{tasks: {{}}}}
        producers:
          p: {{source: {{type: file, path: lines{options}}}, max_in_flight: 1, publish: {{queue: tasks}}}}
        consumers: {{c: {{queue: tasks, handler: "steps:quick"}}}}
        runtime: {{workers: 1, until: idle}}
        """
    with EmbeddedBroker() as outside:
        command = start(run_piperun, text, url=outside.url if options else "embedded")
        wait_until(lambda: any(has_moved(each) for each in (steps / "tmp").rglob("p.json")), told="a checkpoint")
        os.kill(pids(command)[0], signal.SIGKILL)
        assert command.wait(60) == 0
    assert "continues at line" in command.output
    assert {f"got {number}" for number in range(count)} <= set(command.lines)
    adds_up(command)
    everything_has_gone(command, steps)


def has_moved(checkpoint: Path) -> bool:
    return '"offset": 0,' not in checkpoint.read_text()


def test_lines_of_standard_input_that_died_with_their_worker_are_named(run_piperun: Commands, steps: Path) -> None:
    command = start(
        run_piperun,
        """
        queues: {tasks: {}}
        producers: {p: {source: {type: stdin}, max_in_flight: 1, publish: {queue: tasks}}}
        consumers: {c: {queue: tasks, handler: "steps:quick"}}
        runtime: {workers: 1}
        """,
        stdin="x\n" * 30_000,
    )
    command.wait_for_line("got x")
    os.kill(pids(command)[0], signal.SIGKILL)
    command.wait_for_line("producer.p: what its worker had read and not sent is LOST")
    stop(command)


def test_standard_input_is_read_by_one_worker(run_piperun: Commands, steps: Path) -> None:
    command = start(
        run_piperun,
        """
        queues: {tasks: {}}
        producers: {p: {source: {type: stdin}, publish: {queue: tasks}}}
        consumers: {c: {queue: tasks, handler: "steps:quick"}}
        runtime: {workers: 3}
        """,
        stdin="a\nb\nc\n",
    )
    wait_until(lambda: len(re.findall("got .", command.output)) >= 3, told="three lines")
    stop(command)
    assert sorted(re.findall("got .", command.output)) == ["got a", "got b", "got c"]
    assert adds_up(command)["sent and confirmed"] == 3


# Stopping


async def test_a_stuck_worker_is_killed_and_what_it_had_in_hand_is_named(
    broker: BrokerUnderTest, run_piperun: Commands, steps: Path
) -> None:
    command = start(run_piperun, consumer("blocks_the_loop", shutdown_timeout="500ms"), url=broker.url)
    command.wait_for_line("begins")
    command.send_signal(signal.SIGTERM)
    assert command.wait(10) == 5
    command.wait_for_line("died: killed by SIGKILL.*; 1 message in hand will be delivered again")
    assert adds_up(command)["to be delivered again"] == 1
    assert [message.body for message in await broker.get_all("tasks")] == [b"task"]


def test_a_handler_that_leaves_the_process_while_it_stops_is_counted(run_piperun: Commands, steps: Path) -> None:
    command = start(run_piperun, consumer("leaves_when_it_stops"))
    command.wait_for_line("begins")
    command.send_signal(signal.SIGTERM)
    assert command.wait(10) == 0
    command.wait_for_line("died: exit status 0; 1 message in hand will be delivered again")
    assert adds_up(command)["to be delivered again"] == 1


@pytest.mark.parametrize("moment", ["started as process", "begins"])
def test_a_second_signal_leaves_nothing_running(run_piperun: Commands, steps: Path, moment: str) -> None:
    (steps / "lines").write_text("a\n")
    command = start(
        run_piperun,
        """
        queues: {tasks: {}}
        producers: {p: {source: {type: file, path: lines}, publish: {queue: tasks}}}
        consumers: {c: {queue: tasks, handler: "steps:blocks_the_loop"}}
        runtime: {workers: 2, shutdown_timeout: 60s}
        """,
    )
    command.wait_for_line(moment)
    command.send_signal(signal.SIGSTOP)
    command.send_signal(signal.SIGTERM)
    command.send_signal(signal.SIGINT)  # both are there when it goes on
    command.send_signal(signal.SIGCONT)
    assert command.wait(5) == 130
    everything_has_gone(command, steps)


# Said once, however many workers there are


def test_a_broker_that_cannot_be_reached_is_said_once(run_piperun: Commands, steps: Path) -> None:
    command = start(run_piperun, consumer("quick", workers=3), url="amqp://127.0.0.1:1")
    assert command.wait() == 3
    assert command.output.count("connection refused") == 1
    assert pids(command) == []


async def test_a_difference_is_said_once(broker: BrokerUnderTest, run_piperun: Commands, steps: Path) -> None:
    await broker.declare("tasks", arguments={"x-queue-type": "classic", "x-max-length": 5})
    command = start(run_piperun, consumer("quick", workers=3), url=broker.url)
    assert command.wait() == 4
    assert command.output.count("x-max-length") == 1
    assert pids(command) == []


def test_workers_that_cannot_start_end_the_run_with_one_sentence(run_piperun: Commands, steps: Path) -> None:
    (steps / "steps.py").write_text(HANGS_IN_A_WORKER.replace("time.sleep(600)", "__import__('os')._exit(9)"))
    command = start(run_piperun, consumer("quick", workers=3))
    assert command.wait() == 1
    assert command.output.count("exit status 9") == 1
    everything_has_gone(command, steps)


# Several files, some of the names, lifespans, idleness


def test_several_files_and_only_some_of_their_names(run_piperun: Commands, tmp_path: Path) -> None:
    for folder, other in (("a", "b"), ("b", "a")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"steps_of_{folder}.py").write_text(
            f"async def work(body): print('{folder} got', body, flush=True)\n"
        )
        (tmp_path / folder / "lines").write_text(f"from {folder}\n")
        (tmp_path / folder / "pipeline.yaml").write_text(
            f"queues: {{a: {{}}, b: {{}}}}\n"
            f"producers:\n  send_{folder}: {{source: {{type: file, path: lines}}, publish: {{queue: {other}}}}}\n"
            f'consumers: {{work_{folder}: {{queue: {folder}, handler: "steps_of_{folder}:work"}}}}\n'
            + ("runtime: {workers: 2}\n" if folder == "a" else "")
        )
    both = run_piperun(None, "a/pipeline.yaml", "b/pipeline.yaml")
    both.wait_for_line("a got b'from b'")
    both.wait_for_line("b got b'from a'")
    stop(both)
    some = run_piperun(None, "a/pipeline.yaml", "b/pipeline.yaml", "--only", "send_a,work_b")
    some.wait_for_line("b got b'from a'")
    stop(some)
    assert "a got" not in some.output
    assert adds_up(some)["delivered"] == 1


LIFESPAN = """

@asynccontextmanager
async def state():
    print(f"enters {os.getpid()}", flush=True)
    if (HERE / "away").exists():
        raise RuntimeError("the database is away")
    if (HERE / "hangs").exists():
        await asyncio.Event().wait()
    yield "open"
    print(f"leaves {os.getpid()}", flush=True)

async def tells(body: str, context) -> None:
    print("state is", context.state, flush=True)
"""


@pytest.fixture
def lifespan(steps: Path) -> Callable[..., str]:
    (steps / "steps.py").write_text(STEPS + LIFESPAN)
    return lambda **runtime: consumer("tells", lifespan="'steps:state'", **runtime)


def test_each_worker_has_a_lifespan_of_its_own(run_piperun: Commands, lifespan: Callable[..., str]) -> None:
    command = start(run_piperun, lifespan(workers=2))
    command.wait_for_line("state is open")
    wait_until(lambda: command.output.count("ready with") == 2, told="both workers")
    stop(command)
    for pid in pids(command) + pids(command, 2):
        assert f"enters {pid}" in command.output and f"leaves {pid}" in command.output


def test_a_lifespan_that_fails_later_is_tried_again(
    run_piperun: Commands, steps: Path, lifespan: Callable[..., str]
) -> None:
    command = start(run_piperun, lifespan())
    command.wait_for_line("state is open")
    (steps / "away").touch()
    os.kill(pids(command)[0], signal.SIGKILL)
    command.wait_for_line("RuntimeError: the database is away")
    command.wait_for_line("died: exit status 1; the next one starts in")
    (steps / "away").unlink()
    wait_until(lambda: command.output.count("ready with") == 2, told="a worker that is ready again")
    stop(command)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_lifespan_that_hangs_does_not_hold_up_a_stop(
    run_piperun: Commands, steps: Path, lifespan: Callable[..., str], workers: int
) -> None:
    (steps / "hangs").touch()
    command = start(run_piperun, lifespan(workers=workers, shutdown_timeout="60s"))
    command.wait_for_line("enters")
    command.send_signal(signal.SIGTERM)
    assert command.wait(10) == 0


def test_idle_with_an_exclusive_queue_that_only_a_worker_can_see(run_piperun: Commands, steps: Path) -> None:
    text = consumer("quick", count=3, until="idle").replace("{tasks: {}}", "{tasks: {exclusive: true}}")
    command = start(run_piperun, text)
    assert command.wait() == 0
    assert adds_up(command)["done"] == 3


def test_idle_waits_for_what_a_killed_worker_had_in_hand(run_piperun: Commands, steps: Path) -> None:
    command = start(run_piperun, consumer("short", workers=2, count=2, until="idle"))
    wait_until(lambda: command.output.count("begins") >= 2, told="two messages in hand")
    os.kill(pids(command, 2)[0], signal.SIGKILL)
    assert command.wait() == 0
    assert adds_up(command)["done"] == command.output.count("has finished") == 2
    assert "gone with" not in command.lines[-1]
