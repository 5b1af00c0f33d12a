"""What is compared and what is not: each rule of `transcript`, and the files that transcripts are kept in."""

from pathlib import Path

from tests.conformance import golden
from tests.conformance.tables import Fields, Typed, Value
from tests.conformance.transcript import Event, Transcript, diff, normalise


def event(name: str, channel: int = 1, **fields: Value) -> Event:
    return Event(connection="c1", channel=channel, name=name, fields=fields)


def confirm(tag: int, multiple: bool = False, name: str = "basic.ack") -> Event:
    return event(name, delivery_tag=tag, multiple=multiple)


def content(name: str, headers: Fields | None = None, body: bytes = b"m", **fields: Value) -> Event:
    properties: Fields = {} if headers is None else {"headers": headers}
    return Event(connection="c1", channel=1, name=name, fields=fields, properties=properties, body=body)


def test_answers_deliveries_and_confirms_are_lanes_of_their_own() -> None:
    told = [
        event("basic.consume-ok", consumer_tag="t"),
        confirm(1),
        content("basic.deliver", consumer_tag="t", delivery_tag=1),
        event("queue.declare-ok", queue="q", message_count=0),
        event("connection.close", channel=0, reply_code=320),
    ]

    assert {lane: [list(each) for each in said] for lane, said in normalise(told, "v").items()} == {
        "c1": [["connection.close"]],
        "c1/1": [["queue.declare-ok"]],
        "c1/1 consumer t": [["basic.consume-ok"], ["basic.deliver", "properties", "body"]],
        "c1/1 publishing": [["basic.ack"]],
    }


def test_which_lane_was_faster_does_not_matter() -> None:
    first, second = confirm(1), content("basic.deliver", consumer_tag="t", delivery_tag=1)

    assert normalise([first, second], "v") == normalise([second, first], "v")


def test_the_order_within_a_lane_matters() -> None:
    first, second = event("queue.declare-ok", queue="a"), event("queue.declare-ok", queue="b")

    assert normalise([first, second], "v") != normalise([second, first], "v")


def test_confirms_are_the_set_of_their_tags() -> None:
    one_by_one = [confirm(2), confirm(1), confirm(3), confirm(4, name="basic.nack")]
    at_once = [confirm(4, name="basic.nack"), confirm(3, multiple=True)]

    assert normalise(one_by_one, "v") == normalise(at_once, "v")
    assert normalise(at_once, "v")["c1/1 publishing"] == [
        {"basic.ack": {"delivery_tags": [1, 2, 3]}},
        {"basic.nack": {"delivery_tags": [4]}},
    ]


def test_a_return_keeps_its_place_among_the_confirms() -> None:
    back = content("basic.return", reply_code=312)

    assert normalise([back, confirm(1)], "v") != normalise([confirm(1), back], "v")


def test_a_message_that_is_confirmed_twice_is_seen() -> None:
    assert normalise([confirm(1), confirm(1)], "v") != normalise([confirm(1)], "v")


def test_names_made_by_the_server_are_numbered() -> None:
    made = "amq.gen-JzTY20BRgKO-HjmUJj0wLg"
    told = [
        event("queue.declare-ok", queue=made),
        event("queue.declare-ok", queue="amq.gen-0000000000000000000000"),
        event("channel.close", reply_text=f"NOT_FOUND - no queue '{made}' in vhost 'v'"),
    ]

    assert normalise(told, "v")["c1/1"] == [
        {"queue.declare-ok": {"queue": "amq.gen#1"}},
        {"queue.declare-ok": {"queue": "amq.gen#2"}},
        {"channel.close": {"reply_text": "NOT_FOUND - no queue 'amq.gen#1' in vhost '/'"}},
    ]


def test_names_that_a_client_chose_stay() -> None:
    told = [event("queue.declare-ok", queue="amq.gen-mine")]

    assert normalise(told, "v")["c1/1"] == [{"queue.declare-ok": {"queue": "amq.gen-mine"}}]


def test_the_time_of_a_death_is_not_compared_and_all_else_is() -> None:
    def dead(time: Value, count: int) -> Transcript:
        deaths: list[Value] = [{"queue": "q", "count": Typed(kind="long", value=count), "time": time}]
        return normalise([content("basic.get-ok", headers={"x-death": deaths})], "v")

    now, later = Typed(kind="timestamp", value=1800000000), Typed(kind="timestamp", value=1800000001)
    assert dead(now, 1) == dead(later, 1)
    assert dead(now, 1) != dead(now, 2)
    assert dead(now, 1) != dead(1800000000, 1)
    assert dead(Typed(kind="timestamp", value=1700000000), 1) != dead(Typed(kind="timestamp", value=1700000001), 1)


def test_the_width_of_a_number_is_compared() -> None:
    wide = normalise([content("basic.get-ok", headers={"a": Typed(kind="long", value=1)})], "v")

    assert wide["c1/1"][0]["properties"] == {"headers": {"a": {"!long": 1}}}


def test_a_long_body_is_its_size_and_hash() -> None:
    (said,) = normalise([content("basic.get-ok", body=b"x" * 300)], "v")["c1/1"]

    assert said["body"] == {"size": 300, "sha256": "0d4e2ca9e9cbced7"}


def test_a_difference_is_shown_by_the_line() -> None:
    expected = normalise([event("tx.select-ok"), event("queue.purge-ok", message_count=1)], "v")
    seen = normalise([event("tx.select-ok"), event("queue.purge-ok", message_count=2)], "v")

    assert diff(expected, expected) == ""
    assert diff(expected, seen).splitlines()[3:] == [
        " c1/1",
        '   {"tx.select-ok": {}}',
        '-  {"queue.purge-ok": {"message_count": 1}}',
        '+  {"queue.purge-ok": {"message_count": 2}}',
    ]


# Files


def test_transcripts_are_kept_with_a_line_for_each_event(tmp_path: Path) -> None:
    path = tmp_path / "golden.json"
    golden.write(path, {"b/two": {"c1/1": [{"tx.select-ok": {}}, {"tx.commit-ok": {}}]}, "a/one": {}})

    assert path.read_text().splitlines() == [
        "{",
        '"a/one": {',
        "},",
        '"b/two": {',
        '  "c1/1": [',
        '    {"tx.select-ok": {}},',
        '    {"tx.commit-ok": {}}',
        "  ]",
        "}",
        "}",
    ]
    assert golden.read(path) == {"a/one": {}, "b/two": {"c1/1": [{"tx.select-ok": {}}, {"tx.commit-ok": {}}]}}


def test_recording_an_area_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "golden.json"
    golden.write(path, {"a/old": {}, "b/kept": {"c1": []}, "c/of an area that is gone": {}})

    golden.update(path, {"a/new": {}}, untouched={"b"})

    assert golden.read(path) == {"a/new": {}, "b/kept": {"c1": []}}


def test_there_may_be_no_file_yet(tmp_path: Path) -> None:
    golden.update(tmp_path / "golden.json", {"a/new": {}}, untouched=set())

    assert golden.read(tmp_path / "golden.json") == {"a/new": {}}
