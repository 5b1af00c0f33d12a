"""What a client offers before its connection is open: name and password in either of two mechanisms, and limits.
Whether they are right is `node`'s to say, what follows is `connection`'s."""

from pipeline.embedded import frames, refusals


def negotiated(field: str, value: int, least: int, most: int) -> int:
    """RabbitMQ lets a client go down, not up; 0 would be without limit."""
    if value and value < least:
        raise refusals.negotiated(field, value, "lower", "minimum", least)
    if not value or value > most:
        raise refusals.negotiated(field, value, "higher", "maximum", most)
    return value


def _plain(response: str | bytes) -> tuple[str, str]:
    """RFC 4616: an identity that is not used here, the user, the password, with a zero octet before the latter two."""
    octets = response if isinstance(response, bytes) else response.encode()
    parts = octets.split(b"\0")
    return ("", "") if len(parts) != 3 else (parts[1].decode(errors="replace"), parts[2].decode(errors="replace"))


def _amqplain(response: str | bytes) -> tuple[str, str]:
    """A table without its length in front, with LOGIN and PASSWORD."""
    octets = response if isinstance(response, bytes) else response.encode()
    try:
        table = frames.decode_table(len(octets).to_bytes(4) + octets)
    except ValueError:
        return "", ""
    return str(table.get("LOGIN", "")), str(table.get("PASSWORD", ""))


CREDENTIALS = {"PLAIN": _plain, "AMQPLAIN": _amqplain}
