"""Dead letters as text for a person, and as JSON for a program. What others have written is bounded and escaped here:
bodies, headers and names come from anybody. How they are read is not known here."""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline.failure.story import Death, Story, as_text
from pipeline.message import Message

if TYPE_CHECKING:
    from pipeline.runtime.dead_letters.look import Found, Group, Listed
    from pipeline.runtime.dead_letters.purge import Purged
    from pipeline.runtime.dead_letters.replay import Report

_MOST_GROUPS = 20  # an error text with a number in it makes a group of each message
_LONGEST_VALUE = 300  # characters of a header
_LONGEST_BODY = 2_000  # characters
_MOST_PARSED = 1024 * 1024  # bytes of JSON that are put in order
_HEX_LINE = 24  # bytes
_PROPERTIES = (
    "message_id",
    "correlation_id",
    "reply_to",
    "type",
    "app_id",
    "user_id",
    "content_type",
    "content_encoding",
    "delivery_mode",
    "priority",
    "expiration",
    "timestamp",
)


# A list


def listing(listed: "Listed", *, now: float, width: int | None) -> Iterator[str]:
    """One queue: a line, and one more for each kind of failure. `now` is seconds since 1970."""
    queue = listed.queue
    if listed.depth is None:
        yield f"{escaped(queue.name)}: not on the broker (nothing was ever dead-lettered, or the file never ran there)"
        return
    come = ", ".join(f'"{escaped(each)}"' for each in queue.sources)
    ages = _ages(listed.groups, now)
    yield f"{escaped(queue.name)}: {_messages(listed.depth.ready)} from {come}{ages}"
    if 0 < listed.looked_into < listed.depth.ready:
        yield f"  of the first {listed.looked_into:,}:"
    for group in listed.groups[:_MOST_GROUPS]:
        line = f"{group.count:7,}  {_kind(group)}"
        yield line if width is None or len(line) <= width else f"{line[: width - 3]}..."
    if others := listed.groups[_MOST_GROUPS:]:
        yield f"{sum(group.count for group in others):7,}  of {len(others):,} other kinds (--format json has all)"


def listing_object(listed: "Listed") -> dict[str, Any]:
    depth = listed.depth
    return {
        "queue": listed.queue.name,
        "from": list(listed.queue.sources),
        "present": depth is not None,
        "messages": depth.ready if depth else 0,
        "consumers": depth.consumers if depth else 0,
        "looked_into": listed.looked_into,
        "groups": [_group_object(group) for group in listed.groups],
    }


def _group_object(group: "Group") -> dict[str, Any]:
    return {
        "count": group.count,
        "reason": group.kind.reason or None,
        "by": "broker" if group.kind.by_broker else "piperun" if group.kind.reason else None,
        "error_type": group.kind.error_type or None,
        "error": group.error or None,
        "digest": group.kind.digest or None,
        "from": group.kind.queue or None,
        "oldest": _iso(group.oldest),
        "newest": _iso(group.newest),
    }


def _kind(group: "Group") -> str:
    kind = group.kind
    if kind.by_broker:
        return f'{escaped(kind.reason):<12}  by the broker, from queue "{escaped(kind.queue)}"'
    if not kind.reason:
        return "nothing tells why: neither piperun nor RabbitMQ put it there"
    return f"{escaped(kind.reason):<12}  {escaped(kind.digest):<16}  {_error(kind.error_type, group.error)}".rstrip()


def _error(error_type: str, error: str) -> str:
    return escaped(": ".join(filter(None, (error_type, error))))


def _ages(groups: Sequence["Group"], now: float) -> str:
    times = [time for group in groups for time in (group.oldest, group.newest) if time is not None]
    if not times:
        return ""
    oldest, newest = age(now - min(times) / 1000), age(now - max(times) / 1000)
    return f", {oldest} old" if oldest == newest else f", {newest} to {oldest} old"


def age(seconds: float) -> str:
    """In the largest unit that says enough: 12 s, 5 min, 3 h, 4 d."""
    for unit, size, enough in (("s", 1, 60), ("min", 60, 3_600), ("h", 3_600, 172_800)):
        if seconds < enough:
            return f"{max(0, int(seconds // size))} {unit}"
    return f"{int(seconds // 86_400):,} d"


# One message


def shown(found: "Found") -> Iterator[str]:
    """A dead letter with the story of its failures, its properties, headers and the beginning of its body."""
    message, story = found.message, found.story
    name = escaped(message.message_id) if message.message_id else "without message_id"
    yield f"{escaped(found.queue.name)}, message {found.number:,}: {name}"
    yield from (f"  {line}" for line in _told(story))
    properties = {name: value for name in _PROPERTIES if (value := getattr(message, name)) is not None}
    yield from _block("properties", properties)
    headers = {name: value for name, value in message.headers.items() if name not in _TOLD}
    yield from _block("headers", headers)
    yield f"  body, {len(message.body):,} byte{'' if len(message.body) == 1 else 's'}{':' if message.body else ''}"
    yield from (f"    {line}" for line in _body(message))


def message_object(found: "Found") -> dict[str, Any]:
    """All of it, the whole body included: as text where it is UTF-8, else in base64."""
    message = found.message
    try:
        body, encoding = message.body.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        body, encoding = base64.b64encode(message.body).decode("ascii"), "base64"
    return {
        "queue": found.queue.name,
        "number": found.number,
        "message_id": message.message_id,
        "failure": _story_object(found.story),
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "redelivered": message.redelivered,
        "properties": {name: value for name in _PROPERTIES if (value := getattr(message, name)) is not None},
        "headers": message.headers,
        "body": body,
        "body_encoding": encoding,
        "body_size": len(message.body),
    }


def as_json(value: object) -> str:
    """One line. Header values that JSON does not know become text."""
    return json.dumps(value, default=_foreign)


# What the story tells already.
_TOLD = frozenset(
    {"x-death"}
    | {f"x-piperun-{name}" for name in ("attempt", "reason", "error-type", "error", "error-digest", "replays")}
    | {f"x-piperun-{name}" for name in ("first-failure", "last-failure", "queue", "exchange", "routing-key")}
    | {f"x-piperun-{name}" for name in ("consumer", "run-id")}
    | {f"x-{which}-death-{what}" for which in ("first", "last") for what in ("exchange", "queue", "reason")}
)


def _told(story: Story) -> Iterator[str]:
    for death in story.deaths:
        yield _death(death)
    if story.own_reason or story.error_type:
        attempts = "" if story.attempts is None else f", attempt {story.attempts:,}"
        who = f' in consumer "{escaped(story.consumer)}"' if story.consumer else ""
        own = story.last_failure if not story.by_broker else None
        yield f"{_moment(own)}failed{who}{_reason(story)}{attempts}"
        if error := _error(story.error_type, story.error):
            yield f"  {error}"
        named = {"digest": story.digest, "run": story.run_id}
        if names := ", ".join(f"{name} {escaped(value)}" for name, value in named.items() if value):
            yield f"  {names}"
    if story.first_failure is not None and story.first_failure != story.last_failure:
        yield f"{_moment(story.first_failure)}failed for the first time"
    if story.replays:
        yield f"sent back by replay {'once' if story.replays == 1 else f'{story.replays:,} times'} before"
    if not story.reason:
        yield "nothing tells why it is here: neither piperun nor RabbitMQ put it there"
    if origin := _origin(story):
        yield origin


def _reason(story: Story) -> str:
    return f": {escaped(story.own_reason)}" if story.own_reason else ""  # none while it was still tried again


def _origin(story: Story) -> str:
    if not story.queue:
        return ""
    if story.exchange is None:
        return f'from queue "{escaped(story.queue)}"'
    where = f'exchange "{escaped(story.exchange)}"' if story.exchange else "the default exchange"
    key = f', routing key "{escaped(story.routing_key)}"' if story.routing_key is not None else ""
    return f'from queue "{escaped(story.queue)}"; first published to {where}{key}'


def _death(death: Death) -> str:
    often = "" if death.count == 1 else f", {death.count:,} times"
    what = f'taken from queue "{escaped(death.queue)}" by the broker: {escaped(death.reason)}'
    return f"{_moment(death.milliseconds)}{what}{often}"


def _story_object(story: Story) -> dict[str, Any]:
    return {
        "reason": story.reason or None,
        "by": "broker" if story.by_broker else "piperun" if story.reason else None,
        "error_type": story.error_type or None,
        "error": story.error or None,
        "digest": story.digest or None,
        "attempts": story.attempts,
        "first_failure": _iso(story.first_failure),
        "last_failure": _iso(story.last_failure),
        "queue": story.queue or None,
        "exchange": story.exchange,
        "routing_key": story.routing_key,
        "consumer": story.consumer or None,
        "run_id": story.run_id or None,
        "replays": story.replays,
        "deaths": [
            {
                "queue": each.queue,
                "reason": each.reason,
                "count": each.count,
                "exchange": each.exchange,
                "routing_keys": list(each.routing_keys),
                "time": _iso(each.milliseconds),
            }
            for each in story.deaths
        ],
    }


def _block(title: str, values: Mapping[str, object]) -> Iterator[str]:
    if not values:
        return
    yield f"  {title}:"
    for name, value in values.items():
        text = escaped(as_json(value) if isinstance(value, list | dict) else as_text(value))
        yield f"    {escaped(name)}: {text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + '...'}"


def _body(message: Message) -> Iterator[str]:
    body: bytes = message.body
    try:
        text = _ordered(body, message.content_type) or body[: 4 * _LONGEST_BODY].decode("utf-8")
    except UnicodeDecodeError as error:
        # Cut in the middle of the last character it is text all the same.
        if len(body) <= 4 * _LONGEST_BODY or error.start < 4 * _LONGEST_BODY - 4:
            yield from _hex(body)
            return
        text = body[: error.start].decode("utf-8")
    cut = text[:_LONGEST_BODY]
    for line in cut.split("\n") if cut else []:
        yield escaped(line.rstrip("\r"))
    if len(text) > len(cut) or len(body) > 4 * _LONGEST_BODY:
        yield f"... ({len(body):,} bytes in all: --format json shows them)"


def _ordered(body: bytes, content_type: str | None) -> str | None:
    """JSON with a line for each value."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    if not (kind == "application/json" or kind.endswith("+json")) or len(body) > _MOST_PARSED:
        return None
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None


def _hex(body: bytes) -> Iterator[str]:
    shown = body[: _LONGEST_BODY // 4]
    for start in range(0, len(shown), _HEX_LINE):
        yield shown[start : start + _HEX_LINE].hex(" ")
    if len(shown) < len(body):
        yield f"... ({len(body):,} bytes in all: --format json shows them)"


# What became of them


def replay_summary(queue: str, report: "Report", *, dry_run: bool) -> str:
    """One line: how many of how many, where they went, and what became of the others."""
    sent = report.sent.total()
    parts = [
        f'{"would replay" if dry_run else "replayed"} {sent:,} of {_messages(report.ceiling)} of "{escaped(queue)}"'
    ]
    if sent:
        parts[0] += ", " + ", ".join(f'{count:,} to "{escaped(name)}"' for name, count in report.sent.most_common())
    others = {
        "not matching": report.passed_over,
        "refused": report.refused.total(),
        "unconfirmed: in one queue or in both": report.uncertain,
        "still in both queues": report.twice,
        "not looked at": max(0, report.ceiling - report.looked_at),
    }
    parts += [f"{count:,} {what}" for what, count in others.items() if count]
    return "; ".join(parts)


def replay_troubles(report: "Report") -> Iterator[str]:
    for reason, count in report.refused.items():
        yield f"{_messages(count)} stay{'s' if count == 1 else ''}: {escaped(reason)}"
    if report.stopped:
        yield f"stopped before the end: {escaped(report.stopped)}"


def purge_summary(queue: str, purged: "Purged") -> str:
    parts = [f'threw away {_messages(purged.thrown_away)} of "{escaped(queue)}"']
    if purged.stay:
        parts.append(f"{purged.stay:,} not matching")
    return "; ".join(parts)


def escaped(text: str) -> str:
    """Fit for a terminal: nothing in it moves the cursor or changes colours."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _messages(count: int) -> str:
    return f"{count:,} message{'' if count == 1 else 's'}"


def _moment(milliseconds: int | None) -> str:
    if milliseconds is None:
        return ""
    return f"{datetime.fromtimestamp(milliseconds // 1000, tz=UTC):%Y-%m-%d %H:%M:%S}  "


def _iso(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    moment = datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _foreign(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else as_text(value)
