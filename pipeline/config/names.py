"""Names on the broker: which it refuses, which it has itself, and that no two objects have the same one.
Whether a name is declared where it is used is asked in `references`."""

from pipeline.config.nodes import key_place, value_place
from pipeline.config.report import Report
from pipeline.config.settings import Settings
from pipeline.problems import Place

BROKERS_OWN = {
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
    "amq.rabbitmq.trace": "topic",
}
MOST_NAME_BYTES = 255


def check(settings: Settings, report: Report) -> None:
    """The names of all queues and exchanges of one file."""
    for section, kind in (("exchanges", "exchange"), ("queues", "queue")):
        taken: dict[str, tuple[str, Place]] = {}
        for key, _ in settings.objects(section):
            name = settings.broker_name(section, key)
            named = settings.written(section, key, "name")
            place = value_place(settings.root, named) if named else key_place(settings.root, (section, key))
            check_name(name, kind, place, report)
            if name in taken:
                other, first = taken[name]
                sentence = (
                    f'{kind}s "{other}" and "{key}" have the same name "{name}" on the broker, '
                    f"first at {first.line}:{first.column}"
                )
                report.error("duplicate-name", place, sentence, "keep one, or give one of them another name", first)
            taken.setdefault(name, (key, place))


def check_name(name: str, kind: str, place: Place, report: Report) -> None:
    """One name that the broker will see."""
    if name.startswith("amq."):
        hint = "it is there already: name it where it is used" if name in BROKERS_OWN and kind == "exchange" else None
        sentence = 'names that begin with "amq." belong to the broker, which refuses them (403)'
        report.error("bad-name", place, sentence, hint)
    elif not name:
        report.error("bad-name", place, f"the name of this {kind} is empty")
    elif len(name.encode()) > MOST_NAME_BYTES:
        sentence = f"a name on the broker has at most {MOST_NAME_BYTES} bytes, this one has {len(name.encode())}"
        report.error("bad-name", place, sentence)
