"""What the options of `piperun run` mean, as far as no pipeline has to run for it."""

from typing import Any

import pytest

from pipeline.cli import run
from pipeline.config.load import Loaded
from pipeline.config.model import Address, Log
from pipeline.errors import BrokerError, UsageError
from pipeline.secret import Secret
from tests.models import a_broker, a_log, a_pipeline

FILE = a_log(format="json", level="warning", bodies=10)


@pytest.mark.parametrize(
    ("options", "log"),
    [
        ((None, None, None), a_log(format="json", level="warning", bodies=10)),
        (("text", None, None), a_log(format="text", level="warning", bodies=10)),
        ((None, "debug", None), a_log(format="json", level="debug", bodies=10)),
        ((None, None, "head:200"), a_log(format="json", level="warning", bodies=200)),
        ((None, None, "none"), a_log(format="json", level="warning", bodies=None)),
    ],
)
def test_the_command_line_overrules_the_file(options: tuple[Any, Any, Any], log: Log) -> None:
    assert run._log(FILE, *options) == log


@pytest.mark.parametrize("text", ["", "head", "head:", "head:many", "head:-1", "none:5", "all", "head:1.5", "head:0"])
def test_what_cannot_be_meant_by_log_bodies_is_told(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        run._log(FILE, None, None, text)
    assert str(raised.value) == f'--log-bodies is none or head:N, not "{text}"; for example head:200'


@pytest.mark.parametrize("text", [None, "9419", "0.0.0.0:9419", "localhost:80", "[::1]:0", "127.0.0.1:65535"])
def test_an_address_to_listen_on_is_a_port_or_an_ip_address_with_a_port(text: str | None) -> None:
    assert run._http(text) == text


@pytest.mark.parametrize(
    "text", ["", ":9419", "9419x", "rabbit:9419", "127.0.0.1", "127.0.0.1:65536", "::1:9419", "1.2.3:9"]
)
def test_what_cannot_be_meant_by_http_is_told(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        run._http(text)
    assert str(raised.value) == (f'--http is a port, or an IP address with a port such as 127.0.0.1:9419, not "{text}"')


def loaded(*embedded: bool) -> Loaded:
    rabbit = Address(scheme="amqp", host="rabbit", port=5672, username="app", password=Secret("x"), vhost="/")
    pipelines = tuple(a_pipeline(broker=a_broker(addresses=() if each else (rabbit,))) for each in embedded)
    return Loaded(pipelines=pipelines, problems=(), texts=(), handlers=())


@pytest.mark.parametrize("embedded", [(True,), (False, True)])
def test_production_may_forbid_running_in_memory(embedded: tuple[bool, ...]) -> None:
    with pytest.raises(UsageError, match=r"shop\.yaml would run on the embedded broker, in memory only"):
        run._require_broker(loaded(*embedded))


def test_a_broker_of_ones_own_is_what_is_required() -> None:
    run._require_broker(loaded(False, False))


def test_options_that_contradict_each_other_are_told() -> None:
    with pytest.raises(UsageError, match="--until-idle and --forever contradict each other"):
        run.run(["a.yaml"], until_idle=True, forever=True)


def notes(host: str, port: int, *, given: str | None = None, required: bool = False) -> list[str]:
    """What is said below the error of a broker that is not there."""
    address = Address(scheme="amqp", host=host, port=port, username="guest", password=Secret("guest"), vhost="/")
    file = Loaded(pipelines=(a_pipeline(broker=a_broker(addresses=(address,))),), problems=(), texts=(), handlers=())
    with pytest.raises(BrokerError) as raised, run._way_out(file, given, required):
        raise BrokerError("nothing listens there")
    return getattr(raised.value, "__notes__", [])


def test_whoever_has_no_rabbitmq_is_told_that_it_goes_without() -> None:
    assert notes("localhost", 5672) == [
        "start RabbitMQ there, name another with --broker URL, or try it without: --broker embedded"
    ]


def test_whoever_has_one_elsewhere_is_not() -> None:
    assert notes("rabbit.example.org", 5672) == []
    assert notes("localhost", 5673) == []
    assert notes("localhost", 5672, given="amqp://localhost") == []
    assert notes("localhost", 5672, required=True) == []


def test_other_errors_go_through_as_they_are() -> None:
    with pytest.raises(UsageError) as raised, run._way_out(loaded(False), None, False):
        raise UsageError("keep one")
    assert not hasattr(raised.value, "__notes__")


@pytest.mark.parametrize(("text", "workers"), [(None, None), ("auto", "auto"), ("0", 0), ("256", 256)])
def test_workers_are_a_number_or_auto(text: str | None, workers: int | str | None) -> None:
    assert run._workers(text) == workers


@pytest.mark.parametrize("text", ["", "many", "-1", "257", "1.5", "٣", "9" * 5000])
def test_what_cannot_be_meant_by_workers_is_told(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        run._workers(text)
    assert str(raised.value) == f'--workers is a whole number from 0 to 256, or auto, not "{text}"'
