"""Why the broker says no: reply codes, what each of them ends, and RabbitMQ's own wording (3.10).
Everything that may refuse raises one of these; where and how it is answered is `connection`'s business."""

from enum import Enum


class Ends(Enum):
    """What a refusal closes (specification, 1.1: soft errors end the channel, hard errors the connection)."""

    CHANNEL = "channel"
    CONNECTION = "connection"


# Specification 1.4.2 "reply-code": the names; the level follows RabbitMQ, which is the specification's.
_CODES: dict[int, tuple[str, Ends]] = {
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
    530: ("NOT_ALLOWED", Ends.CONNECTION),
    540: ("NOT_IMPLEMENTED", Ends.CONNECTION),
    541: ("INTERNAL_ERROR", Ends.CONNECTION),
}


class Refusal(Exception):
    """Raised when the broker will not do what was asked; carries the reply code and the full reply text."""

    def __init__(self, code: int, reason: str, *, ends: Ends | None = None) -> None:
        name, level = _CODES[code]
        super().__init__(f"{name} - {reason}")
        self.code = code
        self.ends = ends or level

    @property
    def text(self) -> str:
        """Cut as RabbitMQ cuts it: a reply text is a short string."""
        text = str(self)
        if len(text.encode(errors="replace")) <= 255:
            return text
        return text.encode(errors="replace")[:252].decode(errors="ignore") + "..."


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


def foreign_user_id(claimed: str, user: str) -> Refusal:
    return Refusal(406, f"user_id property set to '{claimed}' but authenticated user was '{user}'")


def not_transactional() -> Refusal:
    return Refusal(406, "channel is not transactional")


def confirm_to_tx() -> Refusal:
    return Refusal(406, "cannot switch from confirm to tx mode")


# 501 to 505


def frame_error(kind: int, what: str, payload: bytes = b"") -> Refusal:
    return Refusal(501, f"type {kind}, {_snippet(payload)}: {what}")


def unknown_frame(kind: int, payload: bytes) -> Refusal:
    return frame_error(kind, "unknown_frame", payload)


def undecodable(method: str) -> Refusal:
    return Refusal(501, f"cannot decode {method}")


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


def unknown_exchange_type(name: str) -> Refusal:
    return Refusal(503, f"unknown exchange type '{name}'")


def channel_not_open() -> Refusal:
    return Refusal(504, "expected 'channel.open'")


def channel_open_already() -> Refusal:
    return Refusal(504, "second 'channel.open' seen")


def unexpected_frame(why: str) -> Refusal:
    return Refusal(505, why)


def unexpected_kind(kind: int, payload: bytes) -> Refusal:
    return Refusal(505, f"type {kind}, {_snippet(payload)}")


def _snippet(payload: bytes) -> str:
    """Octets as Erlang prints them, text as text, sixteen at most."""
    octets = "all octets" if len(payload) <= 16 else "first 16 octets"
    head = payload[:16]
    printable = head and all(32 <= octet < 127 for octet in head)
    shown = f'"{head.decode()}"' if printable else ",".join(str(octet) for octet in head)
    return f"{octets} = <<{shown}>>"


# 530, 540


def vhost_not_found(name: str) -> Refusal:
    return Refusal(530, f"vhost {name} not found")


def negotiated(field: str, value: int, relation: str, bound: str, limit: int) -> Refusal:
    return Refusal(530, f"negotiated {field} = {value} is {relation} than the {bound} allowed value ({limit})")


def too_many_channels(count: int, limit: int) -> Refusal:
    reason = f"number of channels opened ({count}) has reached the negotiated channel_max ({limit})"
    return Refusal(530, reason)


def consumer_tag_reused(tag: str) -> Refusal:
    return Refusal(530, f"attempt to reuse consumer tag '{tag}'")


def not_implemented(what: str) -> Refusal:
    return Refusal(540, what)


def no_global_qos(queue: str) -> Refusal:
    return Refusal(540, f"{queue} does not support global qos")
