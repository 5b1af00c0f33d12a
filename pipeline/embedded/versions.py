"""In what the versions of RabbitMQ differ that the broker in the box can behave like: one flag each, named for what
it means. Who obeys it asks `Behaviour`; nobody else compares version numbers."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How a version of RabbitMQ behaves."""

    version: str
    full_version: str  # told to clients in the server's properties
    transient_queues: bool  # neither durable nor exclusive
    body_max: int  # octets of the largest message (max_message_size)


_BEHAVIOURS = {
    "3.10": Behaviour(
        version="3.10",
        full_version="3.10.8",
        transient_queues=True,
        body_max=128 * 1024 * 1024,
    ),
    "4.3": Behaviour(
        version="4.3",
        full_version="4.3.6",
        transient_queues=False,
        body_max=16 * 1024 * 1024,
    ),
}
VERSIONS = tuple(_BEHAVIOURS)
NEWEST = VERSIONS[-1]


def behaviour_of(version: str) -> Behaviour:
    """Raises ValueError for a version that is not in `VERSIONS`."""
    try:
        return _BEHAVIOURS[version]
    except KeyError:
        known = " or ".join(VERSIONS)
        raise ValueError(f"the embedded broker behaves like RabbitMQ {known}, not like {version!r}") from None
