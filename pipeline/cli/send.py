"""`piperun send`: messages from the command line to a queue or an exchange of a file, each confirmed by the broker."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from pipeline.cli import exits
from pipeline.cli.live import pipeline_of, talking_to_its_broker
from pipeline.cli.loading import uncollected
from pipeline.cli.options import BrokerUrl, File, Format
from pipeline.clock import SystemClock
from pipeline.config.units import is_duration, seconds
from pipeline.errors import UsageError
from pipeline.message import Message
from pipeline.runtime.target import Target, target
from pipeline.secret import Masker

if TYPE_CHECKING:
    from pipeline.runtime.send import Sent

_LONGEST_NAME = 128  # AMQP 0-9-1, 4.2.5.5: field names; the client would cut it in silence


def send(
    file: File,
    queue: Annotated[str | None, typer.Argument(metavar="[QUEUE]", help="A queue of the file.")] = None,
    body: Annotated[
        str | None,
        typer.Argument(metavar="[BODY]", help="A text, or @FILE; left out, standard input is read to its end."),
    ] = None,
    exchange: Annotated[
        str | None, typer.Option("--exchange", metavar="NAME", help="To an exchange of the file; then no QUEUE.")
    ] = None,
    routing_key: Annotated[str | None, typer.Option("--routing-key", metavar="KEY", help="For the exchange.")] = None,
    lines: Annotated[bool, typer.Option("--lines", metavar="", help="Each line of the body is a message.")] = False,
    count: Annotated[int, typer.Option("--count", metavar="N", min=1, help="Send it so many times.")] = 1,
    headers: Annotated[
        list[str] | None,
        typer.Option("--header", metavar="NAME=VALUE", help="A header; VALUE is JSON, else a text. Repeat it."),
    ] = None,
    content_type: Annotated[
        str | None,
        typer.Option("--content-type", metavar="TYPE", help="Left out, JSON or text as the body looks; '' for none."),
    ] = None,
    message_id: Annotated[
        str | None, typer.Option("--message-id", metavar="ID", help="Left out, a new one for each message.")
    ] = None,
    timeout: Annotated[str, typer.Option("--timeout", metavar="DURATION", help="How long a confirm may take.")] = "10s",
    broker: BrokerUrl = None,
    form: Format = "text",
) -> None:
    """Send messages to a queue or an exchange of a file, and wait until the broker has confirmed them.

    Nothing is declared. Exit status: 0 all confirmed, 1 not all (no queue takes it, refused, not confirmed in time),
    2 usage or configuration, 3 broker unreachable or refused us.
    """
    patience = _seconds(timeout)
    if exchange is not None and body is None:
        queue, body = None, queue
    table = _headers(headers or ())
    if message_id is not None and (lines or count > 1):
        raise UsageError("--message-id names one message: leave it out with --lines and --count")
    pipeline = pipeline_of(file, broker)
    to = target(pipeline, queue=queue, exchange=exchange, routing_key=routing_key)
    bodies = _bodies(body, lines=lines)
    messages = [
        Message(
            each,
            headers=table,
            content_type=_content_type(each) if content_type is None else content_type or None,
            message_id=message_id or uuid4().hex,
        )
        for each in bodies
        for _ in range(count)
    ]
    # The client is half of what a start loads: a command that ends above does without.
    with uncollected():
        from pipeline.runtime import send as sending

    with talking_to_its_broker(pipeline):
        sent = sending.send(pipeline, to, messages, timeout=patience, clock=SystemClock())
    _tell(sent, to, messages, form, Masker(pipeline.secrets))
    raise typer.Exit(exits.FAILED if sent.failures else exits.FINE)


# What is sent


def _bodies(body: str | None, *, lines: bool) -> list[bytes]:
    """Byte for byte; of lines without their ends."""
    whole = _read(body)
    if not lines:
        return [whole]
    each = whole.removesuffix(b"\n").split(b"\n") if whole else []
    if not each:
        raise UsageError("there is nothing to send: no line came")
    return [line.removesuffix(b"\r") for line in each]


def _read(body: str | None) -> bytes:
    if body is not None and not body.startswith("@"):
        return body.encode(errors="surrogateescape")
    if body is None or body == "@-":
        if sys.stdin.isatty():
            print("reading the body from standard input; Ctrl-D ends it", file=sys.stderr)
        return sys.stdin.buffer.read()
    try:
        return Path(body[1:]).read_bytes()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f'cannot read "{body[1:]}": {why}') from None


def _content_type(body: bytes) -> str | None:
    """As a source of a file would write it: an object or an array is JSON, anything else that can be read is text, and
    of the rest nobody knows."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    try:
        return "application/json" if isinstance(json.loads(text), dict | list) else "text/plain; charset=utf-8"
    except (ValueError, RecursionError):
        return "text/plain; charset=utf-8"


def _headers(written: Sequence[str]) -> dict[str, object]:
    table: dict[str, object] = {}
    for each in written:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise UsageError(f'--header is NAME=VALUE, not "{each}"; for example --header tries=3')
        if len(name.encode()) > _LONGEST_NAME:
            raise UsageError(f'the name of a header has at most {_LONGEST_NAME} bytes, not "{name[:40]}..."')
        if name in table:
            raise UsageError(f'--header "{name}" is given twice; a message has each header once')
        table[name] = _value(value)
    return table


def _value(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_not_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        return text


def _not_finite(word: str) -> None:
    raise ValueError(f"{word} is a name here")


def _finite(text: str) -> float:
    """RabbitMQ ends the connection over an infinite one."""
    if math.isinf(number := float(text)):
        _not_finite(text)
    return number


def _seconds(duration: str) -> float:
    if not is_duration(duration) or not seconds(duration):
        raise UsageError(f'--timeout is a duration such as 10s or 500ms, not "{duration}"')
    return seconds(duration)


# What became of it


def _tell(sent: "Sent", to: Target, messages: Sequence[Message], form: str, mask: Masker) -> None:
    for failure in sent.failures[:1]:
        which = f"message {failure.number} of {len(messages)}: " if len(messages) > 1 else ""
        print(mask(f"error: {which}{failure.sentence}\n{'':7}{failure.hint}"), file=sys.stderr)
    if form == "json":
        print(mask(json.dumps(_object(sent, to, messages), ensure_ascii=False)))
    elif sent.confirmed or not sent.failures:
        print(mask(_line(sent, to, messages)))


def _line(sent: "Sent", to: Target, messages: Sequence[Message]) -> str:
    if len(messages) == 1:
        (one,) = messages
        return f"sent {one.message_id} to {to}: {_bytes(len(one.body))}, {one.content_type or 'no content type'}"
    of = "" if not sent.failures else f" of {len(messages)}"
    return f"sent {len(sent.confirmed)}{of} messages to {to}: {sent.confirmed[0]} to {sent.confirmed[-1]}"


def _bytes(count: int) -> str:
    return "1 byte" if count == 1 else f"{count} bytes"


def _object(sent: "Sent", to: Target, messages: Sequence[Message]) -> dict[str, Any]:
    return {
        "exchange": to.exchange,
        "routing_key": to.routing_key,
        "messages": len(messages),
        "confirmed": list(sent.confirmed),
        "failures": [
            {
                "number": each.number,
                "message_id": each.message_id,
                "kind": each.kind,
                "sentence": each.sentence,
                "hint": each.hint,
            }
            for each in sent.failures
        ],
    }
