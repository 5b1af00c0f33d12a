"""Which dead letters somebody means: by a header's value, by what their story tells, by their id. Pure."""

from pipeline.failure.story import Story, as_text
from pipeline.message import Message
from pipeline.values import Frozen


class Condition(Frozen, frozen=True, kw_only=True):
    """`name` is a header, or where the message has no such header a word of its story such as `reason`."""

    name: str
    value: str

    def holds(self, message: Message, story: Story) -> bool:
        if self.name in message.headers:
            return as_text(message.headers[self.name]) == self.value
        return story.told().get(self.name) == self.value


class Wanted(Frozen, frozen=True, kw_only=True):
    """All conditions at once, and one of the ids. Empty, everything is wanted."""

    conditions: tuple[Condition, ...] = ()
    ids: tuple[str, ...] = ()

    @property
    def everything(self) -> bool:
        return not self.conditions and not self.ids

    def matches(self, message: Message, story: Story) -> bool:
        if self.ids and message.message_id not in self.ids:
            return False
        return all(each.holds(message, story) for each in self.conditions)


def condition(text: str) -> Condition | None:
    """`HEADER=VALUE`; None where it is not written so."""
    name, separator, value = text.partition("=")
    return Condition(name=name, value=value) if name and separator else None
