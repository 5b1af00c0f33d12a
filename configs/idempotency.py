"""The payments of idempotency.yaml, each sent twice under one id, and the handler, which must charge nobody twice."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline import Message


@dataclass
class Payment:
    customer: str
    euros: int


def payments() -> Iterator[Message]:
    for number in range(1, 4):
        for _ in range(2):
            yield Message({"customer": "Ada", "euros": 10 * number}, message_id=f"payment-{number}")


async def charge(payment: Payment, message: Message) -> None:
    print(f" [{message.message_id}] {payment.customer} pays {payment.euros} euros", flush=True)
