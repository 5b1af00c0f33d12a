"""Whole runs of the real command on both brokers: ack modes, handler kinds, sources, options. One sentence of the
documentation each."""

import json
import signal
import textwrap
from pathlib import Path

import aio_pika

from pipeline.embedded import EmbeddedBroker
from tests.brokers import BrokerUnderTest
from tests.command import Command, Commands
from tests.waiting import wait_until


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def pipeline(text: str) -> str:
    return "broker: ${AMQP_URL}\n" + textwrap.dedent(text)


async def on_queue(broker: BrokerUnderTest, *bodies: bytes, queue: str = "tasks") -> None:
    await broker.declare(queue, arguments={"x-queue-type": "classic"})
    for body in bodies:
        await broker.publish(queue, body, content_type="application/json")


def run(commands: Commands, broker: BrokerUnderTest, text: str, *arguments: str, stdin: str | None = None) -> Command:
    return commands(pipeline(text), *arguments, env={"AMQP_URL": broker.url}, stdin=stdin)


async def test_manual_acknowledgement(broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path) -> None:
    write(
        tmp_path,
        "steps.py",
        """
        async def decide(body: str, message, context):
            match body:
                case "good":
                    await context.publish("thanks", queue="replies")
                    await message.ack()
                case "bad":
                    await message.reject("no good")
                case "later":
                    await message.retry("5s")
                case "twice":
                    await message.ack()
                    try:
                        await message.ack()
                    except Exception as error:
                        print(type(error).__name__, error, flush=True)
        """,
    )
    await on_queue(broker, b'"good"', b'"bad"', b'"later"', b'"twice"', b'"forgotten"')
    command = run(
        run_piperun,
        broker,
        """
        queues: {tasks: {}, replies: {}}
        consumers: {c: {queue: tasks, handler: "steps:decide", ack: manual}}
        runtime: {until: idle}
        """,
    )
    assert command.wait() == 0
    assert "SettlementError this message was settled already" in command.output
    assert [message.body for message in await broker.get_all("replies")] == [b"thanks"]
    dead = {message.body: message.headers["x-piperun-reason"] for message in await broker.get_all("tasks.dlq")}
    assert dead == {b'"bad"': "fatal", b'"later"': "no_retry", b'"forgotten"': "max_attempts"}
    assert command.lines[-1].endswith("5 delivered, 2 done, 3 dead-lettered")


async def test_what_a_handler_returns_or_yields_is_published_before_the_acknowledgement(
    broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path
) -> None:
    write(
        tmp_path,
        "steps.py",
        """
        from pipeline import Message

        async def returns(body: int): return {"twice": 2 * body}
        def yields(body: int):
            yield body
            yield None
            yield Message(str(body + 1), headers={"n": 2}, routing_key="out2")
        class Instance:
            async def __call__(self, body: int): return [body]
        instance = Instance()
        async def stream(messages):
            async for message in messages:
                yield message.body
        """,
    )
    names = ["returns", "yields", "instance", "stream"]
    for name in names:
        await broker.declare(name, arguments={"x-queue-type": "classic"})
        await broker.publish(name, b"7", content_type="application/json", message_id=f"id-{name}")
    queues = "\n".join(f"  {name}: {{}}" for name in [*names, "out", "out2"])
    consumers = "\n".join(
        f'  {name}: {{queue: {name}, handler: "steps:{name}", publish: {{queue: out}}}}' for name in names
    )
    command = run(run_piperun, broker, f"queues:\n{queues}\nconsumers:\n{consumers}\nruntime: {{until: idle}}\n")
    assert command.wait() == 0
    out = {message.message_id: (message.body, message.delivery_mode) for message in await broker.get_all("out")}
    persistent = aio_pika.DeliveryMode.PERSISTENT
    assert out == {
        "id-returns:returns:1": (b'{"twice":14}', persistent),
        "id-yields:yields:1": (b"7", persistent),
        "id-instance:instance:1": (b"[7]", persistent),
        "id-stream:stream:1": (b"7", persistent),
    }
    (second,) = await broker.get_all("out2")
    assert (second.body, second.headers["n"], second.message_id) == (b"8", 2, "id-yields:yields:2")


async def test_typed_bodies_and_what_does_not_fit(
    broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path
) -> None:
    write(
        tmp_path,
        "steps.py",
        """
        from dataclasses import dataclass
        from typing import TypedDict
        import msgspec, pydantic

        @dataclass
        class D: n: int
        class T(TypedDict): n: int
        class S(msgspec.Struct): n: int
        class P(pydantic.BaseModel): n: int

        async def d(x: D): print("got", type(x).__name__, x.n, flush=True)
        async def t(x: T): print("got T", x["n"], flush=True)
        async def s(x: S): print("got", type(x).__name__, x.n, flush=True)
        async def p(x: P): print("got", type(x).__name__, x.n, flush=True)
        """,
    )
    for name in "dtsp":
        await on_queue(broker, b'{"n": 5}', b'{"n": "five"}', b"{", queue=name)
    queues = ", ".join(f"{name}: {{dead_letter: dead}}" for name in "dtsp")
    consumers = ", ".join(f'{name}: {{queue: {name}, handler: "steps:{name}"}}' for name in "dtsp")
    # The queues were made otherwise, so they are joined as they are.
    text = f"defaults: {{declare: check, queues: {{declare: skip}}}}\nqueues: {{dead: {{declare: assert}}, {queues}}}\n"
    command = run(run_piperun, broker, f"{text}consumers: {{{consumers}}}\nruntime: {{until: idle}}\n")
    assert command.wait() == 0
    assert sorted(line for line in command.lines if line.startswith("got")) == [
        "got D 5",
        "got P 5",
        "got S 5",
        "got T 5",
    ]
    dead = await broker.get_all("dead")
    assert {message.headers["x-piperun-reason"] for message in dead} == {"decode"}
    assert len(dead) == 8


async def test_a_timeout_is_a_failure(broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path) -> None:
    write(
        tmp_path,
        "steps.py",
        """
        import asyncio, time
        async def waits(body): await asyncio.sleep(60)
        def blocks(body): time.sleep(60)
        """,
    )
    await on_queue(broker, b"1", queue="a")
    await on_queue(broker, b"2", queue="b")
    command = run(
        run_piperun,
        broker,
        """
        queues: {a: {}, b: {}}
        defaults: {consumers: {timeout: 200ms}}
        consumers:
          waits: {queue: a, handler: "steps:waits"}
          blocks: {queue: b, handler: "steps:blocks"}
        runtime: {until: idle}
        """,
    )
    assert command.wait() == 0
    for queue in ("a.dlq", "b.dlq"):
        (dead,) = await broker.get_all(queue)
        assert dead.headers["x-piperun-reason"] == "timeout"


async def test_dead_letter_false_drops_loudly(broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path) -> None:
    write(tmp_path, "steps.py", "async def fails(body): raise ValueError('nothing but trouble')\n")
    await on_queue(broker, b"1", b"2")
    command = run(
        run_piperun,
        broker,
        """
        queues: {tasks: {dead_letter: false}}
        consumers: {c: {queue: tasks, handler: "steps:fails"}}
        runtime: {until: idle}
        """,
    )
    assert command.wait() == 0
    assert "warning[failures-dropped]" in command.output
    assert "ValueError: nothing but trouble; it is DROPPED" in command.output
    assert command.lines[-1].endswith("2 delivered, 0 done, 2 DROPPED")
    assert "tasks.dlq" not in broker.queue_depths()


async def test_ack_none_holds_a_bounded_number_of_messages(
    broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path
) -> None:
    write(
        tmp_path,
        "steps.py",
        """
        import asyncio
        from pathlib import Path
        async def slow(body):
            while not Path(__file__).with_name("go").exists():
                await asyncio.sleep(0.05)
        """,
    )
    await broker.declare("tasks", arguments={"x-queue-type": "classic"})
    async with broker.channel() as channel:
        for _ in range(4000):
            await channel.default_exchange.publish(aio_pika.Message(b"x" * 8192), routing_key="tasks", mandatory=False)
    command = run(
        run_piperun,
        broker,
        """
        queues: {tasks: {}}
        consumers: {c: {queue: tasks, handler: "steps:slow", ack: none}}
        runtime: {until: idle}
        """,
    )
    command.wait_for_line("messages wait here; pausing until most are handled")
    # What is in the socket still comes; the rest stays with the broker.
    assert wait_until(lambda: broker.queue_depths()["tasks"], told="messages left in the queue") > 0
    (tmp_path / "go").touch()
    command.wait_for_line("consuming again")
    assert command.wait(60) == 0
    assert command.lines[-1].endswith("4000 delivered, 4000 done")


async def test_lines_of_standard_input(broker: BrokerUnderTest, run_piperun: Commands) -> None:
    command = run(
        run_piperun,
        broker,
        "queues: {lines: {}}\nproducers: {p: {source: {type: stdin}, publish: {queue: lines}}}\n",
        stdin="first\nsecond\nthird\n",
    )
    assert command.wait() == 0
    assert [message.body for message in await broker.get_all("lines")] == [b"first", b"second", b"third"]


async def test_a_killed_run_goes_on_where_its_file_stood(
    broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path
) -> None:
    count = 5_000
    write(tmp_path, "numbers", "".join(f"{number}\n" for number in range(count)))
    text = "queues: {n: {}}\nproducers: {p: {source: {type: file, path: numbers}, publish: {queue: n}}}\n"
    first = run(run_piperun, broker, text)
    wait_until(lambda: broker.queue_depths().get("n", 0) > 100, told="the first lines in the queue")
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    second = run(run_piperun, broker, text)
    assert second.wait(100) == 0
    bodies = {int(message.body) for message in await broker.get_all("n")}
    assert bodies == set(range(count)), "nothing is lost"


async def test_only_some_producers_and_consumers(
    broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path
) -> None:
    """What is not run need not even be importable here."""
    text = """
        queues: {tasks: {}}
        producers: {p: {source: {type: interval, count: 2, every: 10ms, body: x}, publish: {queue: tasks}}}
        consumers: {c: {queue: tasks, handler: "steps:work"}}
        runtime: {until: idle}
        """
    sender = run(run_piperun, broker, text, "--only", "p")
    assert sender.wait() == 0
    assert broker.queue_depths()["tasks"] == 2
    write(tmp_path, "elsewhere/steps.py", "async def work(body: str): print('got', body, flush=True)\n")
    receiver = run(run_piperun, broker, text, "--only", "c", "--app-dir", "elsewhere")
    assert receiver.wait() == 0
    assert receiver.lines.count("got x") == 2


def test_several_files_share_a_run_and_the_broker_inside(run_piperun: Commands, tmp_path: Path) -> None:
    write(
        tmp_path,
        "a/send.yaml",
        """
        queues: {tasks: {}}
        producers: {p: {source: {type: interval, count: 1, body: across}, publish: {queue: tasks}}}
        runtime: {until: idle}
        """,
    )
    write(
        tmp_path,
        "b/receive.yaml",
        """
        queues: {tasks: {}}
        consumers: {c: {queue: tasks, handler: "steps_of_b:work"}}
        """,
    )
    write(tmp_path, "b/steps_of_b.py", "async def work(body: str): print('got', body, flush=True)\n")
    command = run_piperun(None, "a/send.yaml", "b/receive.yaml")
    assert command.wait() == 0
    assert "got across" in command.lines
    assert "send, receive: ready with 1 consumer, 1 producer" in command.output


def test_the_next_address_is_tried(broker: BrokerUnderTest, run_piperun: Commands) -> None:
    text = f"""
        broker: {{url: ["amqp://127.0.0.1:1", "{broker.url}"]}}
        queues: {{tasks: {{}}}}
        """
    command = run_piperun(textwrap.dedent(text))
    assert command.wait() == 0
    assert "tasks" in broker.queue_depths()


def test_startup_wait_waits_for_the_broker(run_piperun: Commands) -> None:
    with EmbeddedBroker(username="user", password="password") as first:
        port = int(first.url.rstrip("/").rpartition(":")[2])
    command = run_piperun(
        f"""
broker: {{url: "amqp://user:password@127.0.0.1:{port}", reconnect: {{initial: 100ms, max: 200ms}}}}
queues: {{tasks: {{}}}}
producers: {{p: {{source: {{type: interval, count: 1, body: x}}, publish: {{queue: tasks}}}}}}
runtime: {{startup: wait}}
"""
    )
    command.wait_for_line("connection refused .*next attempt")
    with EmbeddedBroker(username="user", password="password", port=port) as second:
        assert command.wait() == 0
        assert second.queue_depths() == {"tasks": 1}


def test_json_lines_name_what_they_speak_of(broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path) -> None:
    write(tmp_path, "steps.py", "async def fails(body: str): raise ValueError('no')\n")
    command = run(
        run_piperun,
        broker,
        """
        queues: {tasks: {}}
        producers: {p: {source: {type: interval, count: 1, body: secret body}, publish: {queue: tasks}}}
        consumers: {charge: {queue: tasks, handler: "steps:fails"}}
        runtime: {until: idle}
        """,
        "--log-format",
        "json",
    )
    assert command.wait() == 0
    lines = [json.loads(line) for line in command.lines]
    failed = next(line for line in lines if line["subject"] == "consumer.charge" and line["level"] == "warning")
    assert failed["reason"] == "max_attempts"
    assert "secret body" not in command.output
    assert lines[-1]["consumers_dead_lettered"] == 1


def test_bodies_are_shown_when_asked_for(broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path) -> None:
    write(tmp_path, "steps.py", "async def fails(body: str): raise ValueError('no')\n")
    command = run(
        run_piperun,
        broker,
        """
        queues: {tasks: {}}
        producers: {p: {source: {type: interval, count: 1, body: shown in part}, publish: {queue: tasks}}}
        consumers: {charge: {queue: tasks, handler: "steps:fails"}}
        runtime: {until: idle}
        """,
        "--log-bodies",
        "head:5",
    )
    assert command.wait() == 0
    assert 'body "shown"...' in command.output
    assert "in part" not in command.output


def test_no_password_in_any_line(broker: BrokerUnderTest, run_piperun: Commands, tmp_path: Path) -> None:
    """Not in log lines of any level, not in a handler's exception, and not on the command line of a worker."""
    write(
        tmp_path,
        "steps.py",
        """
        import os, subprocess
        async def leaks(body: str):
            print(subprocess.run(["ps", "-ef"], capture_output=True, text=True).stdout)
            raise ValueError(f"could not reach {os.environ['AMQP_URL']} with hunter2hunter2")
        """,
    )
    write(tmp_path, "secret", "hunter2hunter2\n")
    url = broker.url.replace("@", "@", 1)
    command = run_piperun(
        pipeline(
            """
            queues: {tasks: {}}
            producers:
              p:
                source: {type: interval, count: 1, body: x}
                publish: {queue: tasks, headers: {key: "${file:secret}"}}
            consumers: {c: {queue: tasks, handler: "steps:leaks"}}
            runtime: {until: idle, workers: 1}
            """
        ),
        "--log-level",
        "debug",
        env={"AMQP_URL": url},
    )
    assert command.wait() == 0
    assert "ValueError: could not reach amqp://" in command.output
    assert "hunter2" not in command.output
    password = url.split("//")[1].split("@")[0].partition(":")[2]
    if password != "guest":  # everybody knows that one
        assert password not in command.output


def test_a_lifespan_is_state_for_its_handlers(run_piperun: Commands, tmp_path: Path) -> None:
    write(
        tmp_path,
        "steps.py",
        """
        from contextlib import asynccontextmanager

        @asynccontextmanager
        async def shared():
            print("opened shared", flush=True)
            yield "shared"
            print("closed shared", flush=True)

        @asynccontextmanager
        async def own():
            yield "own"
            print("closed own", flush=True)

        async def one(body, context): print("one has", context.state, flush=True)
        async def two(body, context): print("two has", context.state, flush=True)
        """,
    )
    command = run_piperun(
        """
queues: {a: {}, b: {}}
producers:
  p: {source: {type: interval, count: 1, body: x}, publish: {queue: a}}
  q: {source: {type: interval, count: 1, body: x}, publish: {queue: b}}
consumers:
  one: {queue: a, handler: "steps:one"}
  two: {queue: b, handler: "steps:two", lifespan: "steps:own"}
runtime: {until: idle, lifespan: "steps:shared"}
"""
    )
    assert command.wait() == 0
    said = [line for line in command.lines if line.split()[0] in ("opened", "closed", "one", "two")]
    assert said[0] == "opened shared"
    assert set(said[1:3]) == {"one has shared", "two has own"}
    assert set(said[3:]) == {"closed own", "closed shared"}


def test_a_lifespan_that_fails_ends_the_run(run_piperun: Commands, tmp_path: Path) -> None:
    write(
        tmp_path,
        "steps.py",
        """
        from contextlib import asynccontextmanager

        @asynccontextmanager
        async def broken():
            raise RuntimeError("the database is away")
            yield

        async def work(body): print("never", flush=True)
        """,
    )
    text = """
queues: {a: {}}
consumers: {c: {queue: a, handler: "steps:work"}}
runtime: {lifespan: "steps:broken"WORKERS}
"""
    for workers in ("", ", workers: 1"):
        command = run_piperun(text.replace("WORKERS", workers))
        assert command.wait() == 1
        assert 'lifespan "steps:broken" failed at the start: RuntimeError: the database is away' in command.output
        assert "bug" not in command.output
