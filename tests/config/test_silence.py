"""Legal files of which nothing may be said: a false alarm costs more than a miss."""

import pytest

from tests.config.loading import answers

SILENT = {
    "line ends of DOS": "queues:\r\n  hello: {}\r\n",
    "line ends of old Macs": "queues:\r  hello: {}\r",
    "a byte order mark": "\ufeffqueues: {hello: {}}\n",
    "a start and an end of the document": "---\nqueues: {hello: {}}\n...\n",
    "JSON": '{"queues": {"hello": {"durable": true, "max_length": 10}}}\n',
    "anchors under x- keys, aliases and merges": """
        x-base: &base {durable: true, max_length: 10}
        x-more: &more [*base, {expires: 1h}]
        queues:
          a: *base
          b: {<<: *base, max_length: 20}
          c: {<<: *more}
        """,
    "names in any script": """
        queues: {очередь: {}, キュー: {}, "with spaces": {}, no: {}, "5": {}, 6: {}}
        consumers:
          потребитель: {queue: очередь, handler: "магазин:списать"}
        """,
    "numbers in quotes where a text is meant": 'name: "2024"\nqueues: {hello: {name: "5"}}\n',
    "words that were booleans in YAML 1.1": """
        queues:
          hello: {bindings: [{exchange: amq.direct, routing_key: [no, off, yes, on, y, n]}]}
        """,
    "texts that were numbers in YAML 1.1": "name: 12:30:00\n",
    "nothing but topology": "exchanges: {orders: {type: topic}}\nqueues: {billing: }\n",
    "a file that declares nothing": "name: nothing\n",
    "sections that are left empty": "queues:\nconsumers:\nruntime:\ndefaults:\n",
    "the broker's own exchanges": """
        exchanges: {mine: {type: fanout, bindings: [{exchange: amq.topic, routing_key: "#"}]}}
        queues: {hello: {bindings: [{exchange: amq.fanout}, {exchange: amq.headers, arguments: {a: 1}}]}}
        producers: {p: {source: {type: stdin}, publish: {exchange: amq.topic, routing_key: a}}}
        """,
    "a dead-letter queue that is not written down": "queues: {billing: {dead_letter: billing.failed}}\n",
    "a quorum queue with the embedded broker as a fall-back": """
        broker: ${AMQP_URL:-embedded}
        queues: {billing: {type: quorum, dead_letter: failed}}
        """,
    "keys in memory, or in a file of several workers": """
        queues: {hello: {}}
        consumers:
          a: {queue: hello, handler: "shop:charge", idempotency: sqlite}
          b: {queue: hello, handler: "shop:charge", ack: manual, idempotency: {store: sqlite, header: id, window: 7d}}
        runtime: {workers: 4}
        """,
    "keys in the memory of one process": """
        queues: {hello: {}}
        consumers: {a: {queue: hello, handler: "shop:charge", idempotency: {store: memory, max_keys: 10}}}
        """,
    "a dead-letter queue that is a quorum queue": """
        queues: {billing: {dead_letter: failed}, failed: {type: quorum}}
        """,
    "a dollar without a brace": "name: $5 and $HOME\n",
    "an escaped brace": "name: $${NAME}\n",
    "a generator that brings its own keys": """
        exchanges: {orders: {type: topic}}
        producers: {p: {source: "shop:orders", publish: {exchange: orders}}}
        """,
    "a handler that brings its own keys": """
        exchanges: {orders: {type: topic}}
        queues: {hello: {}}
        consumers: {c: {queue: hello, handler: "shop:sort", publish: {exchange: orders}}}
        """,
    "an empty routing key that is meant": """
        exchanges: {orders: {}}
        queues: {hello: {bindings: [{exchange: orders, routing_key: ""}]}}
        """,
    "guest on this machine": "broker: amqp://guest:guest@localhost\n",
    "a password from outside": "broker: amqp://app:${PASSWORD}@rabbit/shop\n",
    "a transient queue of somebody else": """
        queues: {theirs: {durable: false, declare: check}, others: {durable: false, declare: skip}}
        """,
    "a transient queue on 3.10": 'broker: {version: "3.10"}\nqueues: {hello: {durable: false}}\n',
    "a transient queue that is exclusive": "queues: {hello: {durable: false, exclusive: true}}\n",
    "failures that nobody can have": """
        queues: {hello: {dead_letter: false}}
        consumers: {c: {queue: hello, handler: "shop:charge", ack: none}}
        """,
    "a default overridden with nothing": """
        defaults: {consumers: {timeout: 5s}}
        queues: {hello: {}}
        consumers: {c: {queue: hello, handler: "shop:charge", timeout: null}}
        """,
    "texts that span lines": """
        queues: {hello: {}}
        producers:
          p:
            source:
              type: interval
              body: |
                first line
                second line: with a colon
            publish: {queue: hello}
        """,
    "arguments of the broker": """
        exchanges: {orders: {type: topic, arguments: {alternate-exchange: amq.fanout}}}
        queues:
          hello: {type: quorum, arguments: {x-dead-letter-exchange: amq.fanout, x-consumer-timeout: 3600000}}
        consumers: {c: {queue: hello, handler: "shop:charge", timeout: 45m, arguments: {x-priority: -1}}}
        """,
    "arguments of 3.10": """
        broker: {version: "3.10"}
        queues:
          hello: {arguments: {x-queue-version: 1, x-queue-master-locator: min-masters, x-consumer-timeout: 5000}}
        """,
    "arguments of 4.3": """
        broker: {version: "4.3"}
        queues:
          hello: {arguments: {x-queue-version: 2, x-queue-leader-locator: balanced}}
          billing: {type: quorum, dead_letter: hello, arguments: {x-consumer-timeout: 5000}}
        """,
    "an argument of somebody else's queue": """
        queues: {theirs: {arguments: {x-queue-version: 1}, declare: skip}}
        """,
    "a long timeout where the broker has none": """
        broker: {version: "4.3"}
        queues: {hello: {}}
        consumers: {c: {queue: hello, handler: "shop:charge", timeout: 2h}}
        """,
}


@pytest.mark.parametrize("file", SILENT.values(), ids=SILENT.keys())
def test_nothing_is_said_of_a_legal_file(file: str) -> None:
    assert answers(file, {"PASSWORD": "hunter-two"}) == ""


def test_a_warning_is_silenced_at_the_end_of_its_line_or_above_it() -> None:
    file = """
        broker: amqp://localhost
        queues:
          first: {durable: false}  # piperun: ignore[transient-queue]
          # piperun: ignore[failures-dropped, transient-queue]
          second: {durable: false}
          third: {durable: false}
        """
    assert answers(file).count("warning[") == 1
    assert "third" in answers(file)


def test_an_error_is_never_silenced() -> None:
    assert "error[not-a-boolean]" in answers("queues:\n  a: {durable: yes}  # piperun: ignore[not-a-boolean]\n")


def test_another_word_does_not_silence_a_warning() -> None:
    file = "broker: amqp://localhost\nqueues:\n  a: {durable: false}  # piperun: ignore[slow-handler]\n"
    assert "warning[transient-queue]" in answers(file)
