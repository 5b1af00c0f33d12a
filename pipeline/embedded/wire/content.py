"""What a message is made of: the address and the properties as the octets they came in, and the body. Finds a
property, reads the headers, writes changed ones, and leaves every other octet as the publisher sent it.
Where a message goes is not known here."""

from collections.abc import Collection, Mapping, Sequence

from pipeline.embedded.wire import tables
from pipeline.embedded.wire.frames import FieldTable, FieldValue

_FIXED = 14  # class, weight, body size, flags (specification 4.2.6.1)

# Specification, class basic: the properties in their order on the wire, highest flag first.
_PROPERTIES: tuple[tuple[str, str], ...] = (
    ("content_type", "shortstr"),
    ("content_encoding", "shortstr"),
    ("headers", "table"),
    ("delivery_mode", "octet"),
    ("priority", "octet"),
    ("correlation_id", "shortstr"),
    ("reply_to", "shortstr"),
    ("expiration", "shortstr"),
    ("message_id", "shortstr"),
    ("timestamp", "timestamp"),
    ("type", "shortstr"),
    ("user_id", "shortstr"),
    ("app_id", "shortstr"),
    ("cluster_id", "shortstr"),
)
_FLAG = {name: 1 << (15 - place) for place, (name, _) in enumerate(_PROPERTIES)}

Keys = tuple[str, ...]

EXPIRATION = _FLAG["expiration"]
REPLY_TO = _FLAG["reply_to"]
DELIVERY_MODE = _FLAG["delivery_mode"]
USER_ID = _FLAG["user_id"]
_EXPIRATION_OCTET = EXPIRATION >> 8  # in the first octet of the flags
_PRIORITY_OCTET = _FLAG["priority"] >> 8


class Message:
    """One message as it was published or dead-lettered. The same object stands in every queue it was routed to."""

    __slots__ = ("_headers", "address", "blind_copies", "body", "copies", "exchange", "header", "routing_key")

    def __init__(
        self,
        exchange: str,
        routing_key: str,
        address: bytes,
        header: bytes,
        body: bytes,
        copies: Keys = (),
        blind_copies: Keys = (),
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.address = address
        self.header = header
        self.body = body
        self.copies = copies  # more routing keys, from the header CC
        self.blind_copies = blind_copies  # and from BCC, which no consumer gets to see
        self._headers: FieldTable | None = None

    @property
    def keys(self) -> Keys:
        """All that the message is routed by."""
        return (self.routing_key, *self.copies, *self.blind_copies)

    @property
    def named_keys(self) -> Keys:
        """Those of them that may be told to others."""
        return (self.routing_key, *self.copies)

    @property
    def headers(self) -> FieldTable:
        """Read when first asked for. They can be: `check` is asked before a message is taken."""
        if self._headers is None:
            self._headers = headers(self.header)
        return self._headers

    @property
    def deaths(self) -> Sequence[FieldTable]:
        """What dead letters tell of themselves, see `DeadLetter`. What was published has no history."""
        return ()

    @property
    def failures(self) -> int:
        return 0


class DeadLetter(Message):
    """A copy that a queue made of a message it got rid of. `deaths` are the entries of its `x-death`, newest first;
    `failures` is how often deliveries of it failed, which the next quorum queue goes on counting from."""

    __slots__ = ("deaths", "failures")

    deaths: Sequence[FieldTable]
    failures: int


def class_id(header: bytes) -> int:
    return int.from_bytes(header[:2])


def weight(header: bytes) -> int:
    """Specification 4.2.6.1: unused, must be zero."""
    return int.from_bytes(header[2:4])


def body_size(header: bytes) -> int:
    return int.from_bytes(header[4:12])


def flags(header: bytes) -> int:
    return int.from_bytes(header[12:14])


def spans(header: bytes) -> dict[str, tuple[int, int]]:
    """Where each property that is set lies. Raises ValueError if the header does not add up."""
    found: dict[str, tuple[int, int]] = {}
    if len(header) < _FIXED:
        raise ValueError("content header is too short")
    at = _FIXED
    try:
        for name, kind in _plan(flags(header)):
            start = at
            if kind == "shortstr":
                at += 1 + header[at]
            elif kind == "octet":
                at += 1
            elif kind == "timestamp":
                at += 8
            else:
                at += 4 + int.from_bytes(header[at : at + 4])
            found[name] = (start, at)
    except IndexError:
        raise ValueError("content header ends too early") from None
    if at != len(header):
        raise ValueError("content header has another length")
    return found


_plans: dict[int, tuple[tuple[str, str], ...]] = {}  # by flags, of which there are few in practice, 2^14 at most


def _plan(flagged: int) -> tuple[tuple[str, str], ...]:
    plan = _plans.get(flagged)
    if plan is None:
        if flagged & 1:  # announces more flags, which class basic does not have; RabbitMQ ignores the bit beside it
            raise ValueError("unknown property flags")
        plan = tuple(entry for entry in _PROPERTIES if flagged & _FLAG[entry[0]])
        _plans[flagged] = plan
    return plan


def check(header: bytes) -> None:
    """Raises ValueError if the properties, or the fields of the header table, do not add up."""
    start, end = spans(header).get("headers", (0, 0))
    if end:
        tables.check(header[start + 4 : end])


def text(header: bytes, name: str) -> str | None:
    """A short string property."""
    span = spans(header).get(name)
    return None if span is None else header[span[0] + 1 : span[1]].decode(errors="replace")


def priority(header: bytes) -> int | None:
    span = spans(header).get("priority") if header[12] & _PRIORITY_OCTET else None
    return None if span is None else header[span[0]]


def expiration(header: bytes) -> int | None:
    """In milliseconds. That it is a number was checked when the message was published."""
    value = text(header, "expiration") if may_expire(header) else None
    return int(value) if value else None


def may_expire(header: bytes) -> int:
    """Truth without a look at the whole header: asked for each message of each queue."""
    return header[12] & _EXPIRATION_OCTET


def with_text(header: bytes, name: str, value: str) -> bytes:
    """The same content header with another value of a short string property that is set."""
    start, end = spans(header)[name]
    return header[:start] + tables.short(value) + header[end:]


def headers(header: bytes) -> FieldTable:
    """The header table; empty where there is none. Raises ValueError."""
    span = spans(header).get("headers")
    return {} if span is None else tables.decode(header[span[0] + 4 : span[1]])


def rewrite(
    header: bytes, put: Mapping[str, FieldValue], *, without: Collection[str] = (), drop_expiration: bool = False
) -> bytes:
    """The same content header with these headers set, and without those. Fields that are not named keep their
    octets, so that types a client would not choose (64-bit integers, strings that are not UTF-8) survive."""
    found = spans(header)
    table = header[slice(*found["headers"])][4:] if "headers" in found else b""
    kept = b"".join(octets for key, _, octets in tables.fields(table) if key not in put and key not in without)
    added = b"".join(tables.short(key) + tables.encode_value(value) for key, value in put.items())
    pieces = {name: header[start:end] for name, (start, end) in found.items()}
    pieces["headers"] = len(kept + added).to_bytes(4) + kept + added
    if drop_expiration:
        pieces.pop("expiration", None)
    flagged = sum(_FLAG[name] for name in pieces)
    ordered = b"".join(pieces[name] for name, _ in _PROPERTIES if name in pieces)
    return header[:12] + flagged.to_bytes(2) + ordered
