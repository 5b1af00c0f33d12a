"""The broker in the box by itself, for programs that are not piperun: `python -m pipeline.embedded`. Options in, one
line with the URL out, and it runs until it is told to stop. What a broker is, `EmbeddedBroker` knows."""

import argparse
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from pipeline.embedded.broker import USERNAME, EmbeddedBroker
from pipeline.embedded.ground.memory import MEMORY_LIMIT
from pipeline.embedded.ground.versions import NEWEST, VERSIONS

PASSWORD_VARIABLE = "PIPERUN_EMBEDDED_PASSWORD"
FAILED = 1  # nobody would learn the URL
USAGE = 2  # as of `piperun`: usage or configuration
UNREACHABLE = 3  # as of `piperun`: the broker is not there
STOPS = {signal.SIGINT, signal.SIGTERM}

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    options.vhosts = options.vhosts or ["/"]
    # Before the broker's thread begins, which takes this over: whenever the signal comes, it waits for `sigwait`.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    broker = _started(options)
    _show(broker, options.vhosts[0])
    signal.sigwait(STOPS)
    broker.stop()
    print(_farewell(broker.message_count), file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    one = argparse.ArgumentParser(
        prog="python -m pipeline.embedded",
        description="A RabbitMQ in a box: an AMQP 0-9-1 broker in memory, on loopback. The first line on standard "
        "output is its URL; INT and TERM stop it, and its messages are gone.",
        epilog=f"The password is random, or the value of {PASSWORD_VARIABLE}.",
    )
    one.add_argument("--host", default="127.0.0.1", help="an address of loopback (default: %(default)s)")
    one.add_argument("--port", type=_port, default=0, help="the port to listen on (default: one that is free)")
    one.add_argument("--username", type=_name, default=USERNAME, help="who may log in (default: %(default)s)")
    one.add_argument(
        "--vhost",
        action="append",
        dest="vhosts",
        type=_name,
        metavar="NAME",
        help="a virtual host; once for each, the URL is that of the first (default: /)",
    )
    one.add_argument(
        "--rabbitmq-version",
        default=NEWEST,
        metavar="VERSION",
        help=f"the RabbitMQ it behaves like: {' or '.join(VERSIONS)} (default: %(default)s)",
    )
    one.add_argument(
        "--memory-limit",
        type=_size,
        default=MEMORY_LIMIT,
        metavar="SIZE",
        help=f"messages that weigh more block publishers, for example 64MiB (default: {MEMORY_LIMIT // 2**20}MiB)",
    )
    return one


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; 0 to 65535")
    return int(text)


def _name(text: str) -> str:
    """For a URL. Octets that are not UTF-8 come in as surrogates."""
    if not text or any("\ud800" <= each <= "\udfff" for each in text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name; one or more characters")
    return text


def _size(text: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]{0,11})([A-Za-z]+)", text)
    if found is None or found[2] not in _UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write a number and one of {', '.join(_UNITS)}")
    return int(found[1]) * _UNITS[found[2]]


def _started(options: argparse.Namespace) -> EmbeddedBroker:
    try:
        broker = EmbeddedBroker(
            host=options.host,
            port=options.port,
            username=options.username,
            password=os.environ.get(PASSWORD_VARIABLE),
            vhosts=options.vhosts,
            rabbitmq_version=options.rabbitmq_version,
            memory_limit=options.memory_limit,
        )
    except ValueError as error:
        _leave(USAGE, str(error))
    try:
        broker.start()
    except OSError as error:
        _leave(UNREACHABLE, f"cannot listen on {options.host}, port {options.port}: {os.strerror(error.errno or 0)}")
    return broker


def _show(broker: EmbeddedBroker, vhost: str) -> None:
    try:
        print(broker.url_of(vhost), flush=True)
    except OSError as error:
        broker.stop()
        # What could not be written is still there, and would be tried once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _leave(FAILED, f"cannot write the URL to standard output: {os.strerror(error.errno or 0)}")


def _leave(status: int, why: str) -> NoReturn:
    print(f"python -m pipeline.embedded: error: {why}", file=sys.stderr)
    sys.exit(status)


def _farewell(messages: int) -> str:
    match messages:
        case 0:
            return "stopped; no message was left"
        case 1:
            return "stopped; 1 message is gone"
        case _:
            return f"stopped; {messages} messages are gone"


if __name__ == "__main__":
    main()
