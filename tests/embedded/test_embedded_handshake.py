"""From the protocol header to an open connection, and how it ends: bytes in, frames out."""

from typing import Any

import pytest
from pamqp import frame, heartbeat
from pamqp.commands import Basic, Channel, Connection, Queue

from pipeline.embedded.wire import refusals
from tests.embedded.conversation import (
    CAPABILITIES,
    PROTOCOL_HEADER,
    Talk,
    closed,
    is_heartbeat,
    methods,
    new_node,
    only,
)

LOGIN_REFUSED = (
    "ACCESS_REFUSED - Login was refused using authentication mechanism {}. For details see the broker logfile."
)


def test_the_way_to_an_open_connection() -> None:
    talk = Talk()

    start = only(talk.greet(), Connection.Start)
    assert (start.version_major, start.version_minor) == (0, 9)
    assert set(start.mechanisms.split()) == {"PLAIN", "AMQPLAIN"}
    assert start.server_properties["capabilities"] == {
        "publisher_confirms": True,
        "basic.nack": True,
        "consumer_cancel_notify": True,
        "exchange_exchange_bindings": True,
        "connection.blocked": True,
        "authentication_failure_close": True,
        "per_consumer_qos": True,
        "consumer_priorities": True,
        "direct_reply_to": True,
    }
    tune = only(talk.log_in(), Connection.Tune)
    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == (2047, 131072, 60)
    assert talk.say(0, Connection.TuneOk(2047, 131072, 60)) == []
    assert methods(talk.say(0, Connection.Open("/"))) == ["Connection.OpenOk"]
    assert methods(talk.say(1, Channel.Open())) == ["Channel.OpenOk"]
    assert talk.core.name == "test"


def test_the_handshake_may_come_octet_by_octet() -> None:
    talk = Talk()
    octets = PROTOCOL_HEADER + frame.marshal(
        Connection.StartOk({"capabilities": {}}, "PLAIN", "\0user\0secret", "en_US"), 0
    )
    heard = [method for octet in octets for method in talk.raw(bytes((octet,)))]
    assert methods(heard) == ["Connection.Start", "Connection.Tune"]


@pytest.mark.parametrize(
    "octets", [b"GET / HTTP/1.1\r\n", b"AMQP\x01\x01\x00\x0a", b"\x16\x03\x01", b"A\x00", b"\x00" * 8]
)
def test_a_wrong_protocol_header_is_answered_with_the_right_one_and_the_end(octets: bytes) -> None:
    talk = Talk()
    assert talk.raw(octets) == [(0, PROTOCOL_HEADER)]
    assert talk.core.finished


def test_amqplain_is_a_table_without_its_length() -> None:
    talk = Talk()
    talk.greet()
    table = "\x05LOGINS\0\0\0\x04user\x08PASSWORDS\0\0\0\x06secret"
    assert methods(talk.log_in(mechanism="AMQPLAIN", response=table)) == ["Connection.Tune"]


@pytest.mark.parametrize(
    ("mechanism", "response"),
    [
        ("PLAIN", "\0user\0wrong"),
        ("PLAIN", "\0nobody\0secret"),
        ("AMQPLAIN", "\x05LOGINS\0\0\0\x04user\x08PASSWORDS\0\0\0\x05wrong"),
    ],
)
def test_a_login_that_is_wrong_is_refused_with_rabbitmqs_text(mechanism: str, response: str) -> None:
    talk = Talk()
    talk.greet()
    refused = talk.log_in(mechanism=mechanism, response=response)
    assert closed(refused) == ("connection", 403, LOGIN_REFUSED.format(mechanism))
    assert not talk.core.finished
    talk.say(0, Connection.CloseOk())
    assert talk.core.finished


def test_a_client_that_would_not_understand_a_refused_login_is_hung_up_on() -> None:
    talk = Talk()
    talk.greet()
    assert talk.log_in(response="\0user\0wrong", capabilities={}) == []
    assert talk.core.finished


# RabbitMQ writes the reason into its own log only and hangs up, as long as it does not know with whom it speaks


@pytest.mark.parametrize(
    ("mechanism", "response"),
    [
        ("EXTERNAL", "\0user\0secret"),
        ("PLAIN", "no zeros at all"),
        ("PLAIN", "somebody\0user\0secret"),
        ("AMQPLAIN", "\x05LOGINS\0\0\0\x04user"),
        ("AMQPLAIN", "\x05LOGINV\x08PASSWORDV"),
        ("AMQPLAIN", "not a table"),
    ],
)
def test_a_login_that_makes_no_sense_is_hung_up_on(mechanism: str, response: str) -> None:
    talk = Talk()
    talk.greet()
    assert talk.log_in(mechanism=mechanism, response=response) == []
    assert talk.core.finished


@pytest.mark.parametrize(
    ("channel_max", "frame_max"), [(2048, 131072), (0, 131072), (2047, 131073), (2047, 0), (2047, 4095)]
)
def test_tune_goes_down_and_never_up(channel_max: int, frame_max: int) -> None:
    talk = Talk()
    talk.greet()
    talk.log_in()
    assert talk.say(0, Connection.TuneOk(channel_max, frame_max, 0)) == []
    assert talk.core.finished


@pytest.mark.parametrize(
    "early",
    [
        Connection.Open("/"),
        Connection.TuneOk(2047, 131072, 0),
        Connection.UpdateSecret("a", "b"),
        Connection.Close(200, "", 0, 0),
        Channel.Open(),
    ],
)
@pytest.mark.parametrize("channel", [0, 1])
def test_who_says_something_too_early_is_hung_up_on(channel: int, early: Any) -> None:
    talk = Talk()
    talk.greet()
    assert talk.say(channel, early) == []
    assert talk.core.finished


def test_what_comes_between_tune_ok_and_open_is_refused() -> None:
    talk = Talk()
    talk.greet()
    talk.log_in()
    text = "CHANNEL_ERROR - unexpected method in connection state opening"
    assert closed(talk.say(0, Connection.TuneOk(2047, 131072, 0), Connection.Close(200, "", 0, 0))) == (
        "connection",
        504,
        text,
    )


def test_a_virtual_host_must_exist() -> None:
    talk = Talk()
    talk.greet()
    talk.log_in()
    talk.say(0, Connection.TuneOk(2047, 131072, 0))
    assert closed(talk.say(0, Connection.Open("nope"))) == ("connection", 530, "NOT_ALLOWED - vhost nope not found")


def test_virtual_hosts_do_not_see_each_other() -> None:
    node = new_node("/", "other")
    here, there = Talk(node).open(), Talk(node).open(vhost="other")
    here.say(1, Queue.Declare(0, "q"))
    assert closed(there.say(1, Queue.Declare(0, "q", passive=True)))[2] == "NOT_FOUND - no queue 'q' in vhost 'other'"


@pytest.mark.parametrize("late", [Connection.Open("/"), Connection.StartOk({}, "PLAIN", "x", "en_US"), Basic.Qos(0, 1)])
def test_a_method_that_does_not_belong_on_channel_0_is_refused(late: Any) -> None:
    talk = Talk().open()
    text = "CHANNEL_ERROR - unexpected method in connection state running"
    assert closed(talk.say(0, late)) == ("connection", 504, text)


def test_update_secret_is_answered() -> None:
    assert methods(Talk().open().say(0, Connection.UpdateSecret("new", "expired"))) == ["Connection.UpdateSecretOk"]


def test_the_client_closes_and_is_read_until_it_hangs_up() -> None:
    talk = Talk().open()
    late = [Queue.Declare(0, "late"), Basic.Qos(0, 1)]  # a client that sorts its frames may send these last
    octets = frame.marshal(Connection.Close(200, "bye", 0, 0), 0) + b"".join(frame.marshal(each, 1) for each in late)
    assert methods(talk.raw(octets)) == ["Connection.CloseOk"]
    assert talk.say(1, *late) == []
    assert talk.core.wants_octets
    assert not talk.core.finished
    assert talk.node.queue_depths() == {}


def test_a_client_that_has_closed_and_does_not_hang_up_is_hung_up_on() -> None:
    talk = Talk().open()
    talk.say(0, Connection.Close(200, "bye", 0, 0))
    talk.core.tick(100.0)
    talk.core.tick(104.9)
    assert not talk.core.finished
    talk.core.tick(105.0)
    assert talk.core.finished


def test_a_client_that_has_closed_does_not_delay_the_end_of_the_broker() -> None:
    talk = Talk().open()
    talk.say(0, Connection.Close(200, "bye", 0, 0))
    talk.core.close(refusals.shutdown())
    assert talk.core.finished
    assert talk.heard() == []


def test_after_our_close_everything_but_the_answer_is_ignored() -> None:
    talk = Talk().open()
    talk.say(0, Basic.Qos(0, 1))
    assert talk.say(1, Queue.Declare(0, "q"), Basic.Qos(0, 1)) == []
    assert talk.say(0, Connection.Open("/")) == []
    assert not talk.core.finished
    talk.say(0, Connection.CloseOk())
    assert talk.core.finished
    assert talk.node.queue_depths() == {}


def test_both_may_close_at_once() -> None:
    talk = Talk().open()
    talk.say(0, Basic.Qos(0, 1))
    assert methods(talk.say(0, Connection.Close(200, "bye", 0, 0))) == ["Connection.CloseOk"]
    assert not talk.core.finished
    talk.say(0, Connection.CloseOk())
    assert talk.core.finished


# Time


def test_a_handshake_that_takes_too_long_ends() -> None:
    talk = Talk()
    talk.core.tick(100.0)
    talk.greet()
    talk.core.tick(109.9)
    assert not talk.core.finished
    talk.core.tick(110.0)
    assert talk.core.finished


def test_a_close_that_nobody_answers_ends() -> None:
    talk = Talk().open()
    talk.say(0, Basic.Qos(0, 1))
    talk.core.tick(100.0)
    talk.core.tick(104.9)
    assert not talk.core.finished
    talk.core.tick(105.0)
    assert talk.core.finished


def test_heartbeats_are_sent_when_nothing_else_is() -> None:
    talk = Talk().open(heartbeat=10)
    talk.core.tick(100.0)
    talk.core.tick(104.9)
    assert talk.heard() == []
    talk.core.tick(105.1)
    assert [is_heartbeat(each) for _, each in talk.heard()] == [True]


def test_two_missed_heartbeats_end_the_connection_and_give_its_messages_back() -> None:
    talk = Talk().open(heartbeat=10)
    talk.say(1, Queue.Declare(0, "q"))
    talk.publish(1, "q")
    talk.say(1, Basic.Get(0, "q"))
    talk.core.tick(100.0)
    talk.say(0, heartbeat.Heartbeat())
    talk.core.tick(119.0)
    talk.core.tick(139.0)
    assert not talk.core.finished
    talk.core.tick(139.1)
    assert talk.core.finished
    other = Talk(talk.node).open()
    assert only(other.say(1, Basic.Get(0, "q")), Basic.GetOk).redelivered is True


def test_without_a_heartbeat_silence_is_no_reason() -> None:
    talk = Talk().open(heartbeat=0)
    for now in (0.0, 1000.0, 100_000.0):
        talk.core.tick(now)
    assert not talk.core.finished
    assert talk.heard() == []


# The alarm


def test_under_an_alarm_who_publishes_is_told_and_not_read() -> None:
    talk = Talk().open()
    talk.say(1, Queue.Declare(0, "q"))
    talk.node.blocked = "low on memory"
    assert methods(talk.say(1, Basic.Qos(0, 5))) == ["Basic.QosOk"]

    assert only(talk.publish(1, "q"), Connection.Blocked).reason == "low on memory"
    assert not talk.core.wants_octets
    assert talk.say(1, Basic.Qos(0, 6)) == []
    assert talk.node.queue_depths() == {"q": 0}

    talk.node.blocked = None
    talk.core.go_on()
    assert methods(talk.heard()) == ["Connection.Unblocked", "Basic.QosOk"]
    assert talk.node.queue_depths() == {"q": 1}
    assert talk.core.wants_octets


def test_a_stopped_publisher_can_still_be_closed() -> None:
    talk = Talk().open()
    talk.node.blocked = "low on memory"
    talk.publish(1, "q")
    talk.core.close(refusals.shutdown())
    assert closed(talk.heard())[1] == 320
    assert talk.core.wants_octets
    talk.say(0, Connection.CloseOk())
    assert talk.core.finished


def test_a_client_without_the_capability_is_stopped_without_a_word() -> None:
    talk = Talk().open(capabilities={**CAPABILITIES, "connection.blocked": False})
    talk.node.blocked = "low on memory"
    assert talk.publish(1, "q") == []
    assert not talk.core.wants_octets
