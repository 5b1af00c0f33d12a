"""What a broker said during a scenario, in a form in which two brokers can be compared: sorted into lanes, with the
names that a server makes, times and the virtual host taken out. Each rule stands with its reason where it is obeyed."""

import difflib
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from tests.conformance.tables import Fields, Typed, Value

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Transcript: TypeAlias = dict[str, list[dict[str, Json]]]  # lane to what came in it

LONGEST_BODY = 200
OUR_DAYS = 1_750_000_000  # the summer of 2025; scenarios that send times of death use earlier ones


@dataclass(frozen=True, kw_only=True)
class Event:
    """One method that the broker sent, with the content that came with it; or a word of the player."""

    connection: str
    channel: int
    name: str
    fields: Fields
    properties: Fields | None = None
    body: bytes | None = None


def normalise(events: Iterable[Event], vhost: str) -> Transcript:
    """The same for each run of a scenario on the same broker, whatever was faster this time."""
    names = _Names(vhost)
    told = [(event, names.replaced(_json(event))) for event in events]
    lanes: defaultdict[str, list[dict[str, Json]]] = defaultdict(list)
    for event, json_ in told:
        lanes[_lane(event, json_)].append(json_)
    return {lane: list(_confirms(lane, lanes[lane])) for lane in sorted(lanes)}


def diff(expected: Transcript, seen: Transcript) -> str:
    """Line by line; empty where they are the same."""
    return "\n".join(difflib.unified_diff(lines(expected), lines(seen), "expected", "seen", lineterm="", n=2))


def lines(transcript: Transcript) -> list[str]:
    """For people: each lane with its events, one line each."""
    return [text for lane, said in transcript.items() for text in (lane, *(f"  {one_line(each)}" for each in said))]


def one_line(said: dict[str, Json]) -> str:
    return json.dumps(said, sort_keys=True, ensure_ascii=False)


# Lanes


def _lane(event: Event, said: dict[str, Json]) -> str:
    """AMQP promises an order per channel. RabbitMQ keeps that of answers to the client's methods, that of one
    consumer's deliveries, and that of returns and confirms; between these three, queues that are processes of their
    own decide who is first. `consume-ok` stands before the deliveries of its consumer, and `cancel` behind them."""
    if event.channel == 0:
        return event.connection
    channel = f"{event.connection}/{event.channel}"
    if event.name in ("basic.deliver", "basic.cancel", "basic.consume-ok", "basic.cancel-ok"):
        fields = said[event.name]
        assert isinstance(fields, dict)
        return f"{channel} consumer {fields['consumer_tag']}"
    if event.name in ("basic.return", "basic.ack", "basic.nack"):
        return f"{channel} publishing"
    return channel


def _confirms(lane: str, said: list[dict[str, Json]]) -> Iterator[dict[str, Json]]:
    """Confirms that follow each other are told as the set of their tags: how many a broker gathers in one `multiple`,
    and the order in which it confirms different messages, is nobody's promise. Returns keep their place among them."""
    if not lane.endswith(" publishing"):
        yield from said
        return
    gathered: dict[str, list[int]] = {}
    confirmed: set[int] = set()
    for each in said:
        (name, fields), *content = each.items()
        if content:
            yield from _gathered(gathered)
            gathered = {}
            yield each
            continue
        assert isinstance(fields, dict) and isinstance(fields["delivery_tag"], int)
        last = fields["delivery_tag"]
        first = 1 if fields["multiple"] else last
        new = [tag for tag in range(first, last + 1) if tag not in confirmed]
        if not new:  # told once more, or the numbers begin again: shown as it came
            yield each
        confirmed.update(new)
        gathered.setdefault(name, []).extend(new)
    yield from _gathered(gathered)


def _gathered(gathered: dict[str, list[int]]) -> Iterator[dict[str, Json]]:
    for name, tags in sorted(gathered.items()):
        if tags:
            yield {name: {"delivery_tags": [*sorted(tags)]}}


# Names and times


class _Names:
    """Replaces what differs in each run by what stays the same: the server's random names by their number, in the
    order in which they come, and the virtual host of the run by `/`, as most readers would have it."""

    _made = re.compile(
        r"amq\.(gen|ctag)-[A-Za-z0-9_-]{16,}"  # names of queues and consumer tags made by the server
        r"|amq\.rabbitmq\.reply-to\.[^'\s]+"  # the name of a direct reply-to
    )

    def __init__(self, vhost: str) -> None:
        self._vhost = vhost
        self._numbers: dict[str, str] = {}

    def replaced(self, said: dict[str, Json]) -> dict[str, Json]:
        return {name: self._replace(value) for name, value in said.items()}

    def _replace(self, value: Json) -> Json:
        match value:
            case str():
                return self._made.sub(self._number, value.replace(f"vhost '{self._vhost}'", "vhost '/'"))
            case list():
                return [self._replace(each) for each in value]
            case dict():
                return {key: self._replace(each) for key, each in value.items()}
        return value

    def _number(self, found: re.Match[str]) -> str:
        name = found[0]
        kind = re.match(r"amq\.(gen|ctag|rabbitmq\.reply-to)", name)
        assert kind is not None
        if name not in self._numbers:
            before = sum(other.startswith(kind[0]) for other in self._numbers.values())
            self._numbers[name] = f"{kind[0]}#{before + 1}"
        return self._numbers[name]


def _json(event: Event) -> dict[str, Json]:
    """All that came, except: when a message died (`time` in `x-death`), which is the broker's clock; `ticket`, which
    the specification reserves. Tables are objects, so the order of their keys is lost: it means nothing, RabbitMQ 4.3
    sorts them, 3.10 does not. The order of arrays, that of `x-death` above all, is kept."""
    said: dict[str, Json] = {event.name: {key: _plain(value) for key, value in event.fields.items() if key != "ticket"}}
    if event.properties is not None and event.body is not None:
        said["properties"] = {key: _plain(value) for key, value in event.properties.items()}
        said["body"] = _body(event.body)
    headers = (event.properties or {}).get("headers")
    deaths = headers.get("x-death") if isinstance(headers, dict) else None
    if isinstance(deaths, list):
        properties = said["properties"]
        assert isinstance(properties, dict) and isinstance(properties["headers"], dict)
        properties["headers"]["x-death"] = [_without_time(death) for death in deaths]
    return said


def _without_time(death: Value) -> Json:
    """Only a time of the right type and of our days: what a scenario sends under this name stays as it was sent."""
    plain = _plain(death)
    match death:
        case {"time": Typed(kind="timestamp", value=int() as time)} if isinstance(plain, dict) and time > OUR_DAYS:
            plain["time"] = {"!timestamp": "then"}
    return plain


def _plain(value: Value) -> Json:
    """A value with a type that JSON does not tell is an object with the type's name after a `!`."""
    match value:
        case Typed():
            return {f"!{value.kind}": _plain(value.value)}
        case list():
            return [_plain(each) for each in value]
        case dict():
            return {key: _plain(each) for key, each in value.items()}
    return value


def _body(body: bytes) -> Json:
    if len(body) > LONGEST_BODY:
        return {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()[:16]}
    return body.decode(errors="backslashreplace")
