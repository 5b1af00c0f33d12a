"""Several files in one run: they must agree, and every path to Python code in them is listed."""

from pathlib import Path

import pytest

from pipeline.config.load import Loaded, Overrides, Text, load
from pipeline.problems import render
from pipeline.runtime.prepare import prepare


def run(*files: str) -> Loaded:
    return load(
        [Text(path=f"{name}.yaml", text=text) for name, text in zip("abc", files, strict=False)], environment={}
    )


def said(*files: str) -> str:
    return "\n".join(render(problem) for problem in run(*files).problems)


def test_a_queue_must_be_declared_alike() -> None:
    first, second = "queues:\n  hello: {}\n", "queues:\n  hello: {durable: false, exclusive: true}\n"
    assert said(first, second) == (
        'b.yaml:2:3: error[files-differ]: queue "hello" is declared with durable false here and with true '
        "at a.yaml:2:3; the broker would refuse the second\n"
        "    2 |   hello: {durable: false, exclusive: true}\n"
        "      |   ^^^^^ declare it alike, or `declare: skip` in one of them"
    )


@pytest.mark.parametrize(
    ("first", "second", "differ"),
    [
        ("queues: {a: {}}", "queues: {a: {}}", False),
        ("queues: {a: {}}", "queues: {b: {name: a, type: quorum, dead_letter: c}}", True),
        ("queues: {a: {message_ttl: 5s}}", "queues: {a: {arguments: {x-message-ttl: 5000}}}", False),
        ("queues: {a: {message_ttl: 5s}}", "queues: {a: {message_ttl: 6s}}", True),
        ("queues: {a: {}}", "queues: {a: {max_length: 5, declare: skip}}", False),
        ("queues: {a: {}}", "broker: amqp://localhost\nqueues: {a: {max_length: 5}}", False),
        ("queues: {a: {dead_letter: false}}", "queues: {a: {}}", False),
        ("exchanges: {a: {type: topic}}", "exchanges: {a: {}}", True),
        ("exchanges: {a: {}}", "queues: {a: {}}", False),
    ],
)
def test_what_counts_as_declared_alike(first: str, second: str, differ: bool) -> None:
    assert ("error[files-differ]" in said(first, second)) is differ


def test_runtime_may_stand_in_one_file_only() -> None:
    assert said("runtime: {until: idle}\n", "name: b\nruntime: {}\n") == (
        "b.yaml:2:1: error[several-runtimes]: `runtime` may stand in one file of a run only, first at a.yaml:1:1\n"
        "    2 | runtime: {}\n"
        "      | ^^^^^^^ keep one"
    )


def test_the_embedded_broker_has_one_version() -> None:
    old, new = 'broker: {version: "3.10"}\n', 'broker: {url: embedded, version: "4.3"}\n'
    assert said(old, new) == (
        "b.yaml:1:34: error[versions-differ]: this file is for RabbitMQ 4.3 and another for 3.10 (a.yaml:1:19); "
        "both share one embedded broker\n"
        '    1 | broker: {url: embedded, version: "4.3"}\n'
        "      |                                  ^^^^^ the same `broker.version` in both"
    )


@pytest.mark.parametrize(
    ("first", "second", "differ"),
    [
        ("queues: {a: {}}", 'broker: {version: "4.3"}', False),
        ("queues: {a: {}}", 'broker: {version: "3.10"}', True),
        ('broker: {version: "3.10"}', "queues: {a: {}}", True),
        ('broker: {version: "3.10"}', "broker: embedded", True),
        ('broker: {version: "3.10"}', 'broker: {url: "amqp://localhost", version: "4.3"}', False),
        ('broker: {url: "amqp://localhost", version: "3.10"}', "queues: {a: {}}", False),
    ],
)
def test_only_files_on_the_embedded_broker_share_its_version(first: str, second: str, differ: bool) -> None:
    assert ("error[versions-differ]" in said(first, second)) is differ


def test_every_pipeline_carries_the_one_runtime() -> None:
    pipelines = run("name: a\n", "runtime: {until: idle, workers: 3}\n").pipelines
    assert [(pipeline.runtime.until, pipeline.runtime.workers) for pipeline in pipelines] == [("idle", 3), ("idle", 3)]


def test_problems_come_in_the_order_of_files_and_lines() -> None:
    problems = run("queues: {a: {durable: 1}}\nfoo: 1\n", "bar: 1\n").problems
    assert [(problem.place.path, problem.place.line) for problem in problems] == [
        ("a.yaml", 1),
        ("a.yaml", 2),
        ("b.yaml", 1),
    ]


def test_paths_to_code_are_listed_with_owner_place_and_file() -> None:
    # Given two files that name code, one of them with a mistake elsewhere
    first = 'runtime: {lifespan: "app:life"}\nqueues: {q: {durable: 1}}\n'
    second = """\
queues: {q: {}}
producers:
  p: {source: "shop:orders", publish: {queue: q}}
  g: {source: {type: python, generator: "shop:more"}, publish: {queue: q}}
  i: {source: {type: interval}, publish: {queue: q}}
consumers:
  c:
    queue: q
    handler: shop:charge
    lifespan: shop:database
"""
    # When they are loaded
    found = run(first, second).handlers
    # Then each path is there
    assert [(item.pipeline, item.owner, item.key, item.path, item.place.line) for item in found] == [
        (0, "`runtime`", "lifespan", "app:life", 1),
        (1, 'producer "p"', "source", "shop:orders", 3),
        (1, 'producer "g"', "source", "shop:more", 4),
        (1, 'consumer "c"', "handler", "shop:charge", 9),
        (1, 'consumer "c"', "lifespan", "shop:database", 10),
    ]
    # And can be answered at its place
    problem = found[3].error("unknown-module", 'no module "shop"', "write one", ("shop.py:3",))
    assert render(problem) == (
        'b.yaml:9:14: error[unknown-module]: no module "shop"\n'
        "    9 |     handler: shop:charge\n"
        "      |              ^^^^^^^^^^^ write one\n"
        "        at shop.py:3"
    )


def test_a_file_is_read_from_disk_and_handed_on_as_text(tmp_path: Path) -> None:
    path = tmp_path / "hello.yaml"
    path.write_bytes(b"\xef\xbb\xbfqueues: {hello: {}}\r\n")
    first = load([Text(path=str(path))], environment={})
    second = load(first.texts, environment={})
    assert first.pipelines == second.pipelines
    assert first.pipelines[0].name == "hello"


def test_a_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "orders.yaml").touch()
    monkeypatch.chdir(tmp_path)
    (problem,) = load([Text(path="configs/order.yaml")], environment={}).problems
    assert render(problem) == (
        'configs/order.yaml:1:1: error[unreadable-file]: cannot read "configs/order.yaml": no such file\n'
        '        did you mean "configs/orders.yaml"?'
    )


def test_a_folder_and_an_ending_that_names_have_in_common_make_none_near(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nightly").mkdir()
    for name in ("tabs.yaml", "gha.yaml", "billing.yaml"):
        (tmp_path / "nightly" / name).touch()
    monkeypatch.chdir(tmp_path)
    hints = [
        load([Text(path=path)], environment={}).problems[0].hint for path in ("nightly/x.yaml", "nightly/biling.yml")
    ]
    assert hints == [None, 'did you mean "nightly/billing.yaml"?']


@pytest.mark.parametrize(
    ("content", "hint"),
    [(b"\xff\xfeq\x00", "it is UTF-16: save it as UTF-8"), (b"name: \xc3\x28\n", None)],
)
def test_a_file_that_is_no_text(content: bytes, hint: str | None, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_bytes(content)
    (problem,) = load([Text(path=str(tmp_path / "f.yaml"))], environment={}).problems
    assert (problem.word, problem.place.line, problem.place.column) == ("not-text", 1, 1)
    assert problem.hint == hint


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (problem,) = load([Text(path=str(tmp_path))], environment={}).problems
    assert problem.sentence == f'cannot read "{tmp_path}": is a directory'
    assert problem.hint is None
    (tmp_path / "a.yaml").touch()
    (problem,) = load([Text(path=str(tmp_path))], environment={}).problems
    assert problem.hint == f"name the files in it: {tmp_path}/*.yaml"


def test_a_bad_url_of_the_command_line_is_told_as_such() -> None:
    overrides = Overrides(broker_url="ampq://app:secret@rabbit")
    (problem,) = load([Text(path="a.yaml", text="name: a\n")], environment={}, overrides=overrides).problems
    assert render(problem) == (
        '--broker:1:1: error[bad-url]: unknown scheme "ampq"\n'
        "    1 | ampq://app:***@rabbit\n"
        '      | ^^^^^^^^^^^^^^^^^^^^^ did you mean "amqp"?'
    )


def test_until_idle_from_the_command_line_meets_an_endless_source() -> None:
    text = "queues: {q: {}}\nproducers:\n  p: {source: {type: interval}, publish: {queue: q}}\n"
    loaded = load([Text(path="a.yaml", text=text)], environment={}, overrides=Overrides(until="idle"))
    assert [(problem.word, problem.hint) for problem in loaded.problems] == [
        ("endless-source", "count: 5, or leave --until-idle out")
    ]


@pytest.mark.parametrize(
    ("in_file", "told", "warned"), [(0, 4, True), (4, 0, False), (4, None, True), (1, None, False)]
)
def test_workers_from_the_command_line_meet_keys_in_memory(in_file: int, told: int | None, warned: bool) -> None:
    text = f"""
queues: {{q: {{}}}}
consumers: {{c: {{queue: q, handler: "shop:charge", idempotency: memory}}}}
runtime: {{workers: {in_file}}}
"""
    loaded = load([Text(path="a.yaml", text=text)], environment={}, overrides=Overrides(workers=told))
    assert [problem.word for problem in loaded.problems] == ["idempotency-in-memory"] * warned


def test_workers_from_the_command_line_meet_an_exclusive_queue() -> None:
    text = "queues: {q: {exclusive: true}}\nruntime: {workers: 0}\n"
    several = load([Text(path="a.yaml", text=text)], environment={}, overrides=Overrides(workers="auto"))
    assert [(problem.sentence, problem.hint) for problem in several.problems] == [
        (
            'queue "q" is exclusive to one connection, and --workers auto makes one in each process',
            "exclusive: false, or --workers 1",
        )
    ]
    text = text.replace("workers: 0", "workers: 4")
    assert not load([Text(path="a.yaml", text=text)], environment={}, overrides=Overrides(workers=1)).problems


def test_a_path_that_is_no_path_is_told_once_and_not_handed_on() -> None:
    loaded = run("queues: {q: {}}\nconsumers: {c: {queue: q, handler: shop.charge}}\n")
    assert [problem.word for problem in loaded.problems] == ["bad-handler-path"]
    assert loaded.handlers == ()


def test_a_generator_that_is_none_is_told_at_its_place_in_the_file(tmp_path: Path) -> None:
    # Given a source that is a list
    (tmp_path / "orders_of_a_test.py").write_text("nightly = [1, 2, 3]\n")
    file = tmp_path / "pipeline.yaml"
    file.write_text(
        "queues: {q: {}}\nproducers:\n  p:\n    source: orders_of_a_test:nightly\n    publish: {queue: q}\n"
    )
    # When it is prepared
    _, problems = prepare(load([Text(path=str(file))], environment={}), app_dir=tmp_path, only=())
    # Then the place is that of the path in the file
    (problem,) = problems
    assert render(problem).splitlines() == [
        f"{file}:4:13: error[bad-source]: orders_of_a_test:nightly is a value of type list, not a function; "
        "a source is a generator function: `def`, no parameters, `yield` for each item",
        "    4 |     source: orders_of_a_test:nightly",
        "      |             ^^^^^^^^^^^^^^^^^^^^^^^^",
    ]
