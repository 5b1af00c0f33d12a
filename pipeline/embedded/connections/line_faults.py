"""A line that ends inside a frame: how much of the output still leaves. Pure; octets go in, and those that are to be
written come out. Who has asked for the fault, and who closes the socket, is not known here."""

from pipeline.embedded.wire import frames

_DELIVER = b"\x00\x3c\x00\x3c"  # class basic, method deliver (specification, 1.8.3)


class Cut:
    """Lets through `octets` octets of output and no more. With `at_delivery` they are counted from the first octet of
    the next basic.deliver; what comes before that passes."""

    def __init__(self, octets: int, *, at_delivery: bool) -> None:
        self._left = octets
        self._waiting = at_delivery

    @property
    def done(self) -> bool:
        return not self._waiting and self._left == 0

    def lets_through(self, octets: bytes) -> bytes:
        """Output is always handed over in whole frames."""
        passed = 0
        if self._waiting:
            start = _first_delivery(octets)
            if start is None:
                return octets
            self._waiting, passed = False, start
        end = min(len(octets), passed + self._left)
        self._left -= end - passed
        return octets[:end]


def _first_delivery(octets: bytes) -> int | None:
    """Specification 4.2.3: type, channel, size in seven octets, the payload, and one octet that ends the frame."""
    start = 0
    while start < len(octets):
        size = int.from_bytes(octets[start + 3 : start + 7])
        if octets[start] == frames.METHOD and octets[start + 7 : start + 11] == _DELIVER:
            return start
        start += size + 8
    return None
