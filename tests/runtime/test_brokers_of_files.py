"""Which broker each file of a run gets: the embedded one is of the version that the files are for."""

import aio_pika
import pytest
from aio_pika.exceptions import ConnectionClosed

from pipeline.clock import SystemClock
from pipeline.runtime.broker import brokers
from tests.config.loading import pipeline_of


@pytest.mark.parametrize(
    ("file", "version"),
    [
        ("name: a\n", "4.3.6"),
        ('broker: {version: "4.3"}\n', "4.3.6"),
        ('broker: {version: "3.10"}\n', "3.10.8"),
    ],
)
async def test_the_embedded_broker_behaves_like_the_version_in_the_file(file: str, version: str) -> None:
    with brokers([pipeline_of(file)], SystemClock()) as found:
        assert found.urls[0] is not None
        connection = await aio_pika.connect(found.urls[0])
        async with connection:
            # As it says
            transport = connection.transport
            assert transport is not None
            properties = transport.connection.server_properties
            assert properties["version"] == version
            # And as it does
            channel = await connection.channel()
            if version.startswith("3"):
                await channel.declare_queue("transient", durable=False)
            else:
                with pytest.raises(ConnectionClosed, match="transient_nonexcl_queues"):
                    await channel.declare_queue("transient", durable=False)


def test_files_with_brokers_of_their_own_start_none() -> None:
    with brokers([pipeline_of('broker: {url: "amqp://localhost", version: "3.10"}\n')], SystemClock()) as found:
        assert found.embedded is None
        assert found.urls == (None,)
