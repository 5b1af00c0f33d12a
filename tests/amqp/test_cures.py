"""Ways out of a connection that could not be made: for what `faults` says, in its own words."""

import socket
import ssl

import pytest
from aiormq import exceptions as client
from pamqp import commands, frame

from pipeline.amqp.cures import ways_out
from pipeline.amqp.faults import why_not_connected
from tests.amqp.parts import address_of

ADDRESS = address_of("amqps://shop:t0psecret@rabbit/orders")


def said(error: BaseException, *, reached: bool = False, expired: bool = False, heard: bytes = b"") -> str:
    return why_not_connected(error, address=ADDRESS, timeout=5, reached=reached, expired=expired, heard=heard)


def closed(code: int, text: str) -> bytes:
    return frame.marshal(commands.Connection.Close(code, text, 0, 0), 0)


def refusal(code: int, text: str) -> str:
    return said(client.AMQPConnectionError(), reached=True, heard=closed(code, text))


def untrusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError()
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("sentence", "way"),
    [
        (said(ConnectionRefusedError()), "start RabbitMQ there"),
        (said(socket.gaierror(-2, "Name or service not known")), "correct the host in the URL, or ask that machine"),
        (said(TimeoutError()), "the host may be down, or a firewall in between"),
        (said(untrusted()), "broker: {tls: {ca_file: ...}} names who signed it; it must be for rabbit"),
        (said(ssl.SSLError()), "RabbitMQ's log has the other half"),
        (refusal(403, "ACCESS_REFUSED - Login was refused"), "rabbitmqctl authenticate_user shop tries the password"),
        (refusal(530, "NOT_ALLOWED - vhost orders not found"), "rabbitmqctl add_vhost orders, or correct the end"),
        (refusal(530, "NOT_ALLOWED - access to vhost 'orders' refused"), "rabbitmqctl set_permissions -p orders shop"),
        (said(OSError(), reached=True, heard=b"HTTP/1.1 400"), "correct the port: amqp is on 5672, amqps on 5671"),
        (said(OSError(), reached=True, expired=True), "correct the port"),
        (said(OSError(), reached=True), "correct the port"),
    ],
)
def test_what_keeps_a_connection_from_being_made_has_a_way_out(sentence: str, way: str) -> None:
    (found,) = ways_out(sentence, [ADDRESS])
    assert found.startswith(way)
    assert "t0psecret" not in found


def test_several_addresses_have_the_same_way_out_once() -> None:
    sentence = f"{said(ConnectionRefusedError())}; {said(TimeoutError())}; {said(ConnectionRefusedError())}"
    assert len(ways_out(sentence, [ADDRESS])) == 2


def test_what_names_its_own_way_out_gets_no_second_one() -> None:
    assert ways_out(said(OSError(), reached=True, heard=b"\x15\x03\x03"), [ADDRESS]) == []
