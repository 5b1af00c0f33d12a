"""Which RabbitMQ the tests use, and what the embedded broker behaves like beside it."""

from pathlib import Path

import pytest

from tests import rabbitmq_installation
from tests.rabbitmq_installation import Installation, find_installation, version_to_behave_like


@pytest.mark.parametrize(
    ("folder", "version"),
    [
        ("usr/lib/rabbitmq/lib/rabbitmq_server-3.10.8", "3.10"),
        ("usr/lib/rabbitmq/lib/rabbitmq_server-4.3.6", "4.3"),
        ("usr/lib/rabbitmq/plugins/rabbit-4.1.0", "4.3"),
        ("usr/lib/rabbitmq/lib/something", "3.10"),
    ],
)
def test_the_embedded_broker_behaves_like_the_rabbitmq_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, version: str
) -> None:
    (tmp_path / folder).mkdir(parents=True)
    monkeypatch.delenv("PIPERUN_TEST_AMQP_URL", raising=False)
    monkeypatch.setenv("PIPERUN_TEST_RABBITMQ_ROOT", str(tmp_path))
    assert find_installation() == Installation(programs="/usr/lib/rabbitmq/bin", root=tmp_path)
    assert version_to_behave_like() == version


def test_without_a_rabbitmq_it_behaves_like_3_10(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIPERUN_TEST_AMQP_URL", raising=False)
    monkeypatch.setattr(rabbitmq_installation, "find_installation", lambda: None)
    assert version_to_behave_like() == "3.10"


def test_one_that_is_given_by_its_url_is_a_4_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPERUN_TEST_AMQP_URL", "amqp://localhost")
    assert version_to_behave_like() == "4.3"
