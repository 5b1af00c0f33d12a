"""When a connection must say something, when its peer has been silent for too long, and when a step has taken too
long. Times are handed in; nothing here reads a clock."""


class Pulse:
    """Seconds on a clock that never goes back. `heartbeat` is the negotiated interval; 0 is without heartbeats."""

    def __init__(self) -> None:
        self.heartbeat = 0
        self._last_heard = 0.0
        self._last_spoken = 0.0
        self._began: float | None = None

    def beat_is_due(self, now: float, *, spoken: bool) -> bool:
        """Specification 4.2.7: any octet counts as a heartbeat. Half the interval, so that none comes late."""
        if spoken:
            self._last_spoken = now
        return bool(self.heartbeat) and now - self._last_spoken >= self.heartbeat / 2

    def is_lost(self, now: float, *, heard: bool) -> bool:
        """Specification 4.2.7: two intervals without an octet, and the peer counts as gone."""
        if heard:
            self._last_heard = now
        return bool(self.heartbeat) and now - self._last_heard > 2 * self.heartbeat

    def is_late(self, now: float, seconds: float) -> bool:
        """Whether a step, handshake or close, lasts that long. Counted from the first time this is asked."""
        if self._began is None:
            self._began = now
        return now - self._began >= seconds

    def start_again(self) -> None:
        """Another step begins."""
        self._began = None
