"""Which broker each file of a run gets: its own, or the one embedded broker that all files share. From here on it is an
address like any other."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.clock import Clock
from pipeline.config import address
from pipeline.config.model import Broker, Pipeline
from pipeline.values import Frozen, replace

if TYPE_CHECKING:
    from pipeline.embedded import EmbeddedBroker


class Brokers(Frozen, frozen=True, kw_only=True):
    """Per file its broker, and the URL of those that are embedded."""

    of_files: tuple[Broker, ...]
    urls: tuple[str | None, ...]
    embedded: "EmbeddedBroker | None"


@contextmanager
def brokers(pipelines: Sequence[Pipeline], clock: Clock) -> Iterator[Brokers]:
    """Starts the embedded broker where a file wants it, and ends it afterwards, with everything that it holds."""
    versions = [each.broker.version for each in pipelines if each.broker.embedded]
    if not versions:
        yield Brokers(of_files=tuple(each.broker for each in pipelines), urls=(None,) * len(pipelines), embedded=None)
        return
    # A tenth of what a start loads: a file with a broker of its own does without.
    from pipeline.embedded import EmbeddedBroker

    # One for all of them: files that differ in that are refused when they are loaded.
    with EmbeddedBroker(clock=clock, rabbitmq_version=versions[0]) as embedded:
        urls = tuple(embedded.url if each.broker.embedded else None for each in pipelines)
        of_files = tuple(at(each.broker, url) for each, url in zip(pipelines, urls, strict=True))
        yield Brokers(of_files=of_files, urls=urls, embedded=embedded)


def at(broker: Broker, url: str | None) -> Broker:
    """The same settings at another address; None leaves it where it is."""
    if url is None:
        return broker
    found = address.parse(url)
    assert isinstance(found, address.Url), "the embedded broker made this URL"
    return replace(broker, addresses=(found.address,))
