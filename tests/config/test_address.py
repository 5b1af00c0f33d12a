"""AMQP URLs by the client's conventions."""

import pytest

from pipeline.config.address import BadUrl, Url, parse


def good(text: str) -> Url:
    url = parse(text)
    assert isinstance(url, Url)
    return url


@pytest.mark.parametrize(
    ("text", "host", "port", "vhost"),
    [
        ("amqp://rabbit", "rabbit", 5672, "/"),
        ("amqps://rabbit", "rabbit", 5671, "/"),
        ("amqp://rabbit/", "rabbit", 5672, "/"),
        ("amqp://rabbit/shop", "rabbit", 5672, "shop"),
        ("amqp://rabbit/%2F", "rabbit", 5672, "/"),
        ("amqp://rabbit/%2Fshop", "rabbit", 5672, "/shop"),
        ("amqp://rabbit//", "rabbit", 5672, "/"),
        ("amqp://rabbit:1234/a/b", "rabbit", 1234, "a/b"),
        ("amqp://[::1]:1234", "::1", 1234, "/"),
        ("amqp://", "localhost", 5672, "/"),
    ],
)
def test_host_port_and_vhost(text: str, host: str, port: int, vhost: str) -> None:
    address = good(text).address
    assert (address.host, address.port, address.vhost) == (host, port, vhost)


@pytest.mark.parametrize(
    ("text", "username", "password", "given"),
    [
        ("amqp://rabbit", "guest", "guest", False),
        ("amqp://guest:guest@rabbit", "guest", "guest", False),
        ("amqp://app:p%40ss%2Fw%3Ard@rabbit", "app", "p@ss/w:rd", True),
        ("amqp://app%3A:x@rabbit", "app:", "x", True),
        ("amqp://app:plus+plus@rabbit", "app", "plus+plus", True),
    ],
)
def test_user_and_password_are_decoded(text: str, username: str, password: str, given: bool) -> None:
    url = good(text)
    assert (url.address.username, url.address.password.reveal(), url.password_given) == (username, password, given)


def test_the_heartbeat_is_an_option() -> None:
    assert good("amqp://rabbit?heartbeat=30").heartbeat == 30
    assert good("amqp://rabbit").heartbeat is None


@pytest.mark.parametrize(
    "text",
    [
        "http://rabbit",
        "rabbit",
        "",
        "amqp://rabbit:port",
        "amqp://rabbit:0",
        "amqp://rabbit:99999",
        "amqp://app:a#b@rabbit",
        "amqp://app:a/b@rabbit",
        "amqp://app:a b@rabbit",
        "amqp://[::1",
        "amqp://rabbit?heartbeat=soon",
        "amqp://rabbit?heartbeat=0",
    ],
)
def test_what_is_no_url(text: str) -> None:
    url = parse(text)
    assert isinstance(url, BadUrl)
    assert url.word == "bad-url"


@pytest.mark.parametrize("option", ["cafile=x", "no_verify_ssl=1", "ssl_options=x", "certfile=x", "capath=x"])
def test_certificates_are_not_set_in_a_url(option: str) -> None:
    url = parse(f"amqps://rabbit?{option}")
    assert isinstance(url, BadUrl)
    assert "`broker.tls`" in url.sentence


def test_no_answer_repeats_a_password() -> None:
    for text in (
        "amqp://app:hunter/two@rabbit",
        "ampq://app:hunter@rabbit",
        "app:hunter@rabbit",
        "amqp://app:hunter@h?x",
    ):
        url = parse(text)
        assert isinstance(url, BadUrl)
        assert "hunter" not in url.sentence + (url.hint or "")
