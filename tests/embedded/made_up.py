"""Conversations that nobody would hold: methods of the specification with arguments that make sense more often than
not, and messages with all properties. As octets, so that no client library has a say in them."""

import struct
from typing import Any, TypeVar

from hypothesis import strategies as st
from pamqp import base, commands
from pamqp.commands import Basic, Channel, Confirm, Connection, Exchange, Queue, Tx

from tests.embedded.wire import frame_of, marshalled

T = TypeVar("T")

METHOD, HEADER, BODY = 1, 2, 3
SELDOM = 11  # of 16; Hypothesis has a liking for the ends
Octets = st.SearchStrategy[bytes]

QUEUES = ["q", "kept", "dead", ""]
EXCHANGES = ["", "amq.direct", "amq.fanout", "amq.headers", "e"]
STRANGE = ["nowhere", "amq.gen", "amq.rabbitmq.reply-to", "x" * 255, "я"]


def mostly(common: st.SearchStrategy[T], rare: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    return st.integers(0, 15).flatmap(lambda chance: rare if chance == SELDOM else common)


def short(octets: bytes) -> bytes:
    return bytes((len(octets),)) + octets


def long(octets: bytes) -> bytes:
    return struct.pack(">I", len(octets)) + octets


def joined(pieces: list[bytes]) -> bytes:
    return b"".join(pieces)


def pair(pieces: tuple[bytes, bytes]) -> bytes:
    return pieces[0] + pieces[1]


def names(*of: str) -> Octets:
    return mostly(st.sampled_from(of), st.sampled_from(STRANGE)).map(lambda name: short(name.encode()))


def number(size: int, *often: int) -> Octets:
    anything = st.sampled_from([0, 255, 2**31, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)
    return mostly(st.sampled_from(often), anything).map(lambda each: (each % 256**size).to_bytes(size))


# Tables, without their length

leaves = st.one_of(
    *(
        number(size, 0, 1, 5).map(kind.encode().__add__)
        for kind, size in zip("tbBsuIilLTDVfd", [1, 1, 1, 2, 2, 4, 4, 8, 8, 8, 5, 0, 4, 8], strict=True)
    ),
    names(*QUEUES, *EXCHANGES).map(lambda name: b"S" + long(name[1:])),
    st.binary(max_size=8).map(lambda octets: b"S" + long(octets)),
    st.binary(max_size=8).map(lambda octets: b"x" + long(octets)),
)


def nested(inner: Octets) -> Octets:
    arrays = st.lists(inner, max_size=3).map(lambda items: b"A" + long(joined(items)))
    tables = st.lists(st.tuples(names("n", "CC", "queue", "count"), inner).map(pair), max_size=3)
    return arrays | tables.map(lambda items: b"F" + long(joined(items)))


values = st.recursive(leaves, nested, max_leaves=6)


def texts(*of: str) -> Octets:
    return st.sampled_from(of).map(lambda text: b"S" + long(text.encode()))


def integers(*of: int) -> Octets:
    return st.sampled_from(of).map(lambda each: b"I" + struct.pack(">i", each))


def arrays(of: Octets) -> Octets:
    return st.lists(of, max_size=3).map(lambda items: b"A" + long(joined(items)))


DEATH = joined(
    [short(b"queue") + b"S" + long(b"q"), short(b"reason") + b"S" + long(b"expired"), short(b"count") + b"sxx"]
)

_SENSIBLE: dict[str, Octets] = {
    "x-message-ttl": integers(0, 1, 2000),
    "x-expires": integers(1, 2000),
    "x-max-length": integers(0, 1, 3),
    "x-max-length-bytes": integers(0, 5),
    "x-overflow": texts("drop-head", "reject-publish", "reject-publish-dlx"),
    "x-max-priority": integers(0, 3, 255),
    "x-queue-type": texts("classic", "quorum", "quorum", "stream"),
    "x-dead-letter-exchange": texts("", "amq.fanout", "e", "nowhere"),
    "x-dead-letter-routing-key": texts("q", "kept", "dead"),
    "x-single-active-consumer": st.sampled_from([b"t\0", b"t\1"]),
    "x-delivery-limit": integers(0, 2),
    "x-priority": integers(-1, 0, 1),
    "x-match": texts("all", "any", "all-with-x", "any-with-x"),
    "alternate-exchange": texts("amq.fanout", "e"),
    "x-death": st.just(b"A" + long(b"F" + long(DEATH))) | arrays(values),
    "CC": arrays(texts("q", "dead", "nowhere")),
    "BCC": arrays(texts("q", "dead")),
    "n": integers(1),
}


def field(key: str) -> Octets:
    return mostly(_SENSIBLE[key], values).map(lambda value: short(key.encode()) + value)


tables = st.lists(
    mostly(
        st.sampled_from(list(_SENSIBLE)).flatmap(field), st.tuples(st.binary(max_size=4).map(short), values).map(pair)
    ),
    max_size=4,
).map(joined)

# Methods

_NAMED: dict[str, Octets] = {
    "queue": names(*QUEUES),
    "exchange": names(*EXCHANGES),
    "source": names(*EXCHANGES),
    "destination": names(*EXCHANGES),
    "routing_key": names("q", "dead", "kept", "a.b"),
    "exchange_type": names("direct", "fanout", "topic", "headers"),
    "consumer_tag": names("", "c", "d"),
    "delivery_tag": number(8, 0, 1, 2, 3),
    "prefetch_count": number(2, 0, 1, 2),
    "prefetch_size": number(4, 0),
    "ticket": number(2, 0),
}
_TYPED: dict[str, Octets] = {
    "octet": number(1, 0, 1, 2),
    "short": number(2, 0, 1, 200),
    "long": number(4, 0, 1),
    "longlong": number(8, 0, 1, 1_700_000_000),
    "shortstr": names("q", "text/plain", "a"),
    "longstr": st.binary(max_size=9).map(long),
    "table": tables.map(long),
}
# Bits that make a method one that is refused, or is not answered.
_SELDOM = {"passive", "nowait", "immediate", "internal", "if_unused", "if_empty"}
_USUALLY = {"active"}

_COMMON: list[type[base.Frame]] = [
    Exchange.Declare, Exchange.Delete, Exchange.Bind, Exchange.Unbind,
    *[Queue.Declare] * 6, *[Queue.Bind] * 3, Queue.Unbind, Queue.Purge, Queue.Delete,
    Basic.Qos, *[Basic.Consume] * 4, Basic.Cancel, *[Basic.Get] * 3, *[Basic.Ack] * 2, *[Basic.Reject] * 3,
    *[Basic.Nack] * 2, Confirm.Select, Tx.Select, Tx.Rollback, Channel.Close, Channel.Flow,
]  # fmt: skip
_ALL = [kind for kind in commands.INDEX_MAPPING.values() if kind not in (Connection.Close, Basic.Publish)]


@st.composite
def method(draw: st.DrawFn, kind: type[base.Frame]) -> bytes:
    """A method of this kind as it lies in its frame."""
    pieces = [kind.index.to_bytes(4)]
    bits: list[bool] = []
    for name in kind.attributes():
        argument = kind.amqp_type(name)
        if argument != "bit":
            pieces.append(draw(_NAMED.get(name, _TYPED[argument])))
        elif name in _SELDOM or name in _USUALLY:
            bits.append((draw(st.integers(0, 15)) == SELDOM) is (name in _SELDOM))
        elif name in ("durable", "exclusive", "auto_delete"):
            bits.append((draw(st.integers(0, 3)) == 2) is not (name == "durable"))
        else:
            bits.append(draw(st.booleans()))
    # In the methods of a client the bits follow each other, and only a table may come behind them.
    table = pieces.pop() if bits and kind.amqp_type(kind.attributes()[-1]) == "table" else b""
    octets = bytes([sum(bit << place for place, bit in enumerate(bits))]) if bits else b""
    return joined(pieces) + octets + table


# Messages

HEADERS, PRIORITY, REPLY_TO, EXPIRATION, USER_ID = 2, 4, 6, 7, 11
_PROPERTIES = ["shortstr", "shortstr", "table", "octet", "octet", *["shortstr"] * 4, "longlong", *["shortstr"] * 4]
_BY_PLACE: dict[int, Octets] = {
    EXPIRATION: names("0", "1", "1000"),
    REPLY_TO: names("amq.rabbitmq.reply-to", "q"),
    USER_ID: names("user"),
}


@st.composite
def message(draw: st.DrawFn, channel: int) -> bytes:
    """The frames of a message with any properties, its body in any pieces."""
    chosen = sorted(draw(st.sets(st.sampled_from([HEADERS, PRIORITY, EXPIRATION]) | st.integers(0, 13), max_size=4)))
    properties = [draw(_BY_PLACE.get(place, _TYPED[_PROPERTIES[place]])) for place in chosen]
    flags = sum(1 << 15 - place for place in chosen)
    pieces = draw(st.lists(st.binary(min_size=1, max_size=6), max_size=3))
    header = struct.pack(">HHQH", 60, 0, len(joined(pieces)), flags) + joined(properties)
    frames = [frame_of(METHOD, channel, draw(method(Basic.Publish))), frame_of(HEADER, channel, header)]
    return joined(frames + [frame_of(BODY, channel, piece) for piece in pieces])


# Conversations

_QUEUES: list[dict[str, Any]] = [
    {},
    {"x-queue-type": "quorum", "x-delivery-limit": 1, "x-dead-letter-exchange": "amq.fanout"},
    {"x-queue-type": "quorum", "x-dead-letter-exchange": "", "x-dead-letter-strategy": "at-least-once"},
    {"x-message-ttl": 1000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"},
    {"x-max-length": 2, "x-overflow": "reject-publish-dlx", "x-dead-letter-exchange": "e"},
    {"x-max-length-bytes": 5, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"},
    {"x-max-priority": 3, "x-expires": 3000},
    {"x-single-active-consumer": True},
]
first = st.sampled_from(_QUEUES).map(
    lambda arguments: marshalled(1, Queue.Declare(0, "q", durable=True, arguments=arguments))
)
_SETTLE_ALL = [
    marshalled(1, each)
    for each in (Basic.Ack(0, True), Basic.Nack(0, True, True), Basic.Nack(0, True, False), Basic.Recover(True))
]
_REPLIES = marshalled(1, Basic.Consume(0, "amq.rabbitmq.reply-to", no_ack=True))


@st.composite
def _step(draw: st.DrawFn) -> bytes:
    channel = draw(st.sampled_from([1, 1, 1, 2]))
    what = draw(st.integers(0, 40))
    if what < 14:
        return draw(message(channel))
    if what < 22:
        return draw(st.sampled_from(_SETTLE_ALL))
    if what < 24:
        messages = draw(st.lists(message(1), max_size=3))
        return joined(
            [marshalled(1, Tx.Select()), *messages, draw(st.sampled_from(_SETTLE_ALL)), marshalled(1, Tx.Commit())]
        )
    if what == 24:
        return _REPLIES
    kind = draw(st.sampled_from(_COMMON if what < 40 else _ALL))
    return frame_of(METHOD, channel, draw(method(kind)))


conversations = st.tuples(first, st.lists(_step(), min_size=5, max_size=30)).map(lambda parts: [parts[0], *parts[1]])
