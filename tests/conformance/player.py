"""Plays one scenario against one URL, and hands back what the broker said. After each step it waits until the broker
has dealt with it, so that what follows finds the same broker each time; the ways to wait are in README.md."""

from tests.conformance import wire
from tests.conformance.peer import Channel, Peer
from tests.conformance.scenario import Scenario, ScenarioError, Step
from tests.conformance.tables import Fields, Typed, Value
from tests.conformance.transcript import Event
from tests.conformance.waits import GaveUp, Waits
from tests.waiting import deadline


async def play(scenario: Scenario, url: str, patience: float = 10) -> list[Event]:
    """What the broker sent, in the order of its coming. Waits `patience` seconds for whatever must come; where it does
    not, the event `player.gave-up` is the last one. Raises ScenarioError where a step cannot be sent."""
    player = Player(url, deadline(patience))
    try:
        for step in scenario.steps:
            try:
                await player.do(step)
            except GaveUp as error:
                player.tell_of(step.connection, step.channel, step.text, error)
                break
            except Exception as error:
                raise ScenarioError(f"{scenario.id}: {step.text}: {error!r}") from error
        else:
            await player.finish()
    finally:
        await player.close()
    return player.events


class Player:
    """One run of a scenario."""

    def __init__(self, url: str, patience: float) -> None:
        self.events: list[Event] = []
        self._url = url
        self._waits = Waits(patience)
        self._peers: dict[str, Peer] = {}
        self._names: Fields = {}  # those given with `as`

    async def do(self, step: Step) -> None:
        """One step, as often as it says, and until the broker has dealt with it."""
        peer = await self._peer(step.connection)
        for n in range(1, step.times + 1):
            fields = {str(self._filled(key, n)): self._filled(value, n) for key, value in step.fields.items()}
            match step.verb:
                case "wait":
                    for word, count in fields.items():
                        assert isinstance(count, int)
                        await self._waits.more(peer, step.channel, word, count)
                case "ready":
                    for queue, count in fields.items():
                        await self._waits.ready(peer, queue, count)
                case "gone":
                    await self._waits.ready(peer, str(fields["queue"]), None)
                case "cut":
                    peer.cut()
                case "frame":
                    peer.send_frame(step.channel, fields)
                case _:
                    await self._send(peer, step, fields)

    async def finish(self) -> None:
        """Nothing is under way any more: every channel that lives has answered, every message is confirmed."""
        for peer in self._peers.values():
            for number, channel in list(peer.channels.items()):
                if channel.open and not channel.raw and not peer.over:
                    try:
                        await self._waits.dealt_with(peer, number)
                    except GaveUp as error:
                        self.tell_of(peer.name, number, "the end", error)

    async def close(self) -> None:
        for peer in self._peers.values():
            await peer.close()

    def tell_of(self, connection: str, channel: int, step: str, error: GaveUp) -> None:
        fields: Fields = {"step": step, "waited_for": str(error)}
        self.events.append(Event(connection=connection, channel=channel, name="player.gave-up", fields=fields))

    # Sending

    async def _send(self, peer: Peer, step: Step, fields: Fields) -> None:
        channel = peer.channels[step.channel]
        if step.channel and channel.never_used and step.verb != "channel.open":
            await self._waits.opened(peer, step.channel)
        answers = [wire.words(name) for name in wire.METHODS[step.verb].valid_responses]
        if fields.get("sync") is False:
            _send_method(peer, step, fields)
        elif answers and not fields.get("nowait"):
            await self._waits.answered(peer, step.channel, answers, lambda: _send_method(peer, step, fields))
        else:
            _send_method(peer, step, fields)
            if channel.open:
                await self._waits.dealt_with(peer, step.channel)
        if "as" in fields:
            self._keep_name(str(fields["as"]), channel, answers)

    async def _peer(self, name: str) -> Peer:
        if name not in self._peers:
            peer = Peer(name, self.events.append, self._waits.wake)
            await peer.connect(self._url)
            self._peers[name] = peer
        return self._peers[name]

    # Names

    def _keep_name(self, name: str, channel: Channel, answers: list[str]) -> None:
        for answer in answers:
            fields = channel.last.get(answer, {})
            self._names[name] = fields.get("queue") or fields.get("consumer_tag")

    def _filled(self, value: Value, n: int) -> Value:
        """With names for `$name`, and the number of the repetition for `%n`."""
        match value:
            case "$reply_to":
                return next(peer.reply_to for peer in self._peers.values() if peer.reply_to is not None)
            case str() if value.startswith("$"):
                return self._names[value[1:]]
            case str():
                return value.replace("%n", str(n))
            case list():
                return [self._filled(each, n) for each in value]
            case dict():
                return {key: self._filled(each, n) for key, each in value.items()}
        return value


def _send_method(peer: Peer, step: Step, fields: Fields) -> None:
    own = wire.fields_of(wire.METHODS[step.verb])
    peer.send(step.channel, step.verb, {key: value for key, value in fields.items() if key in own})
    if step.verb == "basic.publish" and fields.get("content", True):
        properties = fields.get("properties") or {}
        assert isinstance(properties, dict)
        peer.send_content(step.channel, properties, _body(fields))


def _body(fields: Fields) -> bytes:
    match fields:
        case {"size": int() as size}:
            return b"x" * size
        case {"body": Typed(kind="binary", value=str() as digits)}:
            return bytes.fromhex(digits)
    return str(fields.get("body", "x")).encode()
