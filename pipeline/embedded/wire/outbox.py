"""What one connection has to send and has not yet handed to its socket. Pieces are gathered and leave together,
once per turn of the loop; `full` is what stops deliveries to a peer that does not keep up."""

from collections.abc import Callable

ENOUGH = 256 * 1024  # octets after which deliveries wait until some have left
TOO_MUCH = 8 * 1024 * 1024  # octets of answers after which the peer is not read either


class Outbox:
    """Bounded for deliveries, which ask `full` first. Answers are always taken: they follow from what the peer
    sends, and whoever has not read `TOO_MUCH` of them is not listened to until it has. `full` and `clogged` stay until
    whoever has asked for them takes them back."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.full = False
        self.clogged = False
        self._wake = wake
        self._pieces: list[bytes] = []
        self._size = 0
        self._has_spoken = False

    @property
    def size(self) -> int:
        return self._size

    def put(self, octets: bytes) -> None:
        if not self._pieces:
            self._wake()
        self._pieces.append(octets)
        self._size += len(octets)
        if self._size > ENOUGH:
            self._swell()

    def put_pieces(self, pieces: list[bytes], size: int) -> None:
        if not self._pieces:
            self._wake()
        self._pieces += pieces
        self._size += size
        if self._size > ENOUGH:
            self._swell()

    def _swell(self) -> None:
        self.full = True
        if self._size > TOO_MUCH:
            self.clogged = True

    def take(self) -> bytes:
        octets = b"".join(self._pieces)
        if octets:
            self._has_spoken = True
        self._pieces.clear()
        self._size = 0
        return octets

    def has_spoken(self) -> bool:
        """Whether anything has left since this was asked last."""
        spoken, self._has_spoken = self._has_spoken, False
        return spoken
