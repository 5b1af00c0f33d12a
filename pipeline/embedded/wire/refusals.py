"""Why the broker says no: reply codes, what each of them ends, and RabbitMQ's own wording.
Everything that may refuse raises one of these; where and how it is answered is `connection`'s business."""

import re
from enum import Enum


class Ends(Enum):
    """What a refusal closes (specification, 1.1: soft errors end the channel, hard errors the connection)."""

    CHANNEL = "channel"
    CONNECTION = "connection"


# Specification 1.4.2 "reply-code": the names; the level follows RabbitMQ, which is the specification's.
CODES: dict[int, tuple[str, Ends]] = {
    320: ("CONNECTION_FORCED", Ends.CONNECTION),
    403: ("ACCESS_REFUSED", Ends.CHANNEL),
    404: ("NOT_FOUND", Ends.CHANNEL),
    405: ("RESOURCE_LOCKED", Ends.CHANNEL),
    406: ("PRECONDITION_FAILED", Ends.CHANNEL),
    501: ("FRAME_ERROR", Ends.CONNECTION),
    502: ("SYNTAX_ERROR", Ends.CONNECTION),
    503: ("COMMAND_INVALID", Ends.CONNECTION),
    504: ("CHANNEL_ERROR", Ends.CONNECTION),
    505: ("UNEXPECTED_FRAME", Ends.CONNECTION),
    506: ("RESOURCE_ERROR", Ends.CONNECTION),
    530: ("NOT_ALLOWED", Ends.CONNECTION),
    540: ("NOT_IMPLEMENTED", Ends.CONNECTION),
    541: ("INTERNAL_ERROR", Ends.CONNECTION),
}


_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # what Python makes of such octets


class Refusal(Exception):
    """Raised when the broker will not do what was asked; carries the reply code and the full reply text. One that is
    `early` comes, in RabbitMQ, from in front of the channel: the close that tells a channel's peer names no method."""

    def __init__(self, code: int, reason: str, *, ends: Ends | None = None, early: bool = False) -> None:
        name, level = CODES[code]
        super().__init__(f"{name} - {reason}")
        self.code = code
        self.ends = ends or level
        self.early = early

    @property
    def text(self) -> str:
        """Cut as RabbitMQ cuts it: a reply text is a short string. Octets of a name that are no UTF-8 are shown as
        Latin-1, as RabbitMQ 4.3 shows them."""
        text = _NOT_UTF8.sub(lambda octet: chr(ord(octet[0]) - 0xDC00), str(self))
        if len(text.encode()) <= 255:
            return text
        return text.encode()[:252].decode(errors="ignore") + "..."


def queue_in(vhost: str, name: str) -> str:
    return f"queue '{name}' in vhost '{vhost}'"


def exchange_in(vhost: str, name: str) -> str:
    return f"exchange '{name}' in vhost '{vhost}'"


# 320, 403


def shutdown() -> Refusal:
    return Refusal(320, "broker forced connection closure with reason 'shutdown'")


def login(mechanism: str) -> Refusal:
    reason = f"Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
    return Refusal(403, reason, ends=Ends.CONNECTION)


def default_exchange() -> Refusal:
    return Refusal(403, "operation not permitted on the default exchange")


def reserved_prefix(kind: str, name: str) -> Refusal:
    return Refusal(403, f"{kind} name '{name}' contains reserved prefix 'amq.*'")


def reply_queue_bound() -> Refusal:
    return Refusal(403, "cannot bind or unbind to a volatile (direct reply-to) queue")


def system_exchange(exchange: str) -> Refusal:
    return Refusal(403, f"deletion of system {exchange} not allowed")


def internal_exchange(exchange: str) -> Refusal:
    return Refusal(403, f"cannot publish to internal {exchange}")


def exclusive_use(queue: str) -> Refusal:
    return Refusal(403, f"{queue} in exclusive use")


# 404, 405


def not_found(thing: str) -> Refusal:
    return Refusal(404, f"no {thing}")


def no_previous_queue() -> Refusal:
    return Refusal(404, "no previously declared queue")


def locked(queue: str) -> Refusal:
    return Refusal(
        405,
        f"cannot obtain exclusive access to locked {queue}. It could be originally declared on another "
        "connection or the exclusive property value does not match that of the original declaration.",
    )


def no_get_of_single_active(queue: str, kind: str) -> Refusal:
    text = f"basic.get operations are not supported by {kind} queues with single active consumer"
    return Refusal(405, f"cannot obtain access to locked {queue}. {text}")


# 406


def inequivalent(argument: str, thing: str, received: str, current: str) -> Refusal:
    return Refusal(406, f"inequivalent arg '{argument}' for {thing}: received {received} but current is {current}")


def invalid_argument(argument: str, queue: str, why: str) -> Refusal:
    return Refusal(406, f"invalid arg '{argument}' for {queue}: {why}")


def invalid_type(kind: str, argument: str, thing: str) -> Refusal:
    return Refusal(406, f"invalid type '{kind}' for arg '{argument}' in {thing}")


def invalid_x_match(value: object) -> Refusal:
    return Refusal(406, f'Invalid x-match field value <<"{value}">>; expected all, any, all-with-x, or any-with-x')


def invalid_x_match_type(kind: str, value: object) -> Refusal:
    return Refusal(406, f"Invalid x-match field type {kind} (value {value}); expected longstr")


def key_not_permitted(routing_key: str) -> Refusal:
    return Refusal(406, f"Non empty binding '{routing_key}' key not permitted")


def no_destination() -> Refusal:
    return Refusal(406, "Destination not found")


def queue_type_not_valid(queue_type: str) -> Refusal:
    return Refusal(406, f"Queue type rabbit_{queue_type}_queue not valid for this exchange type")


def argument_of_other_type(argument: str, queue: str, queue_type: str) -> Refusal:
    return Refusal(406, f"invalid arg '{argument}' for {queue} of queue type {queue_type}")


def invalid_property(name: str, queue: str) -> Refusal:
    return Refusal(406, f"invalid property '{name}' for {queue}")


def server_named(queue_type: str) -> Refusal:
    return Refusal(406, f"Cannot declare a server-named queue for type {queue_type}")


def unknown_delivery_tag(tag: int) -> Refusal:
    return Refusal(406, f"unknown delivery tag {tag}")


def in_use(thing: str) -> Refusal:
    return Refusal(406, f"{thing} in use")


def not_empty(queue: str) -> Refusal:
    return Refusal(406, f"{queue} not empty")


def too_large(size: int, limit: int) -> Refusal:
    return Refusal(406, f"message size {size} is larger than configured max size {limit}")


def invalid_expiration(value: str, why: str) -> Refusal:
    return Refusal(406, f"invalid expiration '{value}': {why}")


def unacceptable_header(name: str, kind: str) -> Refusal:
    return Refusal(406, f'invalid message: {{unacceptable_type_in_header,"{name}",{kind}}}')


def unknown_delivery_mode(mode: int) -> Refusal:
    return Refusal(406, f"invalid message: {{delivery_mode_unknown,{mode}}}")


def delivery_timed_out(channel: int, milliseconds: int) -> Refusal:
    return Refusal(
        406,
        f"delivery acknowledgement on channel {channel} timed out. Timeout value used: {milliseconds} ms. This timeout "
        "value can be configured, see consumers doc guide to learn more",
    )


def foreign_user_id(claimed: str, user: str) -> Refusal:
    return Refusal(406, f"user_id property set to '{claimed}' but authenticated user was '{user}'")


def not_transactional() -> Refusal:
    return Refusal(406, "channel is not transactional")


def confirm_to_tx() -> Refusal:
    return Refusal(406, "cannot switch from confirm to tx mode")


def tx_to_confirm() -> Refusal:
    return Refusal(406, "cannot switch from tx to confirm mode")


def transaction_full(most: int) -> Refusal:
    return Refusal(406, f"transaction has reached the maximum of {most} uncommitted publishes")


def partial_commit() -> Refusal:
    return Refusal(406, "partial tx completion")


def no_reply_consumer() -> Refusal:
    return Refusal(406, "fast reply consumer does not exist")


def reply_consumer_must_not_acknowledge() -> Refusal:
    return Refusal(406, "reply consumer cannot acknowledge")


def second_reply_consumer() -> Refusal:
    return Refusal(406, "reply consumer already set")


# 501 to 505


def frame_error(kind: int, what: str, payload: bytes = b"") -> Refusal:
    return Refusal(501, f"{_snippet(kind, payload)}: {what}", early=True)


def bad_end(kind: int, end: int, payload: bytes) -> Refusal:
    before = f"{_snippet(kind, payload)}: "
    column = len(before.rpartition("\n")[2])
    what = f"{{invalid_frame_end_marker,{end}}}"
    if column + len(what) >= _LINE - 1:
        what = what.replace(",", ",\n" + " " * (column + 1))
    return Refusal(501, before + what)


def unknown_frame(kind: int, payload: bytes) -> Refusal:
    return frame_error(kind, "unknown_frame", payload)


def undecodable(arguments: bytes) -> Refusal:
    return Refusal(501, f"cannot decode <<{_numbers(arguments[:128])}>>")  # more than a text holds


def malformed_text() -> Refusal:
    return Refusal(501, "Malformed UTF-8 in shortstr", early=True)


def malformed(what: str) -> Refusal:
    return Refusal(502, f"cannot decode {what}")


def unknown_method(class_id: int, method_id: int) -> Refusal:
    return Refusal(503, f"unknown method {class_id}.{method_id}")


def unimplemented_method() -> Refusal:
    return Refusal(503, "unimplemented method")


def unexpected_method(state: str) -> Refusal:
    return Refusal(504, f"unexpected method in connection state {state}")


def unknown_mechanism(name: str) -> Refusal:
    return Refusal(503, f"unknown authentication mechanism '{name}'")


def unknown_exchange_type(name: str, code: int) -> Refusal:
    """RabbitMQ's second word is for names that Erlang has heard before."""
    return Refusal(code, f"{'unknown' if name else 'invalid'} exchange type '{name}'")


def channel_not_open() -> Refusal:
    return Refusal(504, "expected 'channel.open'")


def channel_open_already() -> Refusal:
    return Refusal(504, "second 'channel.open' seen")


def cannot_deliver(vhost: str, queue: str) -> Refusal:
    """Broken into lines as Erlang breaks it."""
    text, margin = "failed to deliver message: {not_found,", 31
    resource, name = f'{{resource,<<"{vhost}">>,queue,', f'<<"{queue}">>}}}}'
    if len(text + resource + name) >= _LINE - 1:
        text += "\n" + " " * margin
        if margin + len(resource + name) >= _LINE - 1:
            resource += "\n" + " " * (margin + 4)
    return Refusal(506, text + resource + name)


def too_much_unfinished(limit: int) -> Refusal:
    """Not RabbitMQ's: there, the memory of the machine is the limit."""
    what = "messages that are not whole or not committed yet"
    return Refusal(506, f"{what} take more than {limit} octets on this connection")


def no_body() -> Refusal:
    return unexpected_frame("expected content body, got non content body frame instead")


def too_much_body() -> Refusal:
    return Refusal(501, "content body frame exceeds remaining content size")


def unexpected_frame(why: str) -> Refusal:
    return Refusal(505, why)


def method_expected() -> Refusal:
    return unexpected_frame("expected method frame, got non method frame instead")


def unexpected_kind(kind: int, payload: bytes) -> Refusal:
    return Refusal(505, _snippet(kind, payload))


_LINE = 80  # Erlang breaks what it prints where a line would become longer than this
_ESCAPES = {8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 27: "\\e", 34: '\\"', 92: "\\\\"}


def _snippet(kind: int, payload: bytes) -> str:
    """Sixteen octets at most, as Erlang prints them: text as text, everything else as numbers."""
    before = f"type {kind}, {'all' if len(payload) <= 16 else 'first 16'} octets = <<"
    head = payload[:16]
    if head and all(32 <= octet < 127 or octet in _ESCAPES for octet in head):
        return before + '"' + "".join(_ESCAPES.get(octet, chr(octet)) for octet in head) + '">>'
    whole = before + _numbers(head) + ">>"
    if len(whole) <= _LINE:
        return whole
    first = whole.rindex(",", 0, _LINE - 1) + 1
    return whole[:first] + "\n" + " " * len(before) + whole[first:]


def _numbers(octets: bytes) -> str:
    return ",".join(str(octet) for octet in octets)


# 530, 540


def vhost_not_found(name: str) -> Refusal:
    return Refusal(530, f"vhost {name} not found")


def negotiated(field: str, value: int, relation: str, bound: str, limit: int) -> Refusal:
    return Refusal(530, f"negotiated {field} = {value} is {relation} than the {bound} allowed value ({limit})")


def too_many_channels(count: int, limit: int) -> Refusal:
    reason = f"number of channels opened ({count}) has reached the negotiated channel_max ({limit})"
    return Refusal(530, reason, early=True)


def consumer_tag_reused(tag: str) -> Refusal:
    return Refusal(530, f"attempt to reuse consumer tag '{tag}'")


def not_implemented(what: str) -> Refusal:
    return Refusal(540, what)


def no_conditional_delete(queue: str, flag: str) -> Refusal:
    reason = f"queue.delete operations with {flag} flag set are not supported by quorum queues"
    return Refusal(540, f"cannot delete {queue}. {reason}")


def deprecated(feature: str) -> Refusal:
    """More than a reply text can hold, as RabbitMQ says it."""
    return Refusal(
        541,
        f"Feature `{feature}` is deprecated.\nBy default, this feature is not permitted anymore.\n"
        "The feature will be removed from a future major RabbitMQ version, regardless of the configuration; actual "
        "version to be determined.\nTo continue using this feature when it is not permitted by default, set the "
        f'following parameter in your configuration:\n    "deprecated_features.permit.{feature} = true"',
    )


def internal_error() -> Refusal:
    return Refusal(541, "the broker has made a mistake; its log says which")


def no_global_qos(queue: str) -> Refusal:
    return Refusal(540, f"{queue} does not support global qos")
