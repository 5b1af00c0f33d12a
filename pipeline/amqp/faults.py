"""What the client raises, as ours and in sentences: why a connection could not be made, why it ended, what the broker
refused. Knows the exceptions of aiormq, a cancellation that nobody asked for included; who called is not known here."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Literal

from aiormq import exceptions as client
from pamqp import commands
from pamqp import frame as frames

from pipeline.config.model import Address
from pipeline.errors import ConnectionLost

_CHANNEL_CODES: dict[type[client.ChannelClosed], int] = {
    client.ChannelAccessRefused: 403,
    client.ChannelNotFoundEntity: 404,
    client.ChannelLockedResource: 405,
    client.ChannelPreconditionFailed: 406,
}


class Refused(Exception):
    """Raised inside `amqp/` when the broker closed a channel over what was asked on it. `text` is the broker's."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


# Waiting for the client


@contextmanager
def translated() -> Iterator[None]:
    """Round each await of the client: raises `Refused` or `ConnectionLost` instead of what the client raises.

    A line that the client judges stuck ends in a CancelledError that nobody sent; in a task group a producer would
    vanish without a word (`task.cancelling()` is 0 then, which is how it is told from a real one)."""
    try:
        yield
    except asyncio.CancelledError as error:
        if somebody_cancelled():
            raise
        raise ConnectionLost(why_ended(error)) from error
    except Exception as error:
        ours = translate(error)
        if ours is None:
            raise
        raise ours from error


@asynccontextmanager
async def answered_within(seconds: float, what: str) -> AsyncIterator[None]:
    """The same with a deadline, which the client's own do not always keep. Raises `ConnectionLost` when it passes."""
    try:
        async with asyncio.timeout(seconds):
            with translated():
                yield
    except TimeoutError as error:
        raise ConnectionLost(f"no answer to {what} within {seconds:g} s") from error


def translate(error: Exception) -> Refused | ConnectionLost | None:
    """None for what is not the broker's: a value that cannot be written, a mistake of our own."""
    if isinstance(error, client.ChannelClosed):
        return Refused(*_code_and_text(error))
    from_client = isinstance(error, client.AMQPError | client.ChannelInvalidStateError | OSError | RuntimeError)
    # A bare Exception is what the client puts into pending calls when the peer has ended without an error.
    if from_client or type(error) is Exception:
        return ConnectionLost(why_ended(error))
    return None


def somebody_cancelled() -> bool:
    """Whether a CancelledError in this task was meant for it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _code_and_text(error: client.ChannelClosed) -> tuple[int, str]:
    code = _CHANNEL_CODES.get(type(error))
    if code is not None:
        return code, str(error.args[0])
    if len(error.args) == 2 and error.args[0] is not None:
        return int(error.args[0]), str(error.args[1])
    return 0, "the channel was closed"


# Why a connection or a channel ended


def why_ended(error: BaseException | None) -> str:
    """In a few words, to stand in brackets: "reset by peer"."""
    match error:
        case None:
            return "closed by the other side"
        case asyncio.CancelledError():
            return "no sign of life from the broker"
        case client.ChannelClosed():
            return _code_and_text(error)[1]
        case client.ConnectionClosed():
            return f"closed by the broker: {error.args[-1]}" if error.args and error.args[-1] else "closed"
        case client.InvalidFrameError():
            return f"the broker sent something that cannot be read: {error.args[0] if error.args else 'a frame'}"
        case client.ChannelInvalidStateError():
            return "the channel is closed"
        case client.AMQPConnectionError():
            return _why_cut(error.__cause__)
        case OSError():
            return _why_cut(error)
        case _:
            return "closed by the other side"


def refusal_of(error: BaseException | None) -> str | None:
    """The broker's words, where it has ended a whole connection over something that was asked on it."""
    asked_too_much = (
        client.ConnectionCommandInvalid,  # 503
        client.ConnectionNotAllowed,  # 530
        client.ConnectionNotImplemented,  # 540
        client.ConnectionInternalError,  # 541
    )
    return str(error.args[-1]).partition("\n")[0] if isinstance(error, asked_too_much) and error.args else None


def _why_cut(error: BaseException | None) -> str:
    match error:
        case ConnectionResetError():
            return "reset by peer"
        case OSError(strerror=str(words)) if words:
            return words.lower()
        case _:
            return "cut by the other side"


# Why a connection could not be made

Phase = Literal["reaching", "greeting"]


def why_not_connected(
    error: BaseException, *, address: Address, timeout: float, reached: bool, expired: bool, heard: bytes
) -> str:
    """A whole sentence with host and port. `reached`: the line was open, TLS included; `heard`: what came over it."""
    if not reached:
        return _why_not_reached(error, address, timeout)
    return _why_not_greeted(error, address, timeout, expired=expired, heard=heard)


def _why_not_reached(error: BaseException, address: Address, timeout: float) -> str:
    match error.__cause__ if isinstance(error, client.AMQPConnectionError) else error:
        case TimeoutError():
            return f"no answer from {address} within {timeout:g} s"
        case ssl.SSLCertVerificationError(verify_message=why):
            return f"TLS with {address} failed: the certificate cannot be trusted ({why})"
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER" | "RECORD_LAYER_FAILURE"):
            return f"{address} does not speak TLS: use its TLS port, or amqp:// for a line without TLS"
        case ssl.SSLError() as refused:
            words = (getattr(refused, "reason", None) or "the handshake ended").replace("_", " ").lower()
            return f"TLS with {address} failed: {words}"
        case socket.gaierror() as unknown:
            return f"name not found: {address.host} ({unknown.strerror})"
        case ConnectionRefusedError():
            return f"connection refused by {address}: nothing listens there"
        # A name with several addresses: each loop makes a text of all errors, and puts their numbers into it.
        case OSError() as failed if f"[Errno {errno.ECONNREFUSED}] " in str(failed):
            return f"connection refused by {address}: nothing listens there"
        case ConnectionResetError() | EOFError():
            return f"{address} ended the line during the TLS handshake"
        case OSError() as failed:
            # asyncio writes "Connect call failed" with the address of a socket where the system has words.
            return f"cannot reach {address}: {os.strerror(failed.errno) if failed.errno else failed}"
        case other:
            return f"cannot connect to {address}: {other or type(other).__name__}"


def _why_not_greeted(error: BaseException, address: Address, timeout: float, *, expired: bool, heard: bytes) -> str:
    close = _close_in(heard)
    if close is not None:
        return _why_closed(close, address)
    if not heard and expired:
        return f"{address} is not an AMQP 0-9-1 server: it says nothing (waited {timeout:g} s)"
    if not heard:
        return f"{address} closed the connection at once: it is not an AMQP 0-9-1 server, or one that is not ready"
    if heard.startswith((b"\x15\x03", b"\x16\x03")):
        return f"{address} speaks TLS: use amqps://"
    if heard.startswith(b"AMQP"):
        version = ".".join(str(number) for number in heard[4:8])
        return f"{address} is not an AMQP 0-9-1 server: it answered with protocol header AMQP {version}"
    if not heard.startswith(b"\x01\x00\x00"):
        return f"{address} is not an AMQP 0-9-1 server: it answered {heard[:16]!r}"
    if isinstance(error, client.AuthenticationError):
        return f"{address} does not accept a login by name and password (PLAIN)"
    if expired:
        return f'no answer from {address} to the login of user "{address.username}" within {timeout:g} s'
    return f'{address} ended the connection during the login of user "{address.username}" ({why_ended(error)})'


def _why_closed(close: commands.Connection.Close, address: Address) -> str:
    text = close.reply_text or ""
    if close.reply_code == 403:
        return f'login refused for user "{address.username}" at {address}'
    if close.reply_code == 530 and "not found" in text:
        return f'vhost "{address.vhost}" does not exist at {address}'
    if close.reply_code == 530 and "access to vhost" in text:
        return f'user "{address.username}" may not use vhost "{address.vhost}" at {address}'
    return f"{address} refused the connection: {text}"


def _close_in(heard: bytes) -> commands.Connection.Close | None:
    """The broker's own words: the client says only that it expected another method."""
    while heard.startswith(b"\x01"):
        try:
            consumed, _, frame = frames.unmarshal(heard)
        except Exception:
            return None  # cut in the middle, or not AMQP after all
        if isinstance(frame, commands.Connection.Close):
            return frame
        heard = heard[consumed:]
    return None
