"""The proxy of the tests, against a server that sends everything back."""

import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest

from tests.proxy import Proxy
from tests.waiting import deadline, wait_until


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(4096):
            self.request.sendall(data)


class EchoServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A reset is what some of these tests are about."""


@pytest.fixture
def echo_port() -> Iterator[int]:
    with EchoServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo_port: int) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", echo_port) as proxy:
        yield proxy


def connect(proxy: Proxy, patience: float = 5) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=deadline(patience))


def receive(client: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size and (part := client.recv(size - len(got))):
        got += part
    return got


def test_bytes_pass_in_both_directions(proxy: Proxy) -> None:
    with connect(proxy) as client:
        data = bytes(range(256)) * 4000
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        assert receive(client, len(data)) == data
        sender.join()
        assert proxy.connections == 1
    wait_until(lambda: proxy.connections == 0, told="the end of the connection")


def test_a_cut_ends_every_connection(proxy: Proxy) -> None:
    with connect(proxy) as one, connect(proxy) as two:
        wait_until(lambda: proxy.connections == 2)
        proxy.cut()
        assert one.recv(1) == b""
        assert two.recv(1) == b""
        assert proxy.connections == 0


def test_a_cut_may_look_like_a_reset(proxy: Proxy) -> None:
    with connect(proxy) as client:
        wait_until(lambda: proxy.connections == 1)
        client.sendall(b"x")
        receive(client, 1)
        proxy.cut(reset=True)
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_new_connections_work_after_a_cut(proxy: Proxy) -> None:
    proxy.cut()
    with connect(proxy) as client:
        client.sendall(b"again")
        assert receive(client, 5) == b"again"


def test_a_cut_after_some_bytes_lets_exactly_those_through(proxy: Proxy) -> None:
    proxy.cut_after(3, "down")
    with connect(proxy) as client:
        client.sendall(b"0123456789")
        assert receive(client, 10) == b"012"
    with connect(proxy) as client:
        client.sendall(b"0123456789")
        assert receive(client, 10) == b"0123456789"


def test_a_frozen_line_holds_bytes_and_a_thawed_one_delivers_them(proxy: Proxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"a")
        assert receive(client, 1) == b"a"
        proxy.freeze()
        client.sendall(b"b")
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(deadline(5))
        proxy.thaw()
        assert receive(client, 1) == b"b"


def test_a_frozen_line_accepts_connections_that_hear_nothing(proxy: Proxy) -> None:
    proxy.freeze()
    with connect(proxy, patience=0.1) as client:
        client.sendall(b"hello")
        with pytest.raises(TimeoutError):
            client.recv(1)


def test_a_frozen_line_can_be_cut(proxy: Proxy) -> None:
    proxy.freeze()
    with connect(proxy) as client:
        client.sendall(b"hello")
        wait_until(lambda: proxy.connections == 1)
        proxy.cut()
        assert client.recv(1) == b""


def test_refusing_leaves_open_connections_alone_and_can_be_taken_back(proxy: Proxy) -> None:
    with connect(proxy) as client:
        wait_until(lambda: proxy.connections == 1)
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        client.sendall(b"still")
        assert receive(client, 5) == b"still"
    proxy.accept()
    with connect(proxy) as client:
        client.sendall(b"here")
        assert receive(client, 4) == b"here"
    assert proxy.accepted == 2


def test_a_delay_holds_every_piece_back(proxy: Proxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"a")
        assert receive(client, 1) == b"a"
        proxy.delay(0.3)
        client.sendall(b"b")
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(deadline(5))
        assert receive(client, 1) == b"b"


def test_a_throttled_line_lets_bytes_through_little_by_little(proxy: Proxy) -> None:
    data = bytes(range(256)) * 100
    with connect(proxy) as client:
        proxy.throttle(2_000)
        client.sendall(data)
        client.settimeout(0.02)
        with pytest.raises(TimeoutError):
            receive(client, len(data))  # more than a second's worth
        client.settimeout(deadline(5))
        proxy.throttle(None)
        client.sendall(b"end")
        wait_until(lambda: client.recv(4096).endswith(b"end"), told="the rest, at once")


def test_a_throttled_line_keeps_every_byte_in_order(proxy: Proxy) -> None:
    data = bytes(range(256)) * 8
    with connect(proxy) as client:
        proxy.throttle(100_000)
        client.sendall(data)
        assert receive(client, len(data)) == data


def test_a_throttled_line_can_be_frozen_and_cut(proxy: Proxy) -> None:
    with connect(proxy) as client:
        proxy.throttle(100)
        client.sendall(bytes(4096))
        assert client.recv(1) == b"\0"
        proxy.freeze()
        proxy.cut()
        wait_until(lambda: client.recv(4096) == b"", told="the end of the connection")


def test_a_delay_is_taken_back(proxy: Proxy) -> None:
    proxy.delay(60)
    proxy.delay(0)
    with connect(proxy) as client:
        client.sendall(b"soon")
        assert receive(client, 4) == b"soon"


def test_a_connection_ends_when_nobody_is_behind_the_line(echo_port: int) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with Proxy("127.0.0.1", unused.getsockname()[1]) as proxy, connect(proxy) as client:
            assert client.recv(1) == b""


def test_the_url_keeps_everything_but_the_place() -> None:
    with Proxy.before("amqp://user:p%40ss@broker:5671/team%2Fa?heartbeat=5") as proxy:
        seen = proxy.url("amqp://user:p%40ss@broker:5671/team%2Fa?heartbeat=5")
    assert seen == f"amqp://user:p%40ss@127.0.0.1:{proxy.port}/team%2Fa?heartbeat=5"
