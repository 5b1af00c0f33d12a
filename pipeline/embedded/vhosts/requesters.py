"""Who waits for replies in one virtual host, under names of direct reply-to. How such a name comes to be, and what
becomes of a reply, `reply_names` and `direct_reply` know."""

from pipeline.embedded.ground.versions import Behaviour
from pipeline.embedded.vhosts import reply_names
from pipeline.embedded.vhosts.routing import Target
from pipeline.embedded.wire import refusals
from pipeline.embedded.wire.content import Message


class Requesters:
    def __init__(self, vhost: str, behaviour: Behaviour) -> None:
        self._vhost = vhost
        self._behaviour = behaviour
        self._waiting: dict[str, Target] = {}

    def add(self, requester: Target) -> None:
        self._waiting[requester.name] = requester

    def remove(self, requester: Target) -> None:
        del self._waiting[requester.name]

    def check(self, name: str) -> None:
        """Refuses (404) a name under which nobody waits."""
        if name != reply_names.GENERIC and name not in self._waiting:
            raise refusals.not_found(refusals.queue_in(self._vhost, name))

    def check_bindable(self, name: str) -> None:
        """Refuses (403) all these names."""
        if self._behaviour.reply_queues and name.startswith(reply_names.PREFIX):
            raise refusals.reply_queue_bound()

    def waiting_for(self, message: Message) -> list[Target]:
        """Those the message is addressed to, gone or not."""
        found: list[Target] = []
        for key in dict.fromkeys(message.keys):
            requester = self._waiting.get(key)
            if requester is not None:
                found.append(requester)
            elif reply_names.may_have_been(key):
                found.append(reply_names.Vanished(name=key))
        return found
