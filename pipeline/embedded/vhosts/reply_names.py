"""The names of direct reply-to: the one that requesters consume from, and those that their messages carry instead.
Of the same shape as RabbitMQ's. Who waits under which name, `vhost` knows."""

import base64
import binascii
import secrets
from dataclasses import dataclass

from pipeline.embedded.wire.content import Message

GENERIC = "amq.rabbitmq.reply-to"
PREFIX = f"{GENERIC}."

# RabbitMQ's names hold an Erlang process id in Base64, and a key that nobody can guess. The first is all that tells a
# name of a requester who is gone from one that never was.
_PROCESS = b"\x83Xv\x00\x07reply@0"


def new_name() -> str:
    process = base64.b64encode(_PROCESS + secrets.token_bytes(12)).decode()
    return f"{PREFIX}{process}.{base64.b64encode(secrets.token_bytes(16)).decode()}"


def may_have_been(name: str) -> bool:
    """Whether there may have been a requester of this name."""
    process = name.removeprefix(PREFIX).partition(".")[0]
    try:
        return name.startswith(PREFIX) and base64.b64decode(process, validate=True).startswith(_PROCESS)
    except (binascii.Error, ValueError):
        return False


@dataclass(frozen=True, kw_only=True)
class Vanished:
    """Whoever waited under this name is gone, and so are the replies."""

    name: str

    def push(self, message: Message) -> bool:
        return True
