"""Broker settings to one open plain connection: TLS, name, heartbeat, deadline, and a sentence when it fails. Keeps
the socket in reach, to hear what a stranger answers and to cut it. What happens on the connection is not known here."""

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any, SupportsIndex
from urllib.parse import quote

from aio_pika import Connection
from aiormq.connection import TransportFactory
from yarl import URL

from pipeline.amqp.fast.switch import Switch
from pipeline.amqp.faults import somebody_cancelled, why_not_connected
from pipeline.amqp.foreign import tolerate
from pipeline.config.model import Address, Broker, Tls
from pipeline.errors import BrokerError


class Wire(TransportFactory):
    """The socket of one connection. `switch`: where the fast line taps it; None on the plain line."""

    def __init__(self, address: Address, context: ssl.SSLContext | None, *, plain: bool) -> None:
        self.switch: Switch | None = None
        self._address = address
        self._context = context
        self._plain = plain
        self._reader: _Reader | None = None
        self._transport: asyncio.Transport | None = None
        self.expired = False

    async def create(self, url: URL, **_: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As `asyncio.open_connection` does, with a reader that remembers how the conversation began."""
        loop = asyncio.get_running_loop()
        reader = _Reader()
        if self._plain:
            protocol = asyncio.StreamReaderProtocol(reader)
        else:
            protocol = self.switch = Switch(reader, loop)
        transport, _protocol = await loop.create_connection(
            lambda: protocol, self._address.host, self._address.port, ssl=self._context
        )
        self._transport, self._reader = transport, reader
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    @property
    def reached(self) -> bool:
        return self._transport is not None

    @property
    def heard(self) -> bytes:
        return bytes(self._reader.heard or b"") if self._reader is not None else b""

    def greeted(self) -> None:
        """The handshake is over: nothing more is remembered."""
        if self._reader is not None:
            self._reader.heard = None

    def cut(self) -> None:
        """End the socket without a word, and whatever waits on it: a peer that reads nothing cannot hold us up."""
        if self._transport is not None:
            self._transport.abort()

    def expire(self) -> None:
        """The time for connecting is over."""
        self.expired = True
        self.cut()


class _Reader(asyncio.StreamReader):
    def __init__(self) -> None:
        super().__init__()
        self.heard: bytearray | None = bytearray()

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        if self.heard is not None:
            self.heard.extend(data)
        super().feed_data(data)


async def connect(broker: Broker, address: Address, *, name: str, plain: bool) -> tuple[Connection, Wire]:
    """One connection to one address, within `connect_timeout`; without the fast line if `plain`. Raises
    `BrokerError` with a sentence that names host, port and cause, never the password."""
    tolerate()
    context = await asyncio.to_thread(_context, broker.tls) if address.scheme == "amqps" else None
    wire = Wire(address, context, plain=plain)
    connection = Connection(_url(broker, address), client_properties={"connection_name": name})
    connection.kwargs["transport_factory"] = wire
    alarm = asyncio.get_running_loop().call_later(broker.connect_timeout, wire.expire)
    try:
        # Without its timeout the client waits for ever on a port that accepts and says nothing.
        await connection.connect(timeout=broker.connect_timeout)
    except (Exception, asyncio.CancelledError) as error:
        wire.cut()
        await connection.close()
        if isinstance(error, asyncio.CancelledError) and somebody_cancelled():
            raise
        raise BrokerError(_sentence(error, broker, address, wire)) from None
    finally:
        alarm.cancel()
    wire.greeted()
    return connection, wire


def _sentence(error: BaseException, broker: Broker, address: Address, wire: Wire) -> str:
    return why_not_connected(
        error,
        address=address,
        timeout=broker.connect_timeout,
        reached=wire.reached,
        expired=wire.expired or isinstance(error, TimeoutError),
        heard=wire.heard,
    )


def _url(broker: Broker, address: Address) -> URL:
    # Dots are quoted as well, or the URL's path is made shorter by them.
    vhost = quote(address.vhost, safe="").replace(".", "%2E")
    return (
        URL.build(
            scheme=address.scheme,
            host=address.host,
            port=address.port,
            user=address.username,
            password=address.password.reveal(),
        )
        .with_path(f"/{vhost}", encoded=True)
        .with_query(heartbeat=broker.heartbeat)
    )


def _context(tls: Tls | None) -> ssl.SSLContext:
    """Certificate and host name are always checked; TLS 1.2 or newer."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file if tls else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls is not None and tls.cert_file is not None:
            # Without a password OpenSSL would ask for one on the terminal.
            password = tls.key_password.reveal() if tls.key_password else ""
            context.load_cert_chain(tls.cert_file, tls.key_file, password)
    except OSError as error:
        files = ", ".join(str(each) for each in (tls.ca_file, tls.cert_file, tls.key_file) if each) if tls else ""
        raise BrokerError(f"broker.tls: cannot use {files}: {error.strerror or error}") from None
    return context
