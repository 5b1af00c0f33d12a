"""piperun: RabbitMQ pipelines written down in YAML. The names that handlers import; everything else is fetched when it
is asked for, so that importing this costs a handler's module nothing."""

from typing import TYPE_CHECKING

from pipeline.errors import Reject, Retry, SettlementError
from pipeline.message import Message

if TYPE_CHECKING:
    from pipeline.handlers.context import Context

__all__ = ["Context", "Message", "Reject", "Retry", "SettlementError"]


def __getattr__(name: str) -> object:
    if name == "Context":
        from pipeline.handlers.context import Context

        return Context
    if name == "__version__":
        from importlib.metadata import version

        return version("piperun")
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
