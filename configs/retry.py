"""What configs/retry.yaml names: payments, and a handler whose service is away for a while."""

from collections.abc import Iterator

from pipeline import Message


class Unavailable(Exception):
    """The service is away; it may be back in a moment."""


def payments() -> Iterator[dict[str, object]]:
    yield {"order": 1, "away_for": 0}
    yield {"order": 2, "away_for": 2}
    yield {"order": 3, "away_for": 99}
    yield {"order": 4}


def charge(payment: dict[str, int], message: Message) -> None:
    order, attempt = payment["order"], message.attempt
    if payment["away_for"] >= attempt:  # order 4 does not say: a KeyError, which no other attempt would mend
        print(f" [x] order {order}, attempt {attempt}: the service is away", flush=True)
        raise Unavailable("no answer within a second")
    print(f" [x] order {order}, attempt {attempt}: charged", flush=True)
