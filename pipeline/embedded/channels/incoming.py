"""What is looked at in a message before it goes anywhere: its properties, and what RabbitMQ puts in their place. In
its order, since the first thing that is wrong is the one that is named. Where the message goes is not known here."""

from pipeline.embedded.channels.direct_reply import DirectReply
from pipeline.embedded.declarations import arguments
from pipeline.embedded.ground.versions import Behaviour
from pipeline.embedded.vhosts import reply_names
from pipeline.embedded.wire import content, copies, refusals
from pipeline.embedded.wire.content import Message
from pipeline.embedded.wire.frames import Publish


class Incoming:
    """The messages of one channel. `first` and `last` are the properties that are looked at, before and after the
    headers CC and BCC: most messages have none of them."""

    def __init__(self, user: str, behaviour: Behaviour, direct_reply: DirectReply) -> None:
        self._user = user
        self._behaviour = behaviour
        self._direct_reply = direct_reply
        self._first = content.REPLY_TO | content.EXPIRATION
        self._last = 0
        if behaviour.user_id_last:
            self._last |= content.USER_ID
        else:
            self._first |= content.USER_ID
        if not behaviour.any_delivery_mode:
            self._last |= content.DELIVERY_MODE

    def message(self, publish: Publish, header: bytes, body: bytes) -> Message:
        """Refuses (406) what must not be, and (502) what cannot be read."""
        try:
            content.check(header)
        except ValueError:
            raise refusals.malformed("content header") from None
        flags = content.flags(header)
        if flags & self._first:
            header = self._look_first(header, flags & self._first)
        message = Message(publish.exchange, publish.routing_key, publish.address, header, body)
        if copies.MARK in header:
            message = copies.with_copies(message)
        if flags & self._last:
            self._look_last(header, flags & self._last)
        return message

    def _look_first(self, header: bytes, flags: int) -> bytes:
        if flags & content.REPLY_TO and content.text(header, "reply_to") == reply_names.GENERIC:
            header = content.with_text(header, "reply_to", self._direct_reply.name)
        if flags & content.USER_ID:
            self._check_user_id(header)
        if flags & content.EXPIRATION:
            header = self._with_expiration(header)
        return header

    def _look_last(self, header: bytes, flags: int) -> None:
        if flags & content.DELIVERY_MODE:
            _check_delivery_mode(header)
        if flags & content.USER_ID:
            self._check_user_id(header)

    def _check_user_id(self, header: bytes) -> None:
        claimed = content.text(header, "user_id")
        if claimed != self._user:
            raise refusals.foreign_user_id(str(claimed), self._user)

    def _with_expiration(self, header: bytes) -> bytes:
        text = str(content.text(header, "expiration"))
        arguments.check_expiration(text)
        milliseconds = str(int(text))
        if text == milliseconds or not self._behaviour.expiration_is_number:
            return header
        return content.with_text(header, "expiration", milliseconds)


def _check_delivery_mode(header: bytes) -> None:
    mode = header[content.spans(header)["delivery_mode"][0]]
    if mode not in (1, 2):
        raise refusals.unknown_delivery_mode(mode)
