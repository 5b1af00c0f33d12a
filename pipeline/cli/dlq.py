"""`piperun dlq`: dead letters of one file's queues, listed, shown, sent back, thrown away. Options in, one call down,
one result out; how it is said stands in `dead_letters.py`."""

import asyncio
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipeline.cli import dead_letters, exits
from pipeline.cli.files import read
from pipeline.cli.loading import uncollected
from pipeline.cli.progress import ReplayBar
from pipeline.clock import SystemClock
from pipeline.config.load import Overrides
from pipeline.config.model import Pipeline
from pipeline.errors import FileError, UsageError
from pipeline.events import Blocked, Event
from pipeline.failure.wanted import Wanted, condition
from pipeline.observe.logs import quieten_client
from pipeline.runtime.dead_letters.queues import DeadLetterQueue, choose, one_of, without_streams

if TYPE_CHECKING:
    from pipeline.runtime.dead_letters.look import Found
    from pipeline.runtime.dead_letters.replay import Order, Report

_MOST = 2_000  # of `look.MOST_HELD`, which is loaded with the client
_STOPPING = 10.0  # seconds for confirms after Ctrl-C
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)/(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3_600}

File = Annotated[str, typer.Argument(metavar="FILE", help="The pipeline file.")]
QueueName = Annotated[
    str | None,
    typer.Argument(
        metavar="[QUEUE]", help="A dead-letter queue, or the work queue before it; left out: all of the file."
    ),
]
OneQueue = Annotated[
    str | None,
    typer.Argument(
        metavar="[QUEUE]", help="A dead-letter queue, or the work queue before it. May be left out if there is but one."
    ),
]
BrokerUrl = Annotated[
    str | None,
    typer.Option("--broker", envvar="PIPERUN_BROKER", metavar="URL", help="Use this broker instead of the file's."),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="HEADER=VALUE",
        help="Only those with this header; or reason=, error-type=, digest=, queue=, consumer= as `show` tells them. "
        "Repeat it: all must hold.",
    ),
]
Ids = Annotated[
    list[str] | None, typer.Option("--id", metavar="ID", help="Only the one with this message_id; repeat it for more.")
]
Format = Annotated[Literal["text", "json"], typer.Option("--format", help="For people, or a JSON object per line.")]

verbs = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode="rich")


@verbs.callback()
def dlq() -> None:
    """Work with dead letters: list them, show them, send them back, throw them away.

    Those that piperun has copied there, and those that RabbitMQ itself has dead-lettered.
    """


@verbs.command()
def ls(
    file: File,
    queue: QueueName = None,
    broker: BrokerUrl = None,
    sample: Annotated[
        int,
        typer.Option(
            "--sample", metavar="N", min=0, max=_MOST, help="Look into the first N of each queue; 0: only count."
        ),
    ] = _MOST,
    form: Format = "text",
) -> None:
    """How many dead letters there are, how old they are, and why: grouped by error.

    Nothing is changed: each message is read and given back to its place.
    """
    pipeline, queues = _chosen(file, queue, broker)
    with uncollected():
        from pipeline.runtime.dead_letters.look import listing
    clock = SystemClock()
    with _said_in_any_encoding():
        for listed in asyncio.run(listing(pipeline, queues, sample, clock)):
            if form == "json":
                print(dead_letters.as_json(dead_letters.listing_object(listed)))
                continue
            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
            for line in dead_letters.listing(listed, now=clock.time(), width=width):
                print(line)
            if listed.queue.counts_looks and listed.depth is not None and listed.depth.ready:
                _warn(_COUNTS_LOOKS.format(listed.queue.name) + "; so it was only counted")


@verbs.command()
def show(
    file: File,
    queue: QueueName = None,
    broker: BrokerUrl = None,
    where: Where = None,
    ids: Ids = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most N of each queue.")] = 20,
    form: Format = "text",
) -> None:
    """Dead letters with their bodies, headers, and the story of their failures.

    Nothing is changed: each message is read and given back to its place. --format json has whole bodies.
    """
    wanted = _wanted(where, ids)
    pipeline, chosen = _chosen(file, queue, broker)
    queues = without_streams(chosen)
    with uncollected():
        from pipeline.runtime.dead_letters.look import found
    missing = []

    async def show_all() -> None:
        for each in queues:
            if each.counts_looks:
                _warn(_COUNTS_LOOKS.format(each.name))
            async with aclosing(found(pipeline, each, wanted, limit, SystemClock())) as all_of_them:
                async for one in all_of_them:
                    if one is None:
                        missing.append(each)
                    else:
                        _print(one, form)

    with _said_in_any_encoding():
        asyncio.run(show_all())
    _end_if_missing(missing if len(missing) == len(queues) else ())


@verbs.command()
def replay(
    file: File,
    queue: OneQueue = None,
    broker: BrokerUrl = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="QUEUE", help="Send them there; left out: to the queue that each came from."),
    ] = None,
    where: Where = None,
    ids: Ids = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most N of them.")] = None,
    rate: Annotated[str | None, typer.Option("--rate", metavar="N/s", help="So many a second; also N/m, N/h.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Say what would be sent where; send nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="Also to a queue that nobody consumes from.")
    ] = False,
) -> None:
    """Send dead letters back to the queues they came from.

    Each is published, confirmed, and only then taken out of the dead-letter queue;
    attempts are counted anew. Never more are looked at than there were at the start.
    Ctrl-C at any point loses nothing: a message may come twice.

    Exit status: 0 all that match were sent back, 1 some were not or it was interrupted,
    2 usage or configuration, 3 broker unreachable or refused us.
    """
    wanted, pace = _wanted(where, ids), _rate(rate)
    pipeline, queues = _chosen(file, queue, broker)
    chosen = one_of(queues)
    if to == chosen.name:
        raise UsageError(f'--to "{to}" is the dead-letter queue itself')
    with uncollected():
        from pipeline.runtime.dead_letters.replay import Order
    if chosen.counts_looks:
        _warn(_COUNTS_LOOKS.format(chosen.name))
    order = Order(
        queue=chosen.name, wanted=wanted, to=_name(pipeline, to), limit=limit, rate=pace, dry_run=dry_run, force=force
    )
    with _said_in_any_encoding():
        report = asyncio.run(_replay(pipeline, order))
        _end_if_missing([chosen] if report is None else ())
        assert report is not None
        print(dead_letters.replay_summary(chosen.name, report, dry_run=dry_run), flush=True)
    for trouble in dead_letters.replay_troubles(report):
        print(f"error: {trouble}", file=sys.stderr)
    raise typer.Exit(exits.FAILED if report.failed else exits.FINE)


@verbs.command()
def purge(
    file: File,
    queue: OneQueue = None,
    broker: BrokerUrl = None,
    where: Where = None,
    ids: Ids = None,
    yes: Annotated[bool, typer.Option("--yes", metavar="", help="Do not ask: for scripts.")] = False,
) -> None:
    """Throw dead letters away, for good: all of a queue, or those that match. Asks first."""
    wanted = _wanted(where, ids)
    pipeline, queues = _chosen(file, queue, broker)
    chosen = one_of(queues).name
    if not yes and not sys.stdin.isatty():
        raise UsageError("without a terminal nobody can be asked whether this is meant; --yes says so")
    with uncollected():
        from pipeline.runtime.dead_letters.purge import purge, ready
    clock = SystemClock()
    with _said_in_any_encoding():
        count = asyncio.run(ready(pipeline, chosen, clock))
        _end_if_missing(queues if count is None else ())
        assert count is not None
        if not yes and count and not _meant(chosen, count, wanted):
            print("nothing was thrown away")
            raise typer.Exit(exits.FAILED)
        purged = asyncio.run(purge(pipeline, chosen, wanted, count, clock))
        print(dead_letters.purge_summary(chosen, purged))
    if purged.unseen:
        print(
            f"error: stopped at {purged.stay:,} messages that stay: what is behind them was not seen", file=sys.stderr
        )
        raise typer.Exit(exits.FAILED)


_COUNTS_LOOKS = (
    'queue "{}" is a quorum queue without a large `delivery_limit`: each look counts as a return, and RabbitMQ 4 drops '
    "a message after twenty"
)


async def _replay(pipeline: Pipeline, order: "Order") -> "Report | None":
    from pipeline.runtime.dead_letters.replay import replay
    from pipeline.runtime.stop import Stop, on_signals

    clock = SystemClock()
    stop = Stop(clock=clock, shutdown_timeout=_STOPPING)
    bar = ReplayBar() if sys.stderr.isatty() else None
    with on_signals(stop):
        try:
            return await replay(
                pipeline,
                order,
                clock=clock,
                stop=stop,
                progress=lambda report: bar.show(report.looked_at, report.ceiling) if bar else None,
                emit=_tell,
            )
        finally:
            if bar is not None:
                bar.close()


def _tell(event: Event) -> None:
    if isinstance(event, Blocked):
        _warn("the broker takes no messages for now (memory or disk alarm): waiting for a minute; Ctrl-C gives up")


# What all of them begin with


def _chosen(file: str, queue: str | None, broker: str | None) -> tuple[Pipeline, tuple[DeadLetterQueue, ...]]:
    """The file, without its Python code, which need not be here; and the queues that are meant. Raises `FileError` and
    `UsageError`."""
    loaded = read([file], Overrides(broker_url=broker))
    if loaded.has_errors:
        raise FileError(loaded.problems)
    (pipeline,) = loaded.pipelines
    if pipeline.broker.embedded:
        raise UsageError(
            f"{pipeline.path.name} runs on the embedded broker, whose messages end with each run: there is nothing to "
            "look at afterwards. Name a broker that stays: --broker URL, or `broker:` in the file"
        )
    quieten_client()
    return pipeline, choose(pipeline, queue)


def _wanted(where: Sequence[str] | None, ids: Sequence[str] | None) -> Wanted:
    conditions = []
    for text in where or ():
        found = condition(text)
        if found is None:
            raise UsageError(f'--where is HEADER=VALUE, not "{text}"; for example --where reason=decode')
        conditions.append(found)
    return Wanted(conditions=tuple(conditions), ids=tuple(ids or ()))


def _rate(text: str | None) -> float | None:
    """Messages a second."""
    if text is None:
        return None
    found = _RATE.fullmatch(text)
    if found is None or not float(found[1]):
        raise UsageError(f'--rate is a number and a unit of time, for example 50/s, 100/m or 20/h, not "{text}"')
    return float(found[1]) / _SECONDS[found[2]]


def _name(pipeline: Pipeline, queue: str | None) -> str | None:
    """On the broker: the file's own key for it will do."""
    return next((each.name for each in pipeline.queues if each.key == queue), queue)


def _meant(queue: str, count: int, wanted: Wanted) -> bool:
    how_many = f"all {count:,} messages" if wanted.everything else f"what matches of the {count:,} messages"
    answer: str = typer.prompt(
        f'Throw away {how_many} of "{queue}", for good? y, or the name of the queue', default="N"
    )
    return answer.strip() in ("y", "Y", "yes", queue)


# What all of them end with


def _print(one: "Found", form: str) -> None:
    if form == "json":
        print(dead_letters.as_json(dead_letters.message_object(one)), flush=True)
        return
    for line in dead_letters.shown(one):
        print(line)
    print()


def _end_if_missing(queues: Sequence[DeadLetterQueue]) -> None:
    for each in queues:
        print(f'error: there is no queue "{each.name}" on the broker: is it the right one?', file=sys.stderr)
    if queues:
        raise typer.Exit(exits.FAILED)


def _warn(sentence: str) -> None:
    print(f"warning: {sentence}", file=sys.stderr)


@contextmanager
def _said_in_any_encoding() -> Iterator[None]:
    """What a message holds may be no character of this terminal."""
    stream: Any = sys.stdout
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")
    yield
