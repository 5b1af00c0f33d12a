"""Who else gets a message: the routing keys in its headers CC and BCC (RabbitMQ, sender-selected distribution). BCC
is taken out, so that no consumer sees it. Where the keys lead to is `routing`'s business."""

from pipeline.embedded.wire import content, refusals, tables
from pipeline.embedded.wire.content import Keys, Message

# Whether a header may name copies is seen by these octets, without reading it: `BCC` ends in them, too, and so may
# any text that means nothing of the kind.
MARK = b"CC"


def with_copies(message: Message) -> Message:
    """The message with all keys it is to be routed by. Refuses (406) a header that is not an array."""
    start, end = content.spans(message.header).get("headers", (0, 0))
    kinds = tables.kinds(message.header[start + 4 : end])
    copies = _keys(message, "CC", kinds.get("CC"))
    blind = _keys(message, "BCC", kinds.get("BCC"))
    header = content.rewrite(message.header, {}, without=("BCC",)) if "BCC" in kinds else message.header
    return Message(message.exchange, message.routing_key, message.address, header, message.body, copies, blind)


def _keys(message: Message, name: str, kind: str | None) -> Keys:
    if kind is None:
        return ()
    if kind != "array":
        raise refusals.unacceptable_header(name, kind)
    keys = message.headers.get(name)
    assert isinstance(keys, list)  # the octets said so
    return tuple(_key(key) for key in keys if isinstance(key, str) or type(key) is bytes)


def _key(key: str | bytes) -> str:
    """Strings that are not UTF-8 are read as bytes; what is no string at all is no key."""
    return key if isinstance(key, str) else key.decode(errors="surrogateescape")
