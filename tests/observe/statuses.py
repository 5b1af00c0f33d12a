"""A run's status with every value given, for tests that change one or two of them."""

from typing import Any

from pipeline.ledger import CONSUMER_TERMS, DUPLICATES
from pipeline.observe.health import Connection, Numbers, Process, Registered, Status


def a_connection(**changes: Any) -> Connection:
    values: dict[str, Any] = {"pipeline": "shop", "name": "publish", "up": True, "blocked": False, "reconnects": 0}
    return Connection(**{**values, "reason": "", **changes})


def a_registered(**changes: Any) -> Registered:
    values: dict[str, Any] = {"pipeline": "shop", "consumer": "charge", "queue": "billing", "state": "registered"}
    return Registered(**{**values, "reason": "", **changes})


def a_process(**changes: Any) -> Process:
    values: dict[str, Any] = {"name": "", "phase": "ready", "reason": "", "connections": (a_connection(),)}
    return Process(**{**values, "consumers": (a_registered(),), **changes})


def consumed(name: str = "charge", **terms: int) -> Numbers:
    return Numbers(
        pipeline="shop", name=name, terms={**dict.fromkeys((*CONSUMER_TERMS, "in_hand", DUPLICATES), 0), **terms}
    )


def a_status(*processes: Process, **changes: Any) -> Status:
    values: dict[str, Any] = {"stopping": False, "restarts": None, "consumers": (), "producers": ()}
    return Status(processes=processes or (a_process(),), **{**values, **changes})
