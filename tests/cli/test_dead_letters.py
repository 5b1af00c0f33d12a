"""Dead letters as a person reads them and as a program does: bounded, and escaped, for anybody may have made them."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.amqp.inspect import Depth
from pipeline.cli import dead_letters
from pipeline.failure.story import story
from pipeline.message import Message
from pipeline.runtime.dead_letters.look import Found, Listed, grouped
from pipeline.runtime.dead_letters.purge import Purged
from pipeline.runtime.dead_letters.queues import DeadLetterQueue
from pipeline.runtime.dead_letters.replay import Report
from tests.failure.test_story import OURS, REJECTED

QUEUE = DeadLetterQueue(name="billing.dlq", sources=("billing",), counts_looks=False, stream=False)
NOW = 1_700_000_720.0  # two minutes after the last failure


def listed(*headers: dict[str, object], ready: int | None = None, **changes: Any) -> Listed:
    usual: dict[str, Any] = {
        "queue": QUEUE,
        "depth": Depth(ready=len(headers) if ready is None else ready, consumers=0),
        "looked_into": len(headers),
        "groups": grouped([story(each) for each in headers]),
    }
    return Listed(**{**usual, **changes})


def text_of(one: Listed, width: int | None = None) -> list[str]:
    return list(dead_letters.listing(one, now=NOW, width=width))


def found(body: bytes = b"", **changes: Any) -> Found:
    message = Message(body, **changes)
    return Found(queue=QUEUE, number=1, message=message, story=story(message.headers))


def shown(body: bytes = b"", **changes: Any) -> list[str]:
    return list(dead_letters.shown(found(body, **changes)))


def body_of(body: bytes, **changes: Any) -> list[str]:
    lines = shown(body, **changes)
    start = next(number for number, line in enumerate(lines) if line.startswith("  body, "))
    return [line.removeprefix("    ") for line in lines[start + 1 :]]


# A list


def test_a_queue_is_a_line_and_a_line_for_each_kind() -> None:
    other = {**OURS, "x-piperun-reason": "decode", "x-piperun-error-digest": "0" * 16, "x-piperun-error": "no JSON"}
    assert text_of(listed(OURS, other, OURS, {"x-death": [{**REJECTED, "time": None}]}, {})) == [
        'billing.dlq: 5 messages from "billing", 2 min old',
        "      2  max_attempts  7a006cf5f76015cf  KeyError: 'customer'",
        "      1  decode        0000000000000000  KeyError: no JSON",
        '      1  rejected      by the broker, from queue "billing"',
        "      1  nothing tells why: neither piperun nor RabbitMQ put it there",
    ]


def test_ages_are_those_of_the_newest_and_the_oldest() -> None:
    old = {**OURS, "x-piperun-last-failure": 1_699_000_000_000}
    assert text_of(listed(old, OURS))[0] == 'billing.dlq: 2 messages from "billing", 2 min to 11 d old'


def test_a_sample_is_called_one() -> None:
    assert text_of(listed(OURS, ready=5_312))[:2] == [
        'billing.dlq: 5,312 messages from "billing", 2 min old',
        "  of the first 1:",
    ]


def test_an_empty_queue_and_one_that_is_not_there() -> None:
    assert text_of(listed()) == ['billing.dlq: 0 messages from "billing"']
    (missing,) = text_of(listed(depth=None))
    assert missing.startswith("billing.dlq: not on the broker")


def test_lines_are_as_wide_as_the_terminal_and_kinds_are_bounded() -> None:
    many = [{**OURS, "x-piperun-error-digest": str(number), "x-piperun-error": "x" * 200} for number in range(30)]
    lines = text_of(listed(*many), width=80)
    assert {len(line) for line in lines[1:-1]} == {80}
    assert lines[-1] == "     10  of 10 other kinds (--format json has all)"
    assert len(lines) == 22


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3_599, "59 min"), (7_200, "2 h"), (172_800, "2 d")],
)
def test_an_age(seconds: float, text: str) -> None:
    assert dead_letters.age(seconds) == text


def test_a_list_for_programs() -> None:
    one = json.loads(dead_letters.as_json(dead_letters.listing_object(listed(OURS))))
    assert one == {
        "queue": "billing.dlq",
        "from": ["billing"],
        "present": True,
        "messages": 1,
        "consumers": 0,
        "looked_into": 1,
        "groups": [
            {
                "count": 1,
                "reason": "max_attempts",
                "by": "piperun",
                "error_type": "KeyError",
                "error": "'customer'",
                "digest": "7a006cf5f76015cf",
                "from": None,
                "oldest": "2023-11-14T22:23:20.000Z",
                "newest": "2023-11-14T22:23:20.000Z",
            }
        ],
    }


# One message


def test_a_message_tells_its_story() -> None:
    headers = {**OURS, "x-piperun-replays": 2, "region": "eu"}
    assert shown(b"hello", headers=headers, message_id="o-17", content_type="text/plain") == [
        "billing.dlq, message 1: o-17",
        '  2023-11-14 22:23:20  failed in consumer "charge": max_attempts, attempt 4',
        "    KeyError: 'customer'",
        "    digest 7a006cf5f76015cf, run c0ffee00",
        "  2023-11-14 22:13:20  failed for the first time",
        "  sent back by replay 2 times before",
        '  from queue "billing"; first published to exchange "orders", routing key "order.paid"',
        "  properties:",
        "    message_id: o-17",
        "    content_type: text/plain",
        "  headers:",
        "    region: eu",
        "  body, 5 bytes:",
        "    hello",
    ]


def test_what_the_broker_did_later_comes_first() -> None:
    lines = shown(headers={**OURS, "x-death": [REJECTED]})
    assert lines[1:4] == [
        '  2026-11-26 01:02:03  taken from queue "billing" by the broker: rejected, 2 times',
        '  failed in consumer "charge": max_attempts, attempt 4',
        "    KeyError: 'customer'",
    ]


def test_what_rabbitmq_took_while_it_was_still_tried_again() -> None:
    waiting = {name: value for name, value in OURS.items() if name != "x-piperun-reason"}
    assert '  failed in consumer "charge", attempt 4' in shown(headers={**waiting, "x-death": [REJECTED]})


def test_what_is_not_told_leaves_no_gap() -> None:
    assert text_of(listed({"x-piperun-reason": "fatal"}))[1] == "      1  fatal"
    assert shown(headers={"x-piperun-reason": "fatal"})[1:3] == ["  failed: fatal", "  body, 0 bytes"]


def test_a_message_of_which_nobody_tells() -> None:
    assert shown() == [
        "billing.dlq, message 1: without message_id",
        "  nothing tells why it is here: neither piperun nor RabbitMQ put it there",
        "  body, 0 bytes",
    ]


@pytest.mark.parametrize(
    ("body", "content_type", "lines"),
    [
        (b'{"a":[1],"b":"\xc3\xa9"}', "application/json", ["{", '  "a": [', "    1", "  ],", '  "b": "é"', "}"]),
        (b'{"a":1}', "application/vnd.shop+json; charset=utf-8", ["{", '  "a": 1', "}"]),
        (b'{"a":1}', None, ['{"a":1}']),
        (b'{"a":', "application/json", ['{"a":']),
        (b"[" * 100_000, "application/json", ["[" * 2_000, "... (100,000 bytes in all: --format json shows them)"]),
        (b"two\r\nlines", None, ["two", "lines"]),
        (b"a\x1b[31mred\x07", None, ["a\\x1b[31mred\\x07"]),
        (b"\x1f\x8b\x08\x00\xff", None, ["1f 8b 08 00 ff"]),
        ("€".encode() * 3_000, None, ["€" * 2_000, "... (9,000 bytes in all: --format json shows them)"]),
    ],
)
def test_a_body(body: bytes, content_type: str | None, lines: list[str]) -> None:
    assert body_of(body, content_type=content_type) == lines


def test_a_large_body_that_is_no_text_is_cut() -> None:
    lines = body_of(b"\xff" * 100_000)
    assert lines[-1] == "... (100,000 bytes in all: --format json shows them)"
    assert len(lines) == 22


def test_nothing_that_others_wrote_moves_the_cursor() -> None:
    evil = "\x1b[2J\r\n\u202e"
    headers: dict[str, object] = {
        f"x-piperun-{name}": evil for name in ("reason", "error", "error-type", "queue", "exchange", "consumer")
    }
    headers |= {evil: evil, "list": [evil], "x-piperun-error-digest": evil, "x-piperun-routing-key": evil}
    lines = shown(evil.encode(), headers=headers, message_id=evil, type=evil)
    lines += shown(headers={"x-death": [{**REJECTED, "queue": evil, "reason": evil}]})
    lines += text_of(listed(headers, {"x-death": [{**REJECTED, "queue": evil, "reason": evil}]}))
    assert all(line.isprintable() for line in lines)


def test_a_long_header_is_cut() -> None:
    assert f"    region: {'x' * 300}..." in shown(headers={"region": "x" * 1_000})


def test_a_message_for_programs_is_whole() -> None:
    then = datetime(2026, 1, 1, tzinfo=UTC)
    headers: dict[str, object] = {"region": "eu", "at": then, "raw": b"\xff", "x-death": [REJECTED], "deep": {"a": [1]}}
    one = json.loads(
        dead_letters.as_json(dead_letters.message_object(found(b"x" * 9_000, headers=headers, priority=4)))
    )
    assert (one["body"], one["body_encoding"], one["body_size"]) == ("x" * 9_000, "utf-8", 9_000)
    assert (one["properties"], one["headers"]["deep"], one["headers"]["raw"]) == ({"priority": 4}, {"a": [1]}, "\\xff")
    assert one["headers"]["at"] == "2026-01-01T00:00:00+00:00"
    assert (one["failure"]["by"], one["failure"]["reason"]) == ("broker", "rejected")
    assert one["failure"]["deaths"][0]["time"] == "2026-11-26T01:02:03.000Z"
    binary = dead_letters.message_object(found(b"\xff\x00"))
    assert (binary["body"], binary["body_encoding"]) == ("/wA=", "base64")


# What became of them


def test_a_replay_is_one_line() -> None:
    report = Report(ceiling=41, passed_over=25, uncertain=1, twice=2)
    report.sent.update({"billing": 8, "mail": 2})
    report.refused.update({"no queue": 3})
    assert dead_letters.replay_summary("dead", report, dry_run=False) == (
        'replayed 10 of 41 messages of "dead", 8 to "billing", 2 to "mail"; 25 not matching; 3 refused; '
        "1 unconfirmed: in one queue or in both; 2 still in both queues; 2 not looked at"
    )
    assert dead_letters.replay_summary("dead", Report(ceiling=1), dry_run=True) == (
        'would replay 0 of 1 message of "dead"; 1 not looked at'
    )


def test_what_went_wrong_stands_below_it() -> None:
    report = Report(stopped="interrupted")
    report.refused.update({"one": 1, "other": 2})
    assert list(dead_letters.replay_troubles(report)) == [
        "1 message stays: one",
        "2 messages stay: other",
        "stopped before the end: interrupted",
    ]


def test_a_purge_is_one_line() -> None:
    assert dead_letters.purge_summary("dead", Purged(thrown_away=1, stay=0, unseen=False)) == (
        'threw away 1 message of "dead"'
    )
    assert dead_letters.purge_summary("dead", Purged(thrown_away=2, stay=3, unseen=False)) == (
        'threw away 2 messages of "dead"; 3 not matching'
    )
