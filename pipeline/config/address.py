"""An AMQP URL taken apart by the client's conventions, or the one thing that is wrong with it.
Pure: knows nothing of files and places, and never repeats a password."""

import re
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pipeline.config.model import Address
from pipeline.problems import did_you_mean
from pipeline.secret import Secret
from pipeline.values import Frozen

DEFAULT_PORTS: dict[Literal["amqp", "amqps"], int] = {"amqp": 5672, "amqps": 5671}
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")

# What AMQP clients assume where a URL is silent.
_GUEST = "guest"
_HOST = "localhost"

_OPTIONS = ["heartbeat"]
_TLS_OPTIONS = {
    "cafile": "ca_file",
    "capath": "ca_file",
    "cadata": "ca_file",
    "certfile": "cert_file",
    "keyfile": "key_file",
    "ca_certs": "ca_file",
    "cert_path": "cert_file",
    "key_path": "key_file",
}
_TLS_PREFIXES = ("ssl", "tls", "no_verify", "verify", "check_hostname")
_PORT = "a port is a number from 1 to 65535"
_ENCODE = "special characters in a user name or password are percent-encoded: / is %2F, # is %23, @ is %40"


class Url(Frozen, frozen=True, kw_only=True):
    """A good URL. `heartbeat` is the option of that name, in seconds; `password_given` is false for guest's."""

    address: Address
    heartbeat: int | None
    password_given: bool


class BadUrl(Frozen, frozen=True, kw_only=True):
    word: str
    sentence: str
    hint: str | None = None


def parse(text: str) -> Url | BadUrl:
    """One URL."""
    scheme, separator, _ = text.partition("://")
    if not separator:
        return _not_a_url(text)
    if scheme not in DEFAULT_PORTS:
        hint = did_you_mean(scheme, DEFAULT_PORTS) or "amqp://host or amqps://host"
        return BadUrl(word="bad-url", sentence=f'unknown scheme "{scheme}"', hint=hint)
    if re.search(r"\s", text):
        return BadUrl(word="bad-url", sentence="a URL holds no spaces", hint="a space in a password is %20")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return _no_host_and_port(text)
    if port == 0:
        return BadUrl(word="bad-url", sentence=_PORT)
    if parts.fragment or "@" in parts.path:
        return BadUrl(word="bad-url", sentence="this URL cannot be taken apart", hint=_ENCODE)
    return _taken_apart("amqps" if scheme == "amqps" else "amqp", parts, port)


def _no_host_and_port(text: str) -> BadUrl:
    """With an "@" somewhere behind, the port may be the beginning of a password, which is not repeated."""
    if "@" in text or "#" in text:
        return BadUrl(word="bad-url", sentence="the host and port of this URL cannot be read", hint=_ENCODE)
    if "[" in text or "]" in text:
        sentence = "the IPv6 address of this URL cannot be read"
        return BadUrl(word="bad-url", sentence=sentence, hint="amqp://[::1]:5672")
    return BadUrl(word="bad-url", sentence=_PORT)


def _taken_apart(scheme: Literal["amqp", "amqps"], parts: SplitResult, port: int | None) -> Url | BadUrl:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in options:
        if wrong := _wrong_option(name):
            return wrong
    heartbeat = options.get("heartbeat")
    if heartbeat is not None and not re.fullmatch(r"[1-9][0-9]{0,4}", heartbeat):
        return BadUrl(
            word="bad-url", sentence="the option `heartbeat` of a URL is a number of seconds", hint="?heartbeat=15"
        )
    return Url(
        address=Address(
            scheme=scheme,
            host=parts.hostname or _HOST,
            port=port or DEFAULT_PORTS[scheme],
            username=unquote(parts.username or "") or _GUEST,
            password=Secret(unquote(parts.password or "") or _GUEST),
            vhost=_vhost(parts.path),
        ),
        heartbeat=int(heartbeat) if heartbeat else None,
        password_given=bool(parts.password) and unquote(parts.password or "") != _GUEST,
    )


def _vhost(path: str) -> str:
    """The default vhost is `/`; `amqp://host/shop` is the vhost `shop`, `amqp://host/%2Fshop` is `/shop`."""
    return unquote(path.removeprefix("/")) or "/"


def _wrong_option(name: str) -> BadUrl | None:
    if name in _OPTIONS:
        return None
    if name in _TLS_OPTIONS or name.startswith(_TLS_PREFIXES):
        key = _TLS_OPTIONS.get(name)
        return BadUrl(
            word="unknown-url-option",
            sentence=f'certificates are set by `broker.tls`, not by the URL option "{name}"',
            hint=f"broker: {{url: ..., tls: {{{key}: ...}}}}" if key else "certificates are always verified",
        )
    hint = did_you_mean(name, _OPTIONS)
    if name in ("connection_timeout", "timeout"):
        hint = "broker: {url: ..., connect_timeout: 10s}"
    return BadUrl(word="unknown-url-option", sentence=f'the URL has no option "{name}"', hint=hint)


def _not_a_url(text: str) -> BadUrl:
    if variable := re.fullmatch(r"\$(\w+)", text):
        sentence = f'"{text}" stays as it is: a variable is written with braces'
        return BadUrl(word="bad-url", sentence=sentence, hint=f"${{{variable[1]}}}")
    near = did_you_mean(text, ["embedded"])
    plain_host = re.fullmatch(r"[A-Za-z0-9.-]+(:[0-9]+)?", text)
    hint = near or (f"amqp://{text}" if plain_host else "amqp://host:port/vhost, or embedded")
    return BadUrl(word="bad-url", sentence="a broker is a URL or the word embedded; this is neither", hint=hint)
