"""The typed handlers of orders.yaml. A body that does not fit `Order` never reaches `charge`."""

from dataclasses import dataclass


@dataclass
class Order:
    number: int
    customer: str
    cents: int


@dataclass
class Invoice:
    order: int
    text: str


async def charge(order: Order) -> Invoice:
    """What is returned goes to queue `invoices`; the order is acknowledged when the broker has confirmed it."""
    return Invoice(order=order.number, text=f"{order.customer} pays {order.cents / 100:.2f}")


async def show(invoice: Invoice) -> None:
    print(f" [invoice] order {invoice.order}: {invoice.text}", flush=True)
