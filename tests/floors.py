"""The rules of the house about who may import what, and who alone may do some things. Reads source text, imports
nothing of it. `test_floors.py` holds the tree to them."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

FLOORS = {
    **dict.fromkeys(["message", "outcome", "codec", "problems", "errors", "events", "failpoints"], 0),
    **dict.fromkeys(["ledger", "clock", "imports", "secret", "values", "web"], 0),
    **dict.fromkeys(["config", "failure"], 1),
    **dict.fromkeys(["amqp", "embedded"], 2),
    **dict.fromkeys(["sources", "handlers", "idempotency", "observe"], 3),
    "runtime": 4,
    **dict.fromkeys(["cli", "testing"], 5),
    # The roof: what users import, and `python -m pipeline`.
    **dict.fromkeys(["__init__", "__main__"], 6),
}
# The same inside the broker in the box; what stands there without a folder is above them.
STOREYS = ("wire", "declarations", "ground", "exchanges", "queues", "vhosts", "channels", "connections")
SIDEWAYS = {("failure", "pipeline.config.model"), ("cli", "pipeline.testing")}

# Library to the places that may import it: a folder ends in a slash.
LIBRARIES = {
    "aio_pika": ["amqp/"],
    "aiormq": ["amqp/"],
    "pamqp": ["amqp/", "embedded/wire/frames.py"],
    "yaml": ["config/text.py"],
    "jsonschema": ["config/validate.py"],
    "msgspec": ["codec.py", "values.py"],
    "pydantic": ["codec.py"],
    "uvicorn": ["web.py"],
    "starlette": ["web.py", "sources/http.py", "observe/pages.py"],
    "typer": ["cli/"],
    "rich": ["cli/"],
    "sqlite3": ["idempotency/file.py"],
    "uvloop": ["runtime/loop.py"],
    "pytest": ["testing/plugin.py"],
}

# Dotted name to the places that may use it.
TIME = ["clock.py"]
DEADLINES = ["clock.py", "amqp/"]
NAMES = {
    **dict.fromkeys(["time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.sleep"], TIME),
    **dict.fromkeys(["time.perf_counter", "time.perf_counter_ns", "asyncio.sleep"], TIME),
    **dict.fromkeys(["datetime.datetime.now", "datetime.datetime.utcnow", "datetime.date.today"], TIME),
    **dict.fromkeys(["asyncio.timeout", "asyncio.timeout_at", "asyncio.wait_for"], DEADLINES),
}

WAYS_HOME = {"ack", "nack", "reject"}
KNOW_A_LOOP = ["embedded/ground/event_log.py"]
KNOW_A_LOOP += [f"embedded/connections/{name}.py" for name in ("bell", "client", "host", "server")]
MAY_ACKNOWLEDGE = ["runtime/settle.py", "amqp/consume.py", "embedded/", "message.py"]
# Dead letters that a person sends back, after the confirm, or throws away: no handler and no verdict is behind it.
MAY_ACKNOWLEDGE += ["runtime/dead_letters/replay.py", "runtime/dead_letters/purge.py"]


@dataclass(frozen=True, kw_only=True)
class Import:
    """One imported module or name, in full: `from a.b import c` is `a.b.c`."""

    line: int
    target: str

    def is_of(self, module: str) -> bool:
        return self.target == module or self.target.startswith(module + ".")


def imports(path: str, tree: ast.Module) -> Iterator[Import]:
    """All imports of a file, wherever in it they stand; relative ones resolved."""
    package = path.removesuffix(".py").split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(line=node.lineno, target=alias.name)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(line=node.lineno, target=f"{module}.{alias.name}")


def offences(path: str, source: str) -> list[str]:
    """What a file of `pipeline/` does against the rules, each as `file:line what`."""
    tree = ast.parse(source)
    found = list(imports(path, tree))
    wrong = [*_arrows(path, found), *_embedded(path, found), *_libraries(path, found), *_names(path, tree, found)]
    wrong += [*_robust(tree, found), *_acknowledging(path, tree)]
    return [f"{path}:{line} {what}" for line, what in sorted(set(wrong))]


def _arrows(path: str, found: list[Import]) -> Iterator[tuple[int, str]]:
    own = _room(path)
    if own not in FLOORS:
        yield 1, f"stands on no floor: give {own!r} one in tests/floors.py"
        return
    for each in found:
        if each.is_of("pipeline"):
            other = _target_room(each)
            same_folder = other == own or FLOORS[other] == FLOORS[own] == 0
            sideways = any(own == room and each.is_of(target) for room, target in SIDEWAYS)
            if FLOORS[other] >= FLOORS[own] and not same_folder and not sideways:
                yield each.line, f"imports {each.target}: not below floor {FLOORS[own]}"


def _embedded(path: str, found: list[Import]) -> Iterator[tuple[int, str]]:
    if _room(path) != "embedded":
        return
    for each in found:
        if each.is_of("pipeline") and _target_room(each) not in ("embedded", "clock"):
            yield each.line, f"imports {each.target}: embedded/ uses nothing of piperun but the clock"
        if each.is_of("pipeline.embedded") and _storey(each.target.split(".")[2:]) > _storey(path.split("/")[2:]):
            yield each.line, f"imports {each.target}: not below {path.split('/')[2]}/"
        if each.is_of("asyncio") and not _allowed(path, KNOW_A_LOOP):
            yield each.line, f"imports asyncio: only {', '.join(KNOW_A_LOOP)} know a loop"


def _libraries(path: str, found: list[Import]) -> Iterator[tuple[int, str]]:
    for each in found:
        library = each.target.split(".")[0]
        if library in LIBRARIES and not _allowed(path, LIBRARIES[library]):
            yield each.line, f"imports {each.target}: {library} is only in {', '.join(LIBRARIES[library])}"


def _names(path: str, tree: ast.Module, found: list[Import]) -> Iterator[tuple[int, str]]:
    """Uses of a name that belongs elsewhere, also under the short form that an import gave it."""
    short = {each.target.split(".")[-1]: each.target for each in found}
    for each in found:
        if each.target in NAMES and not _allowed(path, NAMES[each.target]):
            yield each.line, f"imports {each.target}: only in {', '.join(NAMES[each.target])}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, _, rest = ast.unparse(node).partition(".")
            name = f"{short.get(first, first)}.{rest}"
            if name in NAMES and not _allowed(path, NAMES[name]):
                yield node.lineno, f"uses {name}: only in {', '.join(NAMES[name])}"


def _robust(tree: ast.Module, found: list[Import]) -> Iterator[tuple[int, str]]:
    for each in found:
        if "robust" in each.target.lower():
            yield each.line, f"imports {each.target}: the robust classes are not used"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and "robust" in node.attr.lower():
            yield node.lineno, f"uses {node.attr}: the robust classes are not used"


def _acknowledging(path: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    if _allowed(path, MAY_ACKNOWLEDGE):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WAYS_HOME:
            yield node.lineno, f"calls {ast.unparse(node.func)}(): only runtime/settle.py acknowledges"


def cycles(sources: dict[str, str]) -> list[str]:
    """Files that import each other, as `a -> b -> a`."""
    modules = {_module(path): path for path in sources}
    graph = {
        module: {target for each in imports(path, ast.parse(sources[path])) if (target := _known(each, modules))}
        for module, path in modules.items()
    }
    return [" -> ".join(trail) for module in sorted(graph) if (trail := _way_back(module, graph))]


def _way_back(start: str, graph: dict[str, set[str]]) -> list[str]:
    """A shortest way from a module to itself over modules that come after it in the alphabet: each circle once."""
    trails, seen = [[start]], {start}
    while trails:
        trail = trails.pop(0)
        for target in sorted(graph[trail[-1]]):
            if target == start:
                return [*trail, start]
            if target > start and target not in seen:
                seen.add(target)
                trails.append([*trail, target])
    return []


def _known(found: Import, modules: dict[str, str]) -> str | None:
    """The module of ours that an import reads: the name itself, or what the name is in."""
    if found.target in modules:
        return found.target
    module = found.target.rpartition(".")[0]
    return module if module in modules else None


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _storey(below_embedded: list[str]) -> int:
    folder = below_embedded[0] if below_embedded else ""
    return STOREYS.index(folder) if folder in STOREYS else len(STOREYS)


def _room(path: str) -> str:
    """The folder under `pipeline/` that a file is in, or the file that stands there by itself."""
    return path.removesuffix(".py").split("/")[1]


def _target_room(found: Import) -> str:
    """The same of what is imported; a name that is no folder or file, as in `from pipeline import Message`, is the
    roof's."""
    room = [*found.target.split("."), "__init__"][1]
    return room if room in FLOORS else "__init__"


def _allowed(path: str, places: list[str]) -> bool:
    inside = path.removeprefix("pipeline/")
    return any(inside.startswith(place) if place.endswith("/") else inside == place for place in places)
