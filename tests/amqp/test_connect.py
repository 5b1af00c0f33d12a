"""Connecting: every way in which it can fail ends within the deadline in a sentence that names host, port and cause,
and never the password."""

import asyncio
import secrets
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from pipeline.amqp.connect import connect
from pipeline.amqp.self_check import plain_by_hand
from pipeline.config.model import Broker, Tls
from pipeline.embedded import EmbeddedBroker
from pipeline.errors import BrokerError
from pipeline.secret import Secret
from pipeline.values import replace
from tests.amqp.certificates import Authority
from tests.amqp.parts import broker_of
from tests.amqp.strangers import Talk, amqp_1_0, behind_tls, closing, http, http_and_close, silent, stranger, tls_alert
from tests.brokers import BrokerUnderTest
from tests.rabbitmq import PrivateRabbitMQ
from tests.waiting import deadline, eventually

pytestmark = [pytest.mark.usefixtures("both_lines"), pytest.mark.both_loops]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def refusal(broker: Broker) -> str:
    """What connecting to it ends in."""
    with pytest.raises(BrokerError) as caught:
        async with asyncio.timeout(deadline(10)):
            await connect(broker, broker.addresses[0], name="test", plain=plain_by_hand())
    sentence = str(caught.value)
    assert "Expected one of" not in sentence
    return sentence


# A broker that lets us in


async def test_a_connection_is_open_and_has_its_name(rabbitmq: PrivateRabbitMQ) -> None:
    broker = broker_of(rabbitmq.url())
    connection, _ = await connect(
        broker, broker.addresses[0], name="piperun orders publish host:7", plain=plain_by_hand()
    )
    names = rabbitmq.eval(
        '[proplists:get_value(<<"connection_name">>, [{K, V} || {K, _, V} <- P]) || '
        "[{client_properties, P}] <- rabbit_networking:connection_info_all([client_properties])]"
    )
    await connection.close()

    assert "piperun orders publish host:7" in names


@pytest.mark.parametrize("vhost", ["/", "a/b", "100%", "x y", "..", "ключ"])
async def test_any_virtual_host_can_be_named(rabbitmq: PrivateRabbitMQ, vhost: str) -> None:
    if vhost != "/":
        rabbitmq.ctl("add_vhost", vhost)
        rabbitmq.ctl("set_permissions", "-p", vhost, "guest", ".*", ".*", ".*")
    broker = broker_of(rabbitmq.url())
    address = replace(broker.addresses[0], vhost=vhost)

    connection, _ = await connect(broker, address, name="test", plain=plain_by_hand())
    await connection.close()


# Refused by the broker


async def test_a_wrong_password_is_a_refused_login(broker: BrokerUnderTest) -> None:
    settings = broker_of(with_password(broker.url, "wr0ng-secret"))
    address = settings.addresses[0]

    sentence = await refusal(settings)

    assert sentence == f'login refused for user "{address.username}" at {address}'
    assert "wr0ng" not in sentence


async def test_a_missing_virtual_host_is_named(broker: BrokerUnderTest) -> None:
    settings = broker_of(broker.url.rpartition("/")[0] + "/nowhere")

    sentence = await refusal(settings)

    assert sentence == f'vhost "nowhere" does not exist at {settings.addresses[0]}'


async def test_a_virtual_host_that_is_not_the_users_is_named(rabbitmq: PrivateRabbitMQ) -> None:
    user = f"stranger-{secrets.token_hex(4)}"
    rabbitmq.add_user(user, "pw")
    settings = broker_of(rabbitmq.url("/", user, "pw"))

    sentence = await refusal(settings)

    assert sentence == f'user "{user}" may not use vhost "/" at {settings.addresses[0]}'


# Nobody, or somebody else


async def test_a_closed_port_refuses() -> None:
    port = free_port()
    assert await refusal(broker_of(f"amqp://127.0.0.1:{port}")) == (
        f"connection refused by 127.0.0.1:{port}: nothing listens there"
    )


async def test_a_closed_port_refuses_under_every_address_of_the_name() -> None:
    port = free_port()
    assert await refusal(broker_of(f"amqp://localhost:{port}")) == (
        f"connection refused by localhost:{port}: nothing listens there"
    )


async def test_an_unknown_name_is_not_found() -> None:
    sentence = await refusal(broker_of("amqp://no-such-host.invalid"))
    assert sentence.startswith("name not found: no-such-host.invalid (")


async def test_a_listener_that_accepts_nobody_gives_no_answer() -> None:
    # Given a port whose waiting room is full: further connections are not even acknowledged
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))

        sentence = await refusal(broker_of(f"amqp://127.0.0.1:{port}", connect_timeout=0.5))

        for each in waiting:
            each.close()
    assert sentence == f"no answer from 127.0.0.1:{port} within 0.5 s"


@pytest.mark.parametrize(
    ("talk", "expected"),
    [
        (silent, "{} is not an AMQP 0-9-1 server: it says nothing (waited 0.5 s)"),
        (http, "{} is not an AMQP 0-9-1 server: it answered b'HTTP/1.1 400 Bad'"),
        (http_and_close, "{} is not an AMQP 0-9-1 server: it answered b'HTTP/1.1 400 Bad'"),
        (amqp_1_0, "{} is not an AMQP 0-9-1 server: it answered with protocol header AMQP 3.1.0.0"),
        (tls_alert, "{} speaks TLS: use amqps://"),
        (closing, "{} closed the connection at once: it is not an AMQP 0-9-1 server, or one that is not ready"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_something_else_on_the_port_is_recognised(talk: Talk, expected: str) -> None:
    async with stranger(talk) as port:
        sentence = await refusal(broker_of(f"amqp://127.0.0.1:{port}", connect_timeout=0.5))

    assert sentence == expected.format(f"127.0.0.1:{port}")


async def test_connecting_can_be_cancelled() -> None:
    async with stranger(silent) as port:
        broker = broker_of(f"amqp://127.0.0.1:{port}")
        connecting = asyncio.create_task(connect(broker, broker.addresses[0], name="test", plain=False))
        await eventually(lambda: connecting.get_coro() is not None)
        await asyncio.sleep(0)
        connecting.cancel()

        with pytest.raises(asyncio.CancelledError):
            await connecting


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


def tls(authority: Authority, **changes: Any) -> Tls:
    return Tls(**{"ca_file": authority.ca, "cert_file": None, "key_file": None, "key_password": None, **changes})


async def test_a_trusted_certificate_lets_us_in(authority: Authority) -> None:
    with EmbeddedBroker() as embedded:
        async with behind_tls(embedded.url, authority.server("127.0.0.1")) as url:
            settings = broker_of(url, tls=tls(authority))
            connection, _ = await connect(settings, settings.addresses[0], name="test", plain=plain_by_hand())
            await connection.close()


async def test_an_unknown_authority_is_not_trusted(authority: Authority) -> None:
    async with stranger(silent, authority.server("127.0.0.1")) as port:
        sentence = await refusal(broker_of(f"amqps://127.0.0.1:{port}"))

    assert sentence.startswith(f"TLS with 127.0.0.1:{port} failed: the certificate cannot be trusted (")


async def test_a_certificate_for_another_host_is_not_trusted(authority: Authority) -> None:
    async with stranger(silent, authority.server("other.example")) as port:
        sentence = await refusal(broker_of(f"amqps://127.0.0.1:{port}", tls=tls(authority)))

    assert sentence.startswith(
        f"TLS with 127.0.0.1:{port} failed: the certificate cannot be trusted (IP address mismatch"
    )


async def test_a_server_may_ask_for_a_certificate_of_ours(authority: Authority) -> None:
    # Given a server that lets in whom its authority has signed, and a key with a password
    context = authority.server("127.0.0.1")
    context.load_verify_locations(authority.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    certificate, key = authority.sign("client", password="open sesame")
    ours = tls(authority, cert_file=certificate, key_file=key, key_password=Secret("open sesame"))

    with EmbeddedBroker() as embedded:
        async with behind_tls(embedded.url, context) as url:
            settings = broker_of(url, tls=ours)
            connection, _ = await connect(settings, settings.addresses[0], name="test", plain=plain_by_hand())
            await connection.close()

            # Without one the line ends as soon as the server has looked
            sentence = await refusal(broker_of(url, tls=tls(authority)))
    assert "127.0.0.1" in sentence


async def test_a_key_whose_password_is_missing_is_named_and_nobody_is_asked(authority: Authority) -> None:
    certificate, key = authority.sign("locked", password="open sesame")
    ours = tls(authority, cert_file=certificate, key_file=key)

    sentence = await refusal(broker_of("amqps://127.0.0.1:1", tls=ours))

    assert sentence.startswith(f"broker.tls: cannot use {authority.ca}, {certificate}, {key}: ")


async def test_a_certificate_file_that_is_not_there_is_named(authority: Authority, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"

    sentence = await refusal(broker_of("amqps://127.0.0.1:1", tls=tls(authority, ca_file=missing)))

    assert sentence == f"broker.tls: cannot use {missing}: No such file or directory"


async def test_tls_is_not_spoken_by_a_plain_port() -> None:
    with EmbeddedBroker() as embedded:
        url = embedded.url.replace("amqp://", "amqps://")
        sentence = await refusal(broker_of(url))

    assert (
        sentence
        == f"{broker_of(url).addresses[0]} does not speak TLS: use its TLS port, or amqp:// for a line without TLS"
    )


def with_password(url: str, password: str) -> str:
    scheme, _, rest = url.partition("://")
    login, _, place = rest.rpartition("@")
    return f"{scheme}://{login.partition(':')[0]}:{password}@{place}"
