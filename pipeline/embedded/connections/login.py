"""What a client offers before its connection is open: name and password in either of two mechanisms, and limits.
Whether they are right is `node`'s to say, what follows is `connection`'s."""

from pipeline.embedded.wire import refusals, tables


def negotiated(field: str, value: int, least: int, most: int) -> int:
    """RabbitMQ lets a client go down, not up; 0 would be without limit."""
    if value and value < least:
        raise refusals.negotiated(field, value, "lower", "minimum", least)
    if not value or value > most:
        raise refusals.negotiated(field, value, "higher", "maximum", most)
    return value


def _plain(response: str | bytes) -> tuple[str, str]:
    """RFC 4616 without an identity to act as: user and password, each with a zero octet in front."""
    octets = response if isinstance(response, bytes) else response.encode()
    parts = octets.split(b"\0")
    if len(parts) != 3 or parts[0]:
        raise refusals.malformed("the response of PLAIN")
    return parts[1].decode(errors="replace"), parts[2].decode(errors="replace")


def _amqplain(response: str | bytes) -> tuple[str, str]:
    """A table without its length in front, with LOGIN and PASSWORD."""
    octets = response if isinstance(response, bytes) else response.encode()
    try:
        table = tables.decode(octets)
    except ValueError:
        table = {}
    user, password = table.get("LOGIN"), table.get("PASSWORD")
    if not isinstance(user, str) or not isinstance(password, str):
        raise refusals.malformed("the response of AMQPLAIN")
    return user, password


CREDENTIALS = {"PLAIN": _plain, "AMQPLAIN": _amqplain}
