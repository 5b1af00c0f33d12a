"""Which queues and exchanges the clients of a line have declared, read from the bytes they sent: on a broker that
the tests do not control, that is the only way to know what to delete afterwards."""

from collections import defaultdict

HEADER = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME = 1
EXCHANGE_DECLARE = (40, 10)
QUEUE_DECLARE = (50, 10)


class Declared:
    """Fed with what each connection sends. Names of the broker's own (`amq.` and empty ones) are left out."""

    def __init__(self) -> None:
        self.queues: set[str] = set()
        self.exchanges: set[str] = set()
        self._unread: defaultdict[int, bytes] = defaultdict(bytes)

    def feed(self, connection: int, data: bytes) -> None:
        unread = (self._unread[connection] + data).removeprefix(HEADER)
        while len(unread) >= 7 and len(unread) >= (size := 8 + int.from_bytes(unread[3:7])):
            if unread[0] == METHOD_FRAME:
                self._read(unread[7 : size - 1])
            unread = unread[size:]
        self._unread[connection] = unread

    def _read(self, method: bytes) -> None:
        kinds = {EXCHANGE_DECLARE: self.exchanges, QUEUE_DECLARE: self.queues}
        names = kinds.get((int.from_bytes(method[:2]), int.from_bytes(method[2:4])))
        if names is not None:
            name = method[7 : 7 + method[6]].decode()  # after two reserved octets and the length
            if name and not name.startswith("amq."):
                names.add(name)
