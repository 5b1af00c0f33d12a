"""What a test may do to lines: drop them, cut them inside a frame, freeze them, turn newcomers away, close them with a
word. How a line breaks, `client` knows."""

from pipeline.embedded.connections.client import Client
from pipeline.embedded.connections.line_faults import Cut
from pipeline.embedded.controls import ConnectionSeen, Controls, Which, listed, on_connection
from pipeline.embedded.wire.refusals import CODES, Refusal


class LineControls(Controls):
    """Each is done when it returns."""

    # Lines

    def connections(self) -> list[ConnectionSeen]:
        """The clients that are connected now."""
        return self._over_there(lambda: [_seen(client) for client in self._running().clients])

    def drop_connections(self, which: Which = None) -> None:
        """Cut lines without a word, as a network would."""
        self._each(which, Client.abort)

    def cut_inside_frame(self, which: Which = None, *, octets: int = 10, at_delivery: bool = False) -> None:
        """End lines in the middle of what is written next: after so many octets of output, or of the next message
        that is delivered. A frame has at least eight."""
        if octets < 0:
            raise ValueError(f"cannot cut after {octets} octets; 0 or more")

        def cut(client: Client) -> None:
            client.cut = Cut(octets, at_delivery=at_delivery)

        self._each(which, cut)

    def freeze_connections(self, which: Which = None) -> None:
        """From now on nothing is read from them and nothing written to them, heartbeats included; their sockets stay
        open. Queues go on delivering to them until what is not written yet is enough."""
        self._each(which, Client.freeze)

    def thaw_connections(self, which: Which = None) -> None:
        """Those that are not frozen stay as they are."""
        self._each(which, Client.thaw)

    def refuse_connections(self) -> None:
        """From now on whoever connects is hung up on at once; those who are connected are left alone."""
        self._accept(False)

    def accept_connections(self) -> None:
        """Whoever connects is welcome again."""
        self._accept(True)

    def _accept(self, accepting: bool) -> None:
        def act() -> None:
            self._running().refusing = not accepting

        self._over_there(act)

    # Closing with a word

    def close_connections(
        self,
        code: int = 320,
        reason: str = "broker forced connection closure with reason 'shutdown'",
        *,
        which: Which = None,
    ) -> None:
        """Send connection.close."""
        refusal = _refusal(code, reason)
        self._each(which, on_connection(lambda connection: connection.close(refusal)))

    def close_channels(
        self,
        code: int = 406,
        reason: str = "closed by a test",
        *,
        which: Which = None,
        number: int | None = None,
    ) -> None:
        """Send channel.close to the channel of that number, or to all of them."""
        refusal = _refusal(code, reason)
        self._each(which, on_connection(lambda connection: connection.close_channels(number, refusal)))

    def close_channels_consuming(
        self, queue: str, code: int = 406, reason: str = "delivery acknowledgement timed out"
    ) -> None:
        """Send channel.close to each channel that has a consumer of this queue, in every virtual host."""
        refusal = _refusal(code, reason)
        self._each(None, on_connection(lambda connection: connection.close_consuming(queue, refusal)))


def _refusal(code: int, reason: str) -> Refusal:
    if code not in CODES:
        raise ValueError(f"nothing is closed with code {code}; there are: {listed(str(each) for each in CODES)}")
    return Refusal(code, reason)


def _seen(client: Client) -> ConnectionSeen:
    connection = client.connection
    return ConnectionSeen(name=connection.name, peer=connection.peer, channels=tuple(connection.channels))
