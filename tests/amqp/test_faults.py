"""The client's exceptions in our words, without a broker."""

import asyncio
import ssl

import pytest
from aiormq import exceptions as client

from pipeline.amqp.faults import Refused, answered_within, translated, why_ended, why_not_connected
from pipeline.errors import ConnectionLost
from tests.amqp.parts import address_of


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (None, "closed by the other side"),
        (asyncio.CancelledError(), "no sign of life from the broker"),
        (client.ConnectionClosed(320, "CONNECTION_FORCED - bye"), "closed by the broker: CONNECTION_FORCED - bye"),
        (client.ConnectionInternalError("INTERNAL_ERROR - oh"), "closed by the broker: INTERNAL_ERROR - oh"),
        (client.ConnectionClosed(), "closed"),
        (caused(client.AMQPConnectionError("x"), ConnectionResetError(104, "x")), "reset by peer"),
        (caused(client.AMQPConnectionError("x"), EOFError()), "cut by the other side"),
        (caused(client.AMQPConnectionError("x"), OSError(113, "No route to host")), "no route to host"),
        (client.InvalidFrameError("bad end"), "the broker sent something that cannot be read: bad end"),
        (client.ChannelInvalidStateError("x"), "the channel is closed"),
        (client.ChannelPreconditionFailed("PRECONDITION_FAILED - x"), "PRECONDITION_FAILED - x"),
    ],
)
def test_an_end_is_told_in_a_few_words(error: BaseException | None, words: str) -> None:
    assert why_ended(error) == words


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (client.ChannelAccessRefused("ACCESS_REFUSED - a"), 403, "ACCESS_REFUSED - a"),
        (client.ChannelNotFoundEntity("NOT_FOUND - a"), 404, "NOT_FOUND - a"),
        (client.ChannelLockedResource("RESOURCE_LOCKED - a"), 405, "RESOURCE_LOCKED - a"),
        (client.ChannelPreconditionFailed("PRECONDITION_FAILED - a"), 406, "PRECONDITION_FAILED - a"),
        (client.ChannelClosed(541, "INTERNAL_ERROR - a"), 541, "INTERNAL_ERROR - a"),
        (client.ChannelClosed(None, None), 0, "the channel was closed"),
    ],
)
def test_a_closed_channel_is_a_refusal_in_the_brokers_words(error: Exception, code: int, text: str) -> None:
    with pytest.raises(Refused) as caught, translated():
        raise error
    assert (caught.value.code, caught.value.text) == (code, text)


@pytest.mark.parametrize(
    "error",
    [
        client.AMQPConnectionError("x"),
        client.ChannelInvalidStateError("x"),
        ConnectionResetError(104, "x"),
        RuntimeError("closed"),
        Exception(),
    ],
)
def test_everything_else_of_the_client_is_a_lost_connection(error: Exception) -> None:
    with pytest.raises(ConnectionLost), translated():
        raise error


def test_a_mistake_of_ours_stays_what_it_is() -> None:
    with pytest.raises(ValueError, match="mine"), translated():
        raise ValueError("mine")


async def test_a_cancellation_that_nobody_sent_is_a_lost_connection() -> None:
    with pytest.raises(ConnectionLost, match="no sign of life"), translated():
        raise asyncio.CancelledError


async def test_a_cancellation_that_somebody_sent_passes_through() -> None:
    async def wait() -> None:
        with translated():
            await asyncio.Event().wait()

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_an_answer_that_does_not_come_is_named() -> None:
    with pytest.raises(ConnectionLost, match=r"^no answer to basic\.qos within 0\.01 s$"):
        async with answered_within(0.01, "basic.qos"):
            await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("cause", "sentence"),
    [
        (OSError(101, "Network is unreachable"), "cannot reach h:5672: Network is unreachable"),
        # As asyncio writes it, and as uvloop does; then a name with two addresses of which one is no use at all
        (OSError(113, "Connect call failed ('::2', 5672, 0, 0)"), "cannot reach h:5672: No route to host"),
        (OSError(113, "host is unreachable"), "cannot reach h:5672: No route to host"),
        (
            OSError(
                "Multiple exceptions: [Errno 111] Connect call failed ('::1', 5672, 0, 0), "
                "[Errno 99] error while attempting to bind"
            ),
            "connection refused by h:5672: nothing listens there",
        ),
        (
            OSError("Multiple exceptions: [Errno 99] Cannot assign requested address, [Errno 111] Connection refused"),
            "connection refused by h:5672: nothing listens there",
        ),
        (ConnectionResetError(104, "x"), "h:5672 ended the line during the TLS handshake"),
        (
            ssl.SSLError(1, "[SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert protocol version"),
            "TLS with h:5672 failed: the handshake ended",
        ),
        (TimeoutError(), "no answer from h:5672 within 3 s"),
    ],
)
def test_what_was_not_reached_is_named(cause: Exception, sentence: str) -> None:
    error = caused(client.AMQPConnectionError("x"), cause)

    told = why_not_connected(
        error, address=address_of("amqp://h:5672"), timeout=3, reached=False, expired=False, heard=b""
    )

    assert told == sentence


GREETING = b"\x01\x00\x00\x00\x00\x00\x05\x00\x0a\x00\x0a\x00\xce"


@pytest.mark.parametrize(
    ("error", "expired", "sentence"),
    [
        (
            caused(client.AMQPConnectionError("x"), EOFError()),
            False,
            'h:5672 ended the connection during the login of user "me" (cut by the other side)',
        ),
        (TimeoutError(), True, 'no answer from h:5672 to the login of user "me" within 3 s'),
        (
            client.AuthenticationError("EXTERNAL", ["PLAIN"]),
            False,
            "h:5672 does not accept a login by name and password (PLAIN)",
        ),
    ],
)
def test_a_login_that_does_not_end_is_named(error: Exception, expired: bool, sentence: str) -> None:
    told = why_not_connected(
        error, address=address_of("amqp://me:pw@h:5672"), timeout=3, reached=True, expired=expired, heard=GREETING
    )

    assert told == sentence
